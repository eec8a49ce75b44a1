"""PostgreSQL through psycopg: statements on lanes, units of work and slow statements on a pool of connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
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
from apex.sql.drivers.executor import FAILED_UNIT, Kind, Plan, Tuples, Values, Violation
from apex.sql.drivers.pipeline import CLOCK, LANES, SILENT_SECONDS, STALE, Command, LaneLost, Lanes, LanesFull, error_of
from apex.tenant import SETTING, current_tenants

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]

log = logging.getLogger("apex")

POOL_SIZE = 10
POOL_SECONDS = 5
CONNECT_SECONDS = 5
CONNECTING: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": CONNECT_SECONDS,
    # Milliseconds after which unanswered data breaks the connection. Without it TCP retries after ever longer pauses.
    "tcp_user_timeout": SILENT_SECONDS * 1000,
}
QUEUE = 1_000
STATEMENT_SECONDS = 30
LANE_SECONDS, LANE_LOCK_SECONDS = 3, 0.1
"""What takes longer on a lane, or waits longer for a lock, is ended there, and done again on another connection."""
ANSWER_SECONDS = STATEMENT_SECONDS + 5
ATTEMPTS = 3

REACH = f"SELECT set_config('{SETTING}', %(reach)s, true)"
ONE_PLAN = "set_config('plan_cache_mode', 'force_generic_plan', true)"
NO_SESSIONS = "The proxy in front of the database must pool sessions: set pool_mode = session in PgBouncer"
GRANT = "run 'apex migrate', and grant the role to the user"

_KINDS: dict[type[psycopg.Error], Kind] = {
    errors.UniqueViolation: "unique",
    errors.ForeignKeyViolation: "foreign key",
    errors.NotNullViolation: "not null",
    errors.CheckViolation: "check",
}
_CROSSED = (errors.SerializationFailure, errors.DeadlockDetected)
_APART = (errors.QueryCanceled, errors.LockNotAvailable)
"""Ended before it was done: nothing is stored, and a connection of its own may do better."""
_POOL = (PoolTimeout, PoolClosed, TooManyRequests)


class _Silent(psycopg.OperationalError):
    """The database gave no answer in time, and its connection was given up."""


class _Adapters:
    """How values travel on the lanes, whose results are not those of psycopg's cursors."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.connection = None
        set_json_loads(decode, self)
        set_json_dumps(encode, self)


_transformer = Transformer(_Adapters())


def _dumped(values: list[Any]) -> Any:
    return _transformer.dump_sequence(values, [PyFormat.TEXT] * len(values))


def _loaded(result: PGresult) -> Tuples:
    _transformer.set_pgresult(result)
    return _transformer.load_rows(0, result.ntuples, tuple)


class _Pool(AsyncConnectionPool[Connection]):
    """A pool whose check discards connections that the server has closed, without a query."""

    @staticmethod
    async def check_connection(conn: Connection) -> None:
        if _is_cut(conn):
            raise psycopg.OperationalError("the server has closed the connection")


