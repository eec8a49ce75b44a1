"""How many rows there are, as PostgreSQL's planner expects from its statistics, without reading any."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnClause, Float, String, bindparam, column, func, select, table

from apex.query.predicates import EVERYTHING, Predicate
from apex.sql.database import Database
from apex.sql.statements import Statement

_oid: ColumnClause[int] = column("oid")
_rows = column("reltuples", Float())
_SEALED = (
    select(_rows)
    .select_from(table("pg_class"))
    .where(_oid == func.to_regclass(bindparam("name", type_=String())), func.row_security_active(_oid), _rows > 0)
)
"""How many rows a table has of which policies show a part; nothing for other tables."""


async def estimate(
    database: Database, table: str, where: Predicate, expected: Callable[[Predicate], Awaitable[int]]
) -> int:
    """The rows of a table where a predicate holds, from what the planner has ``expected``.

    It takes a policy for one more condition, and guesses in the dark how many rows that leaves: this part is known
    from what it expects without a predicate, and taken out again.
    """
    found = await expected(where)
    sealed = await database.execute(_SEALED, {"name": table})
    return round(sealed[0]["reltuples"] * found / await expected(EVERYTHING)) if sealed else found


def plan_of(statement: Statement) -> Statement:
    """The plan of a statement, made for its values, instead of its rows."""
    return replace(statement, text=f"EXPLAIN (FORMAT JSON) {statement.text}", read=_plan, plan="anew")


def _plan(values: Sequence[Any]) -> int:
    """The rows that a plan expects."""
    rows: int = values[0][0]["Plan"]["Plan Rows"]
    return rows
