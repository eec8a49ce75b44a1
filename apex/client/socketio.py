"""The Socket.IO transport of the client: calls and events on one connection, which is replaced when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import uniform
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from socketio import AsyncClient
from socketio.exceptions import SocketIOError
from socketio.packet import Packet

from apex.callbacks import end_tasks
from apex.client.call import Call, Receiver
from apex.client.errors import rebuild
from apex.client.recovery import Recovery
from apex.encoding import JSON
from apex.errors import BadRequest, FeathersError, Gone, OutcomeUnknown, Unavailable
from apex.types import taken_by

CONNECT_SECONDS = 10
MOST_DOUBLINGS = 5
CLOSE_SECONDS = 5
"""Seconds that a connection has to close before it is cancelled again."""

log: logging.Logger = logging.getLogger("apex.client")

# Below this level the libraries log whole packets, which contain tokens.
_library_log = logging.getLogger("apex.client.packets")
_library_log.setLevel(logging.ERROR)


def socketio(
    url: str,
    *,
    timeout: float = 30,
    headers: Mapping[str, str] | None = None,
    path: str = "/socket.io/",
    delay: float = 1,
    position: str | None = None,
) -> SocketIO:
    """Return the Socket.IO transport of a server: ``Client(socketio("http://localhost:3030"))``.

    ``timeout`` is in seconds, for a call and its wait for a connection. ``headers`` go with the handshake. ``delay`` is
    the longest pause in seconds before the first attempt to reconnect. It doubles up to 32 times as long.

    ``position`` is that of a page, which ``find`` with ``$position`` returns. The client gets all events since then. If
    the server no longer has them, ``recovered`` is False.
    """
    return SocketIO(url, path, headers or {}, timeout, delay, position)


class SocketIO:
    """The Socket.IO transport. It reconnects by itself, and calls wait until it has a connection."""

    realtime: bool = True

    def __init__(
        self, url: str, path: str, headers: Mapping[str, str], timeout: float, delay: float, position: str | None
    ) -> None:
        self.url: str = url
        self.path: str = path
        self.headers: Mapping[str, str] = headers
        self.timeout: float = timeout
        self.delay: float = delay
        self.position: str | None = position
        self.problem: Exception | None = None
        self.recovered: bool = False
        self._connection: asyncio.Future[_Connection]
        self._connecting: asyncio.Task[None]

    async def open(self, receiver: Receiver) -> None:
        """Start to connect in the background."""
        self._connection = asyncio.get_running_loop().create_future()
        self._connecting = asyncio.create_task(self._stay_connected(receiver))

    async def close(self) -> None:
        """Close the connection."""
        await end_tasks([self._connecting], again=CLOSE_SECONDS)

    async def call(self, call: Call) -> Any:
        """Return the result of a call. Raises the errors of the server, and Unavailable if the transport is closed."""
        connection = self._connection
        await _wait_for_first(connection, self._connecting)
        if not connection.done():
            raise Unavailable("The client is closed")
        return await connection.result().call(call)

    async def _stay_connected(self, receiver: Receiver) -> None:
        failures, recovery, is_complete = 0, Recovery(self.position), True
        while True:
            try:
                async with _connected(self.url, self.path, self.headers, recovery, receiver.receive) as connection:
                    # Events are missed as well if only a connection whose login failed was not recovered.
                    is_complete = is_complete and connection.recovered
                    async with asyncio.timeout(self.timeout):
                        await receiver.log_in(connection.call)
                    failures, self.recovered, is_complete = 0, is_complete, True
                    await self._use(connection, receiver)
            except Exception as error:
                log.info("The connection failed: %s", error)
                self.problem = error
                failures += 1
                if isinstance(error.__cause__, Gone):
                    recovery.position = None
            # The pause is random, so that the clients of a restarted server do not all reconnect at once.
            await asyncio.sleep(self.delay * 2 ** min(failures, MOST_DOUBLINGS) * uniform(0.5, 1))

    async def _use(self, connection: _Connection, receiver: Receiver) -> None:
        """Make the connection available to calls until it is closed."""
        self.problem = None
        self._connection.set_result(connection)
        receiver.emit("connect", self.recovered)
        try:
            await asyncio.wait({connection.closed})
        finally:
            self._connection = asyncio.get_running_loop().create_future()
            receiver.emit("disconnect")


class _Packet(Packet):  # type: ignore[misc]
    json = JSON
    uses_binary_events = False


class _HTTPSession:
    """The aiohttp session, as the library uses it.

    It keeps the WebSocket, which the library does not close if the handshake fails.
    """

    def __init__(self, http: ClientSession) -> None:
        self._http = http
        self.websocket: ClientWebSocketResponse | None = None

    async def ws_connect(self, *arguments: Any, **options: Any) -> ClientWebSocketResponse:
        self.websocket = await self._http.ws_connect(*arguments, **options)
        return self.websocket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._http, name)


@asynccontextmanager
async def _connected(
    url: str, path: str, headers: Mapping[str, str], recovery: Recovery, receive: Callable[..., None]
) -> AsyncIterator[_Connection]:
    """Yield a connection to a server. Raises Unavailable if it takes more than 10 seconds or fails."""
    async with ClientSession() as http:
        connection = _Connection(http, recovery, receive)
        try:
            await connection.open(url, path, headers)
            yield connection
        finally:
            await connection.close()


class _Client(AsyncClient):  # type: ignore[misc]
    """The library's client, which also keeps the ``pid`` that the server gives it."""

    pid: str | None = None

    async def _handle_connect(self, namespace: str, data: Any) -> None:
        self.pid = (data or {}).get("pid")
        await super()._handle_connect(namespace, data)


