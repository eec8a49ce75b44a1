"""SQLite through the standard library: WAL, a few reader threads, one writer, and a connection of the loop's own.

A thread costs more than most statements do. What is quick therefore runs on the loop, and is told apart by what it has
taken (``apex.sql.drivers.slow``); there nothing waits for a lock, and nothing runs for long.
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
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from time import thread_time
from typing import Any, TypeVar

from apex.cache import BoundedDict
from apex.encoding import decode, encode, merge
from apex.errors import GeneralError, Unavailable
from apex.sql.drivers.executor import FAILED_UNIT, Kind, Plan, Tuples, Values, Violation
from apex.sql.drivers.slow import Pace

T = TypeVar("T")

log = logging.getLogger("apex")

READERS = 4
BUSY_SECONDS = 5

QUICK_SECONDS = 0.002
"""A statement may hold the loop for so long: a page of 25 with a total of some thousands takes a quarter of it. In a
thread that page would not take the loop, but waits there for the processor and comes later, as do those behind it.
"""

INSTRUCTIONS = 1_000
"""Of SQLite's machine, between two looks at the clock: 50 to 200 microseconds."""

WRITES = 64
"""Of so many writes the first two go to the writer, whatever they take: what comes after a long log waits for the disk.
One moves the log into the file, and the other begins it anew.
"""

STATEMENTS = 512
"""Those that a connection keeps prepared, and whose pace is remembered."""

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
_ELSEWHERE = tuple(f"SQLITE_{code}" for code in ("BUSY", "LOCKED", "IOERR", "FULL", "CANTOPEN", "READONLY"))
"""Codes of errors that come from the file or its disk."""
_COLUMN = re.compile(r"\w+\.(\w+)")


