"""What changes tables that are in use, for migrations: on PostgreSQL nobody who reads or writes them has to wait.

What takes long is done outside of a transaction and can be repeated: what an attempt that was interrupted has left is
found and completed. So it comes first in its migration; what follows is one transaction, as ever. On SQLite, where a
migration is alone with the file, all is one transaction; constraints are added there as ``op.batch_alter_table`` does
it, which takes no table with generated columns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from alembic import op
from alembic.operations.base import BatchOperations
from sqlalchemy import text

from apex.encoding import encode
from apex.errors import ConfigError

BATCH = 10_000
"""The ids that ``backfill`` does at once."""

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
    """In a migration: an index as ``op.create_index`` makes it; on PostgreSQL concurrently.

    One that is there and whole is taken as made; one that an interrupted attempt has left is made anew. Raises
    ConfigError where the migration has changed something before.
    """
    if not _on_postgresql():
        op.create_index(name, table, columns, **options)
        return
    with _apart(), _unhurried():
        is_valid = op.get_bind().scalar(text(IS_VALID), {"name": name})
        if is_valid is False:
            op.drop_index(name, table, postgresql_concurrently=True)
        if not is_valid:
            op.create_index(name, table, columns, postgresql_concurrently=True, **options)


def drop_index(name: str, table: str) -> None:
    """In a migration: takes an index away, if it is there; on PostgreSQL concurrently. Raises ConfigError as above."""
    if not _on_postgresql():
        op.drop_index(name, table, if_exists=True)
        return
    with _apart(), _unhurried():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def add_foreign_key(
    name: str, table: str, target: str, columns: list[str], target_columns: list[str], **options: Any
) -> None:
    """In a migration: a reference as ``op.create_foreign_key`` makes it, for rows to come and then for those there are.

    Raises ConfigError where the migration has changed something before, IntegrityError where a row refers to nothing;
    new rows are held to it then, and the migration can be repeated.
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
    """In a migration: a condition, in SQL, for rows to come and then for those there are. Raises as ``add_foreign_key``
    does.
    """
    if _on_postgresql():
        with _validating(name, table) as missing:
            if missing:
                op.create_check_constraint(name, table, condition, postgresql_not_valid=True)
    else:
        with _rebuilding(table) as batch:
            batch.create_check_constraint(name, condition)


def set_not_null(table: str, column: str) -> None:
    """In a migration: a column whose values are all there has them from now on. Raises as ``add_foreign_key`` does."""
    if not _on_postgresql():
        with _rebuilding(table) as batch:
            batch.alter_column(column, nullable=False)
        return
    # PostgreSQL does not look at the rows again where a condition has it that there are no nulls.
    name = f"ck_{table}_{column}_is_there"
    add_check(name, table, f"{_quoted(column)} IS NOT NULL")
    op.alter_column(table, column, nullable=False)
    op.drop_constraint(name, table)


def backfill(table: str, statement: str, size: int = BATCH) -> None:
    """In a migration: runs a statement for all rows of a table that is there, ``size`` ids at once, from ``:first`` to
    ``:last``; on PostgreSQL each time in a transaction of its own.

    The statement must bear to be repeated. Raises ConfigError where the migration has changed something before.
    """
    with _apart() if _on_postgresql() else nullcontext():
        bind = op.get_bind()
        lowest, highest = bind.execute(text(f"SELECT min(id), max(id) FROM {_quoted(table)}")).one()
        for first in range(lowest or 0, (highest or 0) + 1, size):
            bind.execute(text(statement), {"first": first, "last": first + size - 1})


def fill(table: str, columns: Mapping[str, tuple[str, Callable[[Any], Any]]], size: int = 1_000) -> None:
    """Fill columns that are null with values that Python makes of others, in a migration.

    ``{"form": ("name", str.lower)}`` fills ``form``. The function gets values that are not null. ``size`` ids are
    filled at once, on PostgreSQL each time in a transaction of its own. What others write meanwhile stays. Raises
    ConfigError where the migration has changed something before.
    """
    with _apart() if _on_postgresql() else nullcontext():
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
def _apart() -> Generator[None]:
    """Inside, each statement is a transaction of its own.

    What the migration had done before would be committed, and be done a second time when the migration is repeated.
    """
    if op.get_bind().scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")):
        raise ConfigError("cannot migrate: what apex.migrations.ddl does comes first, or in a migration of its own")
    with op.get_context().autocommit_block():
        yield


@contextmanager
def _unhurried() -> Generator[None]:
    """Inside, statements that block nobody wait as long as they have to: for transactions that began before them."""
    bind = op.get_bind()
    limit = bind.scalar(text("SHOW lock_timeout"))
    bind.exec_driver_sql("SET lock_timeout = 0")
    yield
    bind.exec_driver_sql(f"SET lock_timeout = '{limit}'")


@contextmanager
def _validating(name: str, table: str) -> Generator[bool]:
    """Gives whether a constraint is missing; in the end it holds for all rows."""
    with _apart():
        yield not op.get_bind().scalar(text(HAS_CONSTRAINT), {"name": name, "table": table})
        with _unhurried():
            op.execute(f"ALTER TABLE {_quoted(table)} VALIDATE CONSTRAINT {_quoted(name)}")


@contextmanager
def _rebuilding(table: str) -> Generator[BatchOperations]:
    """SQLite makes another table and puts it in the place of the old one, with all that belonged to it."""
    bind = op.get_bind()
    triggers = bind.scalars(text(TRIGGERS), {"table": table}).all()
    autoincrement = "AUTOINCREMENT" in bind.scalars(text(TABLE), {"table": table}).one()
    with op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": autoincrement}) as batch:
        yield batch
    for trigger in triggers:
        bind.exec_driver_sql(trigger)
