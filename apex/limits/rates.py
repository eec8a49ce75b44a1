"""Rate limits: how many requests a caller may make in a sliding window, counted by one process or through Redis."""

from __future__ import annotations

import time
from asyncio import Lock, gather
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from math import ceil
from typing import Any, Protocol

from apex._lazy import extra
from apex._moved import renamed, renamed_parameters
from apex.errors import TooManyRequests

__all__ = ["FailureLimit", "Rate", "RateLimiter", "Rates", "rates"]

Count = tuple[bool, int, float]
"""True if a request is allowed, the requests in the window with it, and seconds until another one is possible."""

BATCHES = 100
"""The batches that a ``RateLimiter`` divides its limit into."""

PAUSES = ((1, 60), (4, 900))
"""The windows in which failures are counted: a factor for the limit, and seconds."""


class App(Protocol):
    """The part of ``apex.Apex`` that rate limits use."""

    bus: Any

    def get(self, name: str) -> Any: ...

    def set(self, name: str, value: Any) -> Any: ...

    def hooks(self, hooks: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """The state of a limit after a request.

    ``window`` is in seconds. ``remaining`` requests are still allowed. In ``reset`` seconds another one is possible.
    """

    allowed: bool
    limit: int
    window: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """Return the ``RateLimit-*`` headers of a response, and ``Retry-After`` if the request was refused."""
        headers = {
            "RateLimit-Limit": self.limit,
            "RateLimit-Remaining": self.remaining,
            "RateLimit-Reset": self.reset,
            "RateLimit-Policy": f"{self.limit};w={self.window}",
        }
        if not self.allowed:
            headers["Retry-After"] = self.reset
        return {name: str(value) for name, value in headers.items()}


class Rates:
    """The requests of many callers, counted in the memory of a process.

    The count is exact: no window has more requests than the limit. Refused requests do not count::

        rate = await Rates().take("ann", 100, 3_600)
        if not rate.allowed:
            raise TooManyRequests("Rate limit exceeded", headers=rate.headers())
    """

    def __init__(self) -> None:
        self.refused: int = 0
        """The requests that were refused since the start."""
        self._taken: dict[Hashable, tuple[float, deque[float]]] = {}

    @property
    def counted(self) -> int:
        """The number of names that this process counts at the moment."""
        return len(self._taken)

    async def take(self, name: str, limit: int, window: int, amount: int = 1) -> Rate:
        """Count a request of a caller, who may make ``limit`` requests in ``window`` seconds.

        A request that does the work of several counts as ``amount``, but never as more than ``limit``.
        """
        rate = _rate(await self.count(name, limit, window, min(amount, limit)), limit, window)
        self.refused += not rate.allowed
        return rate

    async def look(self, name: str, limit: int, window: int) -> Rate:
        """Return the rate of a request without counting it."""
        return _rate(await self.count(name, limit, window, 0), limit, window)

    async def count(self, name: str, limit: int, window: int, taken: int = 1) -> Count:
        """Count the requests in the window, and ``taken`` more if all of them are allowed."""
        return self._count(name, limit, window, taken)

    def _count(self, key: Hashable, limit: int, window: int, taken: int) -> Count:
        now = time.monotonic()
        _, moments = self._taken.pop(key, (now, deque()))
        while moments and moments[0] <= now - window:
            moments.popleft()
        needed = max(1, taken)
        allowed = len(moments) + needed <= limit
        if allowed:
            moments.extend([now] * taken)
        if moments:
            self._taken[key] = moments[-1] + window, moments
        self._evict(now)
        last = len(moments) - limit + (0 if allowed else needed - 1)
        oldest = moments[max(0, last)] if moments else now - window
        return allowed, len(moments), window - (now - oldest)

    def _evict(self, now: float) -> None:
        """Evict the names whose window is over. The names that have asked least recently come first."""
        for name in list(takewhile(lambda name: self._taken[name][0] <= now, self._taken)):
            del self._taken[name]

    async def close(self) -> None:
        """Close the connections to Redis, if there are any."""


@dataclass(slots=True)
class _Batch:
    """The requests that a caller may still make in this process until a moment."""

    left: int = 0
    until: float = 0.0
    lock: Lock = field(default_factory=Lock)


class RateLimiter:
    """A limit for each of many callers that costs almost nothing for most requests.

    A process takes a hundredth of the limit from the ``rates`` at once and counts that batch down in memory. So a
    caller may exceed the limit by at most one batch in each process::

        limiter = RateLimiter(app.get("rates"), "users", 10_000, 3_600)
        rate = None if limiter.spend("7") else await limiter.take("7")
        if rate is not None:
            raise TooManyRequests("Rate limit exceeded", headers=rate.headers())
    """

    def __init__(self, rates: Rates, kind: str, limit: int, window: int) -> None:
        self.rates: Rates = rates
        self.kind: str = kind
        self.limit: int = limit
        self.window: int = window
        self.batch_size: int = max(1, limit // BATCHES)
        self._batches: dict[str, _Batch] = {}

    def spend(self, name: str) -> bool:
        """Count a request. Return False if this process has no batch left for the caller: then call ``take``."""
        batch = self._batches.get(name)
        if batch is None or not batch.left or batch.until <= time.monotonic():
            return False
        batch.left -= 1
        return True

    async def take(self, name: str) -> Rate | None:
        """Take a new batch and count a request. Return None if it is allowed, else the exceeded rate."""
        batch = self._batches.pop(name, None) or _Batch()
        self._batches[name] = batch
        async with batch.lock:
            if self.spend(name):
                return None
            rate = await self.rates.take(f"{self.kind}/{name}", self.limit // self.batch_size, self.window)
            batch.left, batch.until = self.batch_size * rate.allowed, time.monotonic() + self.window
            self._evict()
            return None if self.spend(name) else Rate(False, self.limit, self.window, 0, rate.reset)

    def _evict(self) -> None:
        """Evict the batches whose window is over. They come first."""
        now = time.monotonic()
        for name, batch in list(takewhile(lambda one: one[1].until <= now, self._batches.items())):
            if not batch.lock.locked():
                del self._batches[name]


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """A limit on failed attempts. A caller that exceeds it has to wait.

    ``limits`` are the failures in a minute for each kind of counter. Four times as many are allowed in a quarter of an
    hour. ``rates`` returns the counters when they are needed::

        limit = FailureLimit("pins", lambda: app.get("rates"), {"account": 5, "address": 20})
        await limit.admit({"account": "ann", "address": "203.0.113.7"})
    """

    name: str
    rates: Callable[[], Rates]
    limits: Mapping[str, int]

    @renamed_parameters(who="counters")
    async def admit(self, counters: Mapping[str, str]) -> None:
        """Raise TooManyRequests, with ``Retry-After``, if one of the counters has too many failures."""
        rates = await gather(*(self.rates().look(*counter) for counter in self._counters(counters)))
        if wait := max((rate.reset for rate in rates if not rate.allowed), default=0):
            message = f"Too many failed attempts: try again in {wait} seconds"
            raise TooManyRequests(message, {"retryAfter": wait}, headers={"Retry-After": str(wait)})

    @renamed_parameters(who="counters")
    async def fail(self, counters: Mapping[str, str]) -> None:
        """Count a failure for each of the counters."""
        await gather(*(self.rates().take(*counter) for counter in self._counters(counters)))

    def _counters(self, counters: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
        for kind, name in counters.items():
            for factor, window in PAUSES:
                yield f"{self.name}/{kind}/{name}/{window}", self.limits[kind] * factor, window


def _rate(counted: Count, limit: int, window: int) -> Rate:
    allowed, count, seconds = counted
    return Rate(bool(allowed), limit, window, max(0, limit - count), max(1, ceil(seconds)))


def rates(app: App) -> None:
    """Set ``app.get("rates")``: ``app.configure(rates)``.

    With ``redis`` (a URL) in the settings all processes of the app count together. Without it, and with a log
    (``apex.log``), each process tells the others what it has counted: see ``apex.limits.shared``. Raises ConfigError if
    the library is missing.
    """
    app.set("rates", rates_of(app))


def rates_of(app: App) -> Rates:
    """Return new rates, shared by the processes of the app if it has Redis or a log. They are closed with the app."""
    from apex.limits.shared import SharedRates

    own: Rates = SharedRates(app)
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.realtime.redis import RedisRates

        own = RedisRates(url, app.get("database_url") or "", own)

    async def teardown(context: Any, next: Callable[[], Awaitable[None]]) -> None:
        try:
            await next()
        finally:
            await own.close()

    app.hooks({"teardown": [teardown]})
    return own


__getattr__ = renamed("apex.limits.rates", Portions="RateLimiter")
