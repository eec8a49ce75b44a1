"""A broken rule of the database, as the error that callers get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table

from apex.errors import BadRequest, Conflict, FeathersError
from apex.executor import Violation
from apex.sql.columns import coercers


def explained(violation: Violation, table: Table) -> FeathersError:
    """The broken rule as an error that names the fields, never the driver's text; whom the row belongs to, only where
    there is nothing else to name.
    """
    broken = violation.columns or _constrained(violation.constraint, table)
    columns = tuple(name for name in broken if name != table.info.get("tenant")) or broken
    named = ", ".join(columns)
    if violation.kind == "unique":
        return Conflict(f"A record with this {named or 'value'} already exists", errors=_each(columns, "Is taken"))
    sentences = {
        "foreign key": "refers to a record that does not exist, or is still referred to",
        "not null": "is required",
        "check": "has a value that is not allowed",
        "data": "has a value that does not fit",
    }
    sentence = sentences[violation.kind]
    return BadRequest(f"{named or 'A field'} {sentence}", errors=_each(columns, sentence[0].upper() + sentence[1:]))


def _constrained(constraint: str | None, table: Table) -> tuple[str, ...]:
    """The columns of a constraint by its name, which PostgreSQL makes up where the table gives none."""
    named: dict[str, tuple[str, ...]] = {f"{table.name}_{name}_check": (name,) for name in coercers(table)}
    candidates: list[Any] = [*table.constraints, *table.indexes]
    for candidate in candidates:
        columns = tuple(str(column.name) for column in getattr(candidate, "columns", ()))
        usual = [f"{table.name}_{'_'.join(columns)}_{kind}" for kind in ("key", "fkey")]
        named |= dict.fromkeys([*usual, str(candidate.name)], columns)
    named[f"{table.name}_pkey"] = tuple(table.primary_key.columns.keys())
    return named.get(constraint or "", ())


def _each(columns: Sequence[str], sentence: str) -> dict[str, str] | None:
    return dict.fromkeys(columns, sentence) or None
