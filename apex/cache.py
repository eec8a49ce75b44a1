"""Caches: results that are kept for a while, so that they are not computed or read again with every call."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import Context
from copy import copy
from typing import Generic, TypeVar

from apex.errors import FeathersError

__all__ = ["BoundedDict", "Cache"]

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRIES = 5_000
"""The entries of a cache, unless it names another number. A token takes 900 bytes."""

CACHE_SECONDS = 0.9
"""The seconds for which a ``Cache`` keeps a value. A change in the database counts everywhere within a second."""


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
    """The results of an ``async def`` function ``find``, by key. Each is kept for ``CACHE_SECONDS``, unless it is None.

    ::

        names = Cache(read_name)
        name = await names.get(5)

    Calls that ask for the same key at the same time share one call of ``find``. That call is part of none of them. It
    runs outside of their transactions, has the access of the process, and goes on if the call that began it is
    cancelled.
    """

    def __init__(self, find: Callable[[K], Awaitable[V | None]]) -> None:
        self.find: Callable[[K], Awaitable[V | None]] = find
        self.clock: Callable[[], float] = time.monotonic
        self._entries: BoundedDict[K, tuple[float, V]] = BoundedDict()
        self._finding: dict[K, asyncio.Task[V | None]] = {}

    async def get(self, key: K) -> V | None:
        """Return the value of a key, from the cache or from ``find``. Raises the exceptions of ``find``."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.clock():
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
        for key in keys or {*self._entries, *self._finding}:
            self._entries.pop(key, None)
            self._finding.pop(key, None)

    async def _find(self, key: K) -> V | None:
        until, task = self.clock() + CACHE_SECONDS, asyncio.current_task()
        try:
            found = await self.find(key)
            if found is not None and self._finding.get(key) is task:
                self._keep(key, until, found)
            return found
        finally:
            if self._finding.get(key) is task:
                del self._finding[key]

    def _keep(self, key: K, until: float, value: V) -> None:
        """Keep a value, and evict those that have expired. The oldest entries come first."""
        self._entries.pop(key, None)
        self._entries[key] = until, value
        now = self.clock()
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            self._entries.popitem(last=False)
