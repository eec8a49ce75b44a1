"""The comparison of the tables in the code with those of a database, by Alembic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from alembic.autogenerate import produce_migrations
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Connection,
    DefaultClause,
    Identity,
    Index,
    MetaData,
    Table,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM

from apex.errors import ConfigError
from apex.migrations.definitions import Declared, Definitions, declared, defined, plain
from apex.migrations.migrate import (
    Included,
    explained,
    is_unknown,
    reached_by,
    revisions_after,
    scripts_of,
    tables_of_code,
)
from apex.migrations.revisions import FOLDER, connect
from apex.migrations.search import DOCUMENT, SEARCHABLE, index_name, is_complete

IS_PROTECTED: str = """
    SELECT relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid) FROM pg_class
    WHERE relname = :table AND relnamespace = current_schema()::regnamespace
"""
INDEX: dict[str, str] = {
    "sqlite": "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = :name",
    "postgresql": "SELECT pg_get_indexdef(CAST(CAST(:name AS text) AS regclass))",
}
INDEX_PARTS: re.Pattern[str] = re.compile(
    r"CREATE (?P<unique>UNIQUE )?INDEX .*? ON [^(]+\((?P<columns>.*?)\)(?: WHERE (?P<where>.*))?$", re.DOTALL
)
CAST: re.Pattern[str] = re.compile(
    r"::(character varying|double precision|timestamp with(out)? time zone|\"?\w+\"?)(\(\d+(, ?\d+)?\))?(\[\])?"
)
ANY: re.Pattern[str] = re.compile(r"= ANY \(\(?ARRAY\[(.*?)\]\)?\)")
CHECK: re.Pattern[str] = re.compile(r"^CHECK \((.*)\)$", re.DOTALL)
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


class DisableRowLevelSecurity(ops.MigrateOperation):
    """The change that disables row-level security for a table."""

    def __init__(self, table_name: str, column: str) -> None:
        self.table_name: str = table_name
        self.column: str = column

    def reverse(self) -> EnableRowLevelSecurity:
        """Return the change that undoes this one."""
        return EnableRowLevelSecurity(self.table_name, self.column)


class ChangeExpression(ops.MigrateOperation):
    """Another expression for a generated column, which databases cannot give to a column that exists."""

    def __init__(self, table_name: str, column_name: str) -> None:
        self.table_name: str = table_name
        self.column_name: str = column_name

    def reverse(self) -> ChangeExpression:
        """Return the same change: both directions are written by hand."""
        return self


class CreateSearchIndex(ops.MigrateOperation):
    """The change that makes the search index of a table, for its fields."""

    def __init__(self, table_name: str, fields: Sequence[str]) -> None:
        self.table_name: str = table_name
        self.fields: Sequence[str] = fields

    def reverse(self) -> DropSearchIndex:
        """Return the change that undoes this one."""
        return DropSearchIndex(self.table_name, self.fields)


class DropSearchIndex(CreateSearchIndex):
    """The change that drops the search index of a table."""


def differences(url: str, folder: Path = FOLDER) -> list[str]:
    """Return what differs between the tables in the code and those of a migrated database, in one sentence each.

    A test that migrates a new database holds that nothing lacks a migration::

        assert differences(url, CONFIG.parent / "migrations") == []

    ``folder`` has the migrations, and the ``env.py`` that gives the tables to ``run_migrations``. Raises ConfigError if
    the database lacks migrations, and Unavailable if it cannot be reached.
    """
    with explained(url), connect(url) as connection:
        changes = list(flat(compared(url, connection, folder)))
    whole = {change.table_name for change in changes if isinstance(change, ops.CreateTableOp | ops.DropTableOp)}
    parts = (ops.CreateIndexOp, ops.DropIndexOp)  # Those of a whole table come with it.
    named = [change for change in changes if not isinstance(change, parts) or change.table_name not in whole]
    return sorted(
        f"{one}: apex migrate --new '{_title(change)}' --auto" for change in named for one in sentences(change)
    )


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
        case CreateSearchIndex():
            return f"search {change.table_name}"
        case _:
            return f"change {getattr(change, 'table_name', None) or change.source_table}"


def compared(url: str, connection: Connection, folder: Path) -> ops.MigrationScript:
    """Return the changes that bring a database to the tables in the code, and the way back. Raises ConfigError."""
    reached = reached_by(connection)
    if left := revisions_after(reached, scripts_of(url, folder), folder):
        raise ConfigError(f"migrations {', '.join(left)} are pending: run 'apex migrate' first")
    if is_unknown(reached, folder):
        raise ConfigError(f"a later version has migrated the database to {reached}: use the version that has it")
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
        "compare_type": _is_other_enum,
        "compare_server_default": False,
    }
    with catch_warnings(action="ignore"):
        script = produce_migrations(MigrationContext.configure(connection, opts=options), metadata)
        if connection.dialect.name == "sqlite":
            script.upgrade_ops.ops += list(_expression_indexes(script, metadata))  # type: ignore[union-attr]
        there = set(inspect(connection).get_table_names())
        for table in metadata.sorted_tables:
            if table.schema is None and table.name in there and is_compared(table.name, "table", {}):
                more = [*_more(connection, table, list(flat(script)), is_compared)]
                script.upgrade_ops.ops += more  # type: ignore[union-attr]
    for table in metadata.sorted_tables:
        fields = table.info.get(SEARCHABLE)
        if fields and not connection.scalar(is_complete(table, connection.dialect)):
            script.upgrade_ops.ops.append(CreateSearchIndex(table.name, fields))  # type: ignore[union-attr]
    return script


def _is_other_enum(context: Any, column: Any, declared: Any, before: Any, after: Any) -> bool | None:
    """Return True for an enum type of PostgreSQL with other values. For other types None, so that Alembic decides."""
    after = after.dialect_impl(context.dialect)
    both = isinstance(before, ENUM) and isinstance(after, ENUM)
    return True if both and before.enums != after.enums else None


def _expression_indexes(script: ops.MigrationScript, metadata: MetaData) -> Iterator[Any]:
    """Yield the indexes of new tables that have expressions. Alembic leaves them out on SQLite."""
    for change in list(flat(script)):
        if isinstance(change, ops.CreateTableOp):
            for index in metadata.tables[change.table_name].indexes:
                if not all(isinstance(one, Column) for one in index.expressions):
                    yield ops.CreateIndexOp.from_index(index)


def _more(connection: Connection, table: Table, found: list[Any], is_compared: Included) -> Iterator[Any]:
    """Yield the changes of a table that Alembic does not find: checks, conditions and expressions, and policies."""
    real, code = defined(connection, table.name), declared(connection, table)
    parents = {"table_name": table.name}
    if code is not None:
        yield from _checks(table, real, code, is_compared)
        yield from _defaults(table, real.defaults, code.definitions.defaults)
        known = {one.index_name for one in found if isinstance(one, ops.CreateIndexOp | ops.DropIndexOp)}
        indexes = {str(index.name): index for index in table.indexes}
        for name in sorted({*real.indexes, *indexes} - known):
            if not is_compared(name, "index", parents) or real.indexes.get(name) == code.definitions.indexes.get(name):
                continue
            if name in real.indexes and (name not in indexes or name in code.definitions.indexes):
                yield _dropped_index(connection, table, name)
            if name in code.definitions.indexes:
                yield ops.CreateIndexOp.from_index(indexes[name])
        changed = real.generated.items() ^ code.definitions.generated.items()
        for name in sorted({name for name, _ in changed if name in real.generated and name in table.columns}):
            yield ChangeExpression(table.name, name)
    tenant = table.info.get("tenant") if connection.dialect.name == "postgresql" else None
    if tenant is not None and not connection.scalar(text(IS_PROTECTED), {"table": table.name}):
        yield EnableRowLevelSecurity(table.name, tenant)


def _defaults(table: Table, real: Mapping[str, str], code: Mapping[str, str]) -> Iterator[Any]:
    """Yield the changes of defaults."""
    for column in table.columns:
        before = real.get(column.name)
        if before != code.get(column.name) and not isinstance(column.server_default, Computed | Identity):
            existing = None if before is None else DefaultClause(text(before))
            yield ops.AlterColumnOp(
                table.name, column.name, existing_type=column.type, existing_server_default=existing,
                modify_server_default=column.server_default,
            )  # fmt: skip


def _checks(table: Table, real: Definitions, code: Declared, is_compared: Included) -> Iterator[Any]:
    """Yield the checks that only one of both has. What counts is their rule, not their name."""
    wanted = {name: one for name, one in code.definitions.checks.items() if name in code.checks}
    for name, rule in real.checks.items():
        if plain(rule) not in map(plain, wanted.values()) and is_compared(
            name, "check_constraint", {"table_name": table.name}
        ):
            before = CheckConstraint(text(without_casts(CHECK.sub(r"\1", rule))), name=name)
            Table(table.name, MetaData(), before)
            yield ops.DropConstraintOp.from_constraint(before)
    for name, rule in wanted.items():
        if plain(rule) not in map(plain, real.checks.values()):
            yield ops.CreateCheckConstraintOp.from_constraint(code.checks[name])


def without_casts(expression: str) -> str:
    """Return an expression of PostgreSQL without the casts that it adds, so that SQLite understands it too."""
    return ANY.sub(r"IN (\1)", CAST.sub("", expression))


def _dropped_index(connection: Connection, table: Table, name: str) -> ops.DropIndexOp:
    """Return the change that drops an index of the database, whose reverse creates it again."""
    statement = connection.scalar(text(INDEX[connection.dialect.name]), {"name": name}) or ""
    parts = INDEX_PARTS.search(statement)
    assert parts is not None, statement
    where: dict[str, Any] = (
        {f"{connection.dialect.name}_where": text(without_casts(parts["where"]))} if parts["where"] else {}
    )
    copied = Table(table.name, MetaData())
    index = Index(name, text(without_casts(parts["columns"])), unique=bool(parts["unique"]), _table=copied, **where)
    return ops.DropIndexOp.from_index(index)


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
        case ChangeExpression():
            yield f"column '{change.column_name}' of table '{table}' has another expression in the database"
        case EnableRowLevelSecurity():
            yield f"table '{table}' has no row-level security in the database"
        case ops.CreateIndexOp():
            yield f"table '{table}' has no index '{change.index_name}' in the database"
        case ops.DropIndexOp():
            yield f"table '{table}' has an index '{change.index_name}' in the database and not in the code"
        case CreateSearchIndex():
            yield f"table '{table}' has no search index in the database"
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
