"""Positions and their texts."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex.log import Position
from apex.log.position import Snapshot

NUMBERS = st.integers(0, 2**63 - 1)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    xmax = draw(st.integers(1, 2**63 - 1))
    xip = draw(st.sets(st.integers(max(0, xmax - 50), xmax - 1), max_size=20))
    return Snapshot(xmax, tuple(sorted(xip)))


@st.composite
def positions(draw: st.DrawFn) -> Position:
    seen = draw(st.none() | snapshots())
    reading = None if seen is None else draw(st.none() | snapshots())
    epoch = draw(st.text("0123456789abcdef", min_size=1, max_size=12))
    return Position(epoch, draw(NUMBERS), draw(NUMBERS), seen, reading)


@given(positions())
def test_a_position_is_read_from_its_text(position: Position) -> None:
    text = str(position)
    assert Position.parse(text) == position
    assert text.isascii()
    assert not set(text) & set(' ;,/+%&?#"')


@given(st.text() | st.from_regex(r"[0-9a-z.-]{0,40}"))
def test_a_text_is_that_of_one_position_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert str(Position.parse(text)) == text


@pytest.mark.parametrize("unit", ["0", "1.", "1-", "z" * 13 + "-", "0.0.0.1-1", " ", "é"])
def test_a_megabyte_is_refused_at_once(unit: str) -> None:
    with pytest.raises(ValueError, match="not the text of a position"):
        Position.parse("0.0.0." + unit * (2**20 // len(unit)))


@given(snapshots(), st.data())
def test_a_later_snapshot_has_all_of_an_earlier_one(earlier: Snapshot, data: st.DataObject) -> None:
    still_open = data.draw(st.sets(st.sampled_from(earlier.xip or (0,)))) & set(earlier.xip)
    xmax = earlier.xmax + data.draw(st.integers(0, 10))
    begun = {xid for xid in range(earlier.xmax, xmax) if data.draw(st.booleans())}
    later = Snapshot(xmax, tuple(sorted(still_open | begun)))
    assert earlier <= later
    some = {*earlier.xip, *range(max(0, earlier.xmax - 60), xmax + 1)}
    assert (later <= earlier) == all(earlier.has(xid) for xid in some if later.has(xid))


def test_a_snapshot_of_postgresql() -> None:
    snapshot = Snapshot.of("10:20:10,14")
    assert snapshot == Snapshot(20, (10, 14))
    assert [xid for xid in range(8, 22) if snapshot.has(xid)] == [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]
    assert Snapshot.of("20:20:") == Snapshot(20)
