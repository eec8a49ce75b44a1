"""A broken rule of the database, as the error that callers get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Table, literal_column, select
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.sql import Select

from apex.errors import BadRequest, Conflict, FeathersError
from apex.sql.drivers.executor import Violation
from apex.types import Row


def explained(violation: Violation, table: Table | None) -> FeathersError:
    """Return the broken rule as an error that names the fields, never the driver's text. The tenant's column is named
    only if there is no other one.
    """
    broken = violation.columns or _constrained(violation.constraint, table)
    tenant = None if table is None else table.info.get("tenant")
    columns = tuple(name for name in broken if name != tenant) or broken
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


def references(table: Table, row: Row) -> Iterator[tuple[tuple[str, ...], Select[Any]]]:
    """Yield the columns of each foreign key that the row has values for, and the query for the referenced record."""
    constraints = dict.fromkeys(key.constraint for column in table.columns for key in column.foreign_keys)
    for constraint in constraints:
        if not isinstance(constraint, ForeignKeyConstraint):
            continue
        columns = tuple(str(column.name) for column in constraint.columns)
        values = [row.get(name) for name in columns]
        try:
            targets = [element.column for element in constraint.elements]
        except NoReferenceError:  # The other table is not known here.
            continue
        if None not in values:
            matches = [target == value for target, value in zip(targets, values, strict=True)]
            yield columns, select(literal_column("1")).select_from(targets[0].table).where(*matches).limit(1)


def _constrained(constraint: str | None, table: Table | None) -> tuple[str, ...]:
    """Return the columns of a constraint by its name, which may be made up by PostgreSQL, or by its text."""
    if table is None:
        return ()
    named: dict[str, tuple[str, ...]] = {f"{table.name}_{c.name}_check": (str(c.name),) for c in table.columns}
    candidates: list[Any] = [*table.constraints, *table.indexes]
    for candidate in candidates:
        columns = tuple(str(column.name) for column in getattr(candidate, "columns", ()))
        usual = [f"{table.name}_{'_'.join(columns)}_{kind}" for kind in ("key", "fkey")]
        named |= dict.fromkeys([*usual, str(candidate.name)], columns)
    for column in table.columns:
        checks = [check for check in column.constraints if isinstance(check, CheckConstraint)]
        named |= {str(name): (str(column.name),) for check in checks for name in (check.name, check.sqltext)}
    named[f"{table.name}_pkey"] = tuple(table.primary_key.columns.keys())
    return named.get(constraint or "", ())


def _each(columns: Sequence[str], sentence: str) -> dict[str, str] | None:
    return dict.fromkeys(columns, sentence) or None
