"""How many requests somebody may make in a window of time that slides; shared by all processes through Redis."""

from __future__ import annotations

import time
from asyncio import Lock, gather
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from math import ceil
from typing import TYPE_CHECKING

from apex.errors import TooManyRequests
from apex.lazy import extra

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.context import Context
    from apex.hooks import Next

Count = tuple[bool, int, float]
"""Whether a request is allowed, how many are in the window with it, and seconds until one is free again."""

PORTIONS = 100
"""The portions that a limit is shared out in."""

PAUSES = ((1, 60), (4, 900))
"""The windows in which failures are counted: a factor for the limit, and seconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How a request stands: whether it is within the limit, how many more are, and seconds until one is free again."""

    allowed: bool
    limit: int
    window: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        told = {
            "RateLimit-Limit": self.limit,
            "RateLimit-Remaining": self.remaining,
            "RateLimit-Reset": self.reset,
            "RateLimit-Policy": f"{self.limit};w={self.window}",
        }
        if not self.allowed:
            told["Retry-After"] = self.reset
        return {name: str(value) for name, value in told.items()}


class Rates:
    """Counts exactly: in no window of that length are there more than the limit. What is refused does not count."""

    def __init__(self) -> None:
        self.refused = 0
        self._taken: dict[str, tuple[float, deque[float]]] = {}

    @property
    def counted(self) -> int:
        """How many names are counted at the moment by this process."""
        return len(self._taken)

    async def take(self, name: str, limit: int, window: int, amount: int = 1) -> Rate:
        """Count a request of somebody, of which ``limit`` are allowed in ``window`` seconds.

        A request that does the work of several counts as that ``amount`` or, if that is more, as ``limit``.
        """
        rate = _rate(await self.count(name, limit, window, min(amount, limit)), limit, window)
        self.refused += not rate.allowed
        return rate

    async def look(self, name: str, limit: int, window: int) -> Rate:
        """Return the rate of a request without counting it."""
        return _rate(await self.count(name, limit, window, 0), limit, window)

    async def count(self, name: str, limit: int, window: int, taken: int = 1) -> Count:
        """Count the requests in the window, and as many more as are ``taken`` if all of them are allowed."""
        now = time.monotonic()
        _, moments = self._taken.pop(name, (now, deque()))
        while moments and moments[0] <= now - window:
            moments.popleft()
        needed = max(1, taken)
        allowed = len(moments) + needed <= limit
        if allowed:
            moments.extend([now] * taken)
        if moments:
            self._taken[name] = moments[-1] + window, moments
        self._forget(now)
        last = len(moments) - limit + (0 if allowed else needed - 1)
        oldest = moments[max(0, last)] if moments else now - window
        return allowed, len(moments), window - (now - oldest)

    def _forget(self, now: float) -> None:
        """Those whose window is over. Who has not asked for longest comes first."""
        for name in list(takewhile(lambda name: self._taken[name][0] <= now, self._taken)):
            del self._taken[name]

    async def close(self) -> None:
        """Lets go of what it is connected to."""


@dataclass(slots=True)
class _Portion:
    """The requests that somebody may still make in a process, until a moment."""

    left: int = 0
    until: float = 0.0
    turn: Lock = field(default_factory=Lock)


class Portions:
    """A generous limit for each of many callers, which adds next to nothing to a request.

    A process takes a hundredth of the limit at once from the ``rates``, and counts it down by itself. So in a window a
    caller may make one portion more than the limit in each process.

        limit = Portions(app.get("rates"), "users", 10_000, 3_600)
        limit.spend("7") or await limit.take("7")
    """

    def __init__(self, rates: Rates, kind: str, limit: int, window: int) -> None:
        self.rates, self.kind, self.limit, self.window = rates, kind, limit, window
        self.size = max(1, limit // PORTIONS)
        self._portions: dict[str, _Portion] = {}

    def spend(self, name: str) -> bool:
        """Count a request. Return False if the portion of this process is used up: then ``take`` counts it."""
        portion = self._portions.get(name)
        if portion is None or not portion.left or portion.until <= time.monotonic():
            return False
        portion.left -= 1
        return True

    async def take(self, name: str) -> Rate | None:
        """Count a request with a new portion. Return the rate if there is none, else None."""
        portion = self._portions.pop(name, None) or _Portion()
        self._portions[name] = portion
        async with portion.turn:
            if self.spend(name):
                return None
            rate = await self.rates.take(f"{self.kind}/{name}", self.limit // self.size, self.window)
            portion.left, portion.until = self.size * rate.allowed, time.monotonic() + self.window
            self._forget()
            return None if self.spend(name) else Rate(False, self.limit, self.window, 0, rate.reset)

    def _forget(self) -> None:
        """Evict the portions whose window is over. They come first."""
        now = time.monotonic()
        for name, portion in list(takewhile(lambda one: one[1].until <= now, self._portions.items())):
            if not portion.turn.locked():
                del self._portions[name]


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """A limit on failures, after which attempts are refused for a while.

    ``limits`` are failures in a minute for each kind of counter, such as ``{"account": 5}``. In a quarter of an hour
    there may be four times as many.
    """

    name: str
    rates: Callable[[], Rates]
    limits: Mapping[str, int]

    async def admit(self, who: Mapping[str, str]) -> None:
        """Raise TooManyRequests, with ``Retry-After``, if one of these has failed too often."""
        rates = await gather(*(self.rates().look(*counter) for counter in self._counters(who)))
        if wait := max((rate.reset for rate in rates if not rate.allowed), default=0):
            message = f"Too many failed attempts: try again in {wait} seconds"
            raise TooManyRequests(message, {"retryAfter": wait}, headers={"Retry-After": str(wait)})

    async def fail(self, who: Mapping[str, str]) -> None:
        """Count a failure for each of these."""
        await gather(*(self.rates().take(*counter) for counter in self._counters(who)))

    def _counters(self, who: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
        for kind, name in who.items():
            for factor, window in PAUSES:
                yield f"{self.name}/{kind}/{name}/{window}", self.limits[kind] * factor, window


def _rate(counted: Count, limit: int, window: int) -> Rate:
    allowed, count, free = counted
    return Rate(bool(allowed), limit, window, max(0, limit - count), max(1, ceil(free)))


def rates(app: Apex) -> None:
    """Configures ``app.get("rates")``; reads ``redis`` (a URL) from the app's settings. Raises ConfigError where the
    library is missing.
    """
    app.set("rates", rates_of(app))


def rates_of(app: Apex) -> Rates:
    """Return rates for one purpose of an app, shared by its processes through Redis. They close with the app."""
    own = Rates()
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.realtime.redis import RedisRates

        own = RedisRates(url, app.get("database_url") or "")

    async def teardown(context: Context, next: Next) -> None:
        try:
            await next()
        finally:
            await own.close()

    app.hooks({"teardown": [teardown]})
    return own
