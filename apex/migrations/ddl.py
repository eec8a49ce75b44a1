"""Changes of tables that are in use, for migrations. On PostgreSQL readers and writers of the tables need not wait.

Slow steps run outside of a transaction and can be repeated: a second attempt completes what an interrupted one has
left. So call these functions before anything else in a migration. The rest of the migration is one transaction. On
SQLite a migration has the file for itself, and everything is one transaction. Constraints are added there with
``op.batch_alter_table``, which refuses tables with generated columns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from alembic import op
from alembic.operations.base import BatchOperations
from sqlalchemy import DDL, text

from apex.encoding import encode
from apex.errors import ConfigError
from apex.migrations.search import DOCUMENT, added_column, created_table, dropped_table, index_name

BATCH: int = 10_000
"""The number of ids that ``backfill`` changes at once."""

IS_VALID = """
    SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE relname = :name AND pg_table_is_visible(oid)
"""
HAS_CONSTRAINT = """
    SELECT count(*) FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE conname = :name AND relname = :table AND pg_table_is_visible(conrelid)
"""
TRIGGERS = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = :table"
TABLE = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = :table"


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Create an index, as ``op.create_index`` does. On PostgreSQL it is built concurrently.

    A complete index of that name is kept. An index that an interrupted attempt has left is built again. Raises
    ConfigError if the migration has already changed something.
    """
    if not _on_postgresql():
        op.create_index(name, table, columns, **options)
        return
    with _without_transaction(), _without_lock_timeout():
        is_valid = op.get_bind().scalar(text(IS_VALID), {"name": name})
        if is_valid is False:
            op.drop_index(name, table, postgresql_concurrently=True)
        if not is_valid:
            op.create_index(name, table, columns, postgresql_concurrently=True, **options)


def drop_index(name: str, table: str) -> None:
    """Drop an index if it exists. On PostgreSQL it is dropped concurrently. Raises ConfigError as ``create_index``."""
    if not _on_postgresql():
        op.drop_index(name, table, if_exists=True)
        return
    with _without_transaction(), _without_lock_timeout():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def create_search_index(table: str, *fields: str) -> None:
    """Create the index for ``$search`` in a service whose ``searchable`` has these fields, in the same order.

    On PostgreSQL it adds a generated column to the table, which is locked while it is written anew. The index on that
    column is then built concurrently. Raises ConfigError if the migration has already changed something.
    """
    bind = op.get_bind()
    if not _on_postgresql():
        _run(created_table(table, fields, bind.dialect))
        return
    with _without_transaction():
        _run(added_column(table, fields, bind.dialect))
    create_index(index_name(table), table, [DOCUMENT], postgresql_using="gin")


def drop_search_index(table: str) -> None:
    """Drop the index for ``$search`` if it exists. Raises ConfigError as ``create_index``."""
    if not _on_postgresql():
        _run(dropped_table(table, op.get_bind().dialect))
        return
    drop_index(index_name(table), table)
    with _without_transaction():
        op.execute(f"ALTER TABLE {_quoted(table)} DROP COLUMN IF EXISTS {DOCUMENT}")


def _run(statements: Iterable[DDL]) -> None:
    for statement in statements:
        op.execute(statement)


def add_foreign_key(
    name: str, table: str, target: str, columns: list[str], target_columns: list[str], **options: Any
) -> None:
    """Add a foreign key, as ``op.create_foreign_key`` does, first for new rows and then for those that exist.

    Raises ConfigError if the migration has already changed something. Raises IntegrityError if a row refers to
    nothing. The foreign key then holds for new rows, and the migration can be repeated.
    """
    if _on_postgresql():
        with _validating(name, table) as missing:
            if missing:
                op.create_foreign_key(
                    name, table, target, columns, target_columns, postgresql_not_valid=True, **options
                )
    else:
        with _rebuilding(table) as batch:
            batch.create_foreign_key(name, target, columns, target_columns, **options)


def add_check(name: str, table: str, condition: str) -> None:
    """Add a check constraint with an SQL condition, first for new rows and then for those that exist.

    Raises as ``add_foreign_key`` does.
    """
    if _on_postgresql():
        with _validating(name, table) as missing:
            if missing:
                op.create_check_constraint(name, table, condition, postgresql_not_valid=True)
    else:
        with _rebuilding(table) as batch:
            batch.create_check_constraint(name, condition)


def set_not_null(table: str, column: str) -> None:
    """Make a column NOT NULL. Raises as ``add_foreign_key`` does; a row with null raises IntegrityError."""
    if not _on_postgresql():
        with _rebuilding(table) as batch:
            batch.alter_column(column, nullable=False)
        return
    # With a validated check PostgreSQL does not scan the table under an exclusive lock.
    name = f"ck_{table}_{column}_is_there"
    add_check(name, table, f"{_quoted(column)} IS NOT NULL")
    op.alter_column(table, column, nullable=False)
    op.drop_constraint(name, table)


