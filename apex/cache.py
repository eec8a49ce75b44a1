"""Caches: results that are kept for a while, so that they are not computed or read again with every call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import Context
from copy import copy
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from apex.errors import FeathersError

__all__ = ["BoundedDict", "Cache"]

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRIES = 20_000
"""The entries of a cache, unless it names another number. A token takes a kilobyte."""

CACHE_SECONDS = 0.9
"""The seconds for which a ``Cache`` keeps a value. A change in the database counts everywhere within a second."""

KEPT_SECONDS = 15 * 60
"""The seconds for which a ``Cache`` keeps a value that it forgets when a record changes. They limit how long a change
that another program has made in the database goes unnoticed.
"""

log: logging.Logger = logging.getLogger("apex")


class Changes(Protocol):
    """The part of ``apex.realtime.bus.Bus`` that a cache follows."""

    @property
    def is_current(self) -> bool: ...

    def on_change(self, path: str, handler: Callable[[str, Any], None]) -> None: ...

    def on_gap(self, handler: Callable[[], None]) -> None: ...


class App(Protocol):
    """The part of ``apex.Apex`` that a cache uses."""

    @property
    def bus(self) -> Changes: ...

    def service(self, path: str) -> Any: ...


class BoundedDict(OrderedDict[K, V]):
    """A dict of at most ``size`` entries. A new entry evicts the oldest one."""

    def __init__(self, size: int = MAX_ENTRIES) -> None:
        super().__init__()
        self.size: int = size

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self.size:
            self.popitem(last=False)


class Cache(Generic[K, V]):
    """The results of an ``async def`` function ``find``, by key, unless they are None::

        names = Cache(read_name)
        name = await names.get(5)

    Each is kept for ``CACHE_SECONDS``. A cache that follows services (``follow``) keeps it for ``kept`` seconds while
    the log of the app can be read. ``on_forget`` is called whenever values are forgotten.

    Calls that ask for the same key at the same time share one call of ``find``. That call is part of none of them. It
    runs outside of their transactions, has the access of the process, and goes on if the call that began it is
    cancelled.
    """

    def __init__(
        self,
        find: Callable[[K], Awaitable[V | None]],
        *,
        kept: float = KEPT_SECONDS,
        on_forget: Callable[[], None] | None = None,
    ) -> None:
        self.find: Callable[[K], Awaitable[V | None]] = find
        self.kept: float = kept
        self.on_forget: Callable[[], None] | None = on_forget
        self.clock: Callable[[], float] = time.monotonic
        self._app: App | None = None
        self._entries: BoundedDict[K, tuple[float, V]] = BoundedDict()
        self._finding: dict[K, asyncio.Task[V | None]] = {}

    def follow(
        self,
        app: App,
        path: str,
        key: Callable[[Any], K] | None = None,
        *,
        applies: Callable[[Any, V], bool] | None = None,
    ) -> None:
        """Forget the values that depend on a record of a service as soon as it changes::

            roles = Cache(read_roles)
            roles.follow(app, "memberships", lambda membership: membership["user_id"])

        ``key`` returns the key of the value that depends on a record. If the record alone does not tell the key, give
        ``applies``: ``applies(record, value)`` returns True for a value that depends on the record. Without both, all
        values are forgotten.

        Let the cache follow every service whose records its values depend on. With a log (``apex.log``), it notices the
        changes of all processes. Without one, it notices those of its own process, and values are kept for
        ``CACHE_SECONDS`` as before. Raises LookupError if the service is not registered.
        """
        service, forget = app.service(path), partial(self._forget_dependent, key, applies)
        for event in service._events:
            service.on(event, forget)
        if self._app is None:
            app.bus.on_gap(self.forget)
        app.bus.on_change(path, lambda event, record: forget(record))
        self._app = app

    async def get(self, key: K) -> V | None:
        """Return the value of a key, from the cache or from ``find``. Raises the exceptions of ``find``."""
        entry = self._entries.get(key)
        if entry is not None:
            age = self.clock() - entry[0]
            if age < CACHE_SECONDS or (age < self.kept and self._app is not None and self._app.bus.is_current):
                return entry[1]
        task = self._finding.get(key)
        if task is None:
            task = self._finding[key] = asyncio.create_task(self._find(key), context=Context())
        try:
            return await asyncio.shield(task)
        except FeathersError as error:
            raise copy(error) from None  # Each caller gets its own: hooks may write into it.

    def forget(self, *keys: K) -> None:
        """Remove these keys, or all keys if none is given. Values that are being found now are not kept either."""
        if not keys:
            self._entries.clear()
            self._finding.clear()
        for key in keys:
            self._entries.pop(key, None)
            self._finding.pop(key, None)
        if self.on_forget is not None:
            self.on_forget()

    def _forget_dependent(
        self,
        key: Callable[[Any], K] | None,
        applies: Callable[[Any, V], bool] | None,
        record: Any = None,
        *more: Any,
    ) -> None:
        """Remove the values that depend on a record, or all of them if the function of the app fails."""
        try:
            if key is not None:
                self.forget(key(record))
            elif applies is not None:
                outdated = [one for one, (_, value) in self._entries.items() if applies(record, value)]
                self.forget(*outdated, *self._finding)
            else:
                self.forget()
        except Exception:
            log.exception("A cache cannot tell what depends on a record, and forgets all of its values")
            self.forget()

    async def _find(self, key: K) -> V | None:
        moment, task = self.clock(), asyncio.current_task()
        try:
            found = await self.find(key)
            if found is not None and self._finding.get(key) is task:
                self._keep(key, moment, found)
            return found
        finally:
            if self._finding.get(key) is task:
                del self._finding[key]

    def _keep(self, key: K, moment: float, value: V) -> None:
        """Keep a value, and evict those that have expired. The oldest entries come first."""
        self._entries.pop(key, None)
        self._entries[key] = moment, value
        expired = self.clock() - (CACHE_SECONDS if self._app is None else self.kept)
        while self._entries and next(iter(self._entries.values()))[0] <= expired:
            self._entries.popitem(last=False)