class _Unit:
    """A unit of work. A task that was started inside and outlives it works for itself once it is no longer open."""

    def __init__(self) -> None:
        self.open = True
        self.failed = False

    def run(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except Exception:
            self.failed = True
            raise


class Inline:
    """The connection on which the loop itself runs what is quick."""

    def __init__(self, path: str) -> None:
        self.clock = time.monotonic
        self.connection = _connect(path)
        for pragma in ("busy_timeout=0", "wal_autocheckpoint=0"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.set_progress_handler(self._is_late, INSTRUCTIONS)
        self._late = 0.0
        self._use: _Use | None = None
        self._paces: BoundedDict[str, Pace] = BoundedDict(STATEMENTS)

    def run(self, text: str, values: Values) -> list[Any] | None:
        """None where it is a matter for the threads, and nothing was done: the statement is slow, or something is in
        its way. Raises sqlite3.Error.
        """
        began = self.clock()
        pace = self._paces.get(text)
        if pace is None:
            pace = self._paces[text] = Pace(QUICK_SECONDS)
        if began < pace.apart_until:
            return None
        # Reading the thread's clock costs a third of a small statement, so it is read only if the last run was late.
        use = self._use = _Use() if pace.suspected else None
        self._late = began + QUICK_SECONDS
        try:
            rows: list[Any] | None = self.connection.execute(text, values).fetchall()
        except sqlite3.OperationalError as error:
            if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_INTERRUPT", "SQLITE_BUSY")):
                raise
            rows, use = None, self._use
        passed = self.clock() - began
        if passed >= QUICK_SECONDS or pace.suspected or pace.slow:
            pace.answered(passed)
        if use is not None and passed >= QUICK_SECONDS:
            pace.took(use.seconds(), began + passed)
        return rows

    def apart(self, text: str) -> Pace | None:
        """Return the pace of a statement that is set apart, else None."""
        pace = self._paces.get(text)
        return pace if pace is not None and pace.is_apart(self.clock()) else None

    def _is_late(self) -> bool:
        """Return True to interrupt the statement. Time in which other processes had the processor does not count."""
        if self.clock() <= self._late:
            return False
        if self._use is None:
            self._use = _Use()
        return self._use.seconds() > QUICK_SECONDS


class _Use:
    """The time that a statement takes from now on: the processor time of its thread or, if it reads from the disk, all
    the time that passes.
    """

    __slots__ = ("began", "reads", "worked")

    def __init__(self) -> None:
        self.began, self.worked, self.reads = time.monotonic(), thread_time(), _reads()

    def seconds(self) -> float:
        return time.monotonic() - self.began if _reads() > self.reads else thread_time() - self.worked


def _reads() -> int:
    """Return how often this thread has read from the disk."""
    usage = getrusage(RUSAGE_THREAD)
    return usage.ru_inblock + usage.ru_majflt


def _timed(run: Callable[[], T]) -> tuple[T, float]:
    """Call a function. Return its result and the seconds that it took."""
    use = _Use()
    return run(), use.seconds()


class SQLiteExecutor:
    """Runs statements on a database file. The loop waits for no lock, and not for long for the disk."""

    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._inline: Inline | None = None
        self._written = 0
        self._turn = asyncio.Lock()
        self._unit: ContextVar[_Unit | None] = ContextVar("unit", default=None)
        self._start()

    async def open(self) -> None:
        """Open the database. Raises Unavailable when the file or its folder cannot be written."""
        self._start()
        try:
            await self._in(self._writer, self._connection)
            self._inline = await self._in(self._readers, partial(Inline, self.path))
        except (sqlite3.Error, OSError) as error:
            log.debug("opening %s failed", self.path, exc_info=error)
            raise Unavailable(f"The database file {self.path} cannot be opened and written: {error}") from None

    def _start(self) -> None:
        """The threads begin with their first work."""
        self._readers = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")

    async def close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        if self._inline is not None:
            self._inline.connection.close()
            self._inline = None

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        once = plan == "once"
        run = partial(self._run, text, values, header)
        unit = self._unit.get()
        if unit is not None and unit.open:
            return await self._in(self._writer, partial(unit.run, run))
        rows = None if header or once or (writes and not self._may_write()) else self._at_once(text, values)
        if rows is not None:
            return rows
        run = partial(run, once)
        if not writes:
            return await self._in_thread(self._readers, text, run)
        async with self._writing():
            return await self._in_thread(self._writer, text, run)

    async def _in_thread(self, threads: ThreadPoolExecutor, text: str, run: Callable[[], list[Any]]) -> list[Any]:
        """Run a statement in a thread. One that was set apart and is found quick comes back to the loop."""
        rows, seconds = await self._in(threads, partial(_timed, run))
        if self._inline is not None and (pace := self._inline.apart(text)) is not None:
            pace.took(seconds, self._inline.clock())
        return rows

    def _may_write(self) -> bool:
        """Whether the loop may do the next write, as nobody has the turn."""
        if self._turn.locked():
            return False
        self._written += 1
        return self._written % WRITES > 1

    def _at_once(self, text: str, values: Values) -> list[Any] | None:
        """On the loop; None where that cannot be."""
        try:
            return None if self._inline is None else self._inline.run(text, values)
        except sqlite3.Error as error:
            raise _translated(error) from None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One unit of work; inside another one it is part of that."""
        unit = self._unit.get()
        if unit is not None and unit.open:
            yield
            return
        async with self._writing():
            unit = _Unit()
            token = self._unit.set(unit)
            end = self._rollback
            try:
                await self._in(self._writer, partial(self._run, "BEGIN IMMEDIATE", {}))
                yield
                end = partial(self._commit, unit)
            finally:
                unit.open = False
                self._unit.reset(token)
                # Cancelled or not, the writer must be free again: what comes next waits behind this in its thread.
                await asyncio.shield(self._in(self._writer, end))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        unit = self._unit.get()
        if unit is None or not unit.open:
            raise RuntimeError("A savepoint is part of a transaction")
        failed, unit.failed = unit.failed, False
        await self._in(self._writer, partial(self._run, "SAVEPOINT apex", {}))
        try:
            yield
            if unit.failed:
                raise GeneralError(FAILED_UNIT)
        except BaseException:
            await asyncio.shield(self._in(self._writer, partial(self._run, "ROLLBACK TO apex", {})))
            unit.failed = False
            raise
        finally:
            unit.failed = unit.failed or failed
            await asyncio.shield(self._in(self._writer, partial(self._run, "RELEASE apex", {})))

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """The writer's turn. Those who wait behind a writer that waits for another process do not wait for ever."""
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

    def _commit(self, unit: _Unit) -> None:
        try:
            if unit.failed:
                raise GeneralError(FAILED_UNIT)
            self._run("COMMIT", {})
        finally:
            self._rollback()

    def _rollback(self) -> None:
        """Nothing after a commit, or when the transaction never began."""
        self._connection().rollback()

    def _connection(self, once: bool = False) -> sqlite3.Connection:
        """Return the thread's connection. Statements that run ``once`` have one that keeps no statements."""
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
    """SQLite's own ``lower`` knows ASCII alone."""
    return text.lower() if isinstance(text, str) else text


def _json_merge(old: str | None, new: str | None) -> str | None:
    """SQLite's own ``json_patch`` merges inner objects too."""
    if new is None:
        return None
    return encode(merge(decode(old or "{}"), decode(new))).decode()


def _json_number(number: float | None) -> str:
    """SQLite itself writes 15 digits of a float, which can be too few."""
    return encode(number).decode()


def _from_hex(text: str | None) -> bytes | None:
    """Return the bytes of a text in hex, as ``unhex`` of later versions of SQLite does."""
    return None if text is None else bytes.fromhex(text)


def _translated(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "")
    if name in _KINDS:
        # SQLite names a check by its name or, if it has none, by its text. It does not name a foreign key.
        check = str(error).partition(": ")[2] if name == "SQLITE_CONSTRAINT_CHECK" else None
        return Violation(_KINDS[name], check, () if check else _COLUMN.findall(str(error)))
    log.error("SQLite refused a statement: %s", name, exc_info=error)
    if name.startswith(_ELSEWHERE):
        return Unavailable("The database is busy or cannot be written: try again")
    return GeneralError("The database refused the request")