def backfill(table: str, statement: str, size: int = BATCH) -> None:
    """Run a statement for all rows of a table, for ``size`` ids at once: those from ``:first`` to ``:last``.

    On PostgreSQL each run is its own transaction, so the statement must be safe to repeat. Raises ConfigError if the
    migration has already changed something.
    """
    with _without_transaction() if _on_postgresql() else nullcontext():
        bind = op.get_bind()
        lowest, highest = bind.execute(text(f"SELECT min(id), max(id) FROM {_quoted(table)}")).one()
        for first in range(lowest or 0, (highest or 0) + 1, size):
            bind.execute(text(statement), {"first": first, "last": first + size - 1})


def fill(table: str, columns: Mapping[str, tuple[str, Callable[[Any], Any]]], size: int = 1_000) -> None:
    """Fill columns that are null with values that Python computes from other columns.

    ``{"form": ("name", str.lower)}`` fills ``form`` from ``name``. The function gets values that are not null.
    ``size`` ids are filled at once, on PostgreSQL in their own transaction. Values that others write meanwhile stay.
    Raises ConfigError if the migration has already changed something.
    """
    with _without_transaction() if _on_postgresql() else nullcontext():
        bind = op.get_bind()
        lowest, highest = bind.execute(text(f"SELECT min(id), max(id) FROM {_quoted(table)}")).one()
        missing = " OR ".join(
            f"({_quoted(column)} IS NULL AND {_quoted(source)} IS NOT NULL)" for column, (source, _) in columns.items()
        )
        sources = ", ".join(f"{_quoted(source)} AS {_quoted(column)}" for column, (source, _) in columns.items())
        read = text(f"SELECT id, {sources} FROM {_quoted(table)} WHERE id BETWEEN :first AND :last AND ({missing})")
        for first in range(lowest or 0, (highest or 0) + 1, size):
            rows = bind.execute(read, {"first": first, "last": first + size - 1}).mappings()
            made = [
                {"id": row["id"]}
                | {column: None if row[column] is None else make(row[column]) for column, (_, make) in columns.items()}
                for row in rows
            ]
            if made:
                bind.execute(text(_filling(table, columns)), {"rows": encode(made).decode()})


def _filling(table: str, columns: Iterable[str]) -> str:
    """Return the statement that stores the values of JSON objects in columns that are still null."""
    name = _quoted(table)
    if _on_postgresql():
        types = ", ".join(f"{_quoted(column)} text" for column in columns)
        made = f"json_to_recordset(CAST(:rows AS json)) AS made(id bigint, {types})"
    else:
        read = ", ".join(f"value->>'$.{column}' AS {_quoted(column)}" for column in columns)
        made = f"(SELECT value->>'$.id' AS id, {read} FROM json_each(:rows)) AS made"
    new = ", ".join(f"{_quoted(each)} = coalesce({name}.{_quoted(each)}, made.{_quoted(each)})" for each in columns)
    return f"UPDATE {name} SET {new} FROM {made} WHERE {name}.id = made.id"


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _quoted(name: str) -> str:
    return op.get_bind().dialect.identifier_preparer.quote(name)


@contextmanager
def _without_transaction() -> Generator[None]:
    """Make each statement in the block its own transaction.

    Earlier changes of the migration would be committed too, and a repeated migration would make them again.
    """
    if op.get_bind().scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")):
        raise ConfigError("cannot migrate: call functions of apex.migrations.ddl first, or in their own migration")
    with op.get_context().autocommit_block():
        yield


@contextmanager
def _without_lock_timeout() -> Generator[None]:
    """Let the statements in the block wait for earlier transactions as long as needed. They block nobody."""
    bind = op.get_bind()
    limit = bind.scalar(text("SHOW lock_timeout"))
    bind.exec_driver_sql("SET lock_timeout = 0")
    yield
    bind.exec_driver_sql(f"SET lock_timeout = '{limit}'")


@contextmanager
def _validating(name: str, table: str) -> Generator[bool]:
    """Yield True if a constraint is missing. Validate it for all rows at the end of the block."""
    with _without_transaction():
        yield not op.get_bind().scalar(text(HAS_CONSTRAINT), {"name": name, "table": table})
        with _without_lock_timeout():
            op.execute(f"ALTER TABLE {_quoted(table)} VALIDATE CONSTRAINT {_quoted(name)}")


@contextmanager
def _rebuilding(table: str) -> Generator[BatchOperations]:
    """Yield the changes of a table that SQLite copies to make them, and restore its triggers."""
    bind = op.get_bind()
    triggers = bind.scalars(text(TRIGGERS), {"table": table}).all()
    autoincrement = "AUTOINCREMENT" in bind.scalars(text(TABLE), {"table": table}).one()
    with op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": autoincrement}) as batch:
        yield batch
    for trigger in triggers:
        bind.exec_driver_sql(trigger)
