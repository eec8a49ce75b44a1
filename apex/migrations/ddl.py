"""Changes of tables that are in use, for migrations. On PostgreSQL readers and writers of the tables need not wait.

Slow steps run outside of a transaction and can be repeated: a second attempt completes what an interrupted one has
left. So call these functions before anything else in a migration. The rest of the migration is one transaction. On
SQLite a migration has the file for itself, and everything is one transaction. Constraints are added there with
``op.batch_alter_table``, which refuses tables with generated columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations
from sqlalchemy import DDL, inspect, text

from apex.encoding import encode
from apex.errors import ConfigError
from apex.migrations.search import (
    DOCUMENT,
    added_column,
    created_index,
    dropped_table,
    filled_again,
    index_name,
    trigger_name,
)

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
LABELS = """
    SELECT enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid
    WHERE typname = :name AND pg_type_is_visible(enumtypid) ORDER BY enumsortorder
"""
USERS = """
    SELECT attrelid::regclass::text, attname, pg_get_expr(adbin, adrelid) FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE atttypid = CAST(:name AS regtype) AND relkind IN ('r', 'p')
"""
KEPT = (
    "SELECT name, type, sql FROM sqlite_schema WHERE type IN ('trigger', 'index') AND tbl_name = :table AND sql <> ''"
)
UNNAMED = {"fk": "fk_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
"""The names for constraints to which SQLite has given none."""
EXPRESSION = re.compile(r"\(.*\(", re.DOTALL)
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

    On PostgreSQL it adds a generated column to the table, which is locked while it is written anew. At the beginning of
    a migration the index on that column is then built concurrently, and later in a migration with the lock.
    """
    dialect = op.get_bind().dialect
    if not _on_postgresql() or _has_changed():
        _run(created_index(table, fields, dialect))
        return
    with _without_transaction():
        _run(added_column(table, fields, dialect))
    create_index(index_name(table), table, [DOCUMENT], postgresql_using="gin")


def drop_search_index(table: str) -> None:
    """Drop the index for ``$search`` if it exists."""
    if not _on_postgresql():
        _run(dropped_table(table, op.get_bind().dialect))
        return
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
                    op.f(name), table, target, columns, target_columns, postgresql_not_valid=True, **options
                )
    else:
        with alter_table(table) as changed:
            changed.create_foreign_key(op.f(name), target, columns, target_columns, **options)


def add_check(name: str, table: str, condition: str) -> None:
    """Add a check constraint with an SQL condition, first for new rows and then for those that exist.

    Raises as ``add_foreign_key`` does.
    """
    if _on_postgresql():
        with _validating(name, table) as missing:
            if missing:
                op.create_check_constraint(op.f(name), table, condition, postgresql_not_valid=True)
    else:
        with alter_table(table) as changed:
            changed.create_check_constraint(op.f(name), condition)


def set_not_null(table: str, column: str) -> None:
    """Make a column NOT NULL. Raises as ``add_foreign_key`` does; a row with null raises IntegrityError."""
    if not _on_postgresql():
        with alter_table(table) as changed:
            changed.alter_column(column, nullable=False)
        return
    # With a validated check PostgreSQL does not scan the table under an exclusive lock.
    name = f"ck_{table}_{column}_is_there"
    add_check(name, table, f"{_quoted(column)} IS NOT NULL")
    with _without_transaction():
        op.alter_column(table, column, nullable=False)
        op.drop_constraint(op.f(name), table)


def add_unique(name: str, table: str, columns: list[str]) -> None:
    """Add a unique constraint. On PostgreSQL its index is built concurrently first. Raises as ``create_index``."""
    if not _on_postgresql():
        with alter_table(table) as changed:
            changed.create_unique_constraint(op.f(name), columns)
        return
    if not op.get_bind().scalar(text(HAS_CONSTRAINT), {"name": name, "table": table}):
        create_index(name, table, columns, unique=True)
        with _without_transaction():
            op.execute(
                f"ALTER TABLE {_quoted(table)} ADD CONSTRAINT {_quoted(name)} UNIQUE USING INDEX {_quoted(name)}"
            )


