"""The pace of statements: finds those that hold up others, by the time that the database itself needs for them.

On an overloaded machine every answer is late, which says nothing about the statement. An answer in time shows that its
statement is quick. A late answer only makes the statement suspected: its next runs are timed by a clock that stands
still while other processes have the processor.
"""

from __future__ import annotations

APART_SECONDS = 10
"""Seconds for which a slow statement stays apart after its last slow run, unless it is found quick before."""

LOOK_SECONDS = 0.5
"""Seconds between two timings of a quick statement whose answers are late."""

SLOW_RUNS, HEAVY = 4, 2
"""The surplus of slow runs over quick ones that sets a statement apart. A run of twice the limit counts twice."""


class Pace:
    """The record of one statement, which is quick if it takes less than ``limit`` seconds.

    ``now`` is the time of one clock that only goes forward, in seconds.
    """

    __slots__ = ("apart_until", "limit", "look_at", "slow", "suspected")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.apart_until = self.look_at = self.slow = 0.0
        self.suspected = False

    def is_apart(self, now: float) -> bool:
        return now < self.apart_until

    def is_to_be_timed(self, now: float) -> bool:
        return self.suspected and now >= self.look_at

    def answered(self, seconds: float) -> None:
        """Note how long an answer took to come. The statement took at most as long."""
        if seconds >= self.limit:
            self.suspected = True
        elif self.suspected or self.slow:
            self._is_quick()

    def took(self, seconds: float, now: float, *, stays: bool = False) -> bool:
        """Note how long the statement itself took. Return True if that sets it apart. With ``stays`` it never does."""
        if seconds < self.limit or stays:
            self._is_quick()
            self.look_at = now + LOOK_SECONDS
            return False
        was_apart = self.is_apart(now)
        self.suspected = True
        self.slow = min(self.slow + min(seconds / self.limit, HEAVY), SLOW_RUNS)
        if self.slow < SLOW_RUNS:
            return False
        self.apart_until = now + APART_SECONDS
        return not was_apart

    def _is_quick(self) -> None:
        self.suspected = False
        self.slow = max(0.0, self.slow - 1)
        self.apart_until = 0.0
