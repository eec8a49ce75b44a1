"""The outgoing side of a connection: a bounded queue, and a direct way for frames when nothing waits in the queue."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from apex.transports.socketio.packets import (
    CLOSE,
    NOOP,
    PING,
    AsyncSocket,
    Message,
    Packet,
    QueueEmpty,
    is_packet,
    text_frame,
)
from apex.types import Receive, Scope, Send

SEPARATOR = "\x1e"
"""The character between the packets of one request."""
UPGRADE_SECONDS = 10

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
    connection, transport, is_writable, is_closing = (
        protocol.conn, protocol.transport, protocol.writable.is_set, protocol.transport.is_closing
    )  # fmt: skip

    def write(frame: bytes) -> bool:
        if connection.state is not State.OPEN or not is_writable() or is_closing():
            return False
        transport.write(frame)
        return True

    return write


class Outgoing:
    """The packets that wait to be sent to a connection. ``size`` is in characters.

    Most connections never have one. So it takes little memory, which a queue of asyncio does not.
    """

    __slots__ = ("_emptied", "_filled", "_packets", "is_ended", "size")

    def __init__(self) -> None:
        self.size: int = 0
        self.is_ended: bool = False
        self._packets: deque[Packet] | None = None
        self._filled: asyncio.Future[None] | None = None
        self._emptied: asyncio.Event | None = None

    def put(self, packet: Packet) -> None:
        """Add a packet. After the end it is dropped."""
        if self.is_ended:
            return
        if self._packets is None:
            self._packets = deque()
        self._packets.append(packet)
        self.size += len(_text_of(packet))
        self._wake()

    def end(self) -> None:
        """Mark the end of the connection, after the packets that wait."""
        self.is_ended = True
        self._wake()

    def pop(self) -> Packet | None:
        """Take the first packet, or None if none waits."""
        if not self._packets:
            return None
        packet = self._packets.popleft()
        self.size -= len(_text_of(packet))
        if not self._packets:
            self._packets = None
            if self._emptied is not None:
                self._emptied.set()
        return packet

    def take(self) -> list[Packet]:
        """Take all packets."""
        return list(iter(self.pop, None))

    async def wait(self) -> None:
        """Wait until there is a packet, or the end."""
        while self._packets is None and not self.is_ended:
            self._filled = asyncio.get_running_loop().create_future()
            await self._filled

    async def below(self, limit: int) -> None:
        """Wait until the client has read its packets, if more than ``limit`` characters wait."""
        while self.size > limit:
            if self._emptied is None:
                self._emptied = asyncio.Event()
            self._emptied.clear()
            await self._emptied.wait()

    def _wake(self) -> None:
        if self._filled is not None and not self._filled.done():
            self._filled.set_result(None)
        self._filled = None


class WebSocket:
    """The server's end of a WebSocket."""

    __slots__ = ("_receive", "_send", "direct")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.direct: Write | None = writer_of(send)

    async def accept(self) -> None:
        """Accept the connection of the client."""
        await self._send({"type": "websocket.accept"})

    async def wait(self) -> str | bytes:
        """Wait for the next packet. Raises EOFError when the connection has ended, or for a malformed packet."""
        message = await self._receive()
        text: str | None = message.get("text")
        if message["type"] != "websocket.receive" or (text is not None and not is_packet(text)):
            raise EOFError
        return message["bytes"] if text is None else text

    async def send(self, text: str) -> None:
        """Send a packet, and wait until the system has taken it."""
        if self.direct is None or not self.direct(text_frame(text)):
            await self._send({"type": "websocket.send", "text": text})

    async def close(self) -> None:
        """Close the connection."""
        await self._send({"type": "websocket.close"})


class Pings:
    """The pings of all connections, in the order in which they are due. The library has a task for each."""

    def __init__(self, server: Any) -> None:
        self._server: Any = server
        self._due: deque[tuple[float, str]] = deque()

    def add(self, sid: str) -> None:
        """Ping a connection when the interval is over."""
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self._server.ping_interval, sid))
        if len(self._due) == 1:
            loop.call_at(self._due[0][0], self._send)

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due and self._due[0][0] <= loop.time():
            _, sid = self._due.popleft()
            if (socket := self._server.sockets.get(sid)) is not None:
                socket.ping()
        if self._due:
            loop.call_at(self._due[0][0], self._send)


