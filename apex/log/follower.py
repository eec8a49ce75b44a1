"""The follower: the one task of a process that reads the log, and hands each entry to all who follow it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from apex.callbacks import Backoff, end_tasks
from apex.errors import FeathersError, Gone, Unavailable
from apex.log.position import Position
from apex.log.reading import EVERYTHING, Entry, Reading
from apex.log.recent import Recent
from apex.log.stats import LogStats

Handler = Callable[[list[Entry]], None]

READ_SECONDS = 0.1
"""The longest pause between two reads."""

WAKE_SECONDS = 0.005
"""The shortest pause between two reads that others ask for with ``wake``."""

PAGE = 200
"""The entries of a read, for whose events the event loop is busy without a break."""

log: logging.Logger = logging.getLogger("apex")


class Follower:
    """Reads the log while it runs, and calls its handlers with every entry once, in order.

    During an outage of the database it tries again after ever longer pauses, and then reads what it has missed. If that
    is no longer there, because the log was pruned or the database was restored, it calls the functions in ``lost`` and
    goes on from the end.
    """

    def __init__(self, reading: Reading, stats: LogStats) -> None:
        self.reading: Reading = reading
        self.stats: LogStats = stats
        self.handlers: list[Handler] = []
        self.lost: list[Callable[[], None]] = []
        self.recent: Recent = Recent()
        self.position: Position | None = None
        self._task: asyncio.Task[None] | None = None
        self._called = asyncio.Event()
        self._woken = False
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def runs(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._task is not None

    async def start(self) -> None:
        """Follow the log from its end on. Raises Unavailable if the database cannot be reached.

        If the table does not exist yet, its first entry will be the first one that is handled.
        """
        if self.runs:  # An app may be set up again.
            return
        self._called = asyncio.Event()  # The app may have been set up in another event loop before.
        exists = await self.reading.exists()
        self.position = await (self.reading.position() if exists else self.reading.beginning())
        self.recent.start(self.position)
        self.stats.read_at = time.monotonic()
        self._task = asyncio.create_task(self._follow(exists))

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            task, self._task = self._task, None
            await end_tasks([task])
            self.stats.read_at = None
        self._answer(None)

    def wake(self) -> None:
        """Read soon."""
        if not self._woken:
            self._woken = True
            self._called.set()

    async def catch_up(self) -> None:
        """Read now, and return when the handlers have all entries that were committed before. Raises Unavailable."""
        if not self.runs:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._called.set()
        await waiting

    async def _follow(self, exists: bool) -> None:
        backoff = None if exists else Backoff()
        while True:
            waiting, self._waiting, self._woken = self._waiting, [], False
            self._called.clear()
            began = time.monotonic()
            try:
                if backoff is not None:
                    await self._resume()
                await self._read_all()
            except asyncio.CancelledError:
                _answer(waiting, None)
                raise
            except Exception as error:
                backoff = backoff or _begin_outage(error)
                _answer(waiting, Unavailable("The log cannot be read now"))
                await backoff.wait()
                continue
            if backoff is not None:
                log.info("The log can be read again")
                backoff = None
            self.stats.read_at = began
            _answer(waiting, None)
            await self._pause(began)

    async def _pause(self, began: float) -> None:
        """Wait for the next read: shortly if it was woken, and not at all for a call that waits."""
        await self._wait_for_call(READ_SECONDS)
        if self._woken and not self._waiting:
            self._called.clear()
            await self._wait_for_call(began + WAKE_SECONDS - time.monotonic())

    async def _wait_for_call(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._called.set)
        try:
            await self._called.wait()
        finally:
            timer.cancel()

    async def _resume(self) -> None:
        """Go on from the position after an outage, or from the end if entries after the position are not there."""
        if not await self.reading.exists():
            raise Unavailable("its table does not exist")
        assert self.position is not None
        try:
            await self.reading.check(self.position)
        except Gone:
            log.error("The log was restored or pruned: this process has missed events, and its clients read again")
            self.position = await self.reading.position()
            self.recent.start(self.position)
            for function in self.lost:
                self._call(function)

    async def _read_all(self) -> None:
        more = True
        while more:
            assert self.position is not None
            read = await self.reading.read(self.position, EVERYTHING, PAGE)
            if read.entries:
                self.recent.add(read.entries, read.position)
                for handler in self.handlers:
                    self._call(partial(handler, read.entries))
                self.stats.handled += len(read.entries)
                self.stats.last_id = max(read.entries[-1].id, self.stats.last_id)
                self.stats.kept_entries, self.stats.kept_bytes = self.recent.count, self.recent.bytes
            self.position, more = read.position, read.more
            self.stats.behind = len(read.entries) if more else 0

    def _call(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            log.exception("A handler of the log failed")

    def _answer(self, error: Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        _answer(waiting, error)


def _begin_outage(error: Exception) -> Backoff:
    log.warning("The log cannot be read, trying again: %s", error, exc_info=not isinstance(error, FeathersError))
    return Backoff()


def _answer(waiting: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
