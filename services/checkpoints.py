"""How far an import has come: what is stored is counted with it, so that a run that was broken off can go on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, update

from apex.commit import after_commit
from apex.errors import Unavailable
from apex.sql import Database
from services.counters import next_value
from services.tables import counters

ADVANCE = (
    update(counters)
    .where(counters.c.organization_id == bindparam("organization_id"), counters.c.name == bindparam("name"))
    .where(counters.c.value == bindparam("done"))
    .values(value=bindparam("now"))
    .returning(counters.c.value)
)


class Checkpoint:
    """The number of rows that are ``done`` of the import with this name into an organization."""

    def __init__(self, database: Database, organization: int, name: str) -> None:
        self.database, self.done = database, 0
        self.key: dict[str, Any] = {"organization_id": organization, "name": name}

    async def begin(self, again: bool = False) -> int:
        """How many rows earlier runs have done; ``again`` forgets them."""
        self.done = await next_value(self.database, **self.key, step=0)
        if again:
            await self.advance(-self.done)
        return self.done

    async def advance(self, rows: int) -> None:
        """To be called in the transaction that stores the rows. Raises Unavailable when another run has moved on."""
        now = self.done + rows
        if not await self.database.execute(ADVANCE, {**self.key, "done": self.done, "now": now}):
            raise Unavailable("Another run of this import is at work: wait until it has ended, then start again")
        after_commit(lambda: setattr(self, "done", now))
