"""Positions in the log: what a reader has read, as a short text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

LONGEST_TEXT = 16_384
"""The most characters of a position. One with 2,000 open transactions has about 6,000."""

LARGEST = 2**63 - 1
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

_NUMBER = "[0-9a-z]{1,13}"
_NUMBERS = rf"{_NUMBER}(?:-{_NUMBER})*"
_TEXT = re.compile(rf"([0-9a-z]{{1,12}})\.({_NUMBER})\.({_NUMBER})(?:\.({_NUMBERS})(?:\.({_NUMBERS}))?)?")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The transactions of PostgreSQL that had ended at a moment.

    They are those below ``xmax`` apart from those in ``xip``, which were still open. ``xip`` is sorted.
    """

    xmax: int
    xip: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the snapshot for the text of a ``pg_snapshot``, such as ``10:20:10,14``."""
        _, xmax, xip = text.split(":")
        return cls(int(xmax), tuple(sorted(map(int, xip.split(",")))) if xip else ())

    def has(self, xid: int) -> bool:
        """Return True if a transaction had ended."""
        return xid < self.xmax and xid not in self.xip

    def until(self, xmax: int) -> Snapshot:
        """Return the part of the snapshot with the transactions below a number."""
        return Snapshot(min(xmax, self.xmax), tuple(xid for xid in self.xip if xid < xmax))

    def __le__(self, other: Snapshot) -> bool:
        """Return True if all transactions that had ended here had ended in the other snapshot too."""
        others = set(other.xip)
        own = set(self.xip)
        late = range(other.xmax, self.xmax)
        return len(late) <= len(own) and own.issuperset(late) and all(x in own for x in others if x < self.xmax)

    def __str__(self) -> str:
        """Return the text: ``xmax``, and then the distances from each open transaction to the one after it."""
        above, distances = self.xmax, [_written(self.xmax)]
        for xid in reversed(self.xip):
            distances.append(_written(above - xid))
            above = xid
        return "-".join(distances)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the snapshot for a text. Raises ValueError."""
        xmax, *distances = (_number(part) for part in text.split("-"))
        xip, xid = [], xmax
        for distance in distances:
            xid -= distance
            xip.append(xid)
        if 0 in distances or xid < 0:
            raise ValueError("has numbers out of order")
        return cls(xmax, tuple(reversed(xip)))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: the entries that a reader has read. ``str`` returns its text, and ``parse`` reads it::

        position = await app.log.position()
        read = await app.log.read(Position.parse(str(position)))

    On PostgreSQL these are the entries whose transactions had ended in ``seen``. In the middle of a read also those in
    ``reading`` with an id up to ``id``. On SQLite these are all entries up to ``id``. ``epoch`` tells one database from
    another one. ``id`` and ``moment`` (milliseconds since 1970) are of one of the entries, so that a restored backup is
    noticed. Without an entry they are 0.

    ``a <= b`` is True if ``b`` has all the entries of ``a``.
    """

    epoch: str
    id: int = 0
    moment: int = 0
    seen: Snapshot | None = None
    reading: Snapshot | None = None
    _text: str = field(default="", init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Return the position for a text. Raises ValueError for any other text or value."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) and len(text) <= LONGEST_TEXT else None
        if match is None:
            raise ValueError("This is not the text of a position")
        epoch, id, moment, *snapshots = match.groups()
        try:
            seen, reading = (None if one is None else Snapshot.parse(one) for one in snapshots)
            position = cls(epoch, _number(id), _number(moment), seen, reading)
        except ValueError as error:
            raise ValueError(f"This is not the text of a position: it {error}") from None
        if str(position) != text:
            raise ValueError("This is not the text of a position: its numbers have zeros in front")
        return position

    @property
    def upper(self) -> Snapshot | None:
        """The snapshot that all of its entries are in, on PostgreSQL."""
        return self.reading or self.seen

    def has(self, id: int, xid: int) -> bool:
        """Return True for an entry that the reader has read. ``xid`` is its transaction on PostgreSQL."""
        if self.seen is None:
            return id <= self.id
        return self.seen.has(xid) or (self.reading is not None and id <= self.id and self.reading.has(xid))

    def __le__(self, other: Position) -> bool:
        if self.epoch != other.epoch or (self.seen is None) != (other.seen is None):
            return False
        if self.seen is None or other.seen is None:
            return self.id <= other.id
        if (self.seen, self.reading) == (other.seen, other.reading):
            return self.reading is None or self.id <= other.id
        upper = self.upper
        return upper is not None and upper <= other.seen

    def __str__(self) -> str:
        if not self._text:  # Each answer to a read shows the position of its process, so the text is made once.
            object.__setattr__(self, "_text", self._as_text())
        return self._text

    def _as_text(self) -> str:
        numbers: Iterable[str] = (self.epoch, _written(self.id), _written(self.moment))
        return ".".join((*numbers, *(str(one) for one in (self.seen, self.reading) if one is not None)))


def _written(number: int) -> str:
    """Return a number in base 36."""
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = DIGITS[digit] + digits
        if not number:
            return digits


def _number(text: str) -> int:
    number = int(text, 36)
    if number > LARGEST:
        raise ValueError("has a number that is too large")
    return number
