"""The app's database: statements, transactions, and errors for callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Dialect,
    Executable,
    ForeignKeyConstraint,
    MetaData,
    Select,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    schema,
    select,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import ENUM, CreateEnumType
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoReferenceError
from sqlalchemy.schema import CreateIndex, CreateSequence, CreateTable
from sqlalchemy.types import TypeDecorator

from apex._lazy import extra
from apex.app import Apex
from apex.context import Context
from apex.errors import BadRequest, Conflict, FeathersError
from apex.migrations.search import SEARCHABLE, created_index, is_complete
from apex.sql.drivers.executor import Executor, Plan, Values, ValuesOfRows, Violation
from apex.sql.drivers.sqlite import SQLiteExecutor
from apex.sql.statements import DIALECTS, Reader, Statement, compiled
from apex.transaction import Transaction, current_transaction, savepoint, transaction
from apex.types import Row

Write = Callable[[list[Any]], Awaitable[None]]
"""A function that writes the collected values of a transaction."""


class _Transaction(Transaction):
    """A transaction of a database. ``collected`` are the values that are written just before its commit."""

    def __init__(self, store: Database) -> None:
        super().__init__(store)
        self.collected: list[tuple[Write, Any]] = []

    async def write(self) -> None:
        """Write the collected values, those of each function at once, and those that other tasks add meanwhile."""
        while self.collected:
            collected, self.collected = self.collected, []
            for write in dict.fromkeys(write for write, _ in collected):
                await write([value for one, value in collected if one == write])


class Database:
    """A database by its URL: ``sqlite:///path/to/file.db`` or ``postgresql://user:password@host/name``::

        app.configure(database("sqlite:///app.db"))
        rows = await app.get("database").execute(select(notes))

    With a ``role`` the statements run as that role, on PostgreSQL. Raises ValueError for any other URL.
    """

    def __init__(self, url: str, role: str | None = None) -> None:
        self.executor: Executor = _executor(url, role)
        self.dialect: Dialect = DIALECTS[self.executor.dialect]

    async def open(self) -> None:
        """Connect to the database. Raises Unavailable."""
        await self.executor.open()

    async def close(self) -> None:
        """Close all connections."""
        await self.executor.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit the statements inside together or not at all. The events of the calls inside follow the commit.

        A transaction inside another one is part of it. Raises BadRequest or Conflict if the commit breaks a constraint.
        """
        if current_transaction(self) is not None:
            yield
            return
        try:
            async with transaction(), self.executor.transaction():
                with _Transaction(self) as own:
                    yield
                    await own.write()
        except Violation as violation:
            raise _explained(violation, None) from None

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Store the statements inside together or not at all. After an error the transaction around them goes on.

        Events of the calls inside follow the commit of that transaction. Without a transaction this is one. While a
        savepoint is open, only one task may run statements of the transaction.
        """
        around = current_transaction(self)
        if not isinstance(around, _Transaction):
            async with self.transaction():
                yield
            return
        start = len(around.collected)
        try:
            async with savepoint(), self.executor.savepoint():
                yield
        except BaseException:
            del around.collected[start:]
            raise

    async def lock(self, name: str, *, wait: bool = True) -> bool:
        """Take the lock with a name until the end of the transaction around this call. Return True once it is taken.

        Without ``wait``, return False if another transaction has it. On SQLite it is always free, as one transaction
        writes at a time.
        """
        if self.dialect.name != "postgresql":
            return True
        number = int.from_bytes(sha256(f"apex {name}".encode()).digest()[:8], signed=True)
        function = func.pg_advisory_xact_lock if wait else func.pg_try_advisory_xact_lock
        taken = select(function(bindparam("number", type_=BigInteger())).cast(Text).label("taken"))
        [found] = await self.fetch(self.compile(taken, writes=True), {"number": number})
        return bool(found["taken"] != "false")

    def collect(self, value: Any, write: Write) -> bool:
        """Have ``write`` called with a list of values just before the commit of the transaction around this call.

        The list has the values of all calls with this ``write`` in the transaction, without those of savepoints that
        were undone. Return False if there is no transaction.
        """
        around = current_transaction(self)
        if not isinstance(around, _Transaction):
            return False
        around.collected.append((write, value))
        return True

    async def write_collected(self) -> None:
        """Write now what ``collect`` has kept for the commit of the transaction around this call."""
        around = current_transaction(self)
        if isinstance(around, _Transaction):
            await around.write()

    def compile(
        self, statement: Executable, plan: Plan = "kept", *, writes: bool = False, read: Reader | None = None
    ) -> Statement:
        """Compile a statement of SQLAlchemy Core, to run it many times with ``fetch``.

        Plan a statement ``anew`` if its best plan depends on its values. A select with a function that writes needs
        ``writes``. ``read`` reads a row, by default as a dict.
        """
        return compiled(statement, self.dialect, plan, writes=writes, read=read)

    async def fetch(self, statement: Statement, values: Values | None = None) -> list[Any]:
        """Run a compiled statement and return its rows, as ``execute`` does."""
        try:
            return await statement.run(self.executor, values or {})
        except Violation as violation:
            rows = [{**statement.constants, **(values or {})}]
            raise await self.explain(violation, statement.table, rows) from None

    async def fetch_together(self, statements: Sequence[tuple[Statement, Values | ValuesOfRows]]) -> list[list[Any]]:
        """Run compiled statements that write as one transaction, and return the rows of each.

        The values of a statement may be a function of the rows of the statement before it, as the driver returns them.
        """
        bound = [one.bind_later(given) if callable(given) else one.bind(given) for one, given in statements]
        found = await self.executor.fetch_together(bound)
        return [list(map(one.read or list, rows)) for (one, _), rows in zip(statements, found, strict=True)]

    async def explain(self, violation: Violation, table: Table | None, rows: Sequence[Row]) -> FeathersError:
        """Return a broken rule of a table as the error for callers. ``rows`` are the values that were to be stored.

        SQLite does not name a broken foreign key, so the records that the rows refer to are looked up.
        """
        if table is not None and violation.kind == "foreign key" and violation.constraint is None:
            for columns, record in (found for row in rows for found in _references(table, row)):
                if not await self.execute(record):
                    violation.columns = columns
                    break
        return _explained(violation, table)

    async def execute(self, statement: Executable, values: Values | Sequence[Values] | None = None) -> list[Row]:
        """Compile a statement of SQLAlchemy Core, run it, and return its rows.

        A row is a dict by the names of the query's columns, such as ``count_1`` for ``func.count()`` and ``id_1`` for
        the second ``id``. A statement without rows returns an empty list. ``values`` are the statement's parameters, or
        the columns of an insert or update. With a list of values the statement runs once for each, in one transaction.
        Raises TypeError if a parameter has no value. Raises Conflict or BadRequest with the names of the fields if the
        values break a rule of the table.
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
        """Create the enum types, sequences, tables and indexes that do not exist, for examples and tests.

        The indexes of searches are those of the services that are registered by then.

        Applications run migrations instead.
        """
        for name, enum in _enums(metadata, self.dialect).items():
            if (await self.execute(select(func.to_regtype(name).label("type"))))[0]["type"] is None:
                await self.execute(CreateEnumType(enum))
        for table in metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.default, schema.Sequence) and self.dialect.supports_sequences:
                    await self.execute(CreateSequence(column.default, if_not_exists=True))
            await self.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                await self.execute(CreateIndex(index, if_not_exists=True))
            fields = table.info.get(SEARCHABLE, ())
            if fields and not (await self.execute(is_complete(table, self.dialect)))[0]["complete"]:
                for statement in created_index(table.name, fields, self.dialect):
                    await self.execute(statement)


