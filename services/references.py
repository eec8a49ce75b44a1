"""What refers to a row that is deleted for good."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, ForeignKeyConstraint, Table, select, update

from apex.sql import Database


async def release(database: Database, table: Table, organization_id: int, id: int) -> None:
    """Empties every reference to a row, those of rows that are deleted too, and keeps others from making new ones.

    To be called in a unit of work, which then deletes the row.
    """
    mine = (table.c.organization_id == organization_id, table.c.id == id)
    await database.execute(select(table.c.id).where(*mine).with_for_update())
    for column in _references(table):
        other = column.table
        theirs = (other.c.organization_id == organization_id, column == id)
        await database.execute(update(other).where(*theirs).values({column: None}))


def _references(table: Table) -> Iterator[Column[int]]:
    """The columns of all tables that refer to a row of this one, beside the organization."""
    for other in table.metadata.sorted_tables:
        for constraint in other.constraints:
            if isinstance(constraint, ForeignKeyConstraint) and constraint.referred_table is table:
                yield constraint.elements[-1].parent
