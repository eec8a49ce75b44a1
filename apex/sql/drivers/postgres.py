"""PostgreSQL through psycopg.

Statements go through connections in pipeline mode, which all calls share. Transactions and slow statements run on a
pool of connections.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.adapt import AdaptersMap, PyFormat, Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from apex.callbacks import LONGEST_PAUSE
from apex.encoding import decode, encode
from apex.errors import Conflict, Forbidden, GeneralError, OutcomeUnknown, Unavailable
from apex.sql.drivers.executor import (
    FAILED_TRANSACTION,
    OUTDATED,
    Plan,
    Rule,
    Statements,
    Tuples,
    Values,
    Violation,
    values_after,
)
from apex.sql.drivers.pipeline import (
    CLOCK,
    CONNECTIONS,
    FATAL,
    SILENT_SECONDS,
    STALE,
    Command,
    Pipeline,
    PipelineFull,
    PipelineLost,
)
from apex.tenant import SETTING, current_tenants
from apex.transaction import Transaction, current_transaction

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]

log: logging.Logger = logging.getLogger("apex")

POOL_SIZE = 10
POOL_SECONDS = 5
CONNECT_SECONDS = 5
CONNECTION_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": CONNECT_SECONDS,
    # Milliseconds after which unanswered data breaks the connection. Without it TCP retries after ever longer pauses.
    "tcp_user_timeout": SILENT_SECONDS * 1000,
}
QUEUE = 1_000
"""The most calls that wait for a connection of the pool."""

STATEMENT_SECONDS = 30
PIPELINE_SECONDS = 3
PIPELINE_LOCK_SECONDS = 0.1
"""PostgreSQL ends a statement in the pipeline that takes longer, or waits longer for a lock. The pool runs it again."""

ANSWER_SECONDS = STATEMENT_SECONDS + 5
ATTEMPTS = 3

SET_TENANTS = f"SELECT set_config('{SETTING}', %(tenants)s, true)"
ONE_PLAN = "set_config('plan_cache_mode', 'force_generic_plan', true)"
NO_SESSIONS = "The proxy in front of the database must pool sessions: set pool_mode = session in PgBouncer"
GRANT = "run 'apex migrate', and grant the role to the user"

_RULES: dict[type[psycopg.Error], Rule] = {
    errors.UniqueViolation: "unique",
    errors.ForeignKeyViolation: "foreign key",
    errors.NotNullViolation: "not null",
    errors.CheckViolation: "check",
}
_CROSSED = (errors.SerializationFailure, errors.DeadlockDetected)
_CANCELED = (errors.QueryCanceled, errors.LockNotAvailable)
"""PostgreSQL has ended the statement early. Nothing is stored, and the pool may run it again."""

_POOL_ERRORS = (PoolTimeout, PoolClosed, TooManyRequests)


class _Silent(psycopg.OperationalError):
    """The database has not answered in time, and the connection was closed."""


class _Adapters:
    """The conversions of values for results that do not come from a cursor of psycopg."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.connection = None
        set_json_loads(decode, self)
        set_json_dumps(encode, self)


_transformer = Transformer(_Adapters())


class _Pool(AsyncConnectionPool[Connection]):
    """A pool whose check finds connections that the server has closed, without a query."""

    @staticmethod
    async def check_connection(conn: Connection) -> None:
        if _is_cut(conn):
            raise psycopg.OperationalError("the server has closed the connection")


class _Transaction(Transaction):
    """A transaction on a connection of the pool. Its statements run one after the other."""

    def __init__(self, store: PostgresExecutor, connection: Connection, preamble: str | None, tenants: str) -> None:
        super().__init__(store)
        self.connection = connection
        self.preamble = preamble
        self._tenants: str | None = tenants
        self._turn = asyncio.Lock()

    def forget_tenants(self) -> None:
        """Set the tenants again before the next statement, because a savepoint that was undone has undone it."""
        self._tenants = None

    async def close(self) -> None:
        """Let no further statement run, and wait for the one that another task runs."""
        self.is_open = False
        async with self._turn:
            pass

    async def execute(self, text: str, values: Values, prepared: bool) -> Cursor | None:
        """Run a statement as soon as the statements before it are done. None, if the transaction ends before."""
        async with self._turn:
            if not self.is_open:
                return None
            if self.preamble is not None and self._tenants != current_tenants.get():
                await _execute(self.connection, self.preamble, {"tenants": current_tenants.get()})
                self._tenants = current_tenants.get()
            return await _execute(self.connection, text, values, prepared)

    @property
    def has_failed(self) -> bool:
        """True if a statement has failed. PostgreSQL then refuses all others."""
        return self.connection.info.transaction_status == TransactionStatus.INERROR


