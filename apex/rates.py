"""How many requests somebody may make in a window of time that slides; shared by all processes through Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from apex.redis import FAILURES, connected, namespace

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.context import Context

CONNECTIONS = 20
ANSWER_SECONDS = 2
AWAY_SECONDS = 1
"""How long Redis is left alone after it has failed."""

# The moments of the requests in the window, the oldest first, by Redis' own clock; one step for all processes.
TAKE = """
local clock, limit, window = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock[1] + clock[2] / 1000000
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= now - window do
    redis.call('LPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], 0)
end
local count = redis.call('LLEN', KEYS[1])
local allowed = count < limit
if allowed then
    redis.call('RPUSH', KEYS[1], string.format('%.6f', now))
    redis.call('EXPIRE', KEYS[1], window)
    count = count + 1
end
local free = tonumber(redis.call('LINDEX', KEYS[1], math.max(0, count - limit)))
return {allowed and 1 or 0, count, string.format('%.6f', window - (now - free))}
"""

log = logging.getLogger("apex")


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
    """Counts exactly: in no window of that length are there more than the limit. What is refused does not count.

    The processes that share a Redis and an ``app`` (its database) count together. While Redis is away each counts by
    itself.
    """

    def __init__(self, redis: str | None = None, app: str = "") -> None:
        self._taken: dict[str, deque[float]] = {}
        self._prefix = f"{namespace(app)}:rates:"
        self._redis = None if redis is None else connected(redis, ANSWER_SECONDS)
        self._script = None if self._redis is None else self._redis.register_script(TAKE)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._away_until = 0.0

    async def take(self, name: str, limit: int, window: int) -> Rate:
        """Counts a request of somebody, ``limit`` being allowed in ``window`` seconds."""
        found = await self._take_shared(name, limit, window)
        allowed, count, free = found or self._take(name, limit, window)
        return Rate(bool(allowed), limit, window, max(0, limit - count), max(1, ceil(free)))

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    def _take(self, name: str, limit: int, window: int) -> tuple[int, int, float]:
        """What ``TAKE`` does, in this process."""
        moments, now = self._taken.setdefault(name, deque()), time.monotonic()
        while moments and moments[0] <= now - window:
            moments.popleft()
        allowed = len(moments) < limit
        if allowed:
            moments.append(now)
        return allowed, len(moments), window - (now - moments[max(0, len(moments) - limit)])

    async def _take_shared(self, name: str, limit: int, window: int) -> tuple[int, int, float] | None:
        """None without Redis, or while it is away."""
        if self._script is None:
            return None
        try:
            async with self._turns:
                if time.monotonic() < self._away_until:
                    return None
                allowed, count, free = await self._script([self._prefix + name], [limit, window])
        except FAILURES as error:
            log.warning("Redis cannot be reached, each process limits rates by itself: %s", type(error).__name__)
            self._away_until = time.monotonic() + AWAY_SECONDS
            return None
        return allowed, count, float(free)


def rates(app: Apex) -> None:
    """Configures ``app.get("rates")``; reads ``redis`` (a URL) from the app's settings."""
    own = Rates(app.get("redis"), app.get("database_url") or "")

    async def teardown(context: Context, next: Callable[[], Awaitable[None]]) -> None:
        try:
            await next()
        finally:
            await own.close()

    app.set("rates", own)
    app.hooks({"teardown": [teardown]})
