"""Counters: each organization has series of numbers without gaps."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, bindparam, text

from apex.sql import Database

# A series is one row, so a call that takes the next number waits until the call before it is stored.
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
    """Return the next number of a series, or with a ``step`` of 0 the last one.

    Other calls that ask for a number of the series wait until the transaction around this call ends.
    """
    rows = await database.execute(NEXT, {"organization_id": organization_id, "name": name, "step": step})
    value: int = rows[0]["value"]
    return value
