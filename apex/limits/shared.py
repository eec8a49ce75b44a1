"""Rate limits that the processes of an app share through its log: each reports to the others what it has counted."""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, sha256
from heapq import nlargest
from typing import Any, Protocol

from apex.limits.rates import Count, Rates

TOPIC = "rates"
"""The topic of the messages: ``{window: {digest of a name: requests}}``."""

REPORT_SECONDS = 0.1
MOST_REPORTED = 100
"""The names in a message. More wait for the next one, those that are nearest to their limits first."""

MOST_WAITING = 10_000
"""The names that wait. If there are more, the half that is farther from its limits is dropped."""

QUIET_SHARE = 0.5
"""The share of a limit up to which requests are reported only once they make up ``LEAST_SHARE`` of it."""

LEAST_SHARE = 0.01


class Bus(Protocol):
    """The part of ``apex.realtime.bus.Bus`` that shared rates use."""

    @property
    def is_current(self) -> bool: ...

    def on(self, topic: str, handler: Callable[[Any], None]) -> None: ...

    def send(self, topic: str, message: Any) -> None: ...


class App(Protocol):
    """The part of ``apex.Apex`` that shared rates use."""

    @property
    def bus(self) -> Bus: ...

    def get(self, name: str) -> Any: ...


@dataclass(slots=True)
class _Unreported:
    """The requests of a name that the other processes do not know of. ``share`` is the used part of its limit."""

    window: int
    requests: int = 0
    share: float = 0.0


Waiting = dict[bytes, _Unreported]
"""Requests by the digest of their name."""


class SharedRates(Rates):
    """The requests of many callers, counted by all processes that share a log. Without one, each process counts alone.

    A limit holds across processes, except for the requests that arrive before a message about earlier ones does: within
    0.2 seconds, and up to half of the limit also 1 % of it for each process. Names are sent as digests that are keyed
    with the app's secret, so that the log has no addresses.
    """

    def __init__(self, app: App) -> None:
        super().__init__()
        self.app: App = app
        self._few: Waiting = {}
        """Requests that are too few to be reported yet."""
        self._due: Waiting = {}
        self._timer: asyncio.TimerHandle | None = None
        app.bus.on(TOPIC, self._add)

    async def count(self, name: str, limit: int, window: int, taken: int = 1) -> Count:
        digest = blake2b(name.encode(), key=self._key, digest_size=12).digest()
        counted = self._count(digest, limit, window, taken)
        if taken and counted[0] and self.app.bus.is_current:
            self._note(digest, window, taken, counted[1], limit)
        return counted

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @cached_property
    def _key(self) -> bytes:
        """The key of the digests, made with the first count, when the app has all of its settings."""
        secret = (self.app.get("authentication") or {}).get("secret", "")
        return sha256(f"apex rates: {secret}".encode()).digest()

    def _note(self, digest: bytes, window: int, taken: int, count: int, limit: int) -> None:
        """Keep requests that have to be reported."""
        unreported = self._due.get(digest) or self._few.pop(digest, None) or _Unreported(window)
        unreported.requests += taken
        unreported.share = count / limit
        if unreported.share > QUIET_SHARE or unreported.requests >= limit * LEAST_SHARE:
            self._due = _bounded(self._due, digest, unreported)
            self._report_soon()
        else:
            self._few = _bounded(self._few, digest, unreported)

    def _report_soon(self) -> None:
        if self._timer is None:
            # The message is not part of a transaction that the counted call may be in.
            self._timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report, context=Context())

    def _report(self) -> None:
        self._timer = None
        message: dict[str, dict[str, int]] = {}
        for digest, unreported in _nearest(self._due, MOST_REPORTED):
            message.setdefault(str(unreported.window), {})[urlsafe_b64encode(digest).decode()] = unreported.requests
            del self._due[digest]
        self.app.bus.send(TOPIC, message)
        if self._due:
            self._report_soon()

    def _add(self, message: Mapping[str, Mapping[str, int]]) -> None:
        """Count the requests that another process has counted."""
        now = time.monotonic()
        for window, requests in message.items():
            for text, taken in requests.items():
                digest, until = urlsafe_b64decode(text), now + int(window)
                moments = self._taken.pop(digest, (until, deque[float]()))[1]
                moments.extend([now] * taken)
                self._taken[digest] = until, moments
        self._evict(now)


def _bounded(waiting: Waiting, digest: bytes, unreported: _Unreported) -> Waiting:
    """Add the requests of a name, and return at most ``MOST_WAITING`` of them."""
    waiting[digest] = unreported
    return waiting if len(waiting) <= MOST_WAITING else dict(_nearest(waiting, MOST_WAITING // 2))


def _nearest(waiting: Waiting, most: int) -> list[tuple[bytes, _Unreported]]:
    """Return the names that are nearest to their limits."""
    return nlargest(most, waiting.items(), key=lambda item: item[1].share)
