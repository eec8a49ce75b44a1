"""The bus: what one process of an app tells the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from apex.callbacks import end_tasks, is_async, name_of
from apex.lazy import extra

if TYPE_CHECKING:
    from apex.app import Apex

Handler = Callable[[Any], None]

log = logging.getLogger("apex")

SYNC_SECONDS = 30


def bus(app: Apex) -> None:
    """Configures the bus: ``app.configure(bus)``, before the services.

    Reads ``redis`` (a URL) from the app's settings; without it the app is one process. Messages are signed with the
    ``secret`` of ``authentication``. Raises ConfigError where the library is missing.
    """
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.realtime.redis import RedisBus

        app.bus = RedisBus(url, app.get("database_url") or "", lambda: _secrets(app))


def _secrets(app: Apex) -> list[str]:
    """Return the secret of an app and, while it is changed for another, the previous one."""
    settings = app.get("authentication") or {}
    return [settings[name] for name in ("secret", "previousSecret") if settings.get(name)]


class Bus:
    """The bus of an app with one process: there is nobody to tell.

    A message is a JSON value under a topic. ``on`` registers handlers of messages from the *other* processes: what
    happens in this one, the caller does itself. ``on_sync`` registers what to read again from the database, so that
    a message that was lost, or a change made past the app, is noticed within ``SYNC_SECONDS``.
    """

    alone = True
    """Whether there is nobody to tell."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Handler]] = {}
        self.syncs: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def on(self, topic: str, handler: Handler) -> None:
        """Add a handler. Raises TypeError for one that is ``async def``: messages are handled in their order."""
        if is_async(handler):
            raise TypeError(f"A handler of '{topic}' must be a 'def' function, and {name_of(handler)} is 'async def'")
        handlers = self.handlers.setdefault(topic, [])
        if handler not in handlers:
            handlers.append(handler)

    def handle(self, topic: str, message: Any) -> None:
        """Call all handlers of the topic."""
        for handler in self.handlers[topic]:
            handler(message)

    def on_sync(self, function: Callable[[], Awaitable[None]]) -> None:
        if function not in self.syncs:
            self.syncs.append(function)

    def send(self, topic: str, message: Any) -> None:
        """Tells the other processes, without waiting."""

    async def flush(self) -> bool:
        """Wait a moment until all messages are sent. Return False if some are not."""
        return True

    async def is_reached(self) -> bool:
        """Whether what the bus goes through answers now."""
        return True

    async def open(self) -> None:
        self._tasks = [asyncio.create_task(self._tick())]

    async def close(self) -> None:
        await end_tasks(self._tasks)
        self._tasks = []

    async def sync(self) -> None:
        """Reads all again. What fails is logged and tried with the next one."""
        for function in self.syncs:
            try:
                await function()
            except Exception:
                log.exception("Reading again what others may have changed failed")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await self.sync()