def database(url: str, *, role: str | None = None) -> Callable[[Apex], None]:
    """Return a function that gives an app its database: ``app.configure(database(url))``.

    The database is open from setup to teardown. ``role`` is ``apex.tenant.ROLE`` for an app whose tables have row-level
    security (``apex.migrations.enable_row_level_security``). Raises ValueError for a wrong URL, and TypeError if it is
    given the app.
    """
    if callable(url):  # ``app.configure(database)`` would change nothing.
        raise TypeError("database takes a URL and not the app: app.configure(database(url))")

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
    enums: dict[str, ENUM] = {}
    preparer: Any = dialect.identifier_preparer
    for table in metadata.sorted_tables:
        for column in table.columns:
            found: Any = column.type
            is_decorated = isinstance(found, TypeDecorator)
            found = found.load_dialect_impl(dialect) if is_decorated else found.dialect_impl(dialect)
            if isinstance(found, ARRAY):
                found = found.item_type
            found = found.dialect_impl(dialect)
            if isinstance(found, ENUM):
                enums[preparer.format_type(found)] = found
    return enums


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


def _explained(violation: Violation, table: Table | None) -> FeathersError:
    """Return a broken rule as the error for callers. It names the fields, and never has the text of the driver.

    It names the tenant's column only if there is no other one.
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


def _references(table: Table, row: Row) -> Iterator[tuple[tuple[str, ...], Select[Any]]]:
    """Yield the columns of each foreign key that the row has values for, and the query for the referenced record."""
    constraints = dict.fromkeys(key.constraint for column in table.columns for key in column.foreign_keys)
    for constraint in constraints:
        if not isinstance(constraint, ForeignKeyConstraint):
            continue
        columns = tuple(str(column.name) for column in constraint.columns)
        values = [row.get(name) for name in columns]
        try:
            targets = [element.column for element in constraint.elements]
        except NoReferenceError:  # The other table is unknown here.
            continue
        if None not in values:
            matches = [target == value for target, value in zip(targets, values, strict=True)]
            yield columns, select(literal_column("1")).select_from(targets[0].table).where(*matches).limit(1)


def _constrained(constraint: str | None, table: Table | None) -> tuple[str, ...]:
    """Return the columns of a constraint by its name, which PostgreSQL may have made, or by its text."""
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
