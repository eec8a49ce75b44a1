"""Entries that are stored together with new records, such as those of an audit."""

from __future__ import annotations

from collections.abc import Callable
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
