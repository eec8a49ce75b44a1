"""The checks, indexes and generated columns of a table, as the database itself writes them.

Each database writes expressions in its own form. So a table is declared a second time, for a moment: on PostgreSQL as a
temporary table, and on SQLite in memory. What the database has written for both can be compared as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import CheckConstraint, Connection, MetaData, Table, create_engine, inspect, text
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

NAME: str = "apex_declared"
"""The name of the table that is declared a second time."""

CHECKS: str = (
    "SELECT conname, pg_get_constraintdef(oid, true) FROM pg_constraint WHERE contype = 'c' AND conrelid = {0}"
)
INDEXES: str = """
    SELECT relname, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE indrelid = {0} AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
EXPRESSIONS: str = """
    SELECT attname, pg_get_expr(adbin, adrelid)
    FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = {0} AND attgenerated
"""
GENERATED: str = f"{EXPRESSIONS} <> ''"
DEFAULTS: str = f"{EXPRESSIONS} = '' AND pg_get_expr(adbin, adrelid) NOT LIKE 'nextval(%'"
SQLITE_INDEXES: str = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql <> '' AND tbl_name = :table"
OWNER: re.Pattern[str] = re.compile(r" ON (ONLY )?[^ (]+ ")
SPACE: re.Pattern[str] = re.compile(r'[\s"`\[\]]+')


class Definitions(NamedTuple):
    """The definitions of a table by name. A check without a name has its number."""

    checks: dict[str, str]
    indexes: dict[str, str]
    generated: dict[str, str]
    defaults: dict[str, str]


def defined(connection: Connection, table: str) -> Definitions:
    """Return the definitions of a table of the database."""
    if connection.dialect.name == "postgresql":
        regclass = "CAST(CAST(:table AS text) AS regclass)"
        quoted = connection.dialect.identifier_preparer.quote(table)
        found = [
            {str(name): definition for name, definition in connection.execute(text(query), {"table": quoted})}
            for query in (one.format(regclass) for one in (CHECKS, INDEXES, GENERATED, DEFAULTS))
        ]
        checks = {name: one.removesuffix(" NOT VALID") for name, one in found[0].items()}
        return Definitions(checks, {name: OWNER.sub(" ", one) for name, one in found[1].items()}, found[2], found[3])
    inspector = inspect(connection)
    reflected = enumerate(inspector.get_check_constraints(table))
    indexes = connection.execute(text(SQLITE_INDEXES), {"table": table})
    columns = inspector.get_columns(table)
    return Definitions(
        {str(check["name"] or number): check["sqltext"] for number, check in reflected},
        {name: plain(OWNER.sub(" ", definition, count=1)) for name, definition in indexes},
        {str(column["name"]): plain(column["computed"]["sqltext"]) for column in columns if "computed" in column},
        {str(column["name"]): _unbraced(column["default"]) for column in columns if column["default"] is not None},
    )


def plain(definition: str) -> str:
    """Return an expression without spaces and quotation marks of names, as SQLite keeps it as it was written."""
    return SPACE.sub("", definition)


def _unbraced(default: str) -> str:
    """Return a default of SQLite without the brackets that an expression needs."""
    return default[1:-1] if default.startswith("(") and default.endswith(")") else default


class Declared(NamedTuple):
    """The definitions of a table in the code. ``checks`` are its constraints, by the names in ``definitions``."""

    definitions: Definitions
    checks: dict[str, CheckConstraint]


def declared(connection: Connection, table: Table) -> Declared | None:
    """Return the definitions of a table in the code, or None if the database lacks something, such as an enum."""
    copied = table.to_metadata(MetaData(), name=NAME)
    originals = {_key(one): one for one in table.constraints if isinstance(one, CheckConstraint)}
    checks: dict[str, CheckConstraint] = {}
    for number, one in enumerate(one for one in copied.constraints if isinstance(one, CheckConstraint)):
        original = originals.get(_key(one))
        if original is not None:
            one.name = f"check_{number}"
            checks[one.name] = original
    try:
        with _scratch(connection) as scratch:
            scratch.execute(CreateTable(copied, include_foreign_key_constraints=[]))
            for index in copied.indexes:
                scratch.execute(CreateIndex(index))
            return Declared(defined(scratch, NAME), checks)
    except (CompileError, DBAPIError):
        return None


def _key(check: CheckConstraint) -> tuple[str, str]:
    if getattr(check, "_type_bound", False):  # That of an enum or a boolean belongs to the column.
        return "", ", ".join(str(column.name) for column in check.columns)
    return str(check.name), str(check.sqltext).replace(f"{NAME}.", "").replace(f"{check.table.name}.", "")


@contextmanager
def _scratch(connection: Connection) -> Iterator[Connection]:
    """Yield a connection whose changes are undone."""
    if connection.dialect.name != "postgresql":
        engine = create_engine("sqlite://")
        with engine.connect() as scratch:
            yield scratch
        engine.dispose()
        return
    path = connection.scalar(text("SHOW search_path"))
    with connection.begin_nested() as savepoint:
        # New tables go into the first schema of the path.
        connection.execute(text(f"SET LOCAL search_path = pg_temp, {path}"))
        try:
            yield connection
        finally:
            savepoint.rollback()
