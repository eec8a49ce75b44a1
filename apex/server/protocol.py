"""HTTP connections: the limits on their size, time and number, and the writing of responses.

The protocol builds on uvicorn's for httptools and uses private parts of it. ``tests/project/test_private.py`` lists
them.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Collection, Iterable
from heapq import nsmallest
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from apex.app import Apex
from apex.errors import BadRequest, ConfigError, FeathersError, HeadersTooLarge, Timeout, Unavailable, URITooLong
from apex.limits.clients import HttpLimits
from apex.transports.http import JSON, Pair, failure
from apex.types import ASGIApp

CLOSE = (b"connection", b"close")

BYTES_PER_SECOND = 32 * 1024
"""Bytes of a body that extend the time for it by a second."""

LINGER_SECONDS, LINGER_BYTES = 2, 1024 * 1024
"""Seconds and bytes for which a refused client may go on to send, as it reads the answer only after its request."""

RESERVED = 100
"""File descriptors that remain for the database, Redis, files and listeners."""


def limits_of(app: Apex) -> HttpLimits:
    """Return the limits of an app, with no more connections than the process may open files.

    Raises ConfigError for an unknown setting.
    """
    settings = app.get("http") or {}
    for name in settings.keys() - set(HttpLimits._fields):
        raise ConfigError(f"'http' has no setting '{name}': there are {', '.join(HttpLimits._fields)}")
    limits = HttpLimits(**settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.maxConnections + RESERVED
    if soft < wanted and soft < hard:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return limits._replace(maxConnections=max(1, min(limits.maxConnections, soft - RESERVED)))


class Config(uvicorn.Config):
    """The configuration of uvicorn, with the limits of connections."""

    def __init__(self, app: Any, limits: HttpLimits, **options: Any) -> None:
        super().__init__(app, http=HttpProtocol, timeout_keep_alive=limits.idleSeconds, **options)
        self.limits = limits


class HttpProtocol(HttpToolsProtocol):
    """An HTTP connection within ``HttpLimits``.

    When the client disconnects, a running GET or HEAD is cancelled, and its statement if it has a database connection
    of its own. Other requests go on, as they may be half done.

    Connections have no timers. ``since`` is the time from which the connection waits for its client, and the server
    checks all connections once a second (``close_overdue``).
    """

    config: Config

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limits: HttpLimits = self.config.limits
        self.served: ASGIApp = self.app
        self.app = self._serve
        self.answering: RequestResponseCycle | None = None
        self.reading: asyncio.Task[Any] | None = None
        self.error: FeathersError | None = None
        self.refusal: FeathersError | None = None
        self.since: float = self.loop.time()
        self.url: bytes = b""
        self.packet: int = 0
        self.unparsed: int = 0
        self.received: int = 0

    # Requests.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.maxConnections and not make_room(self.connections, self):
            self.refuse(Unavailable("Too many connections: try again later"))

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which buffers a header until it is complete.

        ``unparsed`` counts the bytes since the last part of a body or the last request, without those of the same
        packet.
        """
        if self.refusal is not None:
            self._discard(len(data))
            return
        self.packet = len(data)
        self.unparsed += self.packet
        super().data_received(data)
        if self.unparsed > self.limits.headerBytes and self.refusal is None:
            self.refuse(self._too_large())

    def on_url(self, url: bytes) -> None:
        if not self.url:
            self.since = self.loop.time()
            self.received = 0
        self.url += url

    def on_headers_complete(self) -> None:
        if len(self.headers) > self.limits.headerCount or self.unparsed + self.packet > self.limits.headerBytes:
            self._require_small_header()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Separate the headers from trailers, which are not headers (RFC 9110, 6.5.1)."""
        if self.headers is self.scope["headers"]:
            self.headers = self.headers.copy()

    def on_body(self, body: bytes) -> None:
        self.unparsed = 0
        self.received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Tell the app that the request is complete, even if it has answered already."""
        self.unparsed = 0
        assert self.parser is not None
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser cannot read, or whose header ``on_headers_complete`` refuses."""
        self.refuse(self.error or BadRequest("The request is not valid HTTP"))

    def _require_small_header(self) -> None:
        """Raise an error, which stops the parser, if the header is too large."""
        limit, most = self.limits.headerBytes, self.limits.headerCount
        if len(self.headers) > most:
            self.error = HeadersTooLarge(f"The request has more than {most} headers")
        elif len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limit:
            self.error = self._too_large()
        if self.error is not None:
            raise self.error

    # Refusals and timeouts.

    def refuse(self, error: FeathersError) -> None:
        """Answer with an error when all earlier requests are answered, and close the connection."""
        self.refusal = error
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not self._is_in_header():  # The app has got this request already.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            else:
                cycle.disconnected = True
                cycle.message_event.set()
                if cycle.response_started:
                    self.transport.close()
                    return
        if not self.is_busy():
            self._send_refusal()

    def _send_refusal(self) -> None:
        """Send the refusal.

        The connection stays open, as the client may still be sending and has to read the answer.
        """
        assert self.refusal is not None
        status, headers, body = failure(self.refusal, "A request")
        length = b"content-length", b"%d" % len(body)
        pairs = [*self.server_state.default_headers, *headers, (b"content-type", JSON.encode()), length, CLOSE]
        self.transport.write(_message(status, pairs, body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.since, self.unparsed = self.loop.time(), 0

    def shutdown(self) -> None:
        """Close the connection when the server stops, without waiting for a refused client."""
        if self.refusal is not None and not self.is_busy():
            self.transport.abort()
        else:
            super().shutdown()

    def _discard(self, size: int) -> None:
        self.unparsed += size
        if self.unparsed > LINGER_BYTES:
            self.transport.abort()

    def is_busy(self) -> bool:
        """Return True while a request is being answered."""
        cycle = self.answering
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def time_limit(self) -> float | None:
        """Return the seconds after ``since`` that the client has for its next bytes, or None without a limit."""
        limits, cycle = self.limits, self.cycle
        if self.refusal is not None:
            return None if self.is_busy() else LINGER_SECONDS
        if self._is_in_header():
            return None if self.is_busy() else limits.headerSeconds
        if cycle is None:
            return limits.headerSeconds
        if not cycle.more_body:
            return None if self.is_busy() else limits.idleSeconds
        if self.flow.read_paused or cycle.waiting_for_100_continue:
            return None
        return limits.requestSeconds + (0 if cycle.response_complete else self.received / BYTES_PER_SECOND)

    def close_if_overdue(self, now: float) -> None:
        """Close the connection if its client has taken longer than it may."""
        limit = self.time_limit()
        if limit is None or now - self.since <= limit:
            return
        if self.refusal is not None:
            self.transport.abort()
        elif self._is_in_header():
            self.refuse(Timeout(f"The headers did not arrive within {self.limits.headerSeconds} seconds"))
        elif self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete:
            self.refuse(Timeout(f"The body did not arrive within {self.limits.requestSeconds} seconds"))
        else:
            self.transport.close()  # No request is running.

    def _is_in_header(self) -> bool:
        return self.scope is not None and "method" not in self.scope

    def _too_large(self) -> FeathersError:
        limit = self.limits.headerBytes
        if len(self.url) > limit:
            return URITooLong(f"The URL is longer than {limit} bytes: send the query in the body of a GET")
        return HeadersTooLarge(f"The headers are larger than {limit} bytes")

    # Responses.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request. The next ones on the connection wait for its answer."""
        self.answering = cycle
        task = self.loop.create_task(cycle.run_asgi(app))
        self.reading = task if cycle.scope["method"] in ("GET", "HEAD") else None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.served(scope, receive, Sender(send.__self__))
        except asyncio.CancelledError:
            if not self.transport.is_closing():
                raise

    def on_response_complete(self) -> None:
        """Start the next request on the connection. The method of uvicorn sets a timer for each response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.refusal is not None:
            self._send_refusal()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.app = self.served  # Otherwise the object refers to itself, and only the garbage collector frees it.
        if self.answering is None or self.answering.response_complete:
            return
        self.answering.disconnected = True
        self.answering.message_event.set()
        if self.reading is not None:
            self.reading.cancel()


class Sender:
    """The ``send`` of ASGI, with a method that writes a ``whole`` response in one system call.

    The messages of ASGI take two system calls and two packets. Middleware that wraps ``send`` gets the messages.
    """

    __slots__ = ("cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.cycle: RequestResponseCycle = cycle

    def __call__(self, message: Any) -> Awaitable[None]:
        return self.cycle.send(message)

    async def whole(self, status: int, headers: Iterable[Pair], body: bytes) -> None:
        """Write a response. Its headers are not validated."""
        cycle = self.cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        pairs = [*cycle.default_headers, *headers]
        if cycle.waiting_for_100_continue:  # The client may still send the body.
            cycle.keep_alive = False
        if CLOSE in pairs:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            pairs.append(CLOSE)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(_message(status, pairs, body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _message(status: int, pairs: Iterable[Pair], body: bytes) -> bytes:
    lines = [STATUS_LINE[status]]
    for name, value in pairs:
        lines += name, b": ", value, b"\r\n"
    lines += b"\r\n", body
    return b"".join(lines)


def close_overdue(connections: Collection[Any], now: float) -> None:
    """Close the connections whose clients have taken too long. The server calls this once a second."""
    for connection in list(connections):
        if isinstance(connection, HttpProtocol):
            connection.close_if_overdue(now)


def make_room(connections: set[Any], new: HttpProtocol) -> bool:
    """Close the connections that have waited longest for their clients. Return False if none waits.

    Connections without a running request are closed first. One in a hundred is closed at a time, as it takes time to
    compare all of them.
    """
    waiting = [
        one for one in connections if isinstance(one, HttpProtocol) and one is not new and one.time_limit() is not None
    ]
    count = 1 + len(connections) // 100
    for one in nsmallest(count, waiting, key=lambda one: (one.is_busy(), one.since)):
        connections.discard(one)
        one.transport.abort()
    return bool(waiting)
