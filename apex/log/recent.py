"""The entries that a process has followed last, in memory, for the clients that return."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from apex.log.position import Position
from apex.log.reading import Entry

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
        self, position: Position, tenants: Sequence[Any] | None, services: Sequence[str | None] | None
    ) -> list[Entry] | None:
        """Return the entries after a position in their order, or None if not all of them are kept."""
        if self.begin is None or not self.begin <= position:
            return None
        return [
            entry
            for entries, _, _ in self._reads
            for entry in entries
            if not position.has(entry.id, entry.xid)
            and (tenants is None or entry.tenant in tenants)
            and (services is None or entry.service in services)
        ]
