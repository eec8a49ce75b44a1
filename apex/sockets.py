"""The Socket.IO transport: a frame becomes a call, a context its acknowledgement, an event a frame to many."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from apex.app import Apex
from apex.channels import UNSET, Connection
from apex.context import Context, Params
from apex.encoding import encode
from apex.engine import MAX_BACKLOG, MAX_CALLS, MAX_CONNECTIONS, MAX_PAYLOAD, Engine, Link
from apex.errors import BadRequest, MethodNotAllowed, NotFound, Unavailable
from apex.rest import Receive, Scope, Send, headers_of, respond, told
from apex.router import split
from apex.service import Call
from apex.types import STANDARD

log = logging.getLogger("apex")

PATH = "/socket.io/"
SHOWN = 100

_LIMITS = {
    "maxPayload": MAX_PAYLOAD,
    "maxConnections": MAX_CONNECTIONS,
    "maxCalls": MAX_CALLS,
    "maxBacklog": MAX_BACKLOG,
}


def sockets(app: Apex) -> None:
    """Configures the transport, beside REST in one process: ``app.configure(rest).configure(sockets)``.

    Reads ``sockets`` from the app's settings: ``origins`` (default those of the app), ``maxPayload`` (bytes of a
    frame), ``maxConnections``, ``maxCalls`` (at work at once for one connection) and ``maxBacklog`` (bytes that a
    connection has not read).
    """
    transport = Sockets(app, app.get("sockets") or {})
    app.transport = transport
    app.on("publish", transport.publish)
    app.on("disconnect", transport.disconnect)
    app.on("shutdown", transport.close)


class Sockets:
    """The ASGI application in front of the others. ``links`` holds the open connections."""

    def __init__(self, app: Apex, settings: Mapping[str, Any]) -> None:
        self.app, self.inner = app, app.transport
        self.limits = {name: settings.get(name, default) for name, default in _LIMITS.items()}
        origins = settings.get("origins") or app.get("origins") or ["*"]
        self.engine = Engine(self, self.limits, "*" if "*" in origins else list(origins))
        self.links: dict[Connection, Link] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].rstrip("/") + "/" != PATH:
            if self.inner is None:
                raise RuntimeError("The app has no other transport: call app.configure(rest) before sockets")
            await self.inner(scope, receive, send)
        elif (refusal := self._refusal(scope)) is not None:
            await _refuse(scope, receive, send, *refusal)
        else:
            await self.engine.handle_request(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, Any] | None:
        """Status and body for a request that cannot be served, in the words of Engine.IO."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        sid = query.get("sid", [""])[0]
        if query.get("transport", [""])[0] not in ("polling", "websocket"):
            return 400, {"code": 0, "message": "Transport unknown"}
        if query.get("EIO") != ["4"]:
            return 400, {"code": 5, "message": "Unsupported protocol version"}
        if sid and sid not in self.engine.eio.sockets:
            return 400, {"code": 1, "message": "Session ID unknown"}
        if not sid and scope.get("method", "GET") not in ("GET", "OPTIONS"):
            return 400, {"code": 2, "message": "Bad handshake method"}
        if not sid and len(self.engine.eio.sockets) >= self.limits["maxConnections"]:
            return 503, Unavailable("Too many connections: try again later").to_dict()
        return None

    # What the engine reports.

    async def connect(self, link: Link, scope: Scope) -> None:
        """A new connection. Raises what is wrong with the token in its headers."""
        headers = headers_of(scope)
        connection = link.connection = Connection(provider="socketio", headers=headers)
        authentication = self._authentication(headers)
        if authentication is not None:
            service = self.app.get("defaultAuthentication")
            params = {"provider": "socketio", "connection": connection, "headers": headers}
            await self.app.service(service.path).create(authentication, params)
        self.links[connection] = link
        self.app.events.connections.add(connection)
        self.app.emit("connection", connection)

    def disconnected(self, link: Link) -> None:
        """A connection that is gone."""
        if self._forget(link.connection) is not None:
            self.app.emit("disconnect", link.connection)

    async def answer(self, link: Link, event: Any, arguments: list[Any]) -> list[Any]:
        """Runs the call of a frame; gives the arguments of its acknowledgement."""
        try:
            context = await self.app.call(self._call(link.connection, event, arguments))
            return [None, context.external]
        except Exception as error:
            return [told(error, f"{event!r:.{SHOWN}} over a socket").to_dict()]

    # What the app asks for.

    def publish(self, context: Context, recipients: Mapping[Connection, Any]) -> None:
        """Sends an event to connections: each distinct payload is encoded once."""
        name, frames = f"{context.path} {context.event}", {}
        for connection, own in recipients.items():
            if (link := self.links.get(connection)) is not None:
                if id(own) not in frames:
                    frames[id(own)] = self.engine.event(name, context.external if own is UNSET else own)
                if not link.send(frames[id(own)]):
                    self._too_slow(link)

    def disconnect(self, connection: Connection) -> None:
        """Closes a connection that the app wants to go; nothing for one that is gone."""
        if (link := self._forget(connection)) is not None:
            self.engine.leave(link)

    def close(self) -> None:
        """Closes all connections, as the server goes down; the clients come back by themselves."""
        for connection in list(self.links):
            self._forget(connection)
        self.engine.close()

    def _too_slow(self, link: Link) -> None:
        log.warning("A connection was closed: it does not read what it is sent")
        link.outgoing.take()
        self.app.emit("disconnect", link.connection)
        self.engine.end(link.socket)

    def _forget(self, connection: Connection) -> Link | None:
        self.app.events.connections.discard(connection)
        self.app.events.channels.leave_all(connection)
        return self.links.pop(connection, None)

    def _authentication(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        found = (read(headers) for read in self.app.parsers)
        return next((authentication for authentication in found if authentication is not None), None)

    def _call(self, connection: Connection, method: Any, arguments: list[Any]) -> Call:
        """The call of ``[method, path, ...arguments, query]``. Raises NotFound, MethodNotAllowed or BadRequest."""
        path = arguments[0] if arguments else None
        if not isinstance(path, str):
            raise NotFound("Invalid service path")
        match = self.app.lookup(split(path))
        if match is None:
            raise NotFound(f"Service '{path[:SHOWN]}' not found")
        if method not in match.target.options.methods:
            raise MethodNotAllowed(f"Method '{str(method)[:SHOWN]}' not allowed on service '{match.target.path}'")
        given, query = _arguments(method, arguments[1:])
        route = match.route if match.id is None else {**match.route, "__id": match.id}
        own = {"query": query, "route": route, "connection": connection}
        return Call(match.target, method, given.get("id"), given.get("data"), Params({**connection, **own}))


def _arguments(method: str, values: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a method takes, by name, and the query. Raises BadRequest for what cannot be either."""
    names = STANDARD.get(method, ("data",))
    if len(values) > len(names) + 1:
        raise BadRequest(f"Too many arguments for '{method}' method")
    given = dict(zip((*names, "query"), values, strict=False))
    query = given.pop("query", None)
    if not isinstance(query, dict | None):
        raise BadRequest("The query must be an object")
    if isinstance(given.get("id"), bool | float | list | dict):
        raise BadRequest("The id must be a string, an integer or null")
    if method in STANDARD and not isinstance(given.get("data"), dict | list | None):
        raise BadRequest("The data must be an object or a list")
    return given, query or {}


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, body: Any) -> None:
    headers, text = [("Content-Type", "application/json")], encode(body)
    if scope["type"] == "http":
        await respond(send, status, headers, text, 0)
        return
    await receive()
    start = {
        "type": "websocket.http.response.start",
        "status": status,
        "headers": [(b"content-type", b"application/json")],
    }
    await send(start)
    await send({"type": "websocket.http.response.body", "body": text})
