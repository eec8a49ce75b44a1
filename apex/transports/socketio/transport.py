"""The Socket.IO transport: a packet becomes a call, its context an acknowledgement, and an event one frame for many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from apex._lazy import extra
from apex.app import Apex
from apex.context import Context, Params
from apex.encoding import Stream, encode
from apex.errors import BadRequest, FeathersError, MethodNotAllowed, NotFound, Unavailable
from apex.limits.clients import address_of
from apex.observability.observations import ENDED, REQUEST_ID, Observation, observing, request_ids
from apex.realtime.channels import Connection
from apex.router import split
from apex.service import Call
from apex.transports.batch import arguments_of
from apex.transports.http import Headers, failure, headers_of, public_error
from apex.transports.pages import asset
from apex.transports.positions import pop_position, with_position
from apex.types import UNSET, ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from apex.transports.socketio.engine import Answer, Link
    from apex.transports.socketio.packets import Message

log: logging.Logger = logging.getLogger("apex")

MOUNT = "socket.io"
CLIENT = Path(__file__).parent / "static" / "socket.io-4.8.4.min.js"
LIVE = Path(__file__).parents[2] / "live" / "index.js"
FILES = {"socket.io.js": CLIENT, "socket.io.min.js": CLIENT, "apex-live.js": LIVE}
"""The files for browsers: the client under the names that the server of Socket.IO has for it, and live pages."""

CATCH_UP_SECONDS = 1
"""Seconds that a new connection waits for the log. If the database hangs, it is connected all the same."""

SHOWN = 100
"""The characters of a name that an error shows."""

_ENGINE_KEYS = ("EIO", "transport", "sid", "t", "j", "b64")
"""The parameters that the client adds to the query of a handshake."""


def sockets(app: Apex) -> None:
    """Serve the app over Socket.IO as well: ``app.configure(rest).configure(sockets)``.

    Reads ``sockets`` from the app's settings: ``origins`` (by default those of the app), ``maxPayload`` (bytes of a
    packet), ``maxConnections``, ``maxCalls`` (running at once for one connection) and ``maxBacklog`` (bytes that a
    client has not read yet). Raises ConfigError if python-socketio is missing.
    """
    transport = app.mounts[MOUNT] = Sockets(app, app.get("sockets") or {})
    app.on("publish", transport.publish)
    app.on("disconnect", transport.disconnect)
    app.on("shutdown", transport.close)


class Sockets:
    """The ASGI application below ``/socket.io``. ``links`` has the open connections."""

    def __init__(self, app: Apex, settings: Mapping[str, Any]) -> None:
        with extra("sockets", "Socket.IO"):
            from apex.transports.socketio.endpoint import Endpoint
            from apex.transports.socketio.engine import LIMITS, Engine
            from apex.transports.socketio.resumption import Resumption

        self.app: Apex = app
        limits = {name: settings.get(name, default) for name, default in LIMITS.items()}
        origins = settings.get("origins") or app.get("origins") or ["*"]
        self.engine: Engine = Engine(self, limits, "*" if "*" in origins else list(origins))
        self.endpoint: Endpoint = Endpoint(self.engine)
        self.resumption: Resumption = Resumption(app, self.engine)
        self.files: dict[str, ASGIApp] = {name: asset(file) for name, file in FILES.items()}
        self.links: dict[Connection, Link] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a connection or a request for a file. Other paths go on to the transport of the app."""
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")).removeprefix(f"/{MOUNT}")
        if not path.strip("/"):
            return self.endpoint(scope, receive, send)
        if path[1:] in self.files and scope.get("method") in ("GET", "HEAD"):
            return self.files[path[1:]](scope, receive, send)
        if self.app.transport is None:
            raise RuntimeError("The app has no other transport: call app.configure(rest)")
        return self.app.transport(scope, receive, send)

    # The engine calls these methods.

    async def log_in(self, link: Link, scope: Scope, auth: Mapping[str, Any]) -> None:
        """Create the connection of a link, with the client's ``auth``, and log it in if its headers have a proof.

        Raises the FeathersError of a login that fails, and of a position that cannot be followed.
        """
        link.pid = await self.resumption.prepare(link, auth)
        headers = headers_of(scope)
        handshake = {"query": _query_of(scope), "auth": auth}
        ip = address_of(scope, headers, self.app.get("proxies") or 0)
        connection = link.connection = Connection(provider="socketio", headers=headers, ip=ip, handshake=handshake)
        authentication = self._authentication(headers)
        if authentication is None:
            return
        service = self.app.get("defaultAuthentication")
        params = {**connection, "connection": connection, "headers": _with_request_id(headers)}
        call = Call(self.app.service(service.path), "create", None, authentication, Params(params))
        with observing(Observation(self.app, "socketio")) as seen:
            seen.call = call
            try:
                context = await self.app.call(call)
                link.deferred = context.start_deferred
                link.has_login = True
                seen.status = 201
            except Exception as error:
                self._forget(connection)
                refusal = public_error(error, "The login of a handshake")
                seen.error, seen.status = error, refusal.code
                raise refusal from None

    async def connected(self, link: Link) -> None:
        """Register a connection and run the listeners of ``connection``."""
        if self.app.log is not None and link.replay is None:
            with suppress(Unavailable, TimeoutError):  # Then the connection gets no events of changes before it.
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    await self.app.log.catch_up()
        self.links[link.connection] = link
        self.app.events.connections.add(link.connection)
        await self.app.emit_and_wait("connection", link.connection)
        link.joined = frozenset(link.connection.channels)

    def accepted(self, link: Link) -> None:
        """Go on after the answer to the client: with what it has missed, and what waits for its login."""
        if link.deferred is not None:
            link.deferred()
            link.deferred = None
        if link.connection in self.links:
            self.resumption.connected(link)

    def disconnected(self, link: Link) -> None:
        """Forget a connection that has ended."""
        if self._forget(link.connection) is not None:
            self.app.emit("disconnect", link.connection)

    async def answer(self, link: Link, event: Any) -> Answer:
        """Run the call of a packet. Return the encoded arguments of its acknowledgement and a function to call next."""
        if not self.app.listens(ENDED):
            return await self._answer(link, event)
        with observing(Observation(self.app, "socketio")) as seen:
            return await self._answer(link, event, seen)

    async def _answer(self, link: Link, event: Any, seen: Observation | None = None) -> Answer:
        try:
            call = self._call(link.connection, event)
            if seen is not None:
                seen.call = call
            asks_position = self.app.log is not None and pop_position(call)
            context = await self.app.call(call)
            if isinstance(context._outgoing, Stream):
                raise BadRequest(f"'{context.method}' of '{context.path}' answers with a file: call it over REST")
            body = encode(context._outgoing)
            if asks_position:
                body = with_position(body, context)
            if seen is not None:
                seen.status = 201 if call.method == "create" else 200
            return f"[null,{body.decode()}]", self._after_answer(link, context)
        except Exception as error:
            name = event[:2] if isinstance(event, list) else event
            status, _, body = failure(error, f"{name!r:.{SHOWN}} over a socket")
            if seen is not None:
                seen.error, seen.status = error, status
            return f"[{body.decode()}]", None
        finally:
            self.resumption.called(link)

    def _after_answer(self, link: Link, context: Context) -> Callable[[], None] | None:
        """Return the function to call after the answer to a call, if there is something to do."""
        service = self.app.get("defaultAuthentication")
        if service is None or context.path != service.path:
            return context.start_deferred if context.deferred else None
        link.joined = frozenset(link.connection.channels)

        def go_on() -> None:
            context.start_deferred()
            link.has_login = link.connection.get("authentication") is not None
            self.resumption.logged_in(link)

        return go_on

    # The app calls these methods through its events.

    def publish(self, context: Context, recipients: Mapping[Connection, Any]) -> None:
        """Send an event to connections. Each distinct payload is encoded once.

        A connection whose replay still runs gets an event of the log from the replay.
        """
        name, entry = f"{context.path} {context.event}", context.entry
        number = None if entry is None else entry.id
        packets: dict[tuple[int, bool, bool], Message] = {}
        for connection, own in recipients.items():
            if (link := self.links.get(connection)) is not None:
                key = id(own), link.has_login, link.is_lost
                if (packet := packets.get(key)) is None:
                    data = context.external if own is UNSET else own
                    packet = packets[key] = self.resumption.packet(name, data, number, link)
                if entry is not None and link.since is not None and self.resumption.holds_back(link, entry, packet):
                    continue
                if not link.send(packet):
                    self._end_slow(link)

    def disconnect(self, connection: Connection) -> None:
        """Disconnect a connection, if it is still open."""
        if (link := self._forget(connection)) is not None:
            self.engine.leave(link)

    def close(self) -> None:
        """Close all connections when the server stops. The clients reconnect by themselves."""
        for link in list(self.links.values()):
            self.disconnected(link)
        self.resumption.close()
        self.engine.close()

    def _end_slow(self, link: Link) -> None:
        """End the connection of a client that does not read, so that it connects again once it does."""
        log.warning("A connection was closed: its client does not read")
        link.outgoing.take()
        self.disconnected(link)
        self.engine.end(link.socket)

    def _forget(self, connection: Connection) -> Link | None:
        self.app.events.connections.discard(connection)
        self.app.events.channels.leave_all(connection)
        if (link := self.links.pop(connection, None)) is not None:
            self.resumption.disconnected(link)
        return link

    def _authentication(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        found = (read(headers) for read in self.app.parsers)
        return next((authentication for authentication in found if authentication is not None), None)

    def _call(self, connection: Connection, event: Any) -> Call:
        """Return the call of ``[method, path, ...arguments, query]``.

        Raises NotFound, MethodNotAllowed or BadRequest.
        """
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
        headers = _with_request_id(connection["headers"])
        own = {"query": query, "route": route, "connection": connection, "headers": headers}
        return Call(match.target, method, given.get("id"), given.get("data"), Params({**connection, **own}))


def _with_request_id(headers: Headers) -> Headers:
    """Return the headers of a handshake with a request id for one call."""
    return {**headers, REQUEST_ID: next(request_ids)}


def _query_of(scope: Scope) -> dict[str, str | list[str]]:
    """Return the query of a handshake without the client's own parameters. A repeated name has a list of values."""
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values if values[1:] else values[0] for name, values in asked.items() if name not in _ENGINE_KEYS}
