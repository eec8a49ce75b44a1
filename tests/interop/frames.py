"""A client that sends and receives the bytes of packets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection, connect

from tests.support.waiting import SECONDS

CLOSE, NOOP = "1", "6"
TOKEN = re.compile(r'"accessToken":"[^"]+"')
PAYLOAD = re.compile(r'"payload":\{[^}]+\}')
SID = re.compile(r'"sid":"[^"]+"')


class Wire:
    """A WebSocket that speaks Engine.IO."""

    def __init__(self, socket: ClientConnection, masks: bool) -> None:
        self.socket, self.masks = socket, masks

    async def send(self, frame: str) -> None:
        await self.socket.send(frame)

    async def receive(self) -> str:
        """Return the next packet that is no ping, with dots in place of random values."""
        frame = NOOP
        async with asyncio.timeout(SECONDS):
            while frame == NOOP:
                frame = str(await self.socket.recv())
        return masked(frame) if self.masks else frame

    async def says(self, *frames: str) -> None:
        """Assert that these are the next packets."""
        for frame in frames:
            said = await self.receive()
            assert said == frame, f"{said} instead of {frame}"

    async def plays(self, line: str) -> str:
        """Send a line of the client, such as ``C 40``. For a line of the server return what the server sends."""
        if line.startswith("S "):
            return f"S {await self.receive()}"
        await self.send(line.removeprefix("C "))
        return line

    async def ends(self) -> list[str]:
        """Return the packets before the server closes the connection, without its last one."""
        frames = []
        try:
            while True:
                frames.append(await self.receive())
        except ConnectionClosed:
            return [frame for frame in frames if frame != CLOSE]


def masked(frame: str) -> str:
    for pattern, shown in ((TOKEN, '"accessToken":"…"'), (PAYLOAD, '"payload":{…}'), (SID, '"sid":"…"')):
        frame = pattern.sub(shown, frame)
    return frame


def opened(frame: str) -> dict[str, Any]:
    """Return the fields of an open packet."""
    assert frame[0] == "0"
    return dict(json.loads(frame[1:]))


@asynccontextmanager
async def engine(url: str, session: str = "", masks: bool = True, **options: Any) -> AsyncIterator[Wire]:
    """Yield an Engine.IO connection, new or of a session such as ``&sid=...``."""
    url = f"{url.rstrip('/').replace('http', 'ws', 1)}/socket.io/?EIO=4&transport=websocket{session}"
    async with connect(url, open_timeout=SECONDS, close_timeout=SECONDS, **options) as socket:
        yield Wire(socket, masks)


@asynccontextmanager
async def wire(url: str, **options: Any) -> AsyncIterator[Wire]:
    """Yield a connection to the app."""
    async with engine(url, **options) as one:
        assert opened(await one.receive())["sid"] == "…"
        await one.send("40")
        await one.says('40{"sid":"…"}')
        yield one
