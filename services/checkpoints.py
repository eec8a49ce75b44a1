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
    """How many rows are ``done`` of the import with this name into an organization, and how many were ``refused``."""

    def __init__(self, database: Database, organization: int, name: str) -> None:
        self.database, self.done, self.refused = database, 0, 0
        self.key: dict[str, Any] = {"organization_id": organization, "name": name}

    async def begin(self, again: bool = False) -> int:
        """How many rows earlier runs have done; ``again`` forgets them."""
        self.done = await next_value(self.database, **self.key, step=0)
        self.refused = await self._refuse(0)
        if again:
            await self.advance(-self.done, -self.refused)
        return self.done

    async def advance(self, rows: int, refused: int) -> None:
        """To be called in the transaction that stores the rows. Raises Unavailable when another run has moved on."""
        now = self.done + rows
        async with self.database.transaction():
            if not await self.database.execute(ADVANCE, {**self.key, "done": self.done, "now": now}):
                raise Unavailable("Another run of this import is at work: wait until it has ended, then start again")
            total = await self._refuse(refused)
            after_commit(lambda: self._stored(now, total))

    async def _refuse(self, rows: int) -> int:
        name = f"{self.key['name']}:refused"
        return await next_value(self.database, self.key["organization_id"], name, step=rows)

    def _stored(self, done: int, refused: int) -> None:
        self.done, self.refused = done, refused
