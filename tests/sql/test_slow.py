"""The timing of statements: what sets one apart, and what brings it back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apex.sql.drivers.slow import CHECK_SECONDS, MOST_SLOW_RUNS, SLOW_SECONDS, Timing

LIMIT = 0.02
QUICK = st.floats(0, LIMIT, exclude_max=True)
SLOW = st.floats(LIMIT, 100)


@given(st.lists(SLOW, max_size=50), st.lists(QUICK, max_size=50))
def test_late_answers_alone_make_no_statement_slow(late: list[float], own: list[float]) -> None:
    timing = Timing(LIMIT)
    for seconds in late:
        timing.add_answer(seconds)
    for seconds in own:
        assert not timing.add_run(seconds, 0)
    assert not timing.is_slow(0)
    assert timing.is_suspect is (bool(late) and not own)


@given(st.lists(SLOW, min_size=MOST_SLOW_RUNS))
def test_a_statement_that_is_slow_itself_becomes_slow_once(own: list[float]) -> None:
    timing = Timing(LIMIT)
    assert [timing.add_run(seconds, 0) for seconds in own].count(True) == 1
    assert timing.is_slow(0)
    assert not timing.is_slow(SLOW_SECONDS)


@given(st.lists(SLOW, min_size=MOST_SLOW_RUNS), QUICK, st.booleans())
def test_one_quick_run_makes_it_quick_again(own: list[float], quick: float, timed: bool) -> None:
    timing = Timing(LIMIT)
    for seconds in own:
        timing.add_run(seconds, 0)
    if timed:
        timing.add_run(quick, 1)
    else:
        timing.add_answer(quick)
    assert not timing.is_slow(1)
    assert timing.add_run(2 * LIMIT, 2), "it is known, and soon apart again"


@given(st.lists(SLOW))
def test_a_statement_that_is_never_slow_stays_quick(own: list[float]) -> None:
    timing = Timing(LIMIT)
    assert not any(timing.add_run(seconds, 0, never_slow=True) for seconds in own)


def test_a_suspect_statement_that_is_quick_is_measured_from_time_to_time() -> None:
    timing = Timing(LIMIT)
    assert not timing.is_to_be_measured(0)
    timing.add_answer(1)
    assert timing.is_to_be_measured(0)
    timing.add_run(0.001, 0)
    timing.add_answer(1)
    assert not timing.is_to_be_measured(0)
    assert timing.is_to_be_measured(CHECK_SECONDS)
