"""Socket.IO clients of a server in another process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio

from tests.support.waiting import SECONDS


class Listener:
    """A client that has logged in, with the contacts of the events that it received."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.heard: list[str] = []
        self.disconnected = asyncio.Event()
        self.client.on("contacts created", self._created)
        self.client.on("disconnect", self._disconnected)

    async def _created(self, contact: dict[str, Any], offset: str = "") -> None:
        self.heard.append(contact["first_name"])

    async def _disconnected(self, reason: str) -> None:
        self.disconnected.set()

    async def hears(self, *names: str) -> bool:
        """Wait for as many events. Return True if they were of these contacts, each once, in any order."""
        async with asyncio.timeout(SECONDS):
            while len(self.heard) < len(names):
                await asyncio.sleep(0.01)
        return sorted(self.heard) == sorted(names)  # Events of several records have no order.


@asynccontextmanager
async def listener(url: str, token: str, *transports: str) -> AsyncIterator[Listener]:
    """Yield a client that connects with a token, over these transports or all."""
    one = Listener()
    headers = {"Authorization": f"Bearer {token}"}
    await one.client.connect(url, headers=headers, transports=list(transports) or None, wait_timeout=SECONDS)
    try:
        yield one
    finally:
        await one.client.disconnect()
        gc.collect()  # Sockets that the library leaves open count for this test, not for a later one.
