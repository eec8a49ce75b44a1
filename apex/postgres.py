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

from apex.encoding import decode, encode
from apex.errors import Conflict, Forbidden, GeneralError, Unavailable
from apex.executor import FAILED_UNIT, Kind, Tuples, Values, Violation
from apex.lanes import LANES, Command, Lane, LaneLost, Lanes, LanesFull, error_of
from apex.tenant import SETTING, reach

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

log = logging.getLogger("apex")

POOL_SIZE = 10
POOL_SECONDS = 5
QUEUE = 1_000
STATEMENT_SECONDS = 30
LANE_SECONDS = 3
"""What takes longer on a lane is ended there, and done again on a connection of its own."""
ANSWER_SECONDS = STATEMENT_SECONDS + 5
ATTEMPTS = 3

REACH = f"SELECT set_config('{SETTING}', %(reach)s, true)"
GRANT = "run 'apex migrate', and grant the role to the user"

_KINDS: dict[type[psycopg.Error], Kind] = {
    errors.UniqueViolation: "unique",
    errors.ForeignKeyViolation: "foreign key",
    errors.NotNullViolation: "not null",
    errors.CheckViolation: "check",
}
_CROSSED = (errors.SerializationFailure, errors.DeadlockDetected)
_CHANGED = (errors.FeatureNotSupported, errors.InvalidSqlStatementName)
"""The tables, or the server, are not those that a statement was prepared for."""
_APART = (errors.QueryCanceled, errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)
"""Ended before it was done: nothing is stored, and a connection of its own may do better."""
_POOL = (PoolTimeout, PoolClosed, TooManyRequests)


class _Adapters:
    """How values travel on the lanes, whose results are not those of psycopg's cursors."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.connection = None
        set_json_loads(decode, self)
        set_json_dumps(encode, self)


_REACH = Command(REACH)
_transformer = Transformer(_Adapters())


def _dumped(values: list[Any]) -> Any:
    return _transformer.dump_sequence(values, [PyFormat.TEXT] * len(values))


def _loaded(result: PGresult) -> Tuples:
    _transformer.set_pgresult(result)
    return _transformer.load_rows(0, result.ntuples, tuple)


class PostgresExecutor:
    """Runs statements on ``lanes`` and on a pool of ``size`` connections; see ``apex.executor.Executor``.

    Units of work, slow statements and those that are planned anew for each call run on the pool, without lanes all do.
    A statement that crosses another one (serialization failure, deadlock) is tried three times; one that only reads
    is tried again on another connection when its own is lost. With a ``role`` statements run as that role, and each
    transaction knows the ``reach`` of the call it belongs to.
    """

    dialect = "postgresql"

    def __init__(self, url: str, size: int = POOL_SIZE, role: str | None = None, lanes: int = LANES) -> None:
        self.url, self.size, self.role = url, size, role
        self.pool = _pool(url, size, role)
        self.lanes = Lanes(self._connect_lane, lanes)
        self._run = _execute if role is None else _execute_within_reach
        self._held: ContextVar[_Unit | None] = ContextVar("held", default=None)

    async def open(self) -> None:
        """Raises Unavailable when the server does not answer, or does not let its user act as the role."""
        try:
            probe = await psycopg.AsyncConnection.connect(self.url, connect_timeout=POOL_SECONDS)
            async with probe:
                if self.role is not None:
                    await probe.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))
        except (errors.InvalidParameterValue, errors.InsufficientPrivilege):
            raise Unavailable(f"The database does not let its user act as '{self.role}': {GRANT}") from None
        except psycopg.Error as error:
            log.debug("connecting failed", exc_info=error)
            raise Unavailable(f"The database {_address(self.url)} cannot be reached") from None
        self.pool = _pool(self.url, self.size, self.role)
        await self.pool.open()
        await self.lanes.open()

    async def close(self) -> None:
        await self.lanes.close()
        await self.pool.close()

    async def fetch(self, text: str, values: Values, writes: bool = False, prepared: bool = True) -> Tuples:
        unit = self._held.get()
        if unit is not None and unit.open:
            with _translating():
                return await unit.execute(text, values, prepared)
        if prepared and (result := await self._fetch_on_lane(text, values, writes)) is not None:
            return _loaded(result)
        for _ in range(ATTEMPTS - 1):
            async with self._connection() as connection:
                try:
                    return await self._run(connection, text, values, prepared)
                except psycopg.Error as error:
                    if not isinstance(error, _CROSSED) and (writes or not connection.closed):
                        raise _translated(error) from None
        async with self._connection() as connection:
            with _translating():
                return await self._run(connection, text, values, prepared)

    async def _fetch_on_lane(self, text: str, values: Values, writes: bool) -> PGresult | None:
        """The result, or None where the pool has to do it: no lane is there, or the statement would hold it up."""
        command = self.lanes.command(text)
        failure: psycopg.Error | None = None
        for _ in range(ATTEMPTS):
            lane = self._lane(command)
            if lane is None:
                return None
            try:
                result = await lane.send(self._steps(command, values))
            except LaneLost:
                if writes:
                    raise Unavailable("The database cannot answer now: try again") from None
                return None
            failure = error_of(result)
            if failure is None:
                return result
            if isinstance(failure, _APART):
                return None
            if isinstance(failure, _CHANGED):
                lane.forget(command)
            elif not isinstance(failure, _CROSSED):
                break
        raise _translated(failure or psycopg.Error()) from None

    def _lane(self, command: Command) -> Lane | None:
        try:
            return self.lanes.pick(command)
        except LanesFull:
            raise _busy() from None

    def _steps(self, command: Command, values: Values) -> list[tuple[Command, Any]]:
        step = (command, _dumped([values[name] for name in command.names]))
        return [step] if self.role is None else [(_REACH, [reach().encode()]), step]

    async def _connect_lane(self) -> Connection:
        options = _options(self.role, LANE_SECONDS)
        return await psycopg.AsyncConnection.connect(self.url, options=options, connect_timeout=POOL_SECONDS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One unit of work; inside another one it is part of that."""
        outer = self._held.get()
        if outer is not None and outer.open:
            yield
            return
        async with self._connection() as connection:
            unit = _Unit(connection, self.role is not None)
            token = self._held.set(unit)
            try:
                with _translating():
                    async with connection.transaction():
                        yield
                        if connection.info.transaction_status == TransactionStatus.INERROR:
                            raise GeneralError(FAILED_UNIT)
            finally:
                unit.open = False
                self._held.reset(token)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            connection = await self.pool.getconn()
        except _POOL as error:
            log.warning("no connection to the database: %s", type(error).__name__)
            raise _busy() from None
        try:
            yield connection
        finally:
            await self.pool.putconn(connection)
            if connection.closed:
                # Where one was lost, the others may be too: let the next caller find living ones.
                await self.pool.check()