class PostgresExecutor:
    """Runs statements on ``lanes`` and on a pool of ``size`` connections; see ``apex.sql.drivers.executor.Executor``.

    Units of work, slow statements and those that are planned anew for each call run on the pool, without lanes all do.
    A statement that crosses another one (serialization failure, deadlock) is tried three times; one that only reads
    is tried again on another connection when its own is lost. With a ``role`` statements run as that role, and each
    transaction knows the ``reach`` of the call it belongs to.
    """

    dialect = "postgresql"

    def __init__(self, url: str, size: int = POOL_SIZE, role: str | None = None, lanes: int = LANES) -> None:
        self.url, self.size, self.role = url, size, role
        self.pool = self._new_pool()
        self.lanes = Lanes(self._connect_lane, lanes)
        self._seal = None if role is None else REACH
        self._held: ContextVar[_Unit | None] = ContextVar("held", default=None)

    async def open(self) -> None:
        """Raises Unavailable when the server does not answer, does not let its user act as the role, or is behind a
        proxy that does not pool sessions.
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
        await self.lanes.open()

    async def _probe(self) -> None:
        async with asyncio.timeout(CONNECT_SECONDS), await self._connect() as one:
            if await _pid(one) != one.info.backend_pid:
                async with await self._connect() as other:
                    if not await _are_sessions(one, other):
                        raise Unavailable(NO_SESSIONS)
                if self.role is not None:
                    # Whatever becomes of the proxy, no statement runs as somebody else.
                    self._seal = f"{REACH}, set_config('role', {sql.quote(self.role)}, true)"
            await one.execute(_settings(self.role, STATEMENT_SECONDS))

    async def close(self) -> None:
        await self.lanes.close()
        await self.pool.close()

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        prepared, unit = plan in ("kept", "one"), self._held.get()
        if unit is not None and unit.open:
            with _translating():
                return await _rows(await unit.execute(text, values, prepared), header)
        if prepared and not header and (result := await self._fetch_on_lane(text, values, writes, plan)) is not None:
            return _loaded(result)
        for _ in range(ATTEMPTS - 1):
            async with self._connection() as connection:
                try:
                    return await _rows(await self._execute_alone(connection, text, values, prepared), header)
                except psycopg.Error as error:
                    if error.sqlstate in STALE:
                        # Its session would fail again, and so may others that have prepared it.
                        await connection.close()
                        prepared = False
                    elif not isinstance(error, _CROSSED) and (writes or not _may_repeat(error, connection)):
                        raise _failure(error, connection, writes) from None
        async with self._connection() as connection:
            try:
                return await _rows(await self._execute_alone(connection, text, values, prepared), header)
            except psycopg.Error as error:
                raise _failure(error, connection, writes) from None

    async def _execute_alone(self, connection: Connection, text: str, values: Values, prepared: bool) -> Cursor:
        command = self.lanes.commands.get(text)
        if command is not None and command.can_be_timed and command.is_apart(asyncio.get_running_loop().time()):
            cursor, seconds = await _execute_timed(connection, self._seal, text, values, prepared)
            self.lanes.timed(command, seconds)
            return cursor
        if self._seal is None:
            return await _execute(connection, text, values, prepared)
        return await _execute_within_reach(connection, self._seal, text, values, prepared)

    async def _fetch_on_lane(self, text: str, values: Values, writes: bool, plan: Plan) -> PGresult | None:
        """The result, or None where the pool has to do it: no lane is there, or the statement would hold it up."""
        command = self.lanes.command(text)
        try:
            steps = self._steps(command, values, plan)
        except psycopg.Error as error:
            raise _translated(error) from None
        failure: psycopg.Error | None = None
        for _ in range(ATTEMPTS):
            try:
                lane = self.lanes.pick(command)
                if lane is None:
                    return None
                result = await lane.send(steps)
            except LanesFull:
                raise _busy() from None
            except LaneLost:
                if writes:
                    raise _unknown() from None
                return None
            failure = error_of(result)
            if failure is None:
                return result
            if isinstance(failure, errors.QueryCanceled):
                self.lanes.timed(command, LANE_SECONDS)
            if isinstance(failure, _APART):
                return None
            if not isinstance(failure, _CROSSED) and failure.sqlstate not in STALE:
                break
        if failure is None or failure.sqlstate in STALE:
            return None
        raise _translated(failure) from None

    def _steps(self, command: Command, values: Values, plan: Plan) -> list[tuple[Command, Any]]:
        step = (command, _dumped([values[name] for name in command.names]))
        if self._seal is not None:
            before = f"{self._seal}, {ONE_PLAN}" if plan == "one" else self._seal
            return [(self.lanes.command(before), [current_tenants.get().encode()]), step]
        return [(self.lanes.command(f"SELECT {ONE_PLAN}"), ()), step] if plan == "one" else [step]

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(self.url, **CONNECTING)

    async def _connect_lane(self) -> Connection:
        connection = await self._connect()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.execute(_settings(self.role, LANE_SECONDS, LANE_LOCK_SECONDS))
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
            # The pool's pauses double without limit: each attempt is given up after the second pause, and begun anew.
            reconnect_timeout=LONGEST_PAUSE,
            reconnect_failed=AsyncConnectionPool.check,
            kwargs=CONNECTING,
        )

    async def _configure(self, connection: Connection) -> None:
        set_json_loads(decode, connection)
        set_json_dumps(encode, connection)
        await connection.execute(_settings(self.role, STATEMENT_SECONDS))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One unit of work; inside another one it is part of that."""
        outer = self._held.get()
        if outer is not None and outer.open:
            yield
            return
        async with self._connection(begin=True) as connection:
            unit = _Unit(connection, self._seal)
            token = self._held.set(unit)
            try:
                yield
                if connection.info.transaction_status == TransactionStatus.INERROR:
                    raise GeneralError(FAILED_UNIT)
            except BaseException:
                await _roll_back(connection)
                raise
            else:
                await _commit(connection)
            finally:
                unit.open = False
                self._held.reset(token)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        unit = self._held.get()
        if unit is None or not unit.open:
            raise RuntimeError("A savepoint is part of a transaction")
        with _translating():
            await _say(unit.connection, b"SAVEPOINT apex")
        try:
            yield
            if unit.connection.info.transaction_status == TransactionStatus.INERROR:
                raise GeneralError(FAILED_UNIT)
        except BaseException:
            if not unit.connection.closed:
                with _translating():
                    await _say(unit.connection, b"ROLLBACK TO apex")
                    await _say(unit.connection, b"RELEASE apex")
                unit.forget_reach()
            raise
        with _translating():
            await _say(unit.connection, b"RELEASE apex")

    @asynccontextmanager
    async def _connection(self, begin: bool = False) -> AsyncIterator[Connection]:
        """Yield a connection of the pool, with ``begin`` in a transaction. One that was lost before is replaced."""
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
        except _POOL as error:
            log.warning("no connection to the database: %s", type(error).__name__)
            raise _busy() from None
        try:
            yield connection
        finally:
            await self.pool.putconn(connection)


