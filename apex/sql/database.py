"""The app's database: which executor a URL asks for, and statements run on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ARRAY, Dialect, Executable, MetaData, Table, func, schema, select
from sqlalchemy.dialects.postgresql import ENUM, CreateEnumType
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateIndex, CreateSequence, CreateTable
from sqlalchemy.types import TypeDecorator

from apex.app import Apex
from apex.context import Context
from apex.errors import FeathersError
from apex.lazy import extra
from apex.sql.drivers.executor import Executor, Plan, Values, Violation
from apex.sql.drivers.sqlite import SQLiteExecutor
from apex.sql.statements import DIALECTS, Reader, Statement, compiled
from apex.sql.violations import explained, references
from apex.transaction import is_in_transaction, savepoint, transaction
from apex.types import Row


class Database:
    """A database by its URL: ``sqlite:///path/to/file.db`` or ``postgresql://user:password@host/name``.

    On PostgreSQL statements run as ``role``, where one is given. Raises ValueError for any other URL.
    """

    def __init__(self, url: str, role: str | None = None) -> None:
        self.executor = _executor(url, role)
        self.dialect = DIALECTS[self.executor.dialect]

    async def open(self) -> None:
        await self.executor.open()

    async def close(self) -> None:
        await self.executor.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit the statements inside together or not at all. The events of the calls inside follow the commit.

        Raises BadRequest or Conflict where a constraint that is checked at the commit is broken.
        """
        try:
            async with transaction(), self.executor.transaction():
                yield
        except Violation as violation:
            raise explained(violation, None) from None

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Store the statements inside together or not at all, and let the transaction around them go on after an error.

        Events of the calls inside follow the commit of that transaction. Without one this is a transaction. The
        statements of a transaction that has a savepoint come one after the other, not from several tasks.
        """
        if not is_in_transaction():
            async with self.transaction():
                yield
            return
        async with savepoint(), self.executor.savepoint():
            yield

    def compile(
        self, statement: Executable, plan: Plan = "kept", *, writes: bool = False, read: Reader | None = None
    ) -> Statement:
        """Compile a SQLAlchemy Core statement, to be run many times with ``fetch``.

        Plan a statement ``anew`` if its best plan depends on its values. A select with a function that writes needs
        ``writes``.
        """
        return compiled(statement, self.dialect, plan, writes=writes, read=read)

    async def fetch(self, statement: Statement, values: Values | None = None) -> list[Any]:
        """Run a compiled statement and return its rows, as ``execute`` does."""
        try:
            return await self.run(statement, values)
        except Violation as violation:
            rows = [{**statement.constants, **(values or {})}]
            raise await self.explain(violation, statement.table, rows) from None

    async def explain(self, violation: Violation, table: Table | None, rows: Sequence[Row]) -> FeathersError:
        """Return a broken rule of a table as the error for callers. ``rows`` are the values that were to be stored.

        SQLite does not name the broken foreign key, so the records that the rows refer to are looked up.
        """
        if table is not None and violation.kind == "foreign key" and violation.constraint is None:
            for columns, record in (found for row in rows for found in references(table, row)):
                if not await self.execute(record):
                    violation.columns = columns
                    break
        return explained(violation, table)

    async def run(self, statement: Statement, values: Values | None = None) -> list[Any]:
        """Run a compiled statement. Raises Violation where it breaks a rule."""
        text, bound = statement.bind(values or {})
        if (read := statement.read) is not None:
            rows = await self.executor.fetch(text, bound, statement.writes, statement.plan)
        else:
            names, *rows = await self.executor.fetch(text, bound, statement.writes, statement.plan, header=True)
            read = statement.reader(names)
        return [read(row) for row in rows]

    async def execute(self, statement: Executable, values: Values | Sequence[Values] | None = None) -> list[Row]:
        """Compile a SQLAlchemy Core statement, run it, and return its rows.

        A row is a dict by the names of the query's columns, such as ``count_1`` for ``func.count()`` and ``id_1`` for
        the second ``id``. A statement without rows returns an empty list. ``values`` holds the statement's parameters,
        and the columns of an insert or update. With a list of them the statement runs once for each, in one
        transaction. Raises TypeError where a parameter has no value, and Conflict or BadRequest naming
        the fields where the values break a rule of the table.
        """
        if values is None or isinstance(values, Mapping):
            prepared = compiled(statement, self.dialect, keys=values or ())
            prepared.require(values or {})
            return await self.fetch(prepared, values)
        if not values:
            return []
        prepared = compiled(statement, self.dialect, keys=values[0])
        for each in values:
            prepared.require(each)
        async with self.transaction():
            return [row for each in values for row in await self.fetch(prepared, each)]

    async def create_all(self, metadata: MetaData) -> None:
        """Create the enum types, sequences, tables and indexes that are not there yet, for examples and tests.

        Applications migrate.
        """
        for name, kind in _enums(metadata, self.dialect).items():
            if (await self.execute(select(func.to_regtype(name).label("type"))))[0]["type"] is None:
                await self.execute(CreateEnumType(kind))
        for table in metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.default, schema.Sequence) and self.dialect.supports_sequences:
                    await self.execute(CreateSequence(column.default, if_not_exists=True))
            await self.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                await self.execute(CreateIndex(index, if_not_exists=True))


def database(url: str, *, role: str | None = None) -> Callable[[Apex], None]:
    """Configures an app with a database: ``app.configure(database(url))``. It is open from setup to teardown.

    ``role`` is ``apex.tenant.ROLE`` for an app whose tables are sealed by ``apex.migrations.row_level_security.seal``.
    """

    def configure(app: Apex) -> None:
        opened = Database(url, role)

        async def setup(context: Context, next: Callable[[], Any]) -> None:
            await opened.open()
            await next()

        async def teardown(context: Context, next: Callable[[], Any]) -> None:
            try:
                await next()
            finally:
                await opened.close()

        app.set("database", opened).set("database_url", url)
        app.hooks({"setup": [setup], "teardown": [teardown]})

    return configure


def _enums(metadata: MetaData, dialect: Dialect) -> dict[str, ENUM]:
    """Return the enum types of PostgreSQL by their quoted names. Other databases have none."""
    found: dict[str, ENUM] = {}
    preparer: Any = dialect.identifier_preparer
    for table in metadata.sorted_tables:
        for column in table.columns:
            kind: Any = column.type
            kind = kind.load_dialect_impl(dialect) if isinstance(kind, TypeDecorator) else kind.dialect_impl(dialect)
            kind = kind.item_type.dialect_impl(dialect) if isinstance(kind, ARRAY) else kind.dialect_impl(dialect)
            if isinstance(kind, ENUM):
                found[preparer.format_type(kind)] = kind
    return found


def _executor(url: str, role: str | None) -> Executor:
    try:
        parts = make_url(url)
    except ArgumentError:
        raise ValueError("The database URL is malformed: use sqlite:///file.db or postgresql://host/name") from None
    backend = parts.get_backend_name()
    if backend == "postgresql":
        with extra("postgres", "PostgreSQL"):
            from apex.sql.drivers.postgres import PostgresExecutor  # psycopg takes 9 MiB, which SQLite has no use for.

        return PostgresExecutor(parts.set(drivername="postgresql").render_as_string(hide_password=False), role=role)
    if backend == "sqlite" and parts.database and parts.database != ":memory:":
        return SQLiteExecutor(parts.database)
    raise ValueError("The database URL must be sqlite:///file.db or postgresql://host/name")
