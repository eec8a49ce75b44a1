"""The entries of the log that returning clients have missed, read from the database once for all of a tenant."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from apex.errors import Gone
from apex.log.position import Position
from apex.log.recent import Recent

if TYPE_CHECKING:
    from apex.log.reader import Log
    from apex.log.reading import Read

MOST_BYTES = 32 << 20
MOST_KEPT = 100
READS_AT_ONCE = 4

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

    def kept(self, after: Position, tenants: Tenants, services: Collection[str], limit: int) -> Read | None:
        """Return entries after a position from memory, or None if not all of them are there."""
        kept = self._kept.get(_key(tenants))
        return None if kept is None else kept.after(after, tenants, services, limit)

    async def page(self, after: Position, tenants: Tenants, services: Collection[str], limit: int) -> Read:
        """Return at most ``limit`` entries after a position, in their order. Raises Gone and Unavailable."""
        key = _key(tenants)
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            kept = self._kept.get(key)
            if kept is not None and not kept.end <= after:  # Else there may be newer entries.
                page = kept.after(after, tenants, services, limit)
                if page is not None:
                    return page
            async with self._at_once:
                return await self._read(key, after, tenants, services, limit)

    async def _read(self, key: Key, after: Position, tenants: Tenants, services: Collection[str], limit: int) -> Read:
        self.reads += 1
        most = self.log.settings.replay + 1
        listed = None if tenants is None else list(tenants)
        read = await self.log.read(after, tenants=listed, services=list(services), limit=most)
        kept = Kept(after, read)
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (len(self._kept) > MOST_KEPT or self._bytes() > MOST_BYTES):
            self._kept.popitem(last=False)
        page = kept.after(after, tenants, services, limit)
        if page is None:
            raise Gone("The log goes back behind this position: read the records again")
        return page

    def _bytes(self) -> int:
        return sum(one.entries.bytes for one in self._kept.values())


class Kept:
    """The entries of a read, and the position after it."""

    __slots__ = ("end", "entries")

    def __init__(self, begin: Position, read: Read) -> None:
        self.entries: Recent = Recent(len(read.entries), 1 << 62)
        self.entries.start(begin)
        self.entries.add(read.entries, read.position)
        self.end: Position = read.position

    def after(self, position: Position, tenants: Tenants, services: Collection[str], limit: int) -> Read | None:
        """Return entries after a position, or None if not all of them are there."""
        return self.entries.after(position, self.end, tenants, services, limit)


def _key(tenants: Tenants) -> Key:
    return None if tenants is None else frozenset(tenants)
