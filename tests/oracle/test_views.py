"""Tests of the views of clients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apex.testing.oracle import Event, View

EVENTS = st.lists(st.tuples(st.sampled_from(["created", "patched", "removed"]), st.integers(1, 3)), max_size=20)


@given(EVENTS, st.data())
def test_a_view_shows_the_last_states_wherever_it_reads(written: list[tuple[str, int]], data: st.DataObject) -> None:
    """The read sees the states of a moment between its begin and its end, as a find of a server does."""
    begin = data.draw(st.integers(0, len(written)))
    moment = data.draw(st.integers(begin, len(written)))
    end = data.draw(st.integers(moment, len(written)))
    view = View("notes")
    stored: dict[int, dict[str, int]] = {}
    for place, (name, id) in enumerate([*written, ("end", 0)]):
        if place == begin:
            view.begin()
        if place == moment:
            found = list(stored.values())
        if place == end:
            view.end(found)
        if name != "end":
            record = {"id": id, "place": place}
            stored = {**stored, id: record} if name != "removed" else {k: v for k, v in stored.items() if k != id}
            view.apply(Event("notes", name, record))
    assert view.differences("ann", stored.values()) == []


def test_differences_are_sentences() -> None:
    view = View("notes")
    view.end([{"id": 1, "text": "a"}, {"id": 2}])
    found = view.differences("ann", [{"id": 1, "text": "b"}, {"id": 3}])
    assert [str(each) for each in found] == [
        "notes 1: for ann, text is 'a' and not 'b'",
        "notes 2: ann has it, and find does not",
        "notes 3: find has it, and ann does not",
    ]
