"""The bus of an app with a log: its processes share a database, and need nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from apex.cache import BoundedDict
from apex.callbacks import Backoff
from apex.errors import Unavailable
from apex.log.app_log import Log
from apex.log.reading import Entry
from apex.log.writing import Entries
from apex.realtime.bus import Bus, BusStats
from apex.signatures import name_of
from apex.transaction import after_commit

QUEUE = 10_000
"""The most messages that wait for the database."""

BATCH = 500
MAX_AGE_SECONDS = 60
FLUSH_SECONDS = 1

WAKE = "wake"
"""The topic with which a process tells the others over Redis that there is something to read."""

WAKE_SECONDS = 0.005
"""The shortest pause between two such messages."""

REPORT, REPORTED = "report", "reported"
"""The topic with which ``apex log status`` asks all processes for an answer, and that of their answers."""

MAX_ORIGINS = 1_000

log: logging.Logger = logging.getLogger("apex")


class _Queued(NamedTuple):
    """A message that waits for the database ``since`` a moment."""

    topic: str
    since: float
    entries: Entries


class LogBus(Bus):
    """Connects the processes of an app through its log. A message is an entry, as every change of a record is.

    A message that is sent inside of a transaction of the database is stored with it. Others are stored at once. They
    wait up to ``MAX_AGE_SECONDS`` while the database cannot be reached. Each process handles the messages of the others
    exactly once, in the order of the log, within 0.2 seconds.

    With Redis it takes 0.02 seconds: a process that has stored something tells the others to read it. So an outage of
    Redis costs nothing but time, and a forged message over Redis costs nothing but a read.
    """

    alone: bool = False

    def __init__(self, log: Log, other: Bus) -> None:
        super().__init__()
        self.take_over(other)
        self.log: Log = log
        self._redis: Bus | None = None
        self._counts: BusStats = BusStats()
        self._numbers = 0
        self._seen: BoundedDict[str, int] = BoundedDict(MAX_ORIGINS)
        self._queue: deque[_Queued] = deque()
        self._called = asyncio.Event()
        self._stored = asyncio.Event()
        self._waking: asyncio.TimerHandle | None = None
        self._woken_at = 0.0
        log.follow(self._handle, self._lost)
        self.on(REPORT, self._report)
        if not other.alone:
            self.connect(other)

    def connect(self, redis: Bus) -> Bus:
        if self._redis is None:
            self.log.on_commit(self._wake_others)
        self._redis = redis
        redis.on(WAKE, lambda message: self.log.wake())
        redis.on_sync(self._read_after_outage)
        return self

    @property
    def is_current(self) -> bool:
        return self.log.is_current

    @property
    def stats(self) -> BusStats:
        """The number of messages since the start. ``connected`` and ``refused`` are those of Redis, if there is one."""
        redis, counts = None if self._redis is None else self._redis.stats, self._counts
        connected, refused = (self.is_current, 0) if redis is None else (redis.connected, redis.refused)
        return BusStats(connected, counts.sent, counts.received, counts.dropped, refused)

    def send(self, topic: str, message: Any) -> None:
        try:
            entries = self.log.writer.message(topic, message)
        except TypeError:
            log.exception("A message to the other processes has no JSON form: '%s'", topic)
            return
        if self.log.writer.collect(entries):
            self._counts.sent += 1
        else:
            after_commit(partial(self._store_soon, topic, message))

    async def flush(self) -> bool:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while self._queue:
                    self._stored.clear()
                    await self._stored.wait()
        except TimeoutError:
            return False
        return True

    async def open(self) -> None:
        await super().open()
        # The app may have been set up in another event loop before.
        self._called, self._stored = asyncio.Event(), asyncio.Event()
        self._tasks.append(asyncio.create_task(self._store()))
        if self._redis is not None:
            await self._redis.open()
        _call_all(self.gaps, "gaps")  # What was read before the log was followed may be outdated.

    async def close(self) -> None:
        """Wait a second for the database to take the messages that wait, and close."""
        if not self._tasks:
            return
        await self.flush()
        if self._waking is not None:
            self._waking.cancel()
            self._wake()
        if self._redis is not None:
            await self._redis.close()
        await super().close()

    def _store_soon(self, topic: str, message: Any) -> None:
        if len(self._queue) >= QUEUE:
            self._counts.dropped += 1
            return
        self._numbers += 1
        entries = self.log.writer.message(topic, message, self._numbers)
        self._queue.append(_Queued(topic, time.monotonic(), entries))
        self._called.set()

    async def _store(self) -> None:
        """Store the waiting messages in order, until each is stored, too old, or refused by the database."""
        backoff: Backoff | None = None
        while True:
            self._called.clear()
            while self._queue:
                batch = list(islice(self._queue, BATCH))
                try:
                    await self.log.writer.write([one.entries for one in batch])
                except Unavailable as error:
                    if backoff is None:
                        log.warning("Messages to the other processes wait for the database: %s", error)
                    backoff = backoff or Backoff()
                    await backoff.wait()
                    self._drop_old()
                    continue
                except Exception:
                    await self._store_each(batch)
                else:
                    self._counts.sent += len(batch)
                backoff = None
                for _ in batch:
                    self._queue.popleft()
            self._stored.set()
            await self._called.wait()

    async def _store_each(self, batch: list[_Queued]) -> None:
        """Store messages one by one, and drop those that the database refuses."""
        for one in batch:
            try:
                await self.log.writer.write([one.entries])
                self._counts.sent += 1
            except Exception:
                log.exception("A message to the other processes cannot be stored: '%s'", one.topic)
                self._counts.dropped += 1

    def _drop_old(self) -> None:
        """Drop the messages that are too old. They come first."""
        while self._queue and self._queue[0].since < time.monotonic() - MAX_AGE_SECONDS:
            self._queue.popleft()
            self._counts.dropped += 1

    def _handle(self, entries: list[Entry]) -> None:
        """Handle the messages of other processes, and the changes of all processes."""
        for entry in entries:
            if entry.service is not None:
                if changed := self.changes.get(entry.service):
                    _call_all(changed, f"changes of '{entry.service}'", entry.event, entry.record)
            elif entry.origin != self.log.origin and self._is_new(entry):
                self._counts.received += 1
                _call_all(self.handlers.get(entry.event, ()), f"'{entry.event}'", entry.record)

    def _is_new(self, entry: Entry) -> bool:
        """Return False for a message that is stored twice, as its process has not learned if it was stored."""
        number: int | None = (entry.call or {}).get("number")
        if number is None:
            return True
        before = self._seen.pop(entry.origin, 0)
        self._seen[entry.origin] = max(number, before)
        return number > before

    def _report(self, question: str) -> None:
        stats = self.log.stats
        answer = {"host": socket.gethostname(), "pid": os.getpid(), "waiting": stats.waiting}
        self.send(REPORTED, {"to": question, **answer})

    def _lost(self) -> None:
        """Handle that messages and changes may have been missed."""
        _call_all(self.gaps, "gaps")
        self._tasks.append(asyncio.get_running_loop().create_task(self.sync()))

    async def _read_after_outage(self) -> None:
        self.log.wake()

    def _wake_others(self) -> None:
        """Tell the other processes soon that something is stored, if Redis is there. Else they notice it later."""
        redis = None if self._redis is None else self._redis.stats
        if redis is not None and redis.connected and self._waking is None:
            pause = max(0.0, self._woken_at + WAKE_SECONDS - time.monotonic())
            self._waking = asyncio.get_running_loop().call_later(pause, self._wake, context=Context())

    def _wake(self) -> None:
        self._waking, self._woken_at = None, time.monotonic()
        if self._redis is not None:
            self._redis.send(WAKE, None)


def _call_all(handlers: Sequence[Callable[..., None]], what: str, *args: Any) -> None:
    """Call handlers. The exceptions of one stop neither the others nor the log."""
    for handler in handlers:
        try:
            handler(*args)
        except Exception:
            log.exception("A handler of %s failed: %s", what, name_of(handler))
