"""A few PostgreSQL connections in libpq's pipeline mode, which all calls share.

The statements of a call go out as one group that ends with a sync. The group is their transaction. It takes one round
trip, waits for no connection, and needs no BEGIN and COMMIT. Many groups are in flight at once, and their results come
back in order.

A group does not wait for the groups of other calls, but PostgreSQL runs them one after the other. Slow statements
(``apex.sql.drivers.slow``) would hold up the groups behind them, so they run on connections of their own.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import pq

from apex.cache import BoundedDict
from apex.callbacks import Backoff, end_tasks
from apex.sql.drivers.slow import Timing

log: logging.Logger = logging.getLogger("apex")

CONNECTIONS = 4
IN_FLIGHT = 512
"""The most groups in flight on one connection."""

PREPARED = 256
"""The most statements that a connection keeps prepared."""

QUICK_SECONDS = 0.02
"""A statement that takes so long by PostgreSQL's clock holds up others."""

LATEST = 64
"""A statement that has most of so many latest groups does not count as slow: it would mostly hold up itself."""

SILENT_SECONDS = 5
"""Seconds without an answer after which a connection is given up. The server ends its statements before."""

WATCH_SECONDS = 0.5

COMMANDS = 4_096
"""The most statements whose form in the protocol is kept."""

STALE = {"0A000", "26000"}
"""SQL states of a prepared statement that no longer fits: the tables or the server have changed."""

SYNC, FATAL, ABORTED = pq.ExecStatus.PIPELINE_SYNC, pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED

