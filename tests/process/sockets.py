"""Socket.IO clients of a server in a process of its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio

from tests.support.waiting import SECONDS


class Listener:
    """A client that has logged in, and the contacts it has heard of."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.heard: list[str] = []
        self.disconnected = asyncio.Event()
        self.client.on("contacts created", self._created)
        self.client.on("disconnect", self._disconnected)

    async def _created(self, contact: dict[str, Any]) -> None:
        self.heard.append(contact["first_name"])

    async def _disconnected(self, reason: str) -> None:
        self.disconnected.set()

    async def hears(self, *names: str) -> bool:
        """Waits until it has heard of as many contacts; whether it was of these, each once."""
        async with asyncio.timeout(SECONDS):
            while len(self.heard) < len(names):
                await asyncio.sleep(0.01)
        return self.heard == list(names)


@asynccontextmanager
async def listener(url: str, token: str, *transports: str) -> AsyncIterator[Listener]:
    """A client that connects with a token, by the transports given or by all."""
    one = Listener()
    headers = {"Authorization": f"Bearer {token}"}
    await one.client.connect(url, headers=headers, transports=list(transports) or None, wait_timeout=SECONDS)
    try:
        yield one
    finally:
        await one.client.disconnect()
        gc.collect()  # What the library leaves unclosed is this test's, and not one's that comes later.
