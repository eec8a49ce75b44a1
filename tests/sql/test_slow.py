"""The pace of statements: what sets one apart, and what brings it back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apex.sql.drivers.slow import APART_SECONDS, LOOK_SECONDS, SLOW_RUNS, Pace

LIMIT = 0.02
QUICK = st.floats(0, LIMIT, exclude_max=True)
SLOW = st.floats(LIMIT, 100)


@given(st.lists(SLOW, max_size=50), st.lists(QUICK, max_size=50))
def test_late_answers_alone_set_nothing_apart(late: list[float], own: list[float]) -> None:
    pace = Pace(LIMIT)
    for seconds in late:
        pace.answered(seconds)
    for seconds in own:
        assert not pace.took(seconds, 0)
    assert not pace.is_apart(0)
    assert pace.suspected is (bool(late) and not own)


@given(st.lists(SLOW, min_size=SLOW_RUNS))
def test_what_is_slow_itself_is_set_apart_once(own: list[float]) -> None:
    pace = Pace(LIMIT)
    assert [pace.took(seconds, 0) for seconds in own].count(True) == 1
    assert pace.is_apart(0)
    assert not pace.is_apart(APART_SECONDS)


@given(st.lists(SLOW, min_size=SLOW_RUNS), QUICK, st.booleans())
def test_one_quick_run_brings_it_back(own: list[float], quick: float, timed: bool) -> None:
    pace = Pace(LIMIT)
    for seconds in own:
        pace.took(seconds, 0)
    if timed:
        pace.took(quick, 1)
    else:
        pace.answered(quick)
    assert not pace.is_apart(1)
    assert pace.took(2 * LIMIT, 2), "it is known, and soon apart again"


@given(st.lists(SLOW))
def test_what_stays_is_never_set_apart(own: list[float]) -> None:
    pace = Pace(LIMIT)
    assert not any(pace.took(seconds, 0, stays=True) for seconds in own)


def test_a_suspected_statement_that_is_quick_is_timed_from_time_to_time() -> None:
    pace = Pace(LIMIT)
    assert not pace.is_to_be_timed(0)
    pace.answered(1)
    assert pace.is_to_be_timed(0)
    pace.took(0.001, 0)
    pace.answered(1)
    assert not pace.is_to_be_timed(0)
    assert pace.is_to_be_timed(LOOK_SECONDS)
