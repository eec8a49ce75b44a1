"""Lanes: a few PostgreSQL connections in libpq's pipeline mode, shared by all calls.

A call's statements go out as one group that ends with a sync, which is their transaction: one round trip, no connection
to wait for, no BEGIN and COMMIT. Many groups are under way at once; their results come back in order.

A group does not wait for those of other calls, but PostgreSQL runs them one after the other. Statements that take long
are therefore told apart (``apex.sql.drivers.slow``), and belong on a connection of their own.
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
from psycopg.errors import error_from_result

from apex.cache import BoundedDict
from apex.callbacks import Backoff, end_tasks
from apex.sql.drivers.slow import Pace

log = logging.getLogger("apex")

LANES = 4
IN_FLIGHT = 512
"""Groups under way on one lane; beyond them there is no room."""

PREPARED = 256
"""Statements that a lane keeps prepared."""

QUICK_SECONDS = 0.02
"""The time by PostgreSQL's clock from which a statement would hold up others."""

LATEST = 64
"""So many of the latest groups are counted. A statement that has most of them is not set apart: it would mostly hold
up itself."""

SILENT_SECONDS = 5
"""A lane that gives no answer for so long is given up. The server ends its statements before."""

WATCH_SECONDS = 0.5

COMMANDS = 4_096
"""Statements whose form for the lanes is remembered."""

STALE = {"0A000", "26000"}
"""SQL states that say: the tables, or the server, are not those that a statement was prepared for."""

SYNC, FATAL, ABORTED = pq.ExecStatus.PIPELINE_SYNC, pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED

