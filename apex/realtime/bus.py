"""The bus: messages between the processes of an app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from apex._lazy import extra
from apex.callbacks import end_tasks
from apex.signatures import is_async, name_of

Handler = Callable[[Any], None]

log: logging.Logger = logging.getLogger("apex")

SYNC_SECONDS = 30


class App(Protocol):
    """The part of ``apex.Apex`` that ``bus`` uses."""

    bus: Bus

    def get(self, name: str) -> Any: ...


def bus(app: App) -> None:
    """Connect the processes of an app: ``app.configure(bus)``, before the services.

    Reads ``redis`` (a URL) from the app's settings. Without it the app is a single process. Messages are signed with
    the ``secret`` of ``authentication``. Raises ConfigError if the library is missing.
    """
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.realtime.redis import RedisBus

        app.bus = RedisBus(url, app.get("database_url") or "", lambda: _secrets(app))


def _secrets(app: App) -> list[str]:
    """Return the secret of an app and, during a change of secrets, the previous one."""
    settings = app.get("authentication") or {}
    return [settings[name] for name in ("secret", "previousSecret") if settings.get(name)]


class Bus:
    """The bus of an app with one process, which sends nothing.

    A message is a JSON value under a topic. Handlers receive the messages of *other* processes only. A message may be
    lost, and another program may change the database. So functions registered with ``on_sync`` read the database again
    every ``SYNC_SECONDS``::

        app.bus.on("prices-changed", lambda message: cache.clear())
        app.bus.send("prices-changed", {"currency": "EUR"})
    """

    alone: bool = True
    """True if there are no other processes."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Handler]] = {}
        self.syncs: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def on(self, topic: str, handler: Handler) -> None:
        """Add a handler of a topic. Raises TypeError for an ``async def``, as messages are handled in order."""
        if is_async(handler):
            raise TypeError(f"A handler of '{topic}' must be a 'def' function, and {name_of(handler)} is 'async def'")
        handlers = self.handlers.setdefault(topic, [])
        if handler not in handlers:
            handlers.append(handler)

    def handle(self, topic: str, message: Any) -> None:
        """Call all handlers of a topic."""
        for handler in self.handlers[topic]:
            handler(message)

    def on_sync(self, function: Callable[[], Awaitable[None]]) -> None:
        """Add a function that reads again what other processes may have changed."""
        if function not in self.syncs:
            self.syncs.append(function)

    def send(self, topic: str, message: Any) -> None:
        """Send a message to the other processes, without waiting."""

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

    async def _sync_regularly(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await self.sync()
