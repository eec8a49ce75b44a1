"""How many requests somebody may make in a window of time that slides; shared by all processes through Redis."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from typing import TYPE_CHECKING

from apex.extras import extra

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.context import Context
    from apex.hooks import Next

Count = tuple[bool, int, float]
"""Whether a request is allowed, how many are in the window with it, and seconds until one is free again."""


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

    async def take(self, name: str, limit: int, window: int) -> Rate:
        """Counts a request of somebody, ``limit`` being allowed in ``window`` seconds."""
        allowed, count, free = await self.count(name, limit, window)
        self.refused += not allowed
        return Rate(bool(allowed), limit, window, max(0, limit - count), max(1, ceil(free)))

    async def count(self, name: str, limit: int, window: int) -> Count:
        now = time.monotonic()
        _, moments = self._taken.pop(name, (now, deque()))
        while moments and moments[0] <= now - window:
            moments.popleft()
        allowed = len(moments) < limit
        if allowed:
            moments.append(now)
        self._taken[name] = now + window, moments
        self._forget(now)
        return allowed, len(moments), window - (now - moments[max(0, len(moments) - limit)])

    def _forget(self, now: float) -> None:
        """Those whose window is over. Who has not asked for longest comes first."""
        for name in list(takewhile(lambda name: self._taken[name][0] <= now, self._taken)):
            del self._taken[name]

    async def close(self) -> None:
        """Lets go of what it is connected to."""


def rates(app: Apex) -> None:
    """Configures ``app.get("rates")``; reads ``redis`` (a URL) from the app's settings. Raises ConfigError where the
    library is missing.
    """
    own = Rates()
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.redis import RedisRates

        own = RedisRates(url, app.get("database_url") or "")

    async def teardown(context: Context, next: Next) -> None:
        try:
            await next()
        finally:
            await own.close()

    app.set("rates", own)
    app.hooks({"teardown": [teardown]})
