"""python-socketio as this transport needs it: bounded queues, frames encoded once, and an answer to every call.

It speaks Engine.IO 4 and Socket.IO 5 and keeps the connections; what a frame holds is read and written here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from apex.encoding import decode_storable, encode
from apex.errors import BadRequest, FeathersError
from apex.realtime.channels import Connection
from apex.transports.socketio.connections import Message, Outgoing, Socket
from apex.transports.socketio.library import ConnectionRefusedError, Payload, engineio, frames, socketio

MAX_PAYLOAD = 1_000_000
LIMITS = {"maxPayload": MAX_PAYLOAD, "maxConnections": 10_000, "maxCalls": 100, "maxBacklog": 4 * 1024 * 1024}

CONNECT_SECONDS = 45
ANSWER_SECONDS = 5
"""Seconds for which a connection that the app ends waits for the answers to its calls."""
SMALLEST_PACKET = 16

SEPARATOR = "\x1e"
TAKEN = {"status": "200 OK", "headers": [("Content-Type", "text/html")], "response": b"ok"}

_PACKET = re.compile(r"4[0-6]|(1|3|5|[23]probe)\Z")
_ATTACHMENT = re.compile(r"b([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_OURS = (None, "/")
_ACKS = (frames.ACK, frames.BINARY_ACK)

log = logging.getLogger("apex.transports.socketio.engine")
# Below this level the libraries write down whole frames, tokens with them.
log.setLevel(logging.WARNING)


def is_packet(text: str) -> bool:
    """Whether this is something that a client sends. The library reads all else too, and fails in the middle of it."""
    return _PACKET.match(text) is not None


class JSON:
    """The JSON of the REST transport, in the form of the standard library's module."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return encode(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        """The value, or the error that a call with this text is answered with."""
        try:
            return decode_storable(text)
        except ValueError as error:
            return BadRequest(f"Malformed JSON: {str(error)[:200]}")


class Frame(frames.Packet):  # type: ignore[misc]
    json = JSON