_TIMED = re.compile(r"\s*(?:SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.I)
_PLACEHOLDER = re.compile(r"%(?:%|\((\w+)\)s)")

Values = Sequence[bytes | bytearray | memoryview | None]
Connection = psycopg.AsyncConnection[Any]
Connect = Callable[[], Awaitable[Connection]]


class LaneLost(Exception):
    """The connection broke while a group was under way: whether it was carried out is not known."""


class LanesFull(Exception):
    """No lane has room for another group."""


class Command(Pace):
    """A statement in the form of the protocol: ``%(name)s`` is ``$1``, the same name the same number.

    ``VACUUM`` and others that must run alone cannot be timed: timing adds statements.
    """

    __slots__ = ("can_be_timed", "names", "text")

    def __init__(self, text: str) -> None:
        super().__init__(QUICK_SECONDS)
        numbers: dict[str, int] = {}

        def numbered(match: re.Match[str]) -> str:
            return "%" if match[1] is None else f"${numbers.setdefault(match[1], len(numbers) + 1)}"

        self.text = _PLACEHOLDER.sub(numbered, text).encode()
        self.names = tuple(numbers)
        self.can_be_timed = _TIMED.match(text) is not None


Steps = Sequence[tuple[Command, Values]]

CLOCK = "SELECT extract(epoch FROM clock_timestamp())::text AS apex_clock"
_CLOCK: tuple[Command, Values] = (Command(CLOCK), ())


@dataclass(slots=True, eq=False)
class _Group:
    """Commands that are sent together. The result of ``command``, the last one, is the answer.

    ``new`` is True if the group prepares a command. ``clocks`` are PostgreSQL's times before and after the command,
    where it is timed.
    """

    command: Command
    steps: Steps
    answer: asyncio.Future[pq.abc.PGresult]
    sent: float
    new: bool
    clocks: list[float] | None = None
    result: pq.abc.PGresult | None = None
    failed: pq.abc.PGresult | None = None


@dataclass(slots=True)
class Counts:
    """What has happened on lanes: groups answered, how many of them with an error, lanes connected again, and how often
    a statement was set apart.
    """

    groups: int = 0
    errors: int = 0
    reconnects: int = 0
    set_apart: int = 0


class Lane:
    """One connection in pipeline mode. When it breaks, it tells its ``lanes`` once."""

    def __init__(self, connection: Connection, lanes: Lanes) -> None:
        self.loop = asyncio.get_running_loop()
        self.connection, self.lanes, self.counts = connection, lanes, lanes.counts
        self.pg: Any = connection.pgconn
        self.waiting: deque[_Group] = deque()
        self.heard = 0.0
        self._names: dict[bytes, bytes] = {}
        self._made = 0
        self._flushing = self._writing = False
        self.pg.nonblocking = 1
        self.pg.enter_pipeline_mode()
        self.socket: int = self.pg.socket
        self.loop.add_reader(self.socket, self.read)

    def send(self, steps: Steps) -> asyncio.Future[pq.abc.PGresult]:
        """Sends commands as one group. The answer is the result of the last one, or of the first that fails.

        Awaiting it raises LaneLost when the connection breaks.
        """
        answer: asyncio.Future[pq.abc.PGresult] = self.loop.create_future()
        known, now, command = self._made, self.loop.time(), steps[-1][0]
        clocks: list[float] | None = None
        if command.suspected and command.can_be_timed and command.is_to_be_timed(now):
            steps, clocks = [*steps[:-1], _CLOCK, steps[-1], _CLOCK], []
        try:
            for step, values in steps:
                self.pg.send_query_prepared(self._prepared(step), values)
            self.pg.pipeline_sync()
        except psycopg.Error as error:
            self.end(error)
            answer.set_exception(LaneLost())
            return answer
        self.waiting.append(_Group(command, steps, answer, now, self._made != known, clocks))
        if not self._flushing:
            # Once for all that calls have sent in this turn of the loop.
            self._flushing = True
            self.loop.call_soon(self._flush)
        return answer

    def end(self, error: Exception | None = None) -> None:
        """Breaks the connection; the groups under way are lost."""
        if self.pg is None:
            return
        self.pg = None
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self.connection.pgconn.finish()
        waiting, self.waiting = self.waiting, deque()
        for group in waiting:
            if not group.answer.done():
                group.answer.set_exception(LaneLost())
        if error is not None:
            log.warning("a connection to the database was lost: %s", error)
        self.lanes.lost(self)

    @property
    def silence(self) -> float:
        """For how many seconds the oldest group has waited without a word from the server."""
        return self.loop.time() - max(self.heard, self.waiting[0].sent) if self.waiting else 0.0

    def _prepared(self, command: Command) -> bytes:
        name = self._names.get(command.text)
        if name is None:
            if len(self._names) >= PREPARED:
                self._close(next(iter(self._names)))
            self._made += 1
            name = self._names[command.text] = b"apex%d" % self._made
            self.pg.send_prepare(name, command.text)
        return name

    def _close(self, text: bytes) -> None:
        name = self._names.pop(text, None)
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
        """Takes what the server has sent."""
        try:
            self.pg.consume_input()
            while self.waiting and not self.pg.is_busy():
                self._take(self.pg.get_result())
            if not self.waiting:
                self.pg.is_busy()  # Notices of the server's end are read here, too.
        except psycopg.Error as error:
            self.end(error)
        else:
            if self.pg.status == pq.ConnStatus.BAD:
                self.end(ConnectionError("closed by the server"))

    def _take(self, result: pq.abc.PGresult | None) -> None:
        if result is None:
            if self.pg.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("the server's words make no sense")
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
        self.heard = now = self.loop.time()
        if group.clocks is None:
            group.command.answered(now - group.sent)
            self.lanes.latest.append(group.command)
        elif len(group.clocks) == 2:
            self.lanes.timed(group.command, group.clocks[1] - group.clocks[0])
        self.counts.groups += 1
        if group.failed is not None:
            self.counts.errors += 1
            if group.new or _state_of(group.failed) in STALE:
                for command, _ in group.steps:  # Prepared anew when it is sent again: it may not have come to that.
                    self._close(command.text)
        if not group.answer.done():
            group.answer.set_result(group.failed or group.result)  # type: ignore[arg-type]


class Lanes:
    """The lanes of a database. They are connected when they are opened, and again when they are lost."""

    def __init__(self, connect: Connect, size: int = LANES) -> None:
        self.connect, self.size = connect, size
        self.lanes: list[Lane] = []
        self.commands: BoundedDict[str, Command] = BoundedDict(COMMANDS)
        self.counts = Counts()
        self.latest: deque[Command] = deque(maxlen=LATEST)
        self._connecting: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._open = False

    async def open(self) -> None:
        """Connects them; a lane that cannot be connected now is tried again."""
        self._open = True
        connections = (self.connect() for _ in range(self.size))
        for connected in await asyncio.gather(*connections, return_exceptions=True):
            if isinstance(connected, psycopg.AsyncConnection):
                self._add(connected)
            elif isinstance(connected, (psycopg.Error, TimeoutError)):
                self._connect_again()
            else:
                raise connected
        self._watch()

    async def close(self) -> None:
        """Waits for what is under way, and takes no more."""
        self._open = False
        if self._watching is not None:
            self._watching.cancel()
        await end_tasks(self._connecting)
        lanes, self.lanes = self.lanes, []
        waiting = [group.answer for lane in lanes for group in lane.waiting if not group.answer.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=SILENT_SECONDS)
        for lane in lanes:
            lane.end()

    def command(self, text: str) -> Command:
        """A statement as the lanes know it."""
        command = self.commands.get(text)
        if command is None:
            command = self.commands[text] = Command(text)
        return command

    def pick(self, command: Command) -> Lane | None:
        """The lane with the fewest groups under way; None when all are lost, or would be held up by the command.

        Raises LanesFull.
        """
        if not self.lanes or (command.apart_until and command.is_apart(self.lanes[0].loop.time())):
            return None
        best = min(self.lanes, key=_load)
        if len(best.waiting) >= IN_FLIGHT:
            raise LanesFull
        return best

    def timed(self, command: Command, seconds: float) -> None:
        """Note how long a command took by PostgreSQL's clock, on a lane or on a connection of its own."""
        self.latest.append(command)
        usual = sum(one is command for one in self.latest) * 2 > LATEST
        if command.took(seconds, asyncio.get_running_loop().time(), stays=usual):
            log.info("a statement is slow, and runs apart for a while: %s", command.text[:200])
            self.counts.set_apart += 1

    def metrics(self) -> Mapping[str, int]:
        """How many lanes there are (of ``size``), how many groups are under way, and the counts since the start."""
        now = {"size": self.size, "lanes": len(self.lanes), "in_flight": sum(map(_load, self.lanes))}
        return now | asdict(self.counts)

    def _add(self, connection: Connection) -> None:
        self.lanes.append(Lane(connection, self))

    def lost(self, lane: Lane) -> None:
        if self._open:
            self.lanes.remove(lane)
            self._connect_again()

    def _connect_again(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _reconnect(self) -> None:
        backoff = Backoff()
        while True:
            try:
                self._add(await self.connect())
                self.counts.reconnects += 1
                return
            except (psycopg.Error, TimeoutError) as error:
                log.debug("connecting a lane failed", exc_info=error)
            await backoff.wait()

    def _watch(self) -> None:
        for lane in tuple(self.lanes):
            if lane.silence > SILENT_SECONDS:
                lane.read()  # Where this process stood still, the answer may be here.
            if lane.silence > SILENT_SECONDS:
                lane.end(TimeoutError("it does not answer"))
        self._watching = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch)


def _load(lane: Lane) -> int:
    return len(lane.waiting)


def _state_of(result: pq.abc.PGresult) -> str:
    """The SQL state of an error."""
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()


def error_of(result: pq.abc.PGresult) -> psycopg.Error | None:
    """What a result says has gone wrong."""
    return error_from_result(result) if result.status == FATAL else None