class PostgresExecutor:
    """Runs statements in a ``pipeline`` and on a pool of ``size`` connections; see ``apex.sql.drivers.executor``.

    The pool runs transactions, slow statements and those that are planned anew for each call. If the pipeline has no
    connection, the pool runs everything. A statement that crosses another one (serialization failure, deadlock) is
    tried three times. If a connection is lost, a statement that only reads is tried again on another one. With a
    ``role`` statements run as that role, and each transaction knows the tenants of its call::

        executor = PostgresExecutor("postgresql://localhost/shop")
        await executor.open()
    """

    dialect = "postgresql"

    def __init__(
        self, url: str, size: int = POOL_SIZE, role: str | None = None, pipeline_size: int = CONNECTIONS
    ) -> None:
        self.url = url
        self.size = size
        self.role = role
        self.pool: AsyncConnectionPool[Connection] = self._new_pool()
        self.pipeline: Pipeline = Pipeline(self._connect_to_pipeline, pipeline_size)
        self._preamble = None if role is None else SET_TENANTS
        """The SQL with which each transaction begins."""

    @property
    def lanes(self) -> Pipeline:
        """The former name of ``pipeline``."""
        warnings.warn("PostgresExecutor.lanes is PostgresExecutor.pipeline now", DeprecationWarning, stacklevel=2)
        return self.pipeline

    async def open(self) -> None:
        """Connect to the server.

        Raises Unavailable if the server does not answer, if its user may not act as the role, or if a proxy in between
        does not pool sessions.
        """
        try:
            await self._probe()
        except (errors.InvalidParameterValue, errors.InsufficientPrivilege):
            raise Unavailable(f"The database does not let its user act as '{self.role}': {GRANT}") from None
        except (psycopg.Error, TimeoutError) as error:
            log.debug("connecting failed", exc_info=error)
            raise Unavailable(f"The database {_address(self.url)} cannot be reached") from None
        self.pool = self._new_pool()
        await self.pool.open()
        await self.pipeline.open()

    async def _probe(self) -> None:
        async with asyncio.timeout(CONNECT_SECONDS), await self._connect() as one:
            if await _pid(one) != one.info.backend_pid:
                async with await self._connect() as other:
                    if not await _are_sessions(one, other):
                        raise Unavailable(NO_SESSIONS)
                if self.role is not None:
                    # A proxy may lose the role of a session. With this no statement runs as another user even then.
                    self._preamble = f"{SET_TENANTS}, set_config('role', {sql.quote(self.role)}, true)"
            await one.execute(_settings(self.role, STATEMENT_SECONDS))

    async def close(self) -> None:
        """Wait for the statements in the pipeline, and close all connections."""
        await self.pipeline.close()
        await self.pool.close()

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        """Run a statement and return its rows. With ``header`` the names of the columns come first."""
        prepared, transaction = plan in ("kept", "one"), current_transaction(self)
        if isinstance(transaction, _Transaction):
            with _translating():
                cursor = await transaction.execute(text, values, prepared)
                if cursor is not None:
                    return await _rows(cursor, header)
        if prepared and not header:
            result = await self._fetch_in_pipeline(text, values, writes, plan)
            if result is not None:
                _transformer.set_pgresult(result)
                return _transformer.load_rows(0, result.ntuples, tuple)
        for _ in range(ATTEMPTS - 1):
            async with self._connection() as connection:
                try:
                    return await _rows(await self._execute_alone(connection, text, values, prepared), header)
                except psycopg.Error as error:
                    if error.sqlstate in STALE:
                        # The session would fail again, and so may others that have prepared the statement.
                        await connection.close()
                        prepared = False
                    elif not isinstance(error, _CROSSED) and (writes or not _may_repeat(error, connection)):
                        raise _failure(error, connection, writes) from None
        async with self._connection() as connection:
            try:
                return await _rows(await self._execute_alone(connection, text, values, prepared), header)
            except psycopg.Error as error:
                raise _failure(error, connection, writes) from None

    async def fetch_together(self, statements: Statements) -> list[Tuples]:
        """Run quick statements that write as one transaction, and return the rows of each."""
        found: list[Tuples] = []
        async with self.transaction():
            for text, values in statements:
                found.append(await self.fetch(text, values_after(found, values), writes=True))
        return found

    async def _execute_alone(self, connection: Connection, text: str, values: Values, prepared: bool) -> Cursor:
        """Run a statement as a transaction of its own, and measure it if it is slow."""
        command = self.pipeline.commands.get(text)
        if command is not None and command.measurable and command.timing.is_slow(asyncio.get_running_loop().time()):
            cursor, seconds = await _execute_measured(connection, self._preamble, text, values, prepared)
            self.pipeline.add_run(command, seconds)
            return cursor
        if self._preamble is None:
            return await _execute(connection, text, values, prepared)
        async with _answering(connection), connection.pipeline():  # One round trip, which is the transaction.
            await connection.execute(self._preamble.encode(), {"tenants": current_tenants.get()}, prepare=prepared)
            return await connection.execute(text.encode(), values, prepare=prepared)

    async def _fetch_in_pipeline(self, text: str, values: Values, writes: bool, plan: Plan) -> PGresult | None:
        """Return the result. None, if no connection is there or the statement would hold up others: ask the pool."""
        command = self.pipeline.command(text)
        try:
            steps = self._steps(command, values, plan)
        except psycopg.Error as error:
            raise _translated(error) from None
        failure: psycopg.Error | None = None
        for _ in range(ATTEMPTS):
            try:
                connection = self.pipeline.pick(command)
                if connection is None:
                    return None
                result = await connection.send(steps)
            except PipelineFull:
                raise _busy() from None
            except PipelineLost:
                if writes:
                    raise _unknown() from None
                return None
            if result.status != FATAL:
                return result
            failure = errors.error_from_result(result)
            if isinstance(failure, errors.QueryCanceled):
                self.pipeline.add_run(command, PIPELINE_SECONDS)
            if isinstance(failure, _CANCELED):
                return None
            if not isinstance(failure, _CROSSED) and failure.sqlstate not in STALE:
                break
        if failure is None or failure.sqlstate in STALE:
            return None
        raise _translated(failure) from None

    def _steps(self, command: Command, values: Values, plan: Plan) -> list[tuple[Command, Any]]:
        given = [values[name] for name in command.names]
        step = (command, _transformer.dump_sequence(given, [PyFormat.TEXT] * len(given)))
        if self._preamble is not None:
            before = f"{self._preamble}, {ONE_PLAN}" if plan == "one" else self._preamble
            return [(self.pipeline.command(before), [current_tenants.get().encode()]), step]
        return [(self.pipeline.command(f"SELECT {ONE_PLAN}"), ()), step] if plan == "one" else [step]

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(self.url, **CONNECTION_OPTIONS)

    async def _connect_to_pipeline(self) -> Connection:
        connection = await self._connect()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.execute(_settings(self.role, PIPELINE_SECONDS, PIPELINE_LOCK_SECONDS))
        except BaseException:
            await connection.close()
            raise
        return connection

    def _new_pool(self) -> AsyncConnectionPool[Connection]:
        return _Pool(
            self.url,
            min_size=min(2, self.size),
            max_size=self.size,
            max_waiting=QUEUE,
            timeout=POOL_SECONDS,
            open=False,
            configure=self._configure,
            # The pool doubles its pauses without limit, so each attempt ends after the second pause and begins anew.
            reconnect_timeout=LONGEST_PAUSE,
            reconnect_failed=AsyncConnectionPool.check,
            kwargs=CONNECTION_OPTIONS,
        )

    async def _configure(self, connection: Connection) -> None:
        set_json_loads(decode, connection)
        set_json_dumps(encode, connection)
        await connection.execute(_settings(self.role, STATEMENT_SECONDS))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run the statements inside as one transaction. One inside another is part of it."""
        if current_transaction(self) is not None:
            yield
            return
        tenants = current_tenants.get()
        async with self._connection(self._beginning(tenants)) as connection:
            with _Transaction(self, connection, self._preamble, tenants) as transaction:
                try:
                    try:
                        yield
                    finally:
                        await transaction.close()
                    if transaction.has_failed:
                        raise GeneralError(FAILED_TRANSACTION)
                except BaseException:
                    await _roll_back(connection)
                    raise
                else:
                    await _commit(connection)

    def _beginning(self, tenants: str) -> bytes:
        """Return the commands that begin a transaction. They set its tenants without a round trip of their own."""
        preamble = "" if self._preamble is None else self._preamble % {"tenants": sql.quote(tenants)}
        return f"BEGIN; {preamble}".encode()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Run the statements inside as a part of the transaction that an error undoes by itself."""
        transaction = current_transaction(self)
        if not isinstance(transaction, _Transaction):
            raise RuntimeError("A savepoint is part of a transaction")
        connection = transaction.connection
        with _translating():
            await _run(connection, b"SAVEPOINT apex")
        try:
            yield
            if transaction.has_failed:
                raise GeneralError(FAILED_TRANSACTION)
        except BaseException:
            if not connection.closed:
                with _translating():
                    await _run(connection, b"ROLLBACK TO apex")
                    await _run(connection, b"RELEASE apex")
                transaction.forget_tenants()
            raise
        with _translating():
            await _run(connection, b"RELEASE apex")

    @asynccontextmanager
    async def _connection(self, begin: bytes | None = None) -> AsyncIterator[Connection]:
        """Yield a connection of the pool, in a transaction with ``begin``. A lost connection is replaced before."""
        for _ in range(self.size + ATTEMPTS):
            async with self._borrowed() as connection:
                if await _is_usable(connection, begin):
                    yield connection
                    return
            await self.pool.check()
        raise _busy()

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        try:
            connection = await self.pool.getconn()
        except _POOL_ERRORS as error:
            log.warning("no connection to the database: %s", type(error).__name__)
            raise _busy() from None
        try:
            yield connection
        finally:
            await self.pool.putconn(connection)


