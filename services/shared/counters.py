"""Counters: numbers that an organization gives out, each once and without a gap."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, bindparam, text

from apex.sql import Database

# One row for each series of numbers: who takes the next one waits until the one before is stored.
NEXT = (
    text(
        "INSERT INTO counters (organization_id, name, value) VALUES (:organization_id, :name, :step) "
        "ON CONFLICT (organization_id, name) DO UPDATE SET value = counters.value + :step RETURNING value"
    )
    .bindparams(
        bindparam("organization_id", type_=BigInteger),
        bindparam("name", type_=String),
        bindparam("step", type_=BigInteger),
    )
    .columns(value=BigInteger)
)


async def next_value(database: Database, organization_id: int, name: str, step: int = 1) -> int:
    """The next number of a series; with a ``step`` of 0 the last one. Until the unit of work around this call ends, who
    else asks for one of it waits.
    """
    rows = await database.execute(NEXT, {"organization_id": organization_id, "name": name, "step": step})
    value: int = rows[0]["value"]
    return value
