"""Entries in memory, for readers whose positions come from other processes."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from apex.log import Entry, Position
from apex.log.position import Snapshot
from apex.log.recent import Recent

COUNT = 8
OTHERS: list[Any] = [datetime.now(UTC), *[None] * 9]
"""The values of an entry beside its id and its transaction."""


class History:
    """Transactions that have each written one entry, and ended in some order. ``snapshots`` are those in between."""

    def __init__(self, ids: list[int], ended: list[int]) -> None:
        self.entries = [Entry([id, xid, *OTHERS]) for xid, id in enumerate(ids)]
        self.entries.sort(key=lambda entry: entry.id)
        self.snapshots = [self._snapshot(ended[:number]) for number in range(COUNT + 1)]

    def _snapshot(self, ended: list[int]) -> Snapshot:
        xmax = max(ended, default=-1) + 1
        return Snapshot(xmax, tuple(xid for xid in range(xmax) if xid not in ended))

    def position(self, begin: int, end: int, id: int | None) -> Position:
        """Return the position at ``begin``, or that after the entry ``id`` of a read up to ``end``."""
        seen, reading = self.snapshots[begin], self.snapshots[end]
        return Position("0", 0, 0, seen) if id is None else Position("0", id, 0, seen, reading)

    def between(self, begin: Position, end: Position) -> list[Entry]:
        return [one for one in self.entries if end.has(one.id, one.xid) and not begin.has(one.id, one.xid)]


histories = st.builds(History, st.permutations(range(1, COUNT + 1)), st.permutations(range(COUNT)))
places = st.integers(0, COUNT)


@st.composite
def positions(draw: st.DrawFn, history: History) -> Position:
    begin, end = sorted((draw(places), draw(places)))
    return history.position(begin, end, draw(st.none() | places))


@st.composite
def kept(draw: st.DrawFn, history: History) -> tuple[Recent, Position]:
    """Return the entries of some reads, a few of them in two pages, and the position after them."""
    stops = sorted(draw(st.sets(places, min_size=2)))
    ends = [history.position(stops[0], stops[0], None)]
    for begin, end in pairwise(stops):
        if draw(st.booleans()):
            ends.append(history.position(begin, end, draw(places)))
        ends.append(history.position(end, end, None))
    recent = Recent()
    recent.start(ends[0])
    for before, after in pairwise(ends):
        recent.add(history.between(before, after), after)
    return recent, ends[-1]


@given(histories, st.data(), st.integers(1, 3) | st.none())
def test_a_reader_gets_what_it_has_not_read_and_never_goes_back(
    history: History, data: st.DataObject, limit: int | None
) -> None:
    (recent, end), position = data.draw(kept(history)), data.draw(positions(history))
    page = recent.after(position, end, limit=limit)
    if position.reading is None:
        assert recent.begin is not None
        assert (page is not None) == (recent.begin <= position <= end)
    while page is not None:
        assert position <= page.position
        assert page.entries == [one for one in page.entries if not position.has(one.id, one.xid)]
        assert {*page.entries} == {*history.between(position, page.position)}
        position = page.position
        page = recent.after(position, end, limit=limit) if page.more else None