_MEASURABLE = re.compile(r"\s*(?:SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.I)
_PLACEHOLDER = re.compile(r"%(?:%|\((\w+)\)s)")

Values = Sequence[bytes | bytearray | memoryview | None]
Connection = psycopg.AsyncConnection[Any]
Connect = Callable[[], Awaitable[Connection]]


class PipelineLost(Exception):
    """The connection broke while a group was in flight. Nobody knows if the server has carried the group out."""


class PipelineFull(Exception):
    """Every connection has as many groups in flight as it may have."""


class Command:
    """A statement in the form of the protocol: ``%(name)s`` is ``$1``, and the same name has the same number.

    A measurement adds statements, so statements that must run alone, such as ``VACUUM``, are not ``measurable``.
    """

    __slots__ = ("measurable", "names", "text", "timing")

    def __init__(self, text: str) -> None:
        numbers: dict[str, int] = {}

        def number(match: re.Match[str]) -> str:
            return "%" if match[1] is None else f"${numbers.setdefault(match[1], len(numbers) + 1)}"

        self.text: bytes = _PLACEHOLDER.sub(number, text).encode()
        self.names: tuple[str, ...] = tuple(numbers)
        self.measurable: bool = _MEASURABLE.match(text) is not None
        self.timing: Timing = Timing(QUICK_SECONDS)


Steps = Sequence[tuple[Command, Values]]

CLOCK = "SELECT extract(epoch FROM clock_timestamp())::text AS apex_clock"
_CLOCK: tuple[Command, Values] = (Command(CLOCK), ())


@dataclass(slots=True, eq=False)
class _Group:
    """Commands that are sent together. The result of ``command``, the last one, is the answer.

    ``is_new`` is True if the group prepares a command. ``clocks`` are PostgreSQL's times before and after the command,
    if it is measured.
    """

    command: Command
    steps: Steps
    answer: asyncio.Future[pq.abc.PGresult]
    sent_at: float
    is_new: bool
    clocks: list[float] | None = None
    result: pq.abc.PGresult | None = None
    failed: pq.abc.PGresult | None = None


@dataclass(slots=True)
class Counts:
    """Counts since the start: answered groups, groups with an error, reconnections, and statements found to be slow."""

    groups: int = 0
    errors: int = 0
    reconnects: int = 0
    set_apart: int = 0


class PipelineConnection:
    """One connection in pipeline mode. When it breaks, it reports that to its pipeline once."""

    def __init__(self, connection: Connection, pipeline: Pipeline) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.connection = connection
        self.pipeline: Pipeline = pipeline
        self.pg: Any = connection.pgconn
        self.waiting: deque[_Group] = deque()
        self.heard_at: float = 0.0
        self._prepared_names: dict[bytes, bytes] = {}
        self._prepared_count = 0
        self._flushing = self._writing = False
        self.pg.nonblocking = 1
        self.pg.enter_pipeline_mode()
        self.socket: int = self.pg.socket
        self.loop.add_reader(self.socket, self.read)

    def send(self, steps: Steps) -> asyncio.Future[pq.abc.PGresult]:
        """Send commands as one group. The answer is the result of the last command, or of the first that fails.

        Awaiting the answer raises PipelineLost if the connection breaks.
        """
        answer: asyncio.Future[pq.abc.PGresult] = self.loop.create_future()
        prepared_before, now, command = self._prepared_count, self.loop.time(), steps[-1][0]
        clocks: list[float] | None = None
        if command.timing.is_suspect and command.measurable and command.timing.is_to_be_measured(now):
            steps, clocks = [*steps[:-1], _CLOCK, steps[-1], _CLOCK], []
        try:
            for step, values in steps:
                name = self._prepared_names.get(step.text)
                self.pg.send_query_prepared(name or self._prepare(step), values)
            self.pg.pipeline_sync()
        except psycopg.Error as error:
            self.end(error)
            answer.set_exception(PipelineLost())
            return answer
        is_new = self._prepared_count != prepared_before
        self.waiting.append(_Group(command, steps, answer, now, is_new, clocks))
        if not self._flushing:
            # One flush sends everything that calls have added in this turn of the loop.
            self._flushing = True
            self.loop.call_soon(self._flush)
        return answer

    def end(self, error: Exception | None = None) -> None:
        """Close the connection. The groups in flight are lost."""
        if self.pg is None:
            return
        self.pg = None
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self.connection.pgconn.finish()
        waiting, self.waiting = self.waiting, deque()
        for group in waiting:
            if not group.answer.done():
                group.answer.set_exception(PipelineLost())
        if error is not None:
            log.warning("a connection to the database was lost: %s", error)
        self.pipeline.replace(self)

    @property
    def silence(self) -> float:
        """The seconds for which the oldest group has waited without any answer from the server."""
        return self.loop.time() - max(self.heard_at, self.waiting[0].sent_at) if self.waiting else 0.0

    def _prepare(self, command: Command) -> bytes:
        if len(self._prepared_names) >= PREPARED:
            self._close_prepared(next(iter(self._prepared_names)))
        self._prepared_count += 1
        name = self._prepared_names[command.text] = b"apex%d" % self._prepared_count
        self.pg.send_prepare(name, command.text)
        return name

    def _close_prepared(self, text: bytes) -> None:
        name = self._prepared_names.pop(text, None)
        if name is not None:
            self.pg.send_close_prepared(name)

    def _flush(self) -> None:
        self._flushing = False
        if self.pg is None:
            return
        try:
            unsent = self.pg.flush()
        except psycopg.Error as error:
            self.end(error)
            return
        if unsent and not self._writing:
            self.loop.add_writer(self.socket, self._flush)
        elif self._writing and not unsent:
            self.loop.remove_writer(self.socket)
        self._writing = bool(unsent)

    def read(self) -> None:
        """Read what the server has sent, and answer the groups that are complete."""
        try:
            self.pg.consume_input()
            while self.waiting and not self.pg.is_busy():
                self._take(self.pg.get_result())
            if not self.waiting:
                self.pg.is_busy()  # This also reads the server's notice that it closes the connection.
        except psycopg.Error as error:
            self.end(error)
        else:
            if self.pg.status == pq.ConnStatus.BAD:
                self.end(ConnectionError("closed by the server"))

    def _take(self, result: pq.abc.PGresult | None) -> None:
        if result is None:
            if self.pg.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("the server does not follow the protocol")
            return
        status, group = result.status, self.waiting[0]
        if status == SYNC:
            self._finish(self.waiting.popleft())
        elif status == FATAL:
            group.failed = group.failed or result
        elif group.clocks is not None and result.nfields and result.fname(0) == b"apex_clock":
            group.clocks.append(float(result.get_value(0, 0) or 0))
        elif status != ABORTED:
            group.result = result

    def _finish(self, group: _Group) -> None:
        pipeline, self.heard_at = self.pipeline, self.loop.time()
        if group.clocks is None:
            group.command.timing.add_answer(self.heard_at - group.sent_at)
            pipeline.latest.append(group.command)
        elif len(group.clocks) == 2:
            pipeline.add_run(group.command, group.clocks[1] - group.clocks[0])
        pipeline.counts.groups += 1
        if group.failed is not None:
            pipeline.counts.errors += 1
            if group.is_new or sql_state(group.failed) in STALE:
                # Nobody knows how far the server has come. The commands are prepared again when they are sent again.
                for command, _ in group.steps:
                    self._close_prepared(command.text)
        if not group.answer.done():
            group.answer.set_result(group.failed or group.result)  # type: ignore[arg-type]


class Pipeline:
    """The connections in pipeline mode of one database. A connection that is lost is connected again."""

    def __init__(self, connect: Connect, size: int = CONNECTIONS) -> None:
        self.connect = connect
        self.size = size
        self.connections: list[PipelineConnection] = []
        self.commands: BoundedDict[str, Command] = BoundedDict(COMMANDS)
        self.counts: Counts = Counts()
        self.latest: deque[Command] = deque(maxlen=LATEST)
        self._connecting: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._is_open = False

    async def open(self) -> None:
        """Connect. If a connection fails, it is tried again in the background."""
        self._is_open = True
        connections = (self.connect() for _ in range(self.size))
        for connected in await asyncio.gather(*connections, return_exceptions=True):
            if isinstance(connected, psycopg.AsyncConnection):
                self.connections.append(PipelineConnection(connected, self))
            elif isinstance(connected, (psycopg.Error, TimeoutError)):
                self._connect_again()
            else:
                raise connected
        self._watch()

    async def close(self) -> None:
        """Take no more groups, wait for those in flight, and close the connections."""
        self._is_open = False
        if self._watching is not None:
            self._watching.cancel()
        await end_tasks(self._connecting)
        connections, self.connections = self.connections, []
        waiting = [group.answer for one in connections for group in one.waiting if not group.answer.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=SILENT_SECONDS)
        for connection in connections:
            connection.end()

    def command(self, text: str) -> Command:
        """Return a statement in the form of the protocol."""
        command = self.commands.get(text)
        if command is None:
            command = self.commands[text] = Command(text)
        return command

    def pick(self, command: Command) -> PipelineConnection | None:
        """Return the connection with the fewest groups in flight.

        None, if all connections are lost or the command is slow. Raises PipelineFull.
        """
        if not self.connections:
            return None
        timing = command.timing
        if timing.slow_until and timing.is_slow(self.connections[0].loop.time()):
            return None
        best = min(self.connections, key=_load)
        if len(best.waiting) >= IN_FLIGHT:
            raise PipelineFull
        return best

    def add_run(self, command: Command, seconds: float) -> None:
        """Note how long a command took by PostgreSQL's clock, in the pipeline or on another connection."""
        self.latest.append(command)
        is_usual = sum(one is command for one in self.latest) * 2 > LATEST
        if command.timing.add_run(seconds, asyncio.get_running_loop().time(), never_slow=is_usual):
            log.info("a statement is slow, and runs apart for a while: %s", command.text[:200])
            self.counts.set_apart += 1

    def metrics(self) -> Mapping[str, int]:
        """Return the ``size``, the number of open ``connections``, of groups ``in_flight``, and the ``Counts``.

        ``lanes`` is the former name of ``connections``.
        """
        opened = len(self.connections)
        now = {"size": self.size, "connections": opened, "lanes": opened}
        return now | {"in_flight": sum(map(_load, self.connections))} | asdict(self.counts)

    def replace(self, connection: PipelineConnection) -> None:
        """Connect again instead of a connection that was lost."""
        if self._is_open:
            self.connections.remove(connection)
            self._connect_again()

    def _connect_again(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _reconnect(self) -> None:
        backoff = Backoff()
        while True:
            try:
                self.connections.append(PipelineConnection(await self.connect(), self))
                self.counts.reconnects += 1
                return
            except (psycopg.Error, TimeoutError) as error:
                log.debug("connecting to the database failed", exc_info=error)
            await backoff.wait()

    def _watch(self) -> None:
        for connection in tuple(self.connections):
            if connection.silence > SILENT_SECONDS:
                connection.read()  # If this process stood still, the answer may have arrived.
            if connection.silence > SILENT_SECONDS:
                connection.end(TimeoutError("it does not answer"))
        self._watching = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch)


def sql_state(result: pq.abc.PGresult) -> str:
    """Return the SQL state of an error."""
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()


def _load(connection: PipelineConnection) -> int:
    return len(connection.waiting)