def _is_cut(connection: Connection) -> bool:
    """Return True if the server has closed an idle connection. Nothing is sent."""
    try:
        for _ in range(2):  # The server's notice comes first, then the end of the connection.
            connection.pgconn.consume_input()
            connection.pgconn.is_busy()
    except psycopg.OperationalError:
        return True
    return connection.closed


async def _is_usable(connection: Connection, begin: bytes | None) -> bool:
    """Return False if the connection was lost before its first statement, or at the ``BEGIN``."""
    if _is_cut(connection):
        return False
    try:
        if begin is not None:
            await _run(connection, begin)
    except psycopg.Error as error:
        if not _may_repeat(error, connection):
            raise _translated(error) from None
        return False
    return True


def _busy() -> Unavailable:
    return Unavailable("The database is busy or cannot be reached: try again")


def _unknown() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The outcome is unknown: the connection to the database broke before it answered, and the change may be stored"
        " or not. Get the record before you send it again, or send changes with an Idempotency-Key: then repeating them"
        " is safe"
    )


def _may_repeat(error: psycopg.Error, connection: Connection) -> bool:
    """Return True if a read may be repeated: the connection was lost, and did not time out."""
    return connection.closed and not isinstance(error, _Silent)


def _failure(error: psycopg.Error, connection: Connection, writes: bool) -> Exception:
    """Map the error of a statement that is its own transaction or ends one."""
    if writes and connection.closed:
        log.warning("a connection to the database was lost during a write", exc_info=error)
        return _unknown()
    return _translated(error)


