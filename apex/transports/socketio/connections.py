"""What a connection is sent: a bounded queue, and a way past it that a frame for thousands takes."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from websockets.frames import Frame, Opcode

from apex.transports.socketio.frames import Put, writer_of
from apex.transports.socketio.library import CLOSE, MESSAGE, AsyncSocket, Packet, QueueEmpty

GONE = (OSError, RuntimeError)
"""What sending raises when the peer is gone; who reads from it notices, and ends the connection."""


class Message(Packet):  # type: ignore[misc]
    """A packet of Socket.IO, whose WebSocket frame is built once for all connections that it goes to."""

    def __init__(self, text: str) -> None:
        super().__init__(MESSAGE, text)

    @cached_property
    def frame(self) -> bytes:
        return _frame(self.encode())


class Outgoing(asyncio.Queue[Packet | None]):
    """The packets that a connection has not been sent, and how many characters they have; None ends it."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.size = 0
        self.emptied = asyncio.Event()

    def _put(self, packet: Packet | None) -> None:
        super()._put(packet)
        self.size += _size(packet)

    def _get(self) -> Packet | None:
        packet: Packet | None = super()._get()
        self.size -= _size(packet)
        if not self.size:
            self.emptied.set()
        return packet

    async def below(self, limit: int) -> None:
        """Waits for a connection that has more than this to read."""
        while self.size > limit:
            self.emptied.clear()
            await self.emptied.wait()

    def take(self) -> list[Packet]:
        """All that waits, up to the end, which stays."""
        packets = []
        while not self.empty():
            packet = self.get_nowait()
            if packet is None:
                self.end()
                break
            packets.append(packet)
        return packets

    def end(self) -> None:
        self.put_nowait(None)


class Socket(AsyncSocket):  # type: ignore[misc]
    """An Engine.IO socket. The library's own wakes a task for each packet, and another one to time it."""

    queue: Outgoing
    wire: Wire | None = None
    put: Put | None = None

    def write(self, packet: Message) -> None:
        """Sends a packet at once where nothing is in the way, else after what waits."""
        wire = self.wire
        if wire is None or not self.upgraded or wire.busy or not self.queue.empty():
            self.queue.put_nowait(packet)
        else:
            wire.write(packet)

    async def poll(self) -> list[Packet]:
        """What is to be sent, as soon as there is something; nothing at the end."""
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.ping_timeout):
                first = await self.queue.get()
        except TimeoutError:
            raise QueueEmpty from None
        return [] if first is None else [first, *self.queue.take()]

    async def close(self, wait: bool = False, abort: bool = True, reason: str | None = None) -> None:
        """Ends the connection after what waits; a request that hangs until there is something is answered."""
        await super().close(wait=False, abort=True, reason=reason)
        self.queue.put_nowait(Packet(CLOSE))
        self.queue.end()

    async def _upgrade_websocket(self, environ: Mapping[str, Any]) -> Any:
        self.put = writer_of(environ["asgi.send"])
        return await super()._upgrade_websocket(environ)

    async def _websocket_handler(self, ws: Any) -> None:
        self.wire = Wire(ws, self.put)
        await super()._websocket_handler(self.wire)


class Wire:
    """A WebSocket that can be written to without a task, as long as it takes what it is given at once."""

    def __init__(self, ws: Any, put: Put | None) -> None:
        self._ws, self.wait, self.close = ws, ws.wait, ws.close
        self._put = put
        self._writing: asyncio.Task[None] | None = None
        self._sending = False

    @property
    def busy(self) -> bool:
        return self._sending or self._writing is not None

    async def send(self, message: str | bytes) -> None:
        self._sending = True  # First: the task may end a moment before this goes on.
        if self._writing is not None:
            await self._writing
        if self._put is None or isinstance(message, bytes) or not self._put(_frame(message)):
            await self._ws.send(message)
        self._sending = False

    def write(self, packet: Message) -> None:
        """Sends a packet without waiting; a task does what would have to. Only for a wire that is not busy."""
        if self._put is not None and self._put(packet.frame):
            return
        sending = self._ws.send(packet.encode())
        try:
            waited = sending.send(None)
        except (StopIteration, *GONE):
            return
        self._writing = asyncio.get_running_loop().create_task(self._finish(sending, waited))

    async def _finish(self, sending: Coroutine[Any, Any, None], waited: Any) -> None:
        with suppress(*GONE):
            await _resume(sending, waited)
        self._writing = None


@types.coroutine
def _resume(sending: Coroutine[Any, Any, None], waited: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that was begun outside of a task and waits for something."""
    try:
        while True:
            waited = sending.send((yield waited))
    except StopIteration:
        return


def _frame(text: str) -> bytes:
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def _size(packet: Packet | None) -> int:
    return 0 if packet is None else len(packet.encode())
