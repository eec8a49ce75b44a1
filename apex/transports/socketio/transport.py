"""The Socket.IO transport: a frame becomes a call, a context its acknowledgement, an event a frame to many."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from apex.app import Apex
from apex.context import Context, Params
from apex.encoding import Stream, encode
from apex.errors import BadRequest, FeathersError, MethodNotAllowed, NotFound
from apex.lazy import extra
from apex.observability.observations import ENDED, Observation, observing
from apex.realtime.channels import UNSET, Connection
from apex.request import REQUEST_ID, address_of, new_request_id
from apex.router import split
from apex.service import Call, arguments_of
from apex.transports.pages import asset
from apex.transports.rest import Headers, Receive, Scope, Send, failure, headers_of, public_error

if TYPE_CHECKING:
    from apex.transports.socketio.engine import Answer, Link

log = logging.getLogger("apex")

PATH = "/socket.io/"
CLIENT = Path(__file__).parent / "static" / "socket.io-4.8.4.min.js"
CLIENT_PATHS = (f"{PATH}socket.io.js", f"{PATH}socket.io.min.js")
"""The paths at which Socket.IO's own server has the client for browsers."""

SHOWN = 100

_ENGINE_KEYS = ("EIO", "transport", "sid", "t", "j", "b64")
"""The parameters that the client itself adds to the query of a handshake."""


def sockets(app: Apex) -> None:
    """Configures the transport, beside REST in one process: ``app.configure(rest).configure(sockets)``.

    Reads ``sockets`` from the app's settings: ``origins`` (default those of the app), ``maxPayload`` (bytes of a
    frame), ``maxConnections``, ``maxCalls`` (at work at once for one connection) and ``maxBacklog`` (bytes that a
    connection has not read). Raises ConfigError where python-socketio is missing.
    """
    transport = Sockets(app, app.get("sockets") or {})
    app.transport = transport
    app.on("publish", transport.publish)
    app.on("disconnect", transport.disconnect)
    app.on("shutdown", transport.close)


class Sockets:
    """The ASGI application in front of the others. ``links`` holds the open connections."""

    def __init__(self, app: Apex, settings: Mapping[str, Any]) -> None:
        with extra("sockets", "Socket.IO"):
            from apex.transports.socketio.endpoint import Endpoint
            from apex.transports.socketio.engine import LIMITS, Engine

        self.app, self.inner = app, app.transport
        limits = {name: settings.get(name, default) for name, default in LIMITS.items()}
        origins = settings.get("origins") or app.get("origins") or ["*"]
        self.engine = Engine(self, limits, "*" if "*" in origins else list(origins))
        self.endpoint = Endpoint(self.engine)
        self.client = asset(CLIENT)
        self.links: dict[Connection, Link] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if scope.get("root_path"):
                path = path.removeprefix(scope["root_path"].rstrip("/"))
            if path.rstrip("/") + "/" == PATH:
                return self.endpoint(scope, receive, send)
            if path in CLIENT_PATHS and scope.get("method") in ("GET", "HEAD"):
                return self.client(scope, receive, send)
        if self.inner is None:
            raise RuntimeError("The app has no other transport: call app.configure(rest) before sockets")
        answered: Awaitable[None] = self.inner(scope, receive, send)
        return answered

    # What the engine reports.

    async def log_in(self, link: Link, scope: Scope, auth: Mapping[str, Any]) -> None:
        """Make a connection of a new link, with the client's ``auth``.

        Raises the FeathersError of a login by its headers that fails.
        """
        headers = headers_of(scope)
        handshake = {"query": _query_of(scope), "auth": auth}
        ip = address_of(scope, headers, self.app.get("proxies") or 0)
        connection = link.connection = Connection(provider="socketio", headers=headers, ip=ip, handshake=handshake)
        authentication = self._authentication(headers)
        if authentication is None:
            return
        service = self.app.get("defaultAuthentication")
        params = {**connection, "connection": connection, "headers": _named(headers)}
        call = Call(self.app.service(service.path), "create", None, authentication, Params(params))
        with observing(Observation(self.app, "socketio")) as seen:
            seen.call = call
            try:
                context = await self.app.call(call)
                link.accepted = context.start_deferred
                seen.status = 201
            except Exception as error:
                self._forget(connection)
                refusal = public_error(error, "The login of a handshake")
                seen.error, seen.status = error, refusal.code
                raise refusal from None

    async def connected(self, link: Link) -> None:
        """Let a connection in once the listeners of ``connection`` have run."""
        self.links[link.connection] = link
        self.app.events.connections.add(link.connection)
        await self.app.emit_and_wait("connection", link.connection)

    def disconnected(self, link: Link) -> None:
        """A connection that is gone."""
        if self._forget(link.connection) is not None:
            self.app.emit("disconnect", link.connection)

    async def answer(self, link: Link, event: Any) -> Answer:
        """Run the call of a frame. Return the encoded arguments of its acknowledgement and a function to call next."""
        if not self.app.listens(ENDED):
            return await self._answer(link, event)
        with observing(Observation(self.app, "socketio")) as seen:
            return await self._answer(link, event, seen)

    async def _answer(self, link: Link, event: Any, seen: Observation | None = None) -> Answer:
        try:
            call = self._call(link.connection, event)
            if seen is not None:
                seen.call = call
            context = await self.app.call(call)
            if isinstance(context._outgoing, Stream):
                raise BadRequest(f"'{context.method}' of '{context.path}' answers with a file: call it over REST")
            text = encode([None, context._outgoing]).decode()
            if seen is not None:
                seen.status = 201 if call.method == "create" else 200
            return text, context.start_deferred if context.deferred else None
        except Exception as error:
            name = event[:2] if isinstance(event, list) else event
            status, _, body = failure(error, f"{name!r:.{SHOWN}} over a socket")
            if seen is not None:
                seen.error, seen.status = error, status
            return f"[{body.decode()}]", None

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
        for link in list(self.links.values()):
            self.disconnected(link)
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

    def _call(self, connection: Connection, event: Any) -> Call:
        """The call of ``[method, path, ...arguments, query]``. Raises NotFound, MethodNotAllowed or BadRequest."""
        if isinstance(event, FeathersError):
            raise event
        if not isinstance(event, list) or not event:
            raise BadRequest("An event must be a list: a method, a path, arguments")
        method, path, *arguments = event if len(event) > 1 else (*event, None)
        if not isinstance(path, str):
            raise NotFound("Invalid service path")
        match = self.app.lookup(split(path))
        if match is None:
            raise NotFound(f"Service '{path[:SHOWN]}' not found")
        if method not in match.target._options.methods:
            raise MethodNotAllowed(f"Method '{str(method)[:SHOWN]}' not allowed on service '{match.target._path}'")
        given, query = arguments_of(method, arguments)
        route = match.route if match.id is None else {**match.route, "__id": match.id}
        headers = _named(connection["headers"])
        own = {"query": query, "route": route, "connection": connection, "headers": headers}
        return Call(match.target, method, given.get("id"), given.get("data"), Params({**connection, **own}))


def _named(headers: Headers) -> Headers:
    """The headers of a handshake for one of the calls after it, each of which has a request id of its own."""
    return {**headers, REQUEST_ID: new_request_id()}


def _query_of(scope: Scope) -> dict[str, str | list[str]]:
    """Return the query of a handshake without the client's own parameters. A name that occurs twice has a list."""
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values if values[1:] else values[0] for name, values in asked.items() if name not in _ENGINE_KEYS}
