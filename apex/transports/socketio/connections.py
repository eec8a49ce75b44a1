"""The outgoing side of a connection: a bounded queue, and a direct way for frames when nothing waits in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from apex.transports.socketio.packets import CLOSE, AsyncSocket, Message, Packet, QueueEmpty, text_frame

SEPARATOR = "\x1e"
"""The character between the packets of one request."""

Write = Callable[[bytes], bool]
"""A function that writes a WebSocket frame after all that was sent before.

It returns False if it would have to wait, or if the connection is closed.
"""


def writer_of(send: Any) -> Write | None:
    """Return the function that writes frames to the WebSocket behind the ``send`` of ASGI.

    It saves an ASGI message for each connection that receives an event. Return None if the server is not uvicorn with
    the library ``websockets``, or if middleware wraps ``send``. The function never compresses frames, even if client
    and server have agreed on compression (RFC 7692, section 6): some clients decompress in a thread, and would deliver
    an event after the answer that follows it.
    """
    protocol = getattr(send, "__self__", None)
    if not isinstance(protocol, WebSocketsSansIOProtocol):
        return None

    def write(frame: bytes) -> bool:
        if protocol.conn.state is not State.OPEN or not protocol.writable.is_set() or protocol.transport.is_closing():
            return False
        protocol.transport.write(frame)
        return True

    return write


class Outgoing(asyncio.Queue[Packet | None]):
    """The packets that wait to be sent to a connection. None marks the end. ``size`` is in characters."""

    size: int
    emptied: asyncio.Event

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.size = 0
        self.emptied = asyncio.Event()

    def _put(self, item: Packet | None) -> None:
        super()._put(item)
        self.size += _size(item)

    def _get(self) -> Packet | None:
        packet: Packet | None = super()._get()
        self.size -= _size(packet)
        if not self.size:
            self.emptied.set()
        return packet

    async def below(self, limit: int) -> None:
        """Wait until the client has read its packets, if more than ``limit`` characters wait."""
        while self.size > limit:
            self.emptied.clear()
            await self.emptied.wait()

    def take(self) -> list[Packet]:
        """Take all packets up to the end. The mark of the end stays in the queue."""
        packets = []
        while not self.empty():
            packet = self.get_nowait()
            if packet is None:
                self.end()
                break
            packets.append(packet)
        return packets

    def end(self) -> None:
        """Mark the end of the connection."""
        self.put_nowait(None)


class WebSocket:
    """A WebSocket of the library that sends frames directly if it can."""

    def __init__(self, ws: Any, write: Write | None) -> None:
        self._ws, self._write = ws, write
        self.wait: Any = ws.wait
        self.close: Any = ws.close
        self.is_sending: bool = False

    async def send(self, message: str | bytes) -> None:
        """Send a packet from the queue."""
        self.is_sending = True
        if isinstance(message, bytes) or not self.write(text_frame(message)):
            await self._ws.send(message)
        self.is_sending = False

    def write(self, frame: bytes) -> bool:
        """Send a frame without waiting. Return False if that is not possible."""
        return self._write is not None and self._write(frame)


class Socket(AsyncSocket):  # type: ignore[misc]
    """An Engine.IO socket. The library's own wakes a task for each packet, and a second one for a timeout."""

    queue: Outgoing
    websocket: WebSocket | None = None
    _write: Write | None = None

    def write(self, packet: Message) -> None:
        """Send a packet at once, or put it in the queue if other packets wait or the client does not read."""
        ws = self.websocket
        is_free = ws is not None and self.upgraded and not ws.is_sending and self.queue.empty()
        if not is_free or ws is None or not ws.write(packet.frame):
            self.queue.put_nowait(packet)

    async def poll(self) -> list[Packet]:
        """Wait for packets to send, and return them. Return an empty list at the end."""
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.ping_timeout):
                first = await self.queue.get()
        except TimeoutError:
            raise QueueEmpty from None
        return [] if first is None else [first, *self.queue.take()]

    async def close(self, wait: bool = False, abort: bool = True, reason: str | None = None) -> None:
        """Close the connection after the queued packets. A hanging poll is answered."""
        await super().close(wait=False, abort=True, reason=reason)
        self.queue.put_nowait(Packet(CLOSE))
        self.queue.end()

    async def handle_post_request(self, environ: Mapping[str, Any]) -> None:
        """Receive the packets of a request. The library accepts 16, fewer than a client with many calls sends."""
        body = await environ["wsgi.input"].read()
        for packet in [Packet(encoded_packet=text) for text in body.decode().split(SEPARATOR)]:
            await self.receive(packet)

    async def _upgrade_websocket(self, environ: Mapping[str, Any]) -> Any:
        self._write = writer_of(environ["asgi.send"])
        return await super()._upgrade_websocket(environ)

    async def _websocket_handler(self, ws: Any) -> None:
        self.websocket = WebSocket(ws, self._write)
        await super()._websocket_handler(self.websocket)


def _size(packet: Packet | None) -> int:
    return 0 if packet is None else len(packet.encode() or "")
