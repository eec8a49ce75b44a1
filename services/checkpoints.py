"""How far an import has come: what is stored is counted with it, so that a run that was broken off can go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, String, bindparam, text
from sqlalchemy.types import TypeEngine

from apex.commit import after_commit
from apex.errors import Unavailable
from apex.sql import Database

_PARAMETERS: Mapping[str, type[TypeEngine[Any]]] = {
    "organization_id": BigInteger,
    "name": String,
    "done": BigInteger,
    "now": BigInteger,
}


def _statement(sql: str) -> Any:
    names: list[Any] = [bindparam(name, type_=kind) for name, kind in _PARAMETERS.items() if f":{name}" in sql]
    return text(sql).bindparams(*names).columns(value=BigInteger)


BEGIN = _statement(
    "INSERT INTO counters (organization_id, name, value) VALUES (:organization_id, :name, 0) "
    "ON CONFLICT (organization_id, name) DO UPDATE SET value = counters.value RETURNING value"
)
ADVANCE = _statement(
    "UPDATE counters SET value = :now "
    "WHERE organization_id = :organization_id AND name = :name AND value = :done RETURNING value"
)


class Checkpoint:
    """The number of rows that are ``done`` of the import with this name into an organization."""

    def __init__(self, database: Database, organization: int, name: str) -> None:
        self.database, self.done = database, 0
        self.key = {"organization_id": organization, "name": name}

    async def begin(self, again: bool = False) -> int:
        """How many rows earlier runs have done; ``again`` forgets them."""
        ((row),) = await self.database.execute(BEGIN, self.key)
        self.done = row["value"]
        if again:
            await self.advance(-self.done)
        return self.done

    async def advance(self, rows: int) -> None:
        """To be called in the transaction that stores the rows. Raises Unavailable when another run has moved on."""
        now = self.done + rows
        if not await self.database.execute(ADVANCE, {**self.key, "done": self.done, "now": now}):
            raise Unavailable("Another run of this import is at work: wait until it has ended, then start again")
        after_commit(lambda: setattr(self, "done", now))
