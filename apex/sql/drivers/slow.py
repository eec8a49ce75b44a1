"""The detector of slow statements. A slow statement runs apart, so that it does not hold up others.

A late answer does not prove that a statement is slow: on a busy machine every answer is late. A late answer only makes
a statement suspect. The driver then measures the time that the database itself needs for the next runs. An answer in
time proves that the statement is quick.
"""

from __future__ import annotations

SLOW_SECONDS = 10
"""Seconds for which a statement stays slow after its last slow run, unless a quick run comes before."""

CHECK_SECONDS = 0.5
"""Seconds between two measurements of a quick statement whose answers are late."""

MOST_SLOW_RUNS = 4
"""The surplus of slow runs over quick ones that makes a statement slow."""

HEAVIEST_RUN = 2
"""The most that one run counts. A run of twice the limit counts twice."""


class Timing:
    """The times of one statement, which is quick if it takes less than ``limit`` seconds.

    ``now`` is the time of a clock that only goes forward, in seconds.
    """

    __slots__ = ("check_at", "is_suspect", "limit", "slow_runs", "slow_until")

    def __init__(self, limit: float) -> None:
        self.limit: float = limit
        self.is_suspect: bool = False
        self.slow_runs: float = 0.0
        self.slow_until: float = 0.0
        self.check_at: float = 0.0

    def is_slow(self, now: float) -> bool:
        """Return True if the statement has to run apart."""
        return now < self.slow_until

    def is_to_be_measured(self, now: float) -> bool:
        """Return True if the driver should measure the next run."""
        return self.is_suspect and now >= self.check_at

    def add_answer(self, seconds: float) -> None:
        """Note how long an answer took to come. The statement itself took at most as long."""
        if seconds >= self.limit:
            self.is_suspect = True
        elif self.is_suspect or self.slow_runs:
            self._add_quick_run()

    def add_run(self, seconds: float, now: float, *, never_slow: bool = False) -> bool:
        """Note how long the statement itself took. Return True if that makes it slow.

        With ``never_slow`` the run counts as quick.
        """
        if seconds < self.limit or never_slow:
            self._add_quick_run()
            self.check_at = now + CHECK_SECONDS
            return False
        was_slow = self.is_slow(now)
        self.is_suspect = True
        self.slow_runs = min(self.slow_runs + min(seconds / self.limit, HEAVIEST_RUN), MOST_SLOW_RUNS)
        if self.slow_runs < MOST_SLOW_RUNS:
            return False
        self.slow_until = now + SLOW_SECONDS
        return not was_slow

    def _add_quick_run(self) -> None:
        self.is_suspect = False
        self.slow_runs = max(0.0, self.slow_runs - 1)
        self.slow_until = 0.0