def _settings(role: str | None, seconds: float, lock_seconds: float = 0) -> sql.Composed:
    """Return the statement that prepares a session. As startup options PgBouncer would refuse or drop the settings."""
    settings = {
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": f"{int(seconds * 1000)}ms",
        "lock_timeout": f"{int(lock_seconds * 1000)}ms",
    }
    if role is not None:
        settings["role"] = role
    calls = (sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in settings.items())
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


async def _pid(connection: Connection) -> int:
    """Return the process that serves the connection. A proxy does not tell its clients at the start."""
    cursor = await connection.execute("SELECT pg_backend_pid()")
    return int((await cursor.fetchall())[0][0])


async def _are_sessions(one: Connection, other: Connection) -> bool:
    """Return True if each connection has its own process, even after the other one has used a process of the proxy."""
    before = await _pid(one)
    if before == await _pid(other):
        return False
    async with other.transaction():
        return before != await _pid(other) and before == await _pid(one)


async def _execute(connection: Connection, text: str, values: Values, prepared: bool = True) -> Cursor:
    async with _answering(connection):
        return await connection.execute(text.encode(), values, prepare=prepared)


async def _execute_measured(
    connection: Connection, preamble: str | None, text: str, values: Values, prepared: bool
) -> tuple[Cursor, float]:
    """Run a statement in a transaction. Return its cursor and the seconds that it took by PostgreSQL's clock."""
    async with _answering(connection):
        async with connection.pipeline():
            if preamble is not None:
                await connection.execute(preamble.encode(), {"tenants": current_tenants.get()}, prepare=prepared)
            before = await connection.execute(CLOCK.encode(), prepare=prepared)
            cursor = await connection.execute(text.encode(), values, prepare=prepared)
            after = await connection.execute(CLOCK.encode(), prepare=prepared)
        began, ended = [float((await one.fetchall())[0][0]) for one in (before, after)]
        return cursor, ended - began


