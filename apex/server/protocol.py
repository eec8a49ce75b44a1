"""HTTP connections: the limits on their size, time and number, and how they are answered.

The protocol builds on uvicorn's for httptools and uses private parts of it. ``tests/project/test_private.py`` lists
them.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Collection, Iterable
from heapq import nsmallest
from typing import Any, NamedTuple

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from apex.app import Apex
from apex.errors import BadRequest, ConfigError, FeathersError, HeadersTooLarge, Timeout, Unavailable, URITooLong
from apex.transports.rest import BODY_SECONDS, JSON, Pair, failure

CLOSE = (b"connection", b"close")

PACE = 32 * 1024
"""Bytes of a body that extend the time of its request by a second."""

LINGER_SECONDS, LINGER_BYTES = 2, 1024 * 1024
"""Seconds and bytes for which a refused client may go on sending: it reads the answer only after its request."""

RESERVED = 100
"""File descriptors that are kept for the database, Redis, files and listeners."""


class Limits(NamedTuple):
    """The setting ``http``: bytes and number of headers, seconds, and connections at the same time."""

    headerBytes: int = 64 * 1024
    headerCount: int = 100
    headerSeconds: int = 10
    requestSeconds: int = BODY_SECONDS
    idleSeconds: int = 5
    maxConnections: int = 10_000

    @classmethod
    def of(cls, app: Apex) -> Limits:
        """Return the limits of an app, with no more connections than the process may have file descriptors.

        Raises ConfigError for an unknown setting.
        """
        settings = app.get("http") or {}
        for name in settings.keys() - set(cls._fields):
            raise ConfigError(f"'http' has no setting '{name}': there are {', '.join(cls._fields)}")
        limits = cls(**settings)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = limits.maxConnections + RESERVED
        if soft < wanted and soft < hard:
            soft = min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return limits._replace(maxConnections=max(1, min(limits.maxConnections, soft - RESERVED)))


class Config(uvicorn.Config):
    """uvicorn's configuration, and the limits of connections."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        super().__init__(app, http=HttpProtocol, timeout_keep_alive=limits.idleSeconds, **options)
        self.limits = limits