class _Connection:
    """A Socket.IO connection that does not reconnect. ``closed`` is done when it is closed.

    It is ``recovered`` if the server sends the events since the last connection.
    """

    def __init__(self, http: ClientSession, recovery: Recovery, receive: Callable[..., None]) -> None:
        self.recovered: bool = False
        self._recovery, self._receive = recovery, receive
        self._http = _HTTPSession(http)
        options: dict[str, Any] = {"serializer": _Packet, "logger": _library_log, "engineio_logger": _library_log}
        self._client = _Client(
            **options,
            reconnection=False,
            handle_sigint=False,
            http_session=self._http,
            # The client trusts its server, whose answers may have any size.
            websocket_extra_options={"max_msg_size": 0},
        )
        self.closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._client.on("connect", self._on_connect)
        self._client.on("disconnect", lambda reason: _settle(self.closed, reason))
        self._client.on("connect_error", lambda body=None: _settle(self._accepted, _refusal(body)))
        self._client.on("*", self._on_event)

    async def open(self, url: str, path: str, headers: Mapping[str, str]) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connect(url, path, headers)
        except Exception as error:  # The library raises exceptions of many kinds.
            raise Unavailable(f"No connection to {url}: {str(error) or type(error).__name__}") from error

    async def _connect(self, url: str, path: str, headers: Mapping[str, str]) -> None:
        """Connect by WebSocket only. The library's polling breaks if more than 16 packets arrive at once."""
        await self._client.connect(
            url,
            headers=dict(headers),
            auth=self._recovery.auth,
            transports=["websocket"],
            namespaces=["/"],
            socketio_path=path,
            wait=False,
        )
        self._client.eio.read_loop_task.add_done_callback(lambda _: _settle(self.closed, None))
        await _wait_for_first(self._accepted, self.closed)
        if not self._accepted.done():
            raise ConnectionError("it was closed at once")
        if (refusal := self._accepted.result()) is not None:
            raise refusal

    def _on_connect(self) -> None:
        # Events may follow in the same turn of the event loop.
        self.recovered = self._recovery.connect(self._client.pid)
        _settle(self._accepted, None)

    def _on_event(self, event: str, *args: Any) -> None:
        received = self._recovery.receive(args)
        if received is not None:
            self._receive(event, *received)

    async def close(self) -> None:
        # If the server disconnects, the library does not end its write loop, and waits for it for half a minute.
        if (writing := self._client.eio.write_loop_task) is not None:
            writing.cancel()
        # The cancellation of the write loop may be raised here, but this task is not cancelled.
        await asyncio.gather(self._client.disconnect(), return_exceptions=True)
        if self._http.websocket is not None:
            await self._http.websocket.close()

    async def call(self, call: Call) -> Any:
        """Return the result of a call. Raises the errors of the server, and Unavailable when the connection breaks."""
        answer: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        try:
            await self._client.emit(call.method, _arguments(call), callback=lambda *args: _settle(answer, args))
        except SocketIOError as error:
            raise Unavailable("The connection is closed") from error
        await _wait_for_first(answer, self.closed)
        if not answer.done():
            raise OutcomeUnknown("The connection broke before the answer came: the call may have been carried out")
        failure, result = (*answer.result(), None, None)[:2]
        if failure is not None:
            raise rebuild(failure)
        return result


async def _wait_for_first(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of the futures is done. Cancel none of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _refusal(body: Any) -> FeathersError:
    """Return the error of a refused connection, whose name and code are in its data."""
    data = body.get("data") if isinstance(body, Mapping) else None
    return rebuild({**body, **data} if isinstance(data, Mapping) else body)


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _arguments(call: Call) -> tuple[Any, ...]:
    """Return ``(path, ...arguments, query)``. Raises BadRequest if a value in the path contains a slash."""
    if any("/" in segment for segment in call.segments):
        raise BadRequest("A value in params['route'] must not hold a slash")
    own = (getattr(call, name) for name in taken_by(call.method))
    return ("/".join(call.segments), *own, dict(call.query))
