"""SQLite through the standard library: WAL, a few reader threads, one writer, and a connection of the event loop.

To hand a statement to a thread takes longer than most statements do. So the event loop runs quick statements itself.
There nothing waits for a lock, and a statement that runs too long is interrupted and moves to a thread. Slow statements
(``apex.sql.drivers.slow``) go to a thread at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from time import thread_time
from typing import Any, TypeVar

from apex.cache import BoundedDict
from apex.encoding import decode, encode, merge
from apex.errors import GeneralError, Unavailable
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
from apex.sql.drivers.slow import Timing
from apex.transaction import Transaction, current_transaction

T = TypeVar("T")

log: logging.Logger = logging.getLogger("apex")

READERS = 4
BUSY_SECONDS = 5

QUICK_SECONDS = 0.002
"""The longest that a statement may hold the event loop.

A page of 25 with a total of some thousands takes a quarter of it. In a thread that page would not hold the loop. But it
would wait there for the processor, and it and all behind it would come later.
"""

INSTRUCTIONS = 1_000
"""Instructions of SQLite's machine between two looks at the clock. They take 50 to 200 microseconds."""

WRITES = 64
"""The first two of so many writes always go to the writer thread.

After a long log a write waits for the disk. The first of the two moves the log into the file, and the second begins the
log anew.
"""

STATEMENTS = 512
"""The most statements that a connection keeps prepared, and whose timing is kept."""

_RULES: dict[str, Rule] = {
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "SQLITE_CONSTRAINT_ROWID": "unique",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign key",
    "SQLITE_CONSTRAINT_NOTNULL": "not null",
    "SQLITE_CONSTRAINT_CHECK": "check",
    "SQLITE_MISMATCH": "data",
    "SQLITE_TOOBIG": "data",
}
_FILE_ERRORS = tuple(f"SQLITE_{code}" for code in ("BUSY", "LOCKED", "IOERR", "FULL", "CANTOPEN", "READONLY"))
"""Codes of errors that come from the file or its disk."""
_COLUMN = re.compile(r"\w+\.(\w+)")


class _Transaction(Transaction):
    """A transaction of the writer. After a failed statement it cannot be committed."""

    has_failed = False

    def run(self, function: Callable[[], T]) -> T:
        """Run a statement, and note if it fails."""
        try:
            return function()
        except Exception:
            self.has_failed = True
            raise


