"""The entries of the log that returning clients have missed, read from the database once for all of a tenant."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from apex.errors import Gone
from apex.log.position import Position
from apex.log.recent import Recent

if TYPE_CHECKING:
    from apex.log.app_log import Log
    from apex.log.reading import Read

MOST_BYTES = 32 << 20
MOST_KEPT = 100
READS_AT_ONCE = 4
READ = 400
"""The entries that are read by one statement."""

Tenants = Collection[Any] | None
Key = frozenset[Any] | None


class History:
    """Reads of the log, each shared by all clients that return to the same tenants.

    After a restart all clients return at once, each from its own position. The first one has the log read from its
    position. The entries of later clients are among these. Only a client from an earlier position needs another read.
    ``reads`` counts the reads of the database.
    """

    def __init__(self, log: Log) -> None:
        self.log: Log = log
        self.reads: int = 0
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._turns: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)
        log.forget_handlers.append(self.forget)

    def forget(self) -> None:
        """Forget all entries, also those that are being read, as they were changed."""
        self._kept = OrderedDict()

    def kept(self, after: Position, tenants: Tenants) -> Read | None:
        """Return all entries after a position that are in memory, or None if the first ones are not there."""
        kept = self._kept.get(_key(tenants))
        return None if kept is None else kept.after(after)

    async def page(self, after: Position, tenants: Tenants, limit: int) -> Read:
        """Return at most ``limit`` entries after a position, in their order. Raises Gone and Unavailable."""
        key = _key(tenants)
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            kept = self._kept.get(key)
            if kept is not None and not kept.end <= after:  # Else there may be newer entries.
                page = kept.after(after, limit)
                if page is not None:
                    return page
            async with self._at_once:
                return await self._read(key, after, limit)

    async def _read(self, key: Key, after: Position, limit: int) -> Read:
        """Read and keep entries after a position, until there is one more than a client may get or memory is full."""
        self.reads += 1
        tenants, services = None if key is None else list(key), list(self.log.app.services)
        known, kept, more = self._kept, Kept(after), True
        while more and kept.entries.count <= self.log.settings.replay and kept.entries.bytes < MOST_BYTES:
            read = await self.log.read(kept.end, tenants=tenants, services=services, limit=READ)
            kept.add(read)
            more = read.more
        known[key] = kept
        known.move_to_end(key)
        while len(self._kept) > 1 and (len(self._kept) > MOST_KEPT or self._bytes() > MOST_BYTES):
            self._kept.popitem(last=False)
        page = kept.after(after, limit)
        if page is None:
            raise Gone("The log goes back behind this position: read the records again")
        return page

    def _bytes(self) -> int:
        return sum(one.entries.bytes for one in self._kept.values())


class Kept:
    """The entries after a position, and the position after them."""

    __slots__ = ("end", "entries")

    def __init__(self, begin: Position) -> None:
        self.entries: Recent = Recent(sys.maxsize, sys.maxsize)
        self.entries.start(begin)
        self.end: Position = begin

    def add(self, read: Read) -> None:
        """Keep the entries that were read from the end on."""
        self.entries.add(read.entries, read.position)
        self.end = read.position

    def after(self, position: Position, limit: int | None = None) -> Read | None:
        """Return entries after a position, or None if not all of them are there."""
        return self.entries.after(position, self.end, limit=limit)


def _key(tenants: Tenants) -> Key:
    return None if tenants is None else frozenset(tenants)
