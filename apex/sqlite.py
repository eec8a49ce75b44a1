"""SQLite through the standard library: WAL, a few reader threads, one writer."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from apex.errors import GeneralError, Unavailable
from apex.executor import Kind, Tuples, Values, Violation

T = TypeVar("T")

log = logging.getLogger("apex")

READERS = 4
BUSY_SECONDS = 5

_KINDS: dict[str, Kind] = {
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "SQLITE_CONSTRAINT_ROWID": "unique",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign key",
    "SQLITE_CONSTRAINT_NOTNULL": "not null",
    "SQLITE_CONSTRAINT_CHECK": "check",
    "SQLITE_MISMATCH": "data",
    "SQLITE_TOOBIG": "data",
}
_COLUMN = re.compile(r"\w+\.(\w+)")


class SQLiteExecutor:
    """Runs statements on a database file; see ``apex.executor.Executor``. The loop never waits for the disk."""

    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._turn = asyncio.Lock()
        self._in_transaction: ContextVar[bool] = ContextVar("in_transaction", default=False)

    async def open(self) -> None:
        """Raises Unavailable when the file or its folder cannot be used."""
        self._readers = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")
        try:
            await self._in(self._writer, self._connection)
        except sqlite3.Error as error:
            log.debug("opening %s failed", self.path, exc_info=error)
            raise Unavailable(f"The database file {self.path} cannot be opened") from None

    async def close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def fetch(self, text: str, values: Values, writes: bool = False) -> Tuples:
        run = partial(self._run, text, values)
        if self._in_transaction.get():
            return await self._in(self._writer, run)
        if not writes:
            return await self._in(self._readers, run)
        async with self._turn:
            return await self._in(self._writer, run)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One unit of work; inside another one it is part of that."""
        if self._in_transaction.get():
            yield
            return
        async with self._turn:
            await self._in(self._writer, partial(self._run, "BEGIN IMMEDIATE", {}))
            token = self._in_transaction.set(True)
            end = "ROLLBACK"
            try:
                yield
                end = "COMMIT"
            finally:
                self._in_transaction.reset(token)
                await asyncio.shield(self._in(self._writer, partial(self._run, end, {})))

    async def _in(self, threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, function)

    def _run(self, text: str, values: Values) -> list[Any]:
        try:
            return self._connection().execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self.path)
            self._connections.append(connection)
        return connection


def _connect(path: str) -> sqlite3.Connection:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.create_function("lower", 1, _lower, deterministic=True)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "case_sensitive_like=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _lower(text: Any) -> Any:
    """SQLite's own ``lower`` knows ASCII alone."""
    return text.lower() if isinstance(text, str) else text


def _translated(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "")
    if name in _KINDS:
        return Violation(_KINDS[name], columns=_COLUMN.findall(str(error)))
    log.error("SQLite refused a statement: %s", name, exc_info=error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN")):
        return Unavailable("The database is busy or cannot be written: try again")
    return GeneralError("The database refused the request")
