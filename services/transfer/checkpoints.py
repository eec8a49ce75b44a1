"""The progress of an import: it is stored with the rows, so that a run that was broken off can go on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, update

from apex.errors import Conflict
from apex.sql import Database
from services.shared.counters import next_value
from services.tables import counters

_MINE = (counters.c.organization_id == bindparam("organization_id"), counters.c.name == bindparam("name"))
_AT = (*_MINE, counters.c.value == bindparam("done"))
ADVANCE = update(counters).where(*_AT).values(value=bindparam("now")).returning(counters.c.value)
FINISH = delete(counters).where(*_AT).returning(counters.c.value)
FORGET = delete(counters).where(*_MINE)


class TakenOver(Conflict):
    """Ends a run whose import goes on in another one. No client repeats it by itself."""

    def __init__(self) -> None:
        super().__init__("Another run of this import has taken over: it stores the rest")


class Checkpoint:
    """The number of rows that are ``done`` of an import into an organization, and how many of them were ``refused``.

    It exists only while the import is unfinished. A run that begins takes over from one that has not finished. If that
    one is still at work, whichever stores the next batch first goes on, and the other one ends.
    """

    def __init__(self, database: Database, organization: int, name: str) -> None:
        self.database, self.done, self.refused = database, 0, 0
        self.ahead = (0, 0)
        self.key: dict[str, Any] = {"organization_id": organization, "name": name}
        self.key_of_refused = {**self.key, "name": f"{name}:refused"}

    async def begin(self, again: bool = False) -> int:
        """Return how many rows an unfinished run has done. With ``again`` they are forgotten, and it is 0."""
        self.done = await next_value(self.database, **self.key, step=0)
        self.refused = await next_value(self.database, **self.key_of_refused, step=0)
        if again:
            await self.advance(-self.done, -self.refused)
            self.settle()
        return self.done

    async def advance(self, rows: int, refused: int) -> None:
        """Count rows, in the transaction that stores them and before ``settle``.

        Raises TakenOver if another run has taken over.
        """
        now = self.done + rows
        async with self.database.transaction():
            if not await self.database.execute(ADVANCE, {**self.key, "done": self.done, "now": now}):
                raise TakenOver
            self.ahead = now, await next_value(self.database, **self.key_of_refused, step=refused)

    def settle(self) -> None:
        """Go on from the rows that were counted last, now that they are stored."""
        self.done, self.refused = self.ahead

    async def finish(self) -> None:
        """Forget the import, unless another run has taken over. The same rows are a new import then."""
        async with self.database.transaction():
            if await self.database.execute(FINISH, {**self.key, "done": self.done}):
                await self.database.execute(FORGET, self.key_of_refused)