async def _rows(cursor: Cursor, header: bool) -> Tuples:
    rows = await cursor.fetchall() if cursor.description else ()
    return [[column.name for column in cursor.description or ()], *rows] if header else rows


@asynccontextmanager
async def _answering(connection: Connection) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError:
        # The server would have ended the statement by now, so the network is silent.
        await connection.close()
        raise _Silent(f"no answer within {ANSWER_SECONDS} seconds") from None


async def _run(connection: Connection, command: bytes) -> None:
    async with _answering(connection):
        await connection.execute(command, prepare=False)


async def _commit(connection: Connection) -> None:
    try:
        await _run(connection, b"COMMIT")
    except psycopg.Error as error:
        raise _failure(error, connection, writes=True) from None


async def _roll_back(connection: Connection) -> None:
    try:
        await _run(connection, b"ROLLBACK")
    except psycopg.Error as error:
        log.debug("a connection was lost before its transaction was rolled back", exc_info=error)
        await connection.close()


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _translated(error) from None


def _translated(error: psycopg.Error) -> Exception:
    """Map an error of the driver to the one for callers."""
    rule = _RULES.get(type(error))
    if rule is not None:
        column = error.diag.column_name
        return Violation(rule, error.diag.constraint_name, (column,) if column else ())
    if isinstance(error, psycopg.DataError):
        return Violation("data")
    if isinstance(error, errors.InsufficientPrivilege):
        log.error("row-level security refused a statement", exc_info=error)
        return Forbidden("The record is outside of what you may touch")
    if isinstance(error, _CROSSED):
        return Conflict("The record was changed by others at the same time: try again")
    if isinstance(error, errors.UndefinedColumn | errors.UndefinedTable):
        log.error(OUTDATED, exc_info=error)
        return GeneralError(OUTDATED)
    log.error("PostgreSQL refused a statement: %s", error.sqlstate, exc_info=error)
    if isinstance(error, psycopg.OperationalError) or error.sqlstate in STALE:
        return Unavailable("The database cannot answer now: try again")
    return GeneralError("The database refused the request")


def _address(url: str) -> str:
    parts = conninfo_to_dict(url)
    return f"{parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
