"""PostgreSQL through psycopg's connection pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from apex.encoding import decode, encode
from apex.errors import Conflict, GeneralError, Unavailable
from apex.executor import FAILED_UNIT, Kind, Tuples, Values, Violation

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

log = logging.getLogger("apex")

POOL_SIZE = 10
POOL_SECONDS = 5
QUEUE = 1_000
STATEMENT_SECONDS = 30
ANSWER_SECONDS = STATEMENT_SECONDS + 5
ATTEMPTS = 3

_KINDS: dict[type[psycopg.Error], Kind] = {
    errors.UniqueViolation: "unique",
    errors.ForeignKeyViolation: "foreign key",
    errors.NotNullViolation: "not null",
    errors.CheckViolation: "check",
}
_CROSSED = (errors.SerializationFailure, errors.DeadlockDetected)
_POOL = (PoolTimeout, PoolClosed, TooManyRequests)


class PostgresExecutor:
    """Runs statements on a pool of connections; see ``apex.executor.Executor``.

    A statement that crosses another one (serialization failure, deadlock) is tried three times; one that only reads
    is tried again on another connection when its own is lost.
    """

    dialect = "postgresql"

    def __init__(self, url: str, size: int = POOL_SIZE) -> None:
        self.url, self.size = url, size
        self.pool = _pool(url, size)
        self._held: ContextVar[Sequence[Connection]] = ContextVar("held", default=())

    async def open(self) -> None:
        """Raises Unavailable when the server does not answer."""
        try:
            probe = await psycopg.AsyncConnection.connect(self.url, connect_timeout=POOL_SECONDS)
            await probe.close()
        except psycopg.Error as error:
            log.debug("connecting failed", exc_info=error)
            raise Unavailable(f"The database {_address(self.url)} cannot be reached") from None
        self.pool = _pool(self.url, self.size)
        await self.pool.open()

    async def close(self) -> None:
        await self.pool.close()

    async def fetch(self, text: str, values: Values, writes: bool = False) -> Tuples:
        if held := self._held.get():
            with _translating():
                return await _execute(held[0], text, values)
        for _ in range(ATTEMPTS - 1):
            async with self._connection() as connection:
                try:
                    return await _execute(connection, text, values)
                except psycopg.Error as error:
                    if not isinstance(error, _CROSSED) and (writes or not connection.closed):
                        raise _translated(error) from None
        async with self._connection() as connection:
            with _translating():
                return await _execute(connection, text, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One unit of work; inside another one it is part of that."""
        if self._held.get():
            yield
            return
        async with self._connection() as connection:
            # Emptied at the end: a task that was started inside and outlives the unit works for itself from then on.
            held = [connection]
            token = self._held.set(held)
            try:
                with _translating():
                    async with connection.transaction():
                        yield
                        if connection.info.transaction_status == TransactionStatus.INERROR:
                            raise GeneralError(FAILED_UNIT)
            finally:
                held.clear()
                self._held.reset(token)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            connection = await self.pool.getconn()
        except _POOL as error:
            log.warning("no connection to the database: %s", type(error).__name__)
            raise Unavailable("The database is busy or cannot be reached: try again") from None
        try:
            yield connection
        finally:
            await self.pool.putconn(connection)
            if connection.closed:
                # Where one was lost, the others may be too: let the next caller find living ones.
                await self.pool.check()


def _pool(url: str, size: int) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(
        url,
        min_size=min(2, size),
        max_size=size,
        max_waiting=QUEUE,
        timeout=POOL_SECONDS,
        open=False,
        configure=_configure,
        kwargs={"autocommit": True, "options": f"-c timezone=UTC -c jit=off -c statement_timeout={STATEMENT_SECONDS}s"},
    )


async def _configure(connection: Connection) -> None:
    set_json_loads(decode, connection)
    set_json_dumps(encode, connection)


async def _execute(connection: Connection, text: str, values: Values) -> Tuples:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            cursor = await connection.execute(text.encode(), values, prepare=True)
            return await cursor.fetchall() if cursor.description else ()
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
    if isinstance(error, _CROSSED):
        return Conflict("The record was changed by others at the same time: try again")
    log.error("PostgreSQL refused a statement: %s", error.sqlstate, exc_info=error)
    if isinstance(error, psycopg.OperationalError):
        return Unavailable("The database cannot answer now: try again")
    return GeneralError("The database refused the request")


def _address(url: str) -> str:
    parts = conninfo_to_dict(url)
    return f"{parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