class _Unit:
    """A unit of work on a connection. A task that was started inside and outlives it works for itself from then on."""

    def __init__(self, connection: Connection, sealed: bool) -> None:
        self.connection, self.sealed = connection, sealed
        self.open = True
        self._reach: str | None = None
        self._turn = asyncio.Lock()

    async def execute(self, text: str, values: Values, prepared: bool) -> Tuples:
        async with self._turn:
            if self.sealed and self._reach != reach():
                await _execute(self.connection, REACH, {"reach": reach()})
                self._reach = reach()
            return await _execute(self.connection, text, values, prepared)


def _busy() -> Unavailable:
    return Unavailable("The database is busy or cannot be reached: try again")


def _pool(url: str, size: int, role: str | None) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(
        url,
        min_size=min(2, size),
        max_size=size,
        max_waiting=QUEUE,
        timeout=POOL_SECONDS,
        open=False,
        configure=_configure,
        kwargs={"autocommit": True, "options": _options(role, STATEMENT_SECONDS)},
    )


def _options(role: str | None, seconds: int) -> str:
    settings = {"timezone": "UTC", "jit": "off", "statement_timeout": f"{seconds}s"}
    if role is not None:
        settings["role"] = role
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


async def _configure(connection: Connection) -> None:
    set_json_loads(decode, connection)
    set_json_dumps(encode, connection)


async def _execute(connection: Connection, text: str, values: Values, prepared: bool = True) -> Tuples:
    async with _answering(connection):
        return await _rows(await connection.execute(text.encode(), values, prepare=prepared))


async def _execute_within_reach(connection: Connection, text: str, values: Values, prepared: bool) -> Tuples:
    """The reach and the statement in one round trip, which is their transaction."""
    async with _answering(connection):
        async with connection.pipeline():
            await connection.execute(REACH.encode(), {"reach": reach()}, prepare=True)
            cursor = await connection.execute(text.encode(), values, prepare=prepared)
        return await _rows(cursor)


async def _rows(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> Tuples:
    return await cursor.fetchall() if cursor.description else ()


@asynccontextmanager
async def _answering(connection: Connection) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError:
        # The server would have ended the statement by now: the network is silent.
        await connection.close()
        raise Unavailable("The database does not answer: try again") from None


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
    if isinstance(error, psycopg.OperationalError):
        return Unavailable("The database cannot answer now: try again")
    return GeneralError("The database refused the request")


def _address(url: str) -> str:
    parts = conninfo_to_dict(url)
    return f"{parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