class _Unit:
    """A unit of work on a connection. A task that was started inside and outlives it works for itself from then on."""

    def __init__(self, connection: Connection, seal: str | None) -> None:
        self.connection, self.seal = connection, seal
        self.open = True
        self._reach: str | None = None
        self._turn = asyncio.Lock()

    def forget_reach(self) -> None:
        """Have the reach set again before the next statement: undoing a savepoint has undone it."""
        self._reach = None

    async def execute(self, text: str, values: Values, prepared: bool) -> Cursor:
        async with self._turn:
            if self.seal is not None and self._reach != current_tenants.get():
                await _execute(self.connection, self.seal, {"reach": current_tenants.get()})
                self._reach = current_tenants.get()
            return await _execute(self.connection, text, values, prepared)


def _is_cut(connection: Connection) -> bool:
    """Return True if the server has closed an idle connection. Nothing is sent."""
    try:
        for _ in range(2):  # The server's last words, and the end.
            connection.pgconn.consume_input()
            connection.pgconn.is_busy()
    except psycopg.OperationalError:
        return True
    return connection.closed


async def _is_usable(connection: Connection, begin: bool) -> bool:
    """Return False if a connection was lost before its first statement, or with the ``BEGIN``."""
    if _is_cut(connection):
        return False
    try:
        if begin:
            await _say(connection, b"BEGIN")
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
    """Return True if a read may be repeated: its connection was lost, and not silent until the timeout."""
    return connection.closed and not isinstance(error, _Silent)


def _failure(error: psycopg.Error, connection: Connection, writes: bool) -> Exception:
    """Map the error of a statement that is its own transaction or ends one."""
    if writes and connection.closed:
        log.warning("a connection to the database was lost with a write under way", exc_info=error)
        return _unknown()
    return _translated(error)


def _settings(role: str | None, seconds: float, lock_seconds: float = 0) -> sql.Composed:
    """Makes a session what statements expect. They are no options of the start, which PgBouncer refuses or drops."""
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
    """The process that serves the connection; a proxy does not tell its clients at the start."""
    cursor = await connection.execute("SELECT pg_backend_pid()")
    return int((await cursor.fetchall())[0][0])


async def _are_sessions(one: Connection, other: Connection) -> bool:
    """Whether each connection has a process of its own, also when the other one has just used the proxy's."""
    before = await _pid(one)
    if before == await _pid(other):
        return False
    async with other.transaction():
        return before != await _pid(other) and before == await _pid(one)


async def _execute(connection: Connection, text: str, values: Values, prepared: bool = True) -> Cursor:
    async with _answering(connection):
        return await connection.execute(text.encode(), values, prepare=prepared)


async def _execute_within_reach(connection: Connection, seal: str, text: str, values: Values, prepared: bool) -> Cursor:
    """The reach and the statement in one round trip, which is their transaction."""
    async with _answering(connection), connection.pipeline():
        await connection.execute(seal.encode(), {"reach": current_tenants.get()}, prepare=prepared)
        return await connection.execute(text.encode(), values, prepare=prepared)


async def _execute_timed(
    connection: Connection, seal: str | None, text: str, values: Values, prepared: bool
) -> tuple[Cursor, float]:
    """Run a statement in a transaction. Return its cursor and the seconds that it took by PostgreSQL's clock."""
    async with _answering(connection):
        async with connection.pipeline():
            if seal is not None:
                await connection.execute(seal.encode(), {"reach": current_tenants.get()}, prepare=prepared)
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
        # The server would have ended the statement by now: the network is silent.
        await connection.close()
        raise _Silent(f"no answer within {ANSWER_SECONDS} seconds") from None


async def _say(connection: Connection, command: bytes) -> None:
    async with _answering(connection):
        await connection.execute(command, prepare=False)


async def _commit(connection: Connection) -> None:
    try:
        await _say(connection, b"COMMIT")
    except psycopg.Error as error:
        raise _failure(error, connection, writes=True) from None


async def _roll_back(connection: Connection) -> None:
    try:
        await _say(connection, b"ROLLBACK")
    except psycopg.Error as error:
        log.debug("a connection was lost with what was to be rolled back", exc_info=error)
        await connection.close()


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _translated(error) from None


def _translated(error: psycopg.Error) -> Exception:
    kind = _KINDS.get(type(error))
    if kind is not None:
        column = error.diag.column_name
        return Violation(kind, error.diag.constraint_name, (column,) if column else ())
    if isinstance(error, psycopg.DataError):
        return Violation("data")
    if isinstance(error, errors.InsufficientPrivilege):
        log.error("PostgreSQL held a statement back", exc_info=error)
        return Forbidden("The record is outside of what you may touch")
    if isinstance(error, _CROSSED):
        return Conflict("The record was changed by others at the same time: try again")
    log.error("PostgreSQL refused a statement: %s", error.sqlstate, exc_info=error)
    if isinstance(error, psycopg.OperationalError) or error.sqlstate in STALE:
        return Unavailable("The database cannot answer now: try again")
    return GeneralError("The database refused the request")


def _address(url: str) -> str:
    parts = conninfo_to_dict(url)
    return f"{parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