def drop_foreign_key(table: str, columns: list[str]) -> None:
    """Drop the foreign key on some columns, whatever its name is."""
    found = inspect(op.get_bind()).get_foreign_keys(table)
    name = next(key["name"] for key in found if key["constrained_columns"] == columns)
    with alter_table(table) as changed:
        changed.drop_constraint(
            name or UNNAMED["fk"] % {"table_name": table, "column_0_N_name": "_".join(columns)}, type_="foreignkey"
        )


def drop_unique(table: str, columns: list[str]) -> None:
    """Drop the unique constraint on some columns, whatever its name is."""
    found = inspect(op.get_bind()).get_unique_constraints(table)
    name = next(one["name"] for one in found if one["column_names"] == columns)
    with alter_table(table) as changed:
        changed.drop_constraint(
            name or UNNAMED["uq"] % {"table_name": table, "column_0_N_name": "_".join(columns)}, type_="unique"
        )


def drop_check(table: str, name: str) -> None:
    """Drop a check constraint by its name."""
    with alter_table(table) as changed:
        changed.drop_constraint(op.f(name), type_="check")


def change_enum(enum: sa.Enum, table: str, column: str) -> None:
    """Give an enum type the values of ``enum``, in their order, for the columns of all tables that have it.

    Only PostgreSQL has types of enums. On SQLite the column is changed, whose text may be longer afterwards. Raises
    DataError if a row has a value that the enum no longer has.
    """
    if not _on_postgresql():
        with alter_table(table) as changed:
            changed.alter_column(column, type_=enum)
        return
    bind = op.get_bind()
    name = str(enum.name)
    labels = bind.scalars(text(LABELS), {"name": name}).all()
    if labels == [one for one in enum.enums if one in labels]:
        for place, label in enumerate(enum.enums):
            after = (
                f" AFTER {_text(enum.enums[place - 1])}" if place else (f" BEFORE {_text(labels[0])}" if labels else "")
            )
            op.execute(f"ALTER TYPE {_quoted(name)} ADD VALUE IF NOT EXISTS {_text(label)}{after}")
        return
    columns = bind.execute(text(USERS), {"name": name}).all()
    op.execute(f"ALTER TYPE {_quoted(name)} RENAME TO {_quoted(name + '_before')}")
    enum.create(bind)
    for owner, each, default in columns:
        change = f"ALTER TABLE {owner} ALTER COLUMN {_quoted(each)}"
        if default is not None:
            op.execute(f"{change} DROP DEFAULT")
        op.execute(f"{change} TYPE {_quoted(name)} USING {_quoted(each)}::text::{_quoted(name)}")
        if default is not None:
            op.execute(f"{change} SET DEFAULT {default.rpartition('::')[0]}")
    op.execute(f"DROP TYPE {_quoted(name + '_before')}")


def _text(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"


@contextmanager
def alter_table(table: str) -> Generator[BatchOperations]:
    """Yield the changes of a table, which are made at the end of the block.

    SQLite cannot change columns and constraints, so it copies the table. Triggers, and indexes on expressions, are made
    again. Raises ConfigError on SQLite if the copy would lose something else::

        with alter_table("issues") as table:
            table.alter_column("title", type_=sa.String(400))
    """
    if _on_postgresql():
        with op.batch_alter_table(table) as batch:
            yield batch
        return
    bind = op.get_bind()
    kept = bind.execute(text(KEPT), {"table": table}).all()
    source = bind.scalars(text(TABLE), {"table": table}).one()
    checks = [one for one in inspect(bind).get_check_constraints(table) if not one["name"]]
    with op.batch_alter_table(
        table,
        table_args=tuple(sa.CheckConstraint(one["sqltext"]) for one in checks),
        table_kwargs={"sqlite_autoincrement": "AUTOINCREMENT" in source},
        naming_convention=UNNAMED,
    ) as batch:
        yield batch
    left = set(bind.scalars(text("SELECT name FROM sqlite_schema")))
    for name, kind, statement in kept:
        if kind == "trigger" or (name not in left and EXPRESSION.search(statement)):
            bind.exec_driver_sql(statement)
        if name == trigger_name(table, "insert"):
            _run(filled_again(table, statement, bind.dialect))


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


def _has_changed() -> bool:
    """Return True if the migration has already changed something, on PostgreSQL."""
    return bool(op.get_bind().scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")))


@contextmanager
def _without_transaction() -> Generator[None]:
    """Make each statement in the block its own transaction.

    Earlier changes of the migration would be committed too, and a repeated migration would make them again.
    """
    if _has_changed():
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
