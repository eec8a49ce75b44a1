"""Entries that are stored together with new records, such as those of an audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from apex.context import Params
from apex.types import Row


@dataclass(frozen=True, slots=True)
class Companion:
    """Entries of another service that are stored together with new rows, or not at all.

    A hook that writes an audit sets::

        entries = Companion(app.service("audit").service, make_entry, id="record_id", whole="after")
        context.params.adapter = {"companion": entries}
    """

    service: Any
    """The adapter that stores the entries, without its hooks."""
    row: Callable[[Row], Row]
    """The function that makes an entry of a row."""
    id: str
    """The field of an entry with the id of the row."""
    whole: str
    """The field of an entry with the whole row."""

    async def store(self, rows: list[Row], id: str) -> None:
        """Store the entries of rows. ``id`` is the field with the ids of the rows."""
        entries = [self.row(row) | {self.id: row[id]} for row in rows]
        if entries:
            await self.service.create(entries, Params({"adapter": {"multi": True}}))


@dataclass(frozen=True, slots=True, eq=False)
class EntryShape:
    """The columns of an entry: a row of another table that is stored together with a row.

    ``constants`` are texts by column. ``given`` are the columns with a value of their own in each entry. That of the
    column ``json`` is given as the text of its JSON. ``copied`` maps columns to the fields of the row that they get.
    The column ``moment`` gets the present time, ``row_id`` the id of the row, and ``row`` the row as JSON.
    """

    table: Any
    constants: Mapping[str, str]
    given: Sequence[str]
    json: str
    copied: Mapping[str, str]
    moment: str
    row_id: str
    row: str


@dataclass(slots=True)
class EntryOfRow:
    """An entry that is stored with a row: with each new one, or with the change of the row that has the id ``of``.

    ``values`` are those of the columns in ``shape.given``. ``ids`` are the ids of the entries once they are stored, in
    the order of the rows. It stays empty if no row has changed.
    """

    shape: EntryShape
    values: Row
    of: Any = None
    ids: Sequence[int] = ()


current_entry: ContextVar[EntryOfRow | None] = ContextVar("entry", default=None)
"""The entry that the running method of an adapter stores with its rows."""