class LoopConnection:
    """The connection on which the event loop itself runs quick statements."""

    def __init__(self, path: str) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.connection: sqlite3.Connection = _connect(path)
        for pragma in ("busy_timeout=0", "wal_autocheckpoint=0"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.set_progress_handler(self._is_late, INSTRUCTIONS)
        self._late_at = 0.0
        self._stopwatch: _Stopwatch | None = None
        self._timings: BoundedDict[str, Timing] = BoundedDict(STATEMENTS)

    def run_together(self, statements: Statements) -> list[list[Any]] | None:
        """Return the rows of statements that are one transaction, as ``run`` does."""
        return self.run(statements[-1][0], {}, statements)

    def run(self, text: str, values: Values, together: Statements = ()) -> list[Any] | None:
        """Return the rows. None, if a thread has to run the statement, because it is slow or something is locked.

        Then nothing was done. Raises sqlite3.Error.
        """
        began = self.clock()
        timing = self._timings.get(text)
        if timing is None:
            timing = self._timings[text] = Timing(QUICK_SECONDS)
        if began < timing.slow_until:
            return None
        # The thread's clock costs a third of a small statement, so it is read only if the last run was late.
        stopwatch = self._stopwatch = _Stopwatch() if timing.is_suspect else None
        self._late_at = began + QUICK_SECONDS
        try:
            rows: list[Any] | None = (
                self._transact(together) if together else self.connection.execute(text, values).fetchall()
            )
        except sqlite3.OperationalError as error:
            if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_INTERRUPT", "SQLITE_BUSY")):
                raise
            rows, stopwatch = None, self._stopwatch
        passed = self.clock() - began
        if passed >= QUICK_SECONDS or timing.is_suspect or timing.slow_runs:
            timing.add_answer(passed)
        if stopwatch is not None and passed >= QUICK_SECONDS:
            timing.add_run(stopwatch.seconds(), began + passed)
        return rows

    def _transact(self, statements: Statements) -> list[list[Any]]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            found: list[list[Any]] = []
            for text, values in statements:
                found.append(self.connection.execute(text, values_after(found, values)).fetchall())
            self.connection.execute("COMMIT")
        finally:
            self.connection.rollback()  # After a commit this does nothing.
        return found

    def add_run(self, text: str, seconds: float) -> None:
        """Note how long a statement took in a thread. If it is found to be quick, it comes back to the loop."""
        timing, now = self._timings.get(text), self.clock()
        if timing is not None and timing.is_slow(now):
            timing.add_run(seconds, now)

    def _is_late(self) -> bool:
        """Return True to interrupt the statement. Time in which other processes had the processor does not count."""
        if self.clock() <= self._late_at:
            return False
        if self._stopwatch is None:
            self._stopwatch = _Stopwatch()
        return self._stopwatch.seconds() > QUICK_SECONDS


class _Stopwatch:
    """Measures the time of a statement: the processor time of its thread or, if it reads from the disk, all time."""

    __slots__ = ("began", "reads", "worked")

    def __init__(self) -> None:
        self.began, self.worked, self.reads = time.monotonic(), thread_time(), _count_reads()

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self.began if _count_reads() > self.reads else thread_time() - self.worked


def _count_reads() -> int:
    """Return how often this thread has read from the disk."""
    usage = getrusage(RUSAGE_THREAD)
    return usage.ru_inblock + usage.ru_majflt


def _measured(run: Callable[[], T]) -> tuple[T, float]:
    """Call a function. Return its result and the seconds that it took."""
    stopwatch = _Stopwatch()
    return run(), stopwatch.seconds()


class SQLiteExecutor:
    """Runs statements on a database file. The event loop waits for no lock, and not for long for the disk.

    It is opened before the first statement::

        executor = SQLiteExecutor("data/app.db")
        await executor.open()
    """

    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._loop_connection: LoopConnection | None = None
        self._write_count = 0
        self._turn = asyncio.Lock()
        self._new_threads()

    async def open(self) -> None:
        """Open the database. Raises Unavailable if the file or its folder cannot be written."""
        self._new_threads()
        try:
            await self._in(self._writer, self._connection)
            self._loop_connection = await self._in(self._readers, partial(LoopConnection, self.path))
        except (sqlite3.Error, OSError) as error:
            log.debug("opening %s failed", self.path, exc_info=error)
            raise Unavailable(f"The database file {self.path} cannot be opened and written: {error}") from None

    def _new_threads(self) -> None:
        """Make the pools of threads. A thread starts with its first work."""
        self._readers = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")

    async def close(self) -> None:
        """Wait for the statements in threads, and close all connections."""
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        if self._loop_connection is not None:
            self._loop_connection.connection.close()
            self._loop_connection = None

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        """Run a statement and return its rows. With ``header`` the names of the columns come first."""
        transaction = current_transaction(self)
        if isinstance(transaction, _Transaction):
            run = partial(self._run, text, values, header)
            return await self._in(self._writer, partial(transaction.run, run))
        if self._loop_connection is not None and not header and plan != "once" and (not writes or self._may_write()):
            try:
                rows = self._loop_connection.run(text, values)
            except sqlite3.Error as error:
                raise _translated(error) from None
            if rows is not None:
                return rows
        run = partial(self._run, text, values, header, plan == "once")
        if not writes:
            return await self._in_thread(self._readers, text, run)
        async with self._writing():
            return await self._in_thread(self._writer, text, run)

    async def fetch_together(self, statements: Statements) -> list[Tuples]:
        """Run quick statements that write as one transaction, and return the rows of each."""
        if current_transaction(self) is not None:
            found: list[Tuples] = []
            for text, values in statements:
                found.append(await self.fetch(text, values_after(found, values), writes=True))
            return found
        if self._loop_connection is not None and self._may_write():
            try:
                done = self._loop_connection.run_together(statements)
            except sqlite3.Error as error:
                raise _translated(error) from None
            if done is not None:
                return list(done)
        async with self._writing():
            return await self._in_thread(self._writer, statements[-1][0], partial(self._run_together, statements))

    async def _in_thread(self, threads: ThreadPoolExecutor, text: str, run: Callable[[], list[Any]]) -> list[Any]:
        """Run a statement in a thread, and measure it."""
        rows, seconds = await self._in(threads, partial(_measured, run))
        if self._loop_connection is not None:
            self._loop_connection.add_run(text, seconds)
        return rows

    def _may_write(self) -> bool:
        """Return True if the loop may do the next write, because no other write is going on."""
        if self._turn.locked():
            return False
        self._write_count += 1
        return self._write_count % WRITES > 1

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run the statements inside as one transaction. One inside another is part of it."""
        if current_transaction(self) is not None:
            yield
            return
        async with self._writing():
            transaction = _Transaction(self)
            end = self._rollback
            try:
                with transaction:
                    await self._in(self._writer, partial(self._run, "BEGIN IMMEDIATE", {}))
                    yield
                    end = partial(self._commit, transaction)
            finally:
                # The writer must be free again even if this task is cancelled. The next statement waits in its thread.
                await asyncio.shield(self._in(self._writer, end))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Run the statements inside as a part of the transaction that an error undoes by itself."""
        transaction = current_transaction(self)
        if not isinstance(transaction, _Transaction):
            raise RuntimeError("A savepoint is part of a transaction")
        had_failed, transaction.has_failed = transaction.has_failed, False
        await self._in(self._writer, partial(self._run, "SAVEPOINT apex", {}))
        try:
            yield
            if transaction.has_failed:
                raise GeneralError(FAILED_TRANSACTION)
        except BaseException:
            await asyncio.shield(self._in(self._writer, partial(self._run, "ROLLBACK TO apex", {})))
            transaction.has_failed = False
            raise
        finally:
            transaction.has_failed = transaction.has_failed or had_failed
            await asyncio.shield(self._in(self._writer, partial(self._run, "RELEASE apex", {})))

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Wait for the turn to write. Raises Unavailable if the writer before waits too long for another process."""
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable("The database is busy: try again") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _in(self, threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, function)

    def _run(self, text: str, values: Values, header: bool = False, once: bool = False) -> list[Any]:
        try:
            cursor = self._connection(once).execute(text, values)
            rows = cursor.fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from None
        return [[column[0] for column in cursor.description or ()], *rows] if header else rows

    def _run_together(self, statements: Statements) -> list[Tuples]:
        try:
            self._run("BEGIN IMMEDIATE", {})
            found: list[Tuples] = []
            for text, values in statements:
                found.append(self._run(text, values_after(found, values)))
            self._run("COMMIT", {})
        finally:
            self._rollback()
        return found

    def _commit(self, transaction: _Transaction) -> None:
        try:
            if transaction.has_failed:
                raise GeneralError(FAILED_TRANSACTION)
            self._run("COMMIT", {})
        finally:
            self._rollback()

    def _rollback(self) -> None:
        """Roll back. After a commit, or if the transaction never began, this does nothing."""
        self._connection().rollback()

    def _connection(self, once: bool = False) -> sqlite3.Connection:
        """Return the thread's connection. Statements that run ``once`` have one that keeps no statements prepared."""
        name = "connection_for_once" if once else "connection"
        connection: sqlite3.Connection | None = getattr(self._local, name, None)
        if connection is None:
            connection = _connect(self.path, 0 if once else STATEMENTS)
            setattr(self._local, name, connection)
            self._connections.append(connection)
        return connection


def _connect(path: str, statements: int = STATEMENTS) -> sqlite3.Connection:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=statements
    )
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.create_function("json_merge", 2, _json_merge, deterministic=True)
    connection.create_function("json_number", 1, _json_number, deterministic=True)
    connection.create_function("from_hex", 1, _from_hex, deterministic=True)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "case_sensitive_like=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _lower(text: Any) -> Any:
    """Return a text in lower case. SQLite's own ``lower`` changes ASCII only."""
    return text.lower() if isinstance(text, str) else text


