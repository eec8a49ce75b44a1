"""What is remembered for a while, so that it is not worked out or asked for anew with every call."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import Context
from copy import copy
from typing import Generic, TypeVar

from apex.errors import FeathersError

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 5_000
"""At most so many entries of a kind are remembered. A token takes 900 bytes."""

FRESH_SECONDS = 0.9
"""For how long what the database has said counts: what is changed in it is so everywhere within a second."""


class Bounded(OrderedDict[K, V]):
    """A dict of at most ``size`` entries: the oldest makes room for a new one."""

    def __init__(self, size: int = REMEMBERED) -> None:
        super().__init__()
        self.size = size

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self.size:
            self.popitem(last=False)


class Fresh(Generic[K, V]):
    """What ``find`` gives for a key, found once in ``FRESH_SECONDS``; None, that there is nothing, is not remembered.

    Calls that want the same at the same moment wait for one ``find``. It is part of none of them: it runs outside of
    their transactions, may reach what the process may, and goes on when the call that began it is cancelled.
    Raises what ``find`` raises.
    """

    def __init__(self, find: Callable[[K], Awaitable[V | None]]) -> None:
        self.find = find
        self.clock = time.monotonic
        self._known: Bounded[K, tuple[float, V]] = Bounded()
        self._finding: dict[K, asyncio.Task[V | None]] = {}

    async def get(self, key: K) -> V | None:
        known = self._known.get(key)
        if known is not None and known[0] > self.clock():
            return known[1]
        task = self._finding.get(key)
        if task is None:
            task = self._finding[key] = asyncio.create_task(self._find(key), context=Context())
        try:
            return await asyncio.shield(task)
        except FeathersError as error:
            raise copy(error) from None  # Each caller's own: what is wrong with one call is written into its error.

    def forget(self, *keys: K) -> None:
        """Finds these anew, or without any all. What is being found at the moment is not remembered either."""
        for key in keys or {*self._known, *self._finding}:
            self._known.pop(key, None)
            self._finding.pop(key, None)

    async def _find(self, key: K) -> V | None:
        until, task = self.clock() + FRESH_SECONDS, asyncio.current_task()
        try:
            found = await self.find(key)
            if found is not None and self._finding.get(key) is task:
                self._remember(key, until, found)
            return found
        finally:
            if self._finding.get(key) is task:
                del self._finding[key]

    def _remember(self, key: K, until: float, value: V) -> None:
        """Lets go of those that are old, too; the oldest come first."""
        self._known.pop(key, None)
        self._known[key] = until, value
        now = self.clock()
        while self._known and next(iter(self._known.values()))[0] <= now:
            self._known.popitem(last=False)