class Socket(AsyncSocket):  # type: ignore[misc]
    """An Engine.IO socket. The library's own has three tasks for each WebSocket, and a timer for each packet.

    ``scope`` is that of the first request. ``direct`` writes a frame to the WebSocket at once. It is None as long as
    there is no WebSocket, or packets wait in the queue.
    """

    queue: Outgoing
    scope: Scope
    connected: bool
    last_ping: float | None
    websocket: WebSocket | None = None
    direct: Write | None = None
    _sending: asyncio.Task[None] | None = None

    def write(self, packet: Packet) -> None:
        """Send a packet at once, or put it in the queue if other packets wait or the client does not read."""
        direct = self.direct
        if direct is None or not direct(_frame_of(packet)):
            self.enqueue(packet)

    def enqueue(self, packet: Packet) -> None:
        """Send a packet after those in the queue."""
        self.queue.put(packet)
        self._send_queued()

    async def send(self, pkt: Packet) -> None:
        self.write(pkt)

    def ping(self) -> None:
        """Send a ping. The client has to answer within ``ping_timeout``."""
        if not self.closing:
            self.last_ping = time.time()
            self.write(Packet(PING))

    def schedule_ping(self) -> None:
        if self.last_ping:
            self.last_ping = None
            self.server.pings.add(self.sid)

    async def poll(self) -> list[Packet]:
        """Wait for packets to send, and return them. Return an empty list at the end."""
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.ping_timeout):
                await self.queue.wait()
        except TimeoutError:
            raise QueueEmpty from None
        return self.queue.take()

    async def close(self, wait: bool = False, abort: bool = True, reason: str | None = None) -> None:
        """Close the connection after the queued packets. A hanging poll is answered."""
        await super().close(wait=False, abort=True, reason=reason)
        self.direct = None
        self.queue.put(Packet(CLOSE))
        self.queue.end()
        self._send_queued()

    async def handle_post_request(self, environ: Mapping[str, Any]) -> None:
        """Receive the packets of a request. The library accepts 16, fewer than a client with many calls sends."""
        body = await environ["wsgi.input"].read()
        for packet in [Packet(encoded_packet=text) for text in body.decode().split(SEPARATOR)]:
            await self.receive(packet)

    async def serve(self, websocket: WebSocket) -> None:
        """Receive the packets of a WebSocket until it ends. It may be the upgrade of a polling session."""
        await websocket.accept()
        if self.connected and not await self._is_upgraded(websocket):
            return
        self.connected = self.upgraded = True
        self.websocket = websocket
        self._send_queued()
        try:
            while True:
                packet = await websocket.wait()
                if len(packet) > self.server.max_http_buffer_size:
                    break
                if isinstance(packet, str):  # Bytes are the attachment of an event that was refused.
                    await self.receive(Packet(encoded_packet=packet))
        except EOFError:
            pass
        finally:
            await self.close(reason=self.server.reason.TRANSPORT_CLOSE)
            if self._sending is not None:
                await asyncio.wait([self._sending])

    async def _is_upgraded(self, websocket: WebSocket) -> bool:
        """Return True if the client of a polling session changes to a WebSocket, and False if it does not in time."""
        self.upgrading = True
        try:
            async with asyncio.timeout(UPGRADE_SECONDS):
                if await websocket.wait() != "2probe":
                    return False
                await websocket.send("3probe")
                self.queue.put(Packet(NOOP))  # It answers a hanging poll.
                return await websocket.wait() == "5"
        except (EOFError, TimeoutError):
            return False
        finally:
            self.upgrading = False

    def _send_queued(self) -> None:
        """Send the packets of the queue in a task, if there is a WebSocket."""
        if self.websocket is not None and self._sending is None:
            self.direct = None
            self._sending = asyncio.get_running_loop().create_task(self._send_all(self.websocket))

    async def _send_all(self, websocket: WebSocket) -> None:
        try:
            while (packet := self.queue.pop()) is not None:
                await websocket.send(_text_of(packet))
            if self.queue.is_ended:
                await websocket.close()
            else:
                self.direct = websocket.direct
        except Exception:  # Each server has its own error for a client that has gone.
            self.queue.end()
        finally:
            self._sending = None


def _frame_of(packet: Packet) -> bytes:
    return packet.frame if isinstance(packet, Message) else text_frame(_text_of(packet))


def _text_of(packet: Packet) -> str:
    text: Any = packet.encode()
    return str(text)
