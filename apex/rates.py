"""How many requests somebody may make in a window of time that slides; shared by all processes through Redis."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from apex.app import Apex

CONNECTIONS = 20
SECONDS = 2
"""How long Redis may take, before this process counts by itself."""

FAILURES = (RedisError, OSError, TimeoutError)

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

    While Redis is away each process counts by itself.
    """

    def __init__(self, redis: str | None = None) -> None:
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._shared = None if redis is None else MovingWindowRateLimiter(_storage(redis))
        self._is_away = False

    async def take(self, name: str, limit: int, window: int) -> Rate:
        """Counts a request of somebody, ``limit`` being allowed in ``window`` seconds."""
        item = _item(limit, window)
        if self._shared is not None:
            try:
                rate = await _take(self._shared, item, name)
            except FAILURES as error:
                self._away(error)
            else:
                self._is_away = False
                return rate
        return await _take(self._own, item, name)

    def _away(self, error: BaseException) -> None:
        if not self._is_away:
            log.warning("Redis cannot be reached, each process limits rates by itself: %s", type(error).__name__)
        self._is_away = True


def rates(app: Apex) -> None:
    """Configures ``app.get("rates")``; reads ``redis`` (a URL) from the app's settings."""
    app.set("rates", Rates(app.get("redis")))


async def _take(limiter: MovingWindowRateLimiter, item: RateLimitItem, name: str) -> Rate:
    allowed = await limiter.hit(item, name)
    moment, remaining = await limiter.get_window_stats(item, name)
    reset = max(1, ceil(moment - time.time()))
    return Rate(allowed, item.amount, item.multiples, remaining if allowed else 0, reset)


@lru_cache(1_000)
def _item(limit: int, window: int) -> RateLimitItem:
    return RateLimitItemPerSecond(limit, window, "apex")


def _storage(url: str) -> RedisStorage:
    options: dict[str, Any] = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS, "timeout": SECONDS}
    pool: Any = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, **options)
    return RedisStorage(f"async+{url}", implementation="redispy", connection_pool=pool)
