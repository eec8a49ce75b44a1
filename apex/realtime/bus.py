"""The bus: messages between the processes of an app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from apex._lazy import extra
from apex.callbacks import end_tasks
from apex.signatures import is_async, name_of

Handler = Callable[[Any], None]
ChangeHandler = Callable[[str, Any], None]
"""A function of the event and the record of a change."""

log: logging.Logger = logging.getLogger("apex")

SYNC_SECONDS = 30


class App(Protocol):
    """The part of ``apex.Apex`` that ``bus`` uses."""

    bus: Bus

    def get(self, name: str) -> Any: ...


def bus(app: App) -> None:
    """Connect the processes of an app: ``app.configure(bus)``.

    Reads ``redis`` (a URL) from the app's settings. Messages are signed with the ``secret`` of ``authentication``. An
    app with a log (``apex.log``) sends its messages through that, and Redis only makes them quicker. Without both the
    app is a single process. Raises ConfigError if the library is missing.
    """
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.realtime.redis import RedisBus

        app.bus = app.bus.connect(RedisBus(url, app.get("database_url") or "", lambda: _secrets(app)))


def _secrets(app: App) -> list[str]:
    """Return the secret of an app and, during a change of secrets, the previous one."""
    settings = app.get("authentication") or {}
    return [settings[name] for name in ("secret", "previousSecret") if settings.get(name)]


@dataclass(slots=True)
class BusStats:
    """The state of a bus, and the number of its messages since the start."""

    connected: bool = False
    sent: int = 0
    received: int = 0
    dropped: int = 0
    refused: int = 0


class Bus:
    """The bus of an app with one process, which sends nothing.

    A message is a JSON value under a topic. Handlers receive the messages of *other* processes only::

        app.bus.on("prices-changed", lambda message: cache.clear())
        app.bus.send("prices-changed", {"currency": "EUR"})

    A message may be lost without a log, and another program may change the database. So functions registered with
    ``on_sync`` read the database again every ``SYNC_SECONDS``.
    """

    alone: bool = True
    """True if there are no other processes."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Handler]] = {}
        self.changes: dict[str, list[ChangeHandler]] = {}
        self.gaps: list[Callable[[], None]] = []
        self.syncs: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def stats(self) -> BusStats | None:
        """The counts of a bus that sends. None, if it sends nothing."""
        return None

    @property
    def is_current(self) -> bool:
        """True if the functions of ``on_change`` have been called for all changes until less than a second ago."""
        return False

    def on(self, topic: str, handler: Handler) -> None:
        """Add a handler of a topic. Raises TypeError for an ``async def``, as messages are handled in order."""
        _require_def(f"A handler of '{topic}'", handler)
        handlers = self.handlers.setdefault(topic, [])
        if handler not in handlers:
            handlers.append(handler)

    def on_change(self, path: str, handler: ChangeHandler) -> None:
        """Add a handler of the events of a service, in every process: ``handler(event, record)``.

        It needs a log. Without one it is never called, and ``is_current`` stays False. Raises TypeError for an
        ``async def``.
        """
        _require_def(f"A handler of changes of '{path}'", handler)
        self.changes.setdefault(path, []).append(handler)

    def on_gap(self, handler: Callable[[], None]) -> None:
        """Add a function that is called when changes may have been missed, such as after the start.

        Raises TypeError for an ``async def``.
        """
        _require_def("A handler of gaps", handler)
        self.gaps.append(handler)

    def handle(self, topic: str, message: Any) -> None:
        """Call all handlers of a topic."""
        for handler in self.handlers[topic]:
            handler(message)

    def on_sync(self, function: Callable[[], Awaitable[None]]) -> None:
        """Add a function that reads again what other processes may have changed."""
        if function not in self.syncs:
            self.syncs.append(function)

    def send(self, topic: str, message: Any) -> None:
        """Send a message to the other processes, without waiting. Inside of a transaction it is sent with its commit.

        With a log the message is stored in the transaction itself. So it is sent exactly if the transaction succeeds.
        """

    async def flush(self) -> bool:
        """Wait up to a second until all messages are sent. Return False if some are not."""
        return True

    async def is_reached(self) -> bool:
        """Return True if the server of the bus answers now."""
        return True

    async def open(self) -> None:
        """Start to receive messages. Called by ``app.setup``."""
        self._tasks = [asyncio.create_task(self._sync_regularly())]

    async def close(self) -> None:
        """Stop receiving messages. Called by ``app.teardown``."""
        await end_tasks(self._tasks)
        self._tasks = []

    async def sync(self) -> None:
        """Call all functions of ``on_sync``. Their exceptions are logged."""
        for function in self.syncs:
            try:
                await function()
            except Exception:
                log.exception("A sync after possible changes of other processes failed")

    def connect(self, redis: Bus) -> Bus:
        """Return the bus of the app once it has Redis as well."""
        return redis.take_over(self)

    def take_over(self, other: Bus) -> Self:
        """Take the handlers from the bus that this one replaces, and return this one."""
        self.handlers, self.changes, self.gaps, self.syncs = other.handlers, other.changes, other.gaps, other.syncs
        other.handlers, other.changes, other.gaps, other.syncs = {}, {}, [], []
        return self

    async def _sync_regularly(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await self.sync()


def _require_def(what: str, handler: Callable[..., object]) -> None:
    if is_async(handler):
        raise TypeError(f"{what} must be a 'def' function, and {name_of(handler)} is 'async def'")