def _json_merge(old: str | None, new: str | None) -> str | None:
    """Merge the keys of an object into another. SQLite's own ``json_patch`` would also merge the objects inside."""
    if new is None:
        return None
    return encode(merge(decode(old or "{}"), decode(new))).decode()


def _json_number(number: float | None) -> str:
    """Return a number as JSON. SQLite itself writes only 15 digits of a float."""
    return encode(number).decode()


def _from_hex(text: str | None) -> bytes | None:
    """Return the bytes of a text in hex, as ``unhex`` of later versions of SQLite does."""
    return None if text is None else bytes.fromhex(text)


_LACKS = re.compile(r"no such (column|table): |table \S+ has no column named ")


def _translated(error: sqlite3.Error) -> Exception:
    """Map an error of the driver to the one for callers."""
    name = getattr(error, "sqlite_errorname", "")
    if name in _RULES:
        # SQLite names a check by its name or, if it has none, by its text. It does not name a foreign key.
        check = str(error).partition(": ")[2] if name == "SQLITE_CONSTRAINT_CHECK" else None
        return Violation(_RULES[name], check, () if check else _COLUMN.findall(str(error)))
    if str(error) == "integer overflow":  # A sum has more than 64 bits.
        return Violation("data")
    if _LACKS.match(str(error)):
        log.error(OUTDATED, exc_info=error)
        return GeneralError(OUTDATED)
    log.error("SQLite refused a statement: %s", name, exc_info=error)
    if name.startswith(_FILE_ERRORS):
        return Unavailable("The database is busy or cannot be written: try again")
    return GeneralError("The database refused the request")
