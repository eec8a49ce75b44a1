"""The trash of services: count the removed records, and delete them for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, ForeignKeyConstraint, Table, and_, delete, exists, func, select

from apex.app import Apex
from apex.sql.database import Database
from apex.sql.service import SQLService

BATCH = 1_000
"""The records that one statement deletes. Each statement is its own transaction, so other calls wait briefly."""


@dataclass(frozen=True, slots=True)
class Trash:
    """The number of removed records of a service, and the moment at which the oldest was removed."""

    service: str
    records: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """The numbers of records of a service that were deleted, and that are kept as other records refer to them."""

    service: str
    deleted: int
    kept: int


async def list_trash(app: Apex) -> list[Trash]:
    """Return the trash of each service that has one, in the order of their registration."""
    database: Database = app.get("database")
    found = []
    for path, (table, field) in tables_with_trash(app).items():
        removed = select(func.count().label("records"), func.min(table.c[field]).label("oldest"))
        [row] = await database.execute(removed.where(table.c[field].is_not(None)))
        found.append(Trash(path, row["records"], row["oldest"]))
    return found


async def prune_trash(app: Apex, before: datetime) -> list[Pruned]:
    """Delete the records that were removed before a moment, unless another record refers to them.

    A record that only removed records refer to is deleted after them, in the same call if they are as old. Records
    that are kept do not change. Return a count for each service with trash.
    """
    database: Database = app.get("database")
    trash = tables_with_trash(app)
    deleted = dict.fromkeys(trash, 0)
    rounds = 1
    while rounds:
        rounds = 0
        for path, (table, field) in trash.items():
            while count := await _delete(database, table, _old(table, field, before)):
                deleted[path] += count
                rounds += 1
    return [
        Pruned(path, deleted[path], await _count(database, table, _old(table, field, before)))
        for path, (table, field) in trash.items()
    ]


def tables_with_trash(app: Apex) -> Mapping[str, tuple[Table, str]]:
    """Return the table and the field of each service with trash."""
    services = {path: bound.service for path, bound in app.services.items() if isinstance(bound.service, SQLService)}
    return {path: (service.table, service.trash) for path, service in services.items() if service.trash is not None}


def _old(table: Table, field: str, before: datetime) -> ColumnElement[bool]:
    return table.c[field] < before


async def _delete(database: Database, table: Table, old: ColumnElement[bool]) -> int:
    id = next(iter(table.primary_key.columns))
    free = [~exists().where(_refers(key)) for key in foreign_keys_to(table)]
    batch = select(id).where(old, *free).order_by(id).limit(BATCH)
    return len(await database.execute(delete(table).where(id.in_(batch)).returning(id)))


async def _count(database: Database, table: Table, old: ColumnElement[bool]) -> int:
    [row] = await database.execute(select(func.count().label("kept")).select_from(table).where(old))
    kept: int = row["kept"]
    return kept


def foreign_keys_to(table: Table) -> Iterator[ForeignKeyConstraint]:
    """Yield the foreign keys of all tables of its ``MetaData`` that refer to a table."""
    for other in table.metadata.sorted_tables:
        for constraint in other.constraints:
            if isinstance(constraint, ForeignKeyConstraint) and constraint.referred_table is table:
                yield constraint


def _refers(key: ForeignKeyConstraint) -> ColumnElement[bool]:
    """Return the condition for the rows that refer by a foreign key to a row of the other table."""
    rows: Any = key.table.alias()
    return and_(
        *(rows.c[column.name] == element.column for column, element in zip(key.columns, key.elements, strict=True))
    )
