"""Checkpoints: the progress of an import, stored together with its rows, so that an interrupted run can continue."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, update

from apex.errors import Conflict
from apex.sql import Database
from services.shared.counters import next_value
from services.tables import counters

_THIS_IMPORT = (counters.c.organization_id == bindparam("organization_id"), counters.c.name == bindparam("name"))
_AT_DONE = (*_THIS_IMPORT, counters.c.value == bindparam("done"))
ADVANCE = update(counters).where(*_AT_DONE).values(value=bindparam("now")).returning(counters.c.value)
FINISH = delete(counters).where(*_AT_DONE).returning(counters.c.value)
FORGET = delete(counters).where(*_THIS_IMPORT)


class TakenOver(Conflict):
    """The end of a run whose import continues in another run. Clients must not repeat the call."""

    def __init__(self) -> None:
        super().__init__("Another run of this import has taken over: it stores the rest")


class Checkpoint:
    """The progress of an import into an organization: its rows that are ``done``, and how many of these were refused.

    A checkpoint exists only while its import is unfinished. A new run continues an unfinished one. If both are at work,
    the run that stores the next batch first goes on, and the other one ends with ``TakenOver``.
    """

    def __init__(self, database: Database, organization: int, name: str) -> None:
        self.database, self.done, self.refused = database, 0, 0
        self.counted = (0, 0)
        self.key: dict[str, Any] = {"organization_id": organization, "name": name}
        self.key_of_refused = {**self.key, "name": f"{name}:refused"}

    async def begin(self, again: bool = False) -> int:
        """Return how many rows an unfinished run has done. With ``again`` the import starts over, from row 0."""
        self.done = await next_value(self.database, **self.key, step=0)
        self.refused = await next_value(self.database, **self.key_of_refused, step=0)
        if again:
            await self.advance(-self.done, -self.refused)
            self.settle()
        return self.done

    async def advance(self, rows: int, refused: int) -> None:
        """Count rows in the transaction that stores them. Call ``settle`` when it is committed.

        Raises TakenOver if another run has taken over.
        """
        now = self.done + rows
        async with self.database.transaction():
            if not await self.database.execute(ADVANCE, {**self.key, "done": self.done, "now": now}):
                raise TakenOver
            self.counted = now, await next_value(self.database, **self.key_of_refused, step=refused)

    def settle(self) -> None:
        """Continue from the rows that ``advance`` counted last, now that they are committed."""
        self.done, self.refused = self.counted

    async def finish(self) -> None:
        """Delete the checkpoint, unless another run has taken over. The same rows are then a new import."""
        async with self.database.transaction():
            if await self.database.execute(FINISH, {**self.key, "done": self.done}):
                await self.database.execute(FORGET, self.key_of_refused)
