"""The engine: python-socketio with bounded queues, frames that are encoded once, and an answer to every call.

It speaks Engine.IO 4 and Socket.IO 5 and holds the connections. A ``Transport`` runs the calls.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from apex.encoding import JSON
from apex.errors import BadRequest, FeathersError
from apex.realtime.channels import Connection
from apex.transports.socketio.connections import SEPARATOR, Outgoing, Pings, Socket, WebSocket
from apex.transports.socketio.packets import (
    OPEN,
    Message,
    Packet,
    SocketIOPacket,
    engineio,
    is_packet,
    socketio,
    types,
)
from apex.types import Scope

if TYPE_CHECKING:
    from apex.log.position import Position
    from apex.transports.socketio.resumption import Replay

MAX_PAYLOAD = 1_000_000
LIMITS = {"maxPayload": MAX_PAYLOAD, "maxConnections": 10_000, "maxCalls": 100, "maxBacklog": 4 * 1024 * 1024}

CONNECT_SECONDS = 45
"""Seconds that a client has for its CONNECT packet."""
ANSWER_SECONDS = 5
"""Seconds for which a connection that the app closes waits for the answers to its calls."""
SMALLEST_PACKET = 16
"""Characters of the shortest call. A request has at most as many packets as such calls fit into it."""

POSTED: dict[str, Any] = {"status": "200 OK", "headers": [("Content-Type", "text/html")], "response": b"ok"}
"""The answer to packets that a client has posted. It is that of Socket.IO on Node."""

_ATTACHMENT = re.compile(r"b([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_NAMESPACES = (None, "/")
_ACKS = (types.ACK, types.BINARY_ACK)

log: logging.Logger = logging.getLogger("apex.transports.socketio.engine")
# Below this level the libraries log whole packets, which contain tokens.
log.setLevel(logging.WARNING)


class Link:
    """An open Socket.IO connection: its id, its Engine.IO socket and its running calls.

    ``deferred`` is called when the client has received the answer to its CONNECT packet. ``replay`` sends a client that
    has returned what it has missed, and is None once that is done. ``since`` is the position up to which it was sent.
    ``has_login`` is True if it is logged in, and ``is_lost`` if its client has to read again with the next connection.
    ``joined`` has the channels that it has joined by connecting and by its login.
    """

    connection: Connection
    deferred: Callable[[], None] | None = None
    pid: str | None = None
    replay: Replay | None = None
    since: Position | None = None
    has_login: bool = False
    is_lost: bool = False
    joined: frozenset[str] = frozenset()

    def __init__(self, sid: str, socket: Socket, limits: Mapping[str, int]) -> None:
        self.sid: str = sid
        self.socket: Socket = socket
        self.outgoing: Outgoing = socket.queue
        self.backlog: int = limits["maxBacklog"]
        self.calls: asyncio.Semaphore = asyncio.Semaphore(limits["maxCalls"])
        self.answers: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None

    def send(self, packet: Message) -> bool:
        """Send a packet. Return False if the client has too much left to read."""
        direct = self.socket.direct
        if direct is None or not direct(packet.frame):
            if self.outgoing.size > self.backlog:
                return False
            self.socket.enqueue(packet)
        return True

    async def send_all(self, packets: Sequence[Message]) -> None:
        """Send packets in one write. Wait before that, if the client has much left to read."""
        if self.outgoing.size > self.backlog // 4:
            await self.outgoing.below(self.backlog // 4)
        direct = self.socket.direct
        if direct is None or not direct(b"".join([packet.frame for packet in packets])):
            for packet in packets:
                self.socket.enqueue(packet)

    async def wait_for_turn(self) -> None:
        """Wait until the client has read its answers and fewer than ``maxCalls`` calls are running."""
        if self.outgoing.size > self.backlog // 4:
            self._reading = asyncio.create_task(self.outgoing.below(self.backlog // 4))
            await asyncio.wait([self._reading])
        await self.calls.acquire()
        if self.socket.last_ping:
            self.socket.last_ping = time.time()  # The client's answer to a ping waits behind its calls.

    def leave(self) -> None:
        """Stop waiting for the client to read, as it has gone."""
        if self._reading is not None:
            self._reading.cancel()


Answer = tuple[str, Callable[[], None] | None]
"""The encoded arguments of an acknowledgement, and a function to call when it is sent."""


class Transport(Protocol):
    """The part of the transport that the engine calls."""

    async def log_in(self, link: Link, scope: Any, auth: Mapping[str, Any]) -> None:
        """Create the connection of a link. Raises FeathersError if the handshake is refused."""
        ...

    async def connected(self, link: Link) -> None:
        """Register a connection."""
        ...

    def accepted(self, link: Link) -> None:
        """Go on after the answer to the client."""
        ...

    def disconnected(self, link: Link) -> None:
        """Forget a connection."""
        ...

    async def answer(self, link: Link, event: Any) -> Answer:
        """Run the call of a packet."""
        ...


class _EngineIO(engineio.AsyncServer):  # type: ignore[misc]
    start_service_task: bool

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pings: Pings = Pings(self)

    def create_queue(self, *_: Any, **__: Any) -> Any:
        return Outgoing()

    async def open(self, scope: Scope, transport: str) -> Socket:
        """Open a session."""
        if self.start_service_task:
            self.start_service_task = False
            self.service_task_handle = self.start_background_task(self._service_task)
        sid = self.generate_id()
        socket = self.sockets[sid] = Socket(self, sid)
        socket.scope = scope
        handshake = {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingTimeout": int(self.ping_timeout * 1000),
            "pingInterval": int(self.ping_interval + self.ping_interval_grace_period) * 1000,
            "maxPayload": self.max_http_buffer_size,
        }
        socket.write(Packet(OPEN, handshake))
        await self._trigger_event("connect", sid, {})
        socket.schedule_ping()
        return socket

    async def serve(self, websocket: WebSocket, socket: Socket) -> None:
        """Serve a WebSocket until it ends."""
        await socket.serve(websocket)
        if socket.closed:
            self.sockets.pop(socket.sid, None)

    def allows_origin(self, scope: Scope) -> bool:
        """Return True if a page of the origin in the headers may connect, or if there is none."""
        origin = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), None)
        allowed = None if origin is None else self._cors_allowed_origins({"HTTP_ORIGIN": origin})
        return allowed is None or origin in allowed

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None) -> Any:
        """Open a session that polls. The library would not make a ``Socket``."""
        socket = await self.open(environ["asgi.scope"], transport)
        socket.connected = True
        return self._ok(await socket.poll())

    def _cors_headers(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [*super()._cors_headers(environ), ("Cache-Control", "no-store")]

    def _ok(self, packets: Any = None, headers: Any = None, jsonp_index: int | None = None) -> Any:
        return POSTED if packets is None else super()._ok(packets, headers, jsonp_index)


class Engine(socketio.AsyncServer):  # type: ignore[misc]
    """The Socket.IO server. Each event that a client sends is a call, whatever its name.

    ``unconnected`` has the sessions that have not sent CONNECT yet, the oldest first, each with its timer.
    """

    def __init__(self, transport: Transport, limits: Mapping[str, int], origins: str | list[str]) -> None:
        loggers: dict[str, Any] = {"logger": log, "engineio_logger": log}
        super().__init__(
            **loggers,
            async_mode="asgi",
            serializer=SocketIOPacket,
            cors_allowed_origins=origins,
            cors_credentials=False,
            max_http_buffer_size=limits["maxPayload"],
            # Compression would block the event loop.
            http_compression=False,
        )
        self._transport = transport
        self.limits: Mapping[str, int] = limits
        self.links: dict[str, Link] = {}
        self.unconnected: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def _engineio_server_class(self) -> type[engineio.AsyncServer]:
        return _EngineIO

    def are_packets(self, body: str) -> bool:
        """Return True if a polling client may send this body, with no more packets than it can have a use for."""
        if body.count(SEPARATOR) > self.limits["maxPayload"] // SMALLEST_PACKET:
            return False
        return all(is_packet(packet) or _ATTACHMENT.match(packet) for packet in body.split(SEPARATOR))

    @staticmethod
    def event_packet(*event: Any) -> Message:
        """Return the encoded packet of an event, its name and its arguments, for any number of connections."""
        return Message(f"{types.EVENT}{JSON.dumps(event)}")

    def close(self) -> None:
        """Close all connections, without waiting for clients that do not read."""
        for socket in list(self.eio.sockets.values()):
            self.end(socket)

    def make_room(self) -> bool:
        """Close the oldest session that is not connected yet. Return False if there is none."""
        while self.unconnected:
            eio_sid = next(iter(self.unconnected))
            self.unconnected.pop(eio_sid).cancel()
            if (socket := self.eio.sockets.pop(eio_sid, None)) is not None:
                self.end(socket)
                return True
        return False

    def leave(self, link: Link) -> None:
        """Disconnect a connection when its calls are answered. Its session may connect again."""
        self.links.pop(link.socket.sid, None)
        self._spawn(self._leave(link))

    async def _leave(self, link: Link) -> None:
        if link.answers:
            await asyncio.wait(link.answers, timeout=ANSWER_SECONDS)
        link.socket.write(Message(str(types.DISCONNECT)))
        if not link.socket.closed:
            self._expect_connect(link.socket.sid)

    def finish(self, link: Link, last: Message) -> None:
        """Send a last packet and close the session of a connection when its calls are answered."""
        self._spawn(self._finish(link, last))

    async def _finish(self, link: Link, last: Message) -> None:
        if link.answers:
            await asyncio.wait(link.answers, timeout=ANSWER_SECONDS)
        link.send(last)
        await link.socket.close(reason=self.reason.SERVER_DISCONNECT)

    def end(self, socket: Socket) -> None:
        """Close a session when its queued packets are sent."""
        self._spawn(socket.close(reason=self.reason.SERVER_DISCONNECT))

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        socket = self.eio.sockets[eio_sid]
        if namespace not in _NAMESPACES:
            error: Any = SocketIOPacket(types.CONNECT_ERROR, data={"message": "Invalid namespace"}, namespace=namespace)
            socket.write(Message(error.encode()))
        elif eio_sid not in self.links:
            link = Link(self.eio.generate_id(), socket, self.limits)
            try:
                answer = await self._connect(link, data if isinstance(data, dict) else {})
            except FeathersError as error:
                refusal = {"message": error.message, **({} if error.data is None else {"data": error.data})}
                socket.write(Message(f"{types.CONNECT_ERROR}{JSON.dumps(refusal)}"))
            else:
                socket.write(Message(f"{types.CONNECT}{JSON.dumps(answer)}"))
                self._transport.accepted(link)

    async def _connect(self, link: Link, auth: Mapping[str, Any]) -> dict[str, Any]:
        """Connect a client, and return the answer to it. Raises FeathersError."""
        sid = link.socket.sid
        await self._transport.log_in(link, link.socket.scope, auth)
        self.links[sid] = link
        self._expects_connect_no_more(sid)
        await self._transport.connected(link)
        if link.socket.closed:
            self._remove(sid)
        return {"sid": link.sid} if link.pid is None else {"sid": link.sid, "pid": link.pid}

    async def _handle_eio_connect(self, eio_sid: str, environ: Mapping[str, Any]) -> None:
        self._expect_connect(eio_sid)

    def _expect_connect(self, eio_sid: str) -> None:
        timer = asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._require_connected, eio_sid)
        self.unconnected[eio_sid] = timer

    def _expects_connect_no_more(self, eio_sid: str) -> None:
        if (timer := self.unconnected.pop(eio_sid, None)) is not None:
            timer.cancel()

    def _require_connected(self, eio_sid: str) -> None:
        """Close a session that has not sent CONNECT in time."""
        self.unconnected.pop(eio_sid, None)
        if eio_sid in self.eio.sockets and eio_sid not in self.links:
            self.end(self.eio.sockets[eio_sid])

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if isinstance(data, bytes):
            return  # The attachment of an event that was refused.
        try:
            await self._handle_packet(eio_sid, SocketIOPacket(encoded_packet=data))
        except (ValueError, TypeError, LookupError):
            # As in Socket.IO on Node, a malformed packet ends the session, and so does one before CONNECT.
            if eio_sid in self.eio.sockets:
                self.end(self.eio.sockets[eio_sid])

    async def _handle_packet(self, eio_sid: str, packet: SocketIOPacket) -> None:
        if packet.packet_type == types.CONNECT:
            await self._handle_connect(eio_sid, packet.namespace, packet.data)
        elif packet.namespace not in _NAMESPACES:
            raise ValueError(f"Not connected to {packet.namespace}")
        elif packet.packet_type == types.DISCONNECT:
            self._remove(eio_sid)
            self._expect_connect(eio_sid)
        elif packet.packet_type not in _ACKS:
            await self._handle_call(self.links[eio_sid], packet)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self.eio.sockets.pop(eio_sid, None)
        self._expects_connect_no_more(eio_sid)
        self._remove(eio_sid)

    def _remove(self, eio_sid: str) -> None:
        if (link := self.links.pop(eio_sid, None)) is not None:
            link.leave()
            self._transport.disconnected(link)

    async def _handle_call(self, link: Link, packet: SocketIOPacket) -> None:
        if packet.packet_type == types.BINARY_EVENT:
            packet.data = BadRequest("Binary data is not supported: send JSON")
        elif packet.packet_type != types.EVENT:
            raise ValueError("Clients do not refuse connections")
        await link.wait_for_turn()
        answer = self._spawn(self._answer(link, packet))
        link.answers.add(answer)
        answer.add_done_callback(link.answers.discard)

    async def _answer(self, link: Link, packet: SocketIOPacket) -> None:
        try:
            if self.links.get(link.socket.sid) is not link:
                return  # It was closed while the call waited.
            text, answered = await self._transport.answer(link, packet.data)
        finally:
            link.calls.release()
        if packet.id is not None and not link.socket.closed:
            link.socket.write(Message(f"{types.ACK}{packet.id}{text}"))
        if answered is not None:
            answered()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
