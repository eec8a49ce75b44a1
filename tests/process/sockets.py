"""Socket.IO clients of a server in another process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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
async def listeners(count: int, url: str, token: str, *transports: str) -> AsyncIterator[list[Listener]]:
    """Yield clients that connect with a token, over these transports or all."""
    made = [Listener() for _ in range(count)]
    headers = {"Authorization": f"Bearer {token}"}
    async with AsyncExitStack() as stack:
        # Sockets that the library leaves open count for this test, not for a later one.
        stack.callback(gc.collect)
        for one in made:
            await one.client.connect(url, headers=headers, transports=list(transports) or None, wait_timeout=SECONDS)
            stack.push_async_callback(one.client.disconnect)
        yield made


@asynccontextmanager
async def listener(url: str, token: str, *transports: str) -> AsyncIterator[Listener]:
    """Yield one such client."""
    async with listeners(1, url, token, *transports) as [one]:
        yield one
