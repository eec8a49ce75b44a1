"""What is stored together with new records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apex.context import Params
from apex.types import Row


@dataclass(frozen=True, slots=True)
class Beside:
    """What another service stores together with new rows, or neither is stored: ``row`` makes an entry of each.

    ``id`` names the property of an entry that has the id of the row, ``whole`` the one that has the row as a whole.
    """

    service: Any
    row: Callable[[Row], Row]
    id: str
    whole: str

    async def store(self, rows: list[Row], id: str) -> None:
        """The entries of rows that are stored, whose ids are known."""
        entries = [self.row(row) | {self.id: row[id]} for row in rows]
        if entries:
            await self.service.create(entries, Params({"adapter": {"multi": True}}))
