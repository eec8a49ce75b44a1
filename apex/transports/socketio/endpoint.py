"""The endpoint of Engine.IO, which checks each request before the engine reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from apex.encoding import encode
from apex.errors import Unavailable
from apex.limits.clients import BODY_SECONDS
from apex.transports.http import respond
from apex.transports.socketio.connections import Socket, WebSocket
from apex.transports.socketio.engine import Engine
from apex.types import Receive, Scope, Send

TRANSPORTS = {"http": "polling", "websocket": "websocket"}
BAD_REQUEST: tuple[int, Any] = 400, {"code": 3, "message": "Bad request"}


class Endpoint:
    """An ASGI application. ``requests`` has the running requests of polling clients."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.requests: set[tuple[Socket, str]] = set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        socket = self.engine.eio.sockets.get(query.get("sid", [""])[0])
        if (refusal := self._refusal(scope, query, socket)) is not None:
            return _refuse(scope, receive, send, *refusal)
        if scope["type"] == "websocket":
            return self._handle_websocket(scope, receive, send, socket)
        if socket is not None and scope["method"] != "OPTIONS":
            return self._handle_polling(scope, receive, send, socket)
        return self.engine.handle_request(scope, receive, send)  # type: ignore[no-any-return]

    def _refusal(self, scope: Scope, query: dict[str, list[str]], socket: Socket | None) -> tuple[int, Any] | None:
        """Return status and body if a request cannot be served, with the error of Engine.IO, else None."""
        method = scope.get("method", "GET")
        if query.get("transport") != [TRANSPORTS[scope["type"]]] or "j" in query:
            return 400, {"code": 0, "message": "Transport unknown"}
        if query.get("EIO") != ["4"]:
            return 400, {"code": 5, "message": "Unsupported protocol version"}
        if socket is None and "sid" in query:
            return 400, {"code": 1, "message": "Session ID unknown"}
        if method not in ("GET", "OPTIONS", "POST") or (socket is None and method == "POST"):
            return 400, {"code": 2, "message": "Bad handshake method"}
        if socket is not None and (socket.upgraded or (socket.upgrading and scope["type"] == "websocket")):
            return BAD_REQUEST
        full = socket is None and len(self.engine.eio.sockets) >= self.engine.limits["maxConnections"]
        if full and not self.engine.make_room():
            return 503, Unavailable("Too many connections: try again later").to_dict()
        return None

    async def _handle_websocket(self, scope: Scope, receive: Receive, send: Send, polling: Socket | None) -> None:
        """Handle a WebSocket, new or the upgrade of a polling session. A malformed packet ends it."""
        await receive()
        if not self.engine.eio.allows_origin(scope):
            await send({"type": "websocket.close"})
            return
        socket = polling or await self.engine.eio.open(scope, "websocket")
        await self.engine.eio.serve(WebSocket(receive, send), socket)

    async def _handle_polling(self, scope: Scope, receive: Receive, send: Send, socket: Socket) -> None:
        """Handle a GET or POST of a polling session. Two of a kind at once would lose the order of packets."""
        request = socket, scope["method"]
        if request in self.requests:
            self.engine.end(socket)
            await _refuse(scope, receive, send, *BAD_REQUEST)
            return
        self.requests.add(request)
        try:
            await (self._handle_post if scope["method"] == "POST" else self._handle_get)(scope, receive, send, socket)
        finally:
            self.requests.discard(request)

    async def _handle_get(self, scope: Scope, receive: Receive, send: Send, socket: Socket) -> None:
        watching = asyncio.create_task(self._end_on_disconnect(receive, socket))
        try:
            await self.engine.handle_request(scope, _receiving(b""), send)
        finally:
            watching.cancel()

    async def _end_on_disconnect(self, receive: Receive, socket: Socket) -> None:
        """Close the session when the client disconnects during a poll, as the packets for that poll are lost."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.engine.end(socket)

    async def _handle_post(self, scope: Scope, receive: Receive, send: Send, socket: Socket) -> None:
        body = await _body(receive, self.engine.limits["maxPayload"])
        if body is None or not self.engine.are_packets(body.decode(errors="replace")):
            self.engine.end(socket)
            await _refuse(scope, receive, send, *BAD_REQUEST)
            return
        await self.engine.handle_request(scope, _receiving(body), send)


async def _body(receive: Receive, limit: int) -> bytes | None:
    """Return the body of a request, or None if it is too large, takes too long or does not come."""
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if message["type"] == "http.disconnect" or len(body) > limit:
                    return None
    except TimeoutError:
        return None
    return bytes(body)


def _receiving(body: bytes) -> Receive:
    """Return a ``receive`` of ASGI for a body that has been read."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body}

    return receive


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, body: Any) -> None:
    text = encode(body)
    if scope["type"] == "http":
        await respond(send, status, [(b"cache-control", b"no-store")], text, len(text))
        return
    await receive()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": text})
