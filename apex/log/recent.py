"""The entries that a process has followed last, in memory, for the clients that return."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection
from itertools import islice
from typing import Any

from apex.log.position import Position
from apex.log.reading import READ_BYTES, Entry, Read, milliseconds

MOST_ENTRIES = 10_000
MOST_BYTES = 16 << 20

OVERHEAD = 500
"""The bytes of an entry in memory beside its JSON."""


class Recent:
    """The entries after ``begin``, read by read. The oldest reads are evicted."""

    def __init__(self, entries: int = MOST_ENTRIES, bytes: int = MOST_BYTES) -> None:
        self.most_entries: int = entries
        self.most_bytes: int = bytes
        self.begin: Position | None = None
        self.count: int = 0
        self.bytes: int = 0
        self._reads: deque[tuple[list[Entry], int, Position]] = deque()

    def start(self, begin: Position) -> None:
        """Forget all entries, and keep those after a position."""
        self._reads.clear()
        self.begin, self.count, self.bytes = begin, 0, 0

    def forget(self) -> None:
        """Forget all entries up to the end of the last read."""
        if self._reads:
            self.start(self._reads[-1][2])

    def add(self, entries: list[Entry], position: Position) -> None:
        """Keep the entries of a read, which has ended at a position."""
        size = sum(entry.size + OVERHEAD for entry in entries)
        self._reads.append((entries, size, position))
        self.count += len(entries)
        self.bytes += size
        while self.count > self.most_entries or self.bytes > self.most_bytes:
            evicted, size, self.begin = self._reads.popleft()
            self.count -= len(evicted)
            self.bytes -= size

    def after(
        self,
        position: Position,
        end: Position,
        tenants: Collection[Any] | None = None,
        services: Collection[str | None] | None = None,
        limit: int | None = None,
    ) -> Read | None:
        """Return the entries after a position in their order, or None if not all of them are kept.

        ``end`` is the position after the last read. With a ``limit`` there may be more, and a page ends after 1 MiB as
        well. The position of the page has all entries of the one before it. None, if that cannot be: another process
        may be further, or in the middle of a read of its own.
        """
        if self.begin is None or not self.begin <= position <= end:
            return None
        found: list[Entry] = []
        size = 0
        first = bisect_left(self._reads, True, key=lambda read: not read[2] <= position)
        begin = self._reads[first - 1][2] if first else self.begin
        for entries, _, read_to in islice(self._reads, first, None):
            last: Entry | None = None
            for entry in entries:
                if (
                    not position.has(entry.id, entry.xid)
                    and (tenants is None or entry.tenant in tenants)
                    and (services is None or entry.service in services)
                ):
                    if limit is not None and (len(found) == limit or size >= READ_BYTES):
                        middle = _within(position, begin, read_to, last)
                        return Read(found, middle, True) if position <= middle else None
                    found.append(entry)
                    size += entry.size
                    last = entry
            begin = read_to
        return Read(found, end, False)


def _within(after: Position, begin: Position, end: Position, last: Entry | None) -> Position:
    """Return the position of a reader in the middle of a read from ``begin`` to ``end``.

    It was at ``after``, and has got all that came then, up to the entry ``last`` of the read, or nothing of the read.
    """
    id, moment, seen, reading = begin.id, begin.moment, begin.seen, begin.reading
    if last is not None:
        id, moment, reading = last.id, milliseconds(last.created_at), None if seen is None else end.upper
    if seen is not None and after.seen is not None and not after.seen <= seen:
        seen = after.seen
    return Position(begin.epoch, id, moment, seen, reading)