class HttpProtocol(HttpToolsProtocol):
    """An HTTP connection, within ``Limits``.

    When the client has gone, a read is cancelled, and its statement if it has a connection of its own. A write goes on,
    as it may be half done.

    No connection has a timer. It notes in ``since`` when it began to wait for its client, and the server looks at all
    connections once a second (``close_overdue``).
    """

    config: Config

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limits = self.config.limits
        self.served, self.app = self.app, self._serve
        self.answering: RequestResponseCycle | None = None
        self.reading: asyncio.Task[Any] | None = None
        self.error: FeathersError | None = None
        self.refusal: FeathersError | None = None
        self.since = self.loop.time()
        self.url = b""
        self.packet = self.unsettled = self.received = 0

    # Requests.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.maxConnections and not make_room(self.connections, self):
            self.refuse(Unavailable("Too many connections: try again later"))

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which buffers a header until it is complete.

        ``unsettled`` counts the bytes since the last piece of a body or the last request, without those of the same
        packet.
        """
        if self.refusal is not None:
            self._discard(len(data))
            return
        self.packet = len(data)
        self.unsettled += self.packet
        super().data_received(data)
        if self.unsettled > self.limits.headerBytes and self.refusal is None:
            self.refuse(self._too_large())

    def on_url(self, url: bytes) -> None:
        if not self.url:
            self.since = self.loop.time()
            self.received = 0
        self.url += url

    def on_headers_complete(self) -> None:
        if len(self.headers) > self.limits.headerCount or self.unsettled + self.packet > self.limits.headerBytes:
            self._measure()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Keep the headers apart from trailers, which are no headers (RFC 9110, 6.5.1)."""
        if self.headers is self.scope["headers"]:
            self.headers = self.headers.copy()

    def on_body(self, body: bytes) -> None:
        self.unsettled = 0
        self.received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete, also if it was answered before."""
        self.unsettled = 0
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser cannot read or that ``on_headers_complete`` does not accept."""
        self.refuse(self.error or BadRequest("The request is not valid HTTP"))

    def _measure(self) -> None:
        """Raise the error for a head that is too large, which stops the parser."""
        limit, most = self.limits.headerBytes, self.limits.headerCount
        if len(self.headers) > most:
            self.error = HeadersTooLarge(f"The request has more than {most} headers")
        elif len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limit:
            self.error = self._too_large()
        if self.error is not None:
            raise self.error

    # How it ends.

    def refuse(self, error: FeathersError) -> None:
        """Answer with an error once the requests before are answered, and close."""
        self.refusal = error
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not self._is_in_head():  # The app has this request already.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            else:
                cycle.disconnected = True
                cycle.message_event.set()
                if cycle.response_started:
                    self.transport.close()
                    return
        if not self.is_at_work():
            self._end()

    def _end(self) -> None:
        """Send the refusal, and leave the connection open for a client that is still sending and has to read it."""
        assert self.refusal is not None
        status, headers, body = failure(self.refusal, "A request")
        length = b"content-length", b"%d" % len(body)
        pairs = [*self.server_state.default_headers, *headers, (b"content-type", JSON.encode()), length, CLOSE]
        self.transport.write(_message(status, pairs, body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.since, self.unsettled = self.loop.time(), 0

    def shutdown(self) -> None:
        """Stop with the server, without waiting for a client that was refused."""
        if self.refusal is not None and not self.is_at_work():
            self.transport.abort()
        else:
            super().shutdown()

    def _discard(self, size: int) -> None:
        self.unsettled += size
        if self.unsettled > LINGER_BYTES:
            self.transport.abort()

    def is_at_work(self) -> bool:
        """Return True while a request is being answered."""
        cycle = self.answering
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def allowance(self) -> float | None:
        """Return the seconds after ``since`` that the client has to send or receive, or None if it owes nothing."""
        limits, cycle = self.limits, self.cycle
        if self.refusal is not None:
            return None if self.is_at_work() else LINGER_SECONDS
        if self._is_in_head():
            return None if self.is_at_work() else limits.headerSeconds
        if cycle is None:
            return limits.headerSeconds
        if not cycle.more_body:
            return None if self.is_at_work() else limits.idleSeconds
        if self.flow.read_paused or cycle.waiting_for_100_continue:
            return None
        return limits.requestSeconds + (0 if cycle.response_complete else self.received / PACE)

    def end_in_time(self, now: float) -> None:
        """Close the connection if its client has taken longer than it may."""
        allowed = self.allowance()
        if allowed is None or now - self.since <= allowed:
            return
        if self.refusal is not None:
            self.transport.abort()
        elif self._is_in_head():
            self.refuse(Timeout(f"The headers did not arrive within {self.limits.headerSeconds} seconds"))
        elif self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete:
            self.refuse(Timeout(f"The body did not arrive within {self.limits.requestSeconds} seconds"))
        else:
            self.transport.close()  # No request is under way.

    def _is_in_head(self) -> bool:
        return self.scope is not None and "method" not in self.scope

    def _too_large(self) -> FeathersError:
        limit = self.limits.headerBytes
        if len(self.url) > limit:
            return URITooLong(f"The URL is longer than {limit} bytes: send the query in the body of a GET")
        return HeadersTooLarge(f"The headers are larger than {limit} bytes")

    # Responses.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start one request. Others on the connection wait for its answer."""
        self.answering = cycle
        task = self.loop.create_task(cycle.run_asgi(app))
        self.reading = task if cycle.scope["method"] in ("GET", "HEAD") else None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.served(scope, receive, Sending(send.__self__))
        except asyncio.CancelledError:
            if not self.transport.is_closing():
                raise

    def on_response_complete(self) -> None:
        """Go on with the next request on the connection. uvicorn's own sets a timer for each response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.refusal is not None:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.app = self.served  # Breaks the reference to itself, which would wait for the garbage collector.
        if self.answering is None or self.answering.response_complete:
            return
        self.answering.disconnected = True
        self.answering.message_event.set()
        if self.reading is not None:
            self.reading.cancel()


class Sending:
    """The ``send`` of ASGI, which can also write a ``whole`` response at once.

    Two messages of ASGI are two system calls and two packets. Middleware that wraps ``send`` gets the messages.
    """

    __slots__ = ("cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle

    def __call__(self, message: Any) -> Awaitable[None]:
        return self.cycle.send(message)

    async def whole(self, status: int, headers: Iterable[Pair], body: bytes) -> None:
        """Write a response. The headers are not checked."""
        cycle = self.cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        pairs = [*cycle.default_headers, *headers]
        if cycle.waiting_for_100_continue:  # The body was not read and may still come.
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
    """Close the connections whose clients have taken too long. Called once a second."""
    for connection in list(connections):
        if isinstance(connection, HttpProtocol):
            connection.end_in_time(now)


def make_room(connections: set[Any], new: HttpProtocol) -> bool:
    """Close the connections that have waited longest for their clients. Return False if there are none.

    Those without a request under way go first. One in a hundred is closed at once, as looking at all of them takes
    time.
    """
    waiting = [
        one for one in connections if isinstance(one, HttpProtocol) and one is not new and one.allowance() is not None
    ]
    count = 1 + len(connections) // 100
    for one in nsmallest(count, waiting, key=lambda one: (one.is_at_work(), one.since)):
        connections.discard(one)
        one.transport.abort()
    return bool(waiting)
