"""Frames as they are on the wire, without any client in between."""

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
        """The next frame that means something, with dots where there is something new each time."""
        frame = NOOP
        async with asyncio.timeout(SECONDS):
            while frame == NOOP:
                frame = str(await self.socket.recv())
        return masked(frame) if self.masks else frame

    async def says(self, *frames: str) -> None:
        """Asserts that these are the next frames."""
        for frame in frames:
            said = await self.receive()
            assert said == frame, f"{said} instead of {frame}"

    async def plays(self, line: str) -> str:
        """Sends a line of the client's, such as ``C 40``; for one of the server's, gives what the server says."""
        if line.startswith("S "):
            return f"S {await self.receive()}"
        await self.send(line.removeprefix("C "))
        return line

    async def ends(self) -> list[str]:
        """The frames that come before the server closes the connection, but for the one that says so."""
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
    """The fields of an open packet."""
    assert frame[0] == "0"
    return dict(json.loads(frame[1:]))


@asynccontextmanager
async def engine(url: str, session: str = "", masks: bool = True, **options: Any) -> AsyncIterator[Wire]:
    """An Engine.IO connection: a new one, or that of a session such as ``&sid=...``."""
    url = f"{url.rstrip('/').replace('http', 'ws', 1)}/socket.io/?EIO=4&transport=websocket{session}"
    async with connect(url, open_timeout=SECONDS, close_timeout=SECONDS, **options) as socket:
        yield Wire(socket, masks)


@asynccontextmanager
async def wire(url: str, **options: Any) -> AsyncIterator[Wire]:
    """A connection to the app."""
    async with engine(url, **options) as one:
        assert opened(await one.receive())["sid"] == "…"
        await one.send("40")
        await one.says('40{"sid":"…"}')
        yield one