class Link:
    """An open connection: its Socket.IO id, its Engine.IO socket and the calls that it has at work.

    ``accepted`` is called once the client has been told that it is connected.
    """

    connection: Connection
    accepted: Callable[[], None] | None = None

    def __init__(self, sid: str, socket: Socket, limits: Mapping[str, int]) -> None:
        self.sid, self.socket, self.outgoing = sid, socket, socket.queue
        self.backlog = limits["maxBacklog"]
        self.calls = asyncio.Semaphore(limits["maxCalls"])
        self.answers: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None

    def send(self, packet: Message) -> bool:
        """Sends a packet; False when too much waits already."""
        if self.outgoing.size > self.backlog:
            return False
        if not self.socket.closed:
            self.socket.write(packet)
        return True

    async def room(self) -> None:
        """Waits until the connection may make another call: it reads its answers, and has not too many at work."""
        if self.outgoing.size > self.backlog // 4:
            self._reading = asyncio.create_task(self.outgoing.below(self.backlog // 4))
            await asyncio.wait([self._reading])
        await self.calls.acquire()
        if self.socket.last_ping:
            self.socket.last_ping = time.time()  # The answer to a ping waits behind the calls.

    def leave(self) -> None:
        """Nobody will read any more: what waits for that goes on."""
        if self._reading is not None:
            self._reading.cancel()


Answer = tuple[str, Callable[[], None] | None]
"""The arguments of an acknowledgement, encoded, and a function to call once it is sent."""


class Transport(Protocol):
    """Who gives the frames a meaning."""

    async def log_in(self, link: Link, scope: Any, auth: Mapping[str, Any]) -> None: ...

    async def connected(self, link: Link) -> None: ...

    def disconnected(self, link: Link) -> None: ...

    async def answer(self, link: Link, event: Any) -> Answer: ...


class _EngineIO(engineio.AsyncServer):  # type: ignore[misc]
    def create_queue(self, *_: Any, **__: Any) -> Outgoing:
        return Outgoing()

    def _cors_headers(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [*super()._cors_headers(environ), ("Cache-Control", "no-store")]

    def _ok(self, packets: list[Any] | None = None, **options: Any) -> Any:
        # What was posted is answered as by Socket.IO on Node.
        return TAKEN if packets is None else super()._ok(packets, **options)


class Engine(socketio.AsyncServer):  # type: ignore[misc]
    """The Socket.IO server. No name of an event is special: every one that a client sends is a call.

    ``unconnected`` holds the sessions that have not sent CONNECT yet, the oldest first.
    """

    def __init__(self, transport: Transport, limits: Mapping[str, int], origins: str | list[str]) -> None:
        super().__init__(
            async_mode="asgi",
            serializer=Frame,
            logger=log,
            engineio_logger=log,
            cors_allowed_origins=origins,
            cors_credentials=False,
            max_http_buffer_size=limits["maxPayload"],
            # It would hold up everyone else meanwhile.
            http_compression=False,
        )
        # The library's own limit, 16, is less than what a client with many calls puts into one request.
        Payload.max_decode_packets = limits["maxPayload"]
        self.transport, self.limits = transport, limits
        self.links: dict[str, Link] = {}
        self.unconnected: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on("connect", self._connect)

    def _engineio_server_class(self) -> type[engineio.AsyncServer]:
        return _EngineIO

    def are_packets(self, body: str) -> bool:
        """Whether this is what a client sends that polls, and not more at once than there is any use for."""
        if body.count(SEPARATOR) > self.limits["maxPayload"] // SMALLEST_PACKET:
            return False
        return all(is_packet(packet) or _ATTACHMENT.match(packet) for packet in body.split(SEPARATOR))

    @staticmethod
    def event(name: str, data: Any) -> Message:
        """The packet of an event, encoded, for any number of connections."""
        return Message(f"{frames.EVENT}{JSON.dumps([name, data])}")

    def close(self) -> None:
        """Lets go of all connections, without waiting for those that do not read."""
        for socket in list(self.eio.sockets.values()):
            self.end(socket)

    def make_room(self) -> bool:
        """End the oldest session that is not connected yet. Return False if there is none."""
        while self.unconnected:
            eio_sid = next(iter(self.unconnected))
            del self.unconnected[eio_sid]
            if (socket := self.eio.sockets.pop(eio_sid, None)) is not None:
                self.end(socket)
                return True
        return False

    def leave(self, link: Link) -> None:
        """Disconnect a connection once its calls are answered. Its session may connect again."""
        self.links.pop(link.socket.sid, None)
        self._spawn(self._leave(link))

    async def _leave(self, link: Link) -> None:
        if link.answers:
            await asyncio.wait(link.answers, timeout=ANSWER_SECONDS)
        await self.disconnect(link.sid)
        self._expect_connect(link.socket.sid)

    def end(self, socket: Socket) -> None:
        """Ends a connection once it has been sent what is queued."""
        self._spawn(socket.close(reason=self.reason.SERVER_DISCONNECT))

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        link = Link(sid, self.eio.sockets[eio_sid], self.limits)
        scope = environ["asgi.scope"]
        environ.clear()  # It is kept as long as the connection, and holds all of the first request.
        environ["asgi.scope"] = scope
        try:
            await self.transport.log_in(link, scope, auth if isinstance(auth, dict) else {})
        except FeathersError as error:
            raise ConnectionRefusedError(*[error.message, *([] if error.data is None else [error.data])]) from None
        self.links[eio_sid] = link
        self.unconnected.pop(eio_sid, None)
        await self.transport.connected(link)
        if link.socket.closed:
            self._gone(eio_sid)
            raise ConnectionRefusedError("The connection was closed meanwhile")

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        if namespace not in _OURS:
            error = Frame(frames.CONNECT_ERROR, data={"message": "Invalid namespace"}, namespace=namespace)
            await self._send_packet(eio_sid, error)
        elif eio_sid not in self.links:
            await super()._handle_connect(eio_sid, namespace, data)
            if (link := self.links.get(eio_sid)) is not None and link.accepted is not None:
                link.accepted()

    async def _send_packet(self, eio_sid: str, frame: Frame) -> None:
        if (socket := self.eio.sockets.get(eio_sid)) is not None:
            socket.write(Message(frame.encode()))

    async def _handle_eio_connect(self, eio_sid: str, environ: Mapping[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        # The library makes its own kind of socket, and offers no other place to choose one.
        self.eio.sockets[eio_sid].__class__ = Socket
        self._expect_connect(eio_sid)

    def _expect_connect(self, eio_sid: str) -> None:
        self.unconnected[eio_sid] = None
        asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._require_connected, eio_sid)

    def _require_connected(self, eio_sid: str) -> None:
        """Ends a connection that has not said within the time that it wants to be one."""
        self.unconnected.pop(eio_sid, None)
        if eio_sid in self.eio.sockets and eio_sid not in self.links:
            self.end(self.eio.sockets[eio_sid])

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if isinstance(data, bytes):
            return  # An attachment of an event that was refused.
        try:
            await self._handle_frame(eio_sid, Frame(encoded_packet=data))
        except (ValueError, TypeError, LookupError):
            # What is no frame, or comes from who is not connected, ends the connection, as in Socket.IO on Node.
            if eio_sid in self.eio.sockets:
                self.end(self.eio.sockets[eio_sid])

    async def _handle_frame(self, eio_sid: str, frame: Frame) -> None:
        if frame.packet_type == frames.CONNECT:
            await self._handle_connect(eio_sid, frame.namespace, frame.data)
        elif frame.namespace not in _OURS:
            raise ValueError(f"Not connected to {frame.namespace}")
        elif frame.packet_type == frames.DISCONNECT:
            await self._handle_disconnect(eio_sid, frame.namespace)
            self._gone(eio_sid)
            self._expect_connect(eio_sid)
        elif frame.packet_type not in _ACKS:
            await self._handle_call(self.links[eio_sid], frame)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self.eio.sockets.pop(eio_sid, None)
        self.unconnected.pop(eio_sid, None)
        self._gone(eio_sid)

    def _gone(self, eio_sid: str) -> None:
        if (link := self.links.pop(eio_sid, None)) is not None:
            link.leave()
            self.transport.disconnected(link)

    async def _handle_call(self, link: Link, frame: Frame) -> None:
        if frame.packet_type == frames.BINARY_EVENT:
            frame.data = BadRequest("Binary data is not supported: send JSON")
        elif frame.packet_type != frames.EVENT:
            raise ValueError("Clients do not refuse connections")
        await link.room()
        answer = self._spawn(self._answer(link, frame))
        link.answers.add(answer)
        answer.add_done_callback(link.answers.discard)

    async def _answer(self, link: Link, frame: Frame) -> None:
        try:
            if self.links.get(link.socket.sid) is not link:
                return  # It went while the call waited.
            text, answered = await self.transport.answer(link, frame.data)
        finally:
            link.calls.release()
        if frame.id is not None and not link.socket.closed:
            link.socket.write(Message(f"{frames.ACK}{frame.id}{text}"))
        if answered is not None:
            answered()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
