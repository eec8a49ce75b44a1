"""The comparison of the tables in the code with those of a database, by Alembic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from alembic.autogenerate import produce_migrations
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from apex.errors import ConfigError
from apex.migrations.migrate import Included, explained, pending, tables_of_code, unknown_revision
from apex.migrations.revisions import FOLDER, connect
from apex.migrations.search import DOCUMENT, index_name

INNER_TABLES: dict[str, str] = {
    "sqlite": "SELECT name FROM pragma_table_list WHERE type IN ('virtual', 'shadow')",
    "postgresql": "SELECT relname FROM pg_class JOIN pg_depend ON objid = pg_class.oid WHERE deptype = 'e'",
}
"""The tables that belong to a search index of SQLite or to an extension of PostgreSQL."""


class EnableRowLevelSecurity(ops.MigrateOperation):
    """The change that enables row-level security for a table."""

    def __init__(self, table_name: str, column: str) -> None:
        self.table_name: str = table_name
        self.column: str = column

    def reverse(self) -> DisableRowLevelSecurity:
        """Return the change that undoes this one."""
        return DisableRowLevelSecurity(self.table_name, self.column)


class DisableRowLevelSecurity(EnableRowLevelSecurity):
    """The change that disables row-level security for a table."""


def differences(url: str, folder: Path = FOLDER) -> list[str]:
    """Return what differs between the tables in the code and those of a migrated database, in one sentence each.

    A test that migrates a new database holds that nothing lacks a migration::

        assert differences(url, CONFIG.parent / "migrations") == []

    ``folder`` has the migrations, and the ``env.py`` that gives the tables to ``run_migrations``. Raises ConfigError if
    the database lacks migrations, and Unavailable if it cannot be reached.
    """
    with explained(url), connect(url) as connection:
        changes = list(flat(compared(url, connection, folder)))
    return [f"{one}: apex migrate --new '{_title(change)}' --auto" for change in changes for one in sentences(change)]


def _title(change: Any) -> str:
    """Return a title for the migration that makes a change."""
    match change:
        case ops.AddColumnOp():
            return f"add {change.column.name}"
        case ops.DropColumnOp():
            return f"remove {change.column_name}"
        case ops.CreateTableOp():
            return f"add {change.table_name}"
        case ops.DropTableOp():
            return f"remove {change.table_name}"
        case _:
            return f"change {getattr(change, 'table_name', None) or change.source_table}"


def compared(url: str, connection: Connection, folder: Path) -> ops.MigrationScript:
    """Return the changes that bring a database to the tables in the code, and the way back. Raises ConfigError."""
    if left := pending(url, folder):
        raise ConfigError(f"migrations {', '.join(left)} are pending: run 'apex migrate' first")
    if (unknown := unknown_revision(url, folder)) is not None:
        raise ConfigError(f"a later version has migrated the database to {unknown}: use the version that has it")
    metadata, include_name = tables_of_code(folder)
    return compare(connection, metadata, include_name)


def compare(connection: Connection, metadata: MetaData, include_name: Included | None = None) -> ops.MigrationScript:
    """Return the changes that bring a database to some tables, and the way back."""
    inner = set(connection.scalars(text(INNER_TABLES[connection.dialect.name])))

    def is_compared(name: str | None, kind: str, parents: Any) -> bool:
        if (kind == "table" and name in inner) or (kind == "column" and name == DOCUMENT):
            return False
        if kind == "index" and name == index_name(parents.get("table_name") or ""):
            return False
        return include_name is None or include_name(name, kind, parents)

    options = {
        "target_metadata": metadata,
        "include_name": is_compared,
        "compare_type": True,
        "compare_server_default": True,
    }
    with catch_warnings(action="ignore"):
        return produce_migrations(MigrationContext.configure(connection, opts=options), metadata)


def flat(script: ops.MigrationScript) -> Iterator[Any]:
    """Yield the changes of a script one after the other."""
    for change in script.upgrade_ops.ops:  # type: ignore[union-attr]
        yield from change.ops if isinstance(change, ops.ModifyTableOps) else [change]


def sentences(change: Any) -> Iterator[str]:
    """Yield what a change says of the database."""
    table = getattr(change, "table_name", None) or getattr(change, "source_table", "")
    match change:
        case ops.CreateTableOp():
            yield f"there is no table '{table}' in the database"
        case ops.DropTableOp():
            yield f"table '{table}' is in the database and not in the code"
        case ops.AddColumnOp():
            yield f"table '{table}' has no column '{change.column.name}' in the database"
        case ops.DropColumnOp():
            yield f"table '{table}' has a column '{change.column_name}' in the database and not in the code"
        case ops.AlterColumnOp():
            yield from _alterations(change, f"column '{change.column_name}' of table '{table}'")
        case ops.CreateIndexOp():
            yield f"table '{table}' has no index '{change.index_name}' in the database"
        case ops.DropIndexOp():
            yield f"table '{table}' has an index '{change.index_name}' in the database and not in the code"
        case ops.AddConstraintOp():
            yield f"table '{table}' has no {_constraint(change.to_constraint())} in the database"
        case ops.DropConstraintOp():
            yield f"table '{table}' has a {_constraint(change.to_constraint())} in the database and not in the code"
        case _:
            yield f"table '{table}' differs in its comment"


def _alterations(change: ops.AlterColumnOp, column: str) -> Iterator[str]:
    if change.modify_type is not None:
        yield f"{column} is {change.existing_type!r} in the database and {change.modify_type!r} in the code"
    if change.modify_nullable is not None:
        yield f"{column} {'cannot' if change.modify_nullable else 'can'} be null in the database, unlike in the code"
    if change.modify_server_default is not False:
        yield f"{column} has another default in the database than in the code"
    if change.modify_comment is not False:
        yield f"{column} has another comment in the database than in the code"


def _constraint(constraint: Any) -> str:
    kind = constraint.__visit_name__.replace("_constraint", "").replace("_", " ")
    columns = ", ".join(str(column.name) for column in getattr(constraint, "columns", ()))
    return f"{kind} constraint on {columns or constraint.name}"
