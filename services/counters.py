"""Counters: numbers that an organization gives out, each once and without a gap."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, bindparam, text

from apex.sql import Database

# One row for each series of numbers: who takes the next one waits until the one before is stored.
NEXT = (
    text(
        "INSERT INTO counters (organization_id, name, value) VALUES (:organization_id, :name, 1) "
        "ON CONFLICT (organization_id, name) DO UPDATE SET value = counters.value + 1 RETURNING value"
    )
    .bindparams(bindparam("organization_id", type_=BigInteger), bindparam("name", type_=String))
    .columns(value=BigInteger)
)


async def next_value(database: Database, organization_id: int, name: str) -> int:
    """The next number of a series. Until the unit of work around this call ends, nobody else gets one of it."""
    rows = await database.execute(NEXT, {"organization_id": organization_id, "name": name})
    value: int = rows[0]["value"]
    return value
