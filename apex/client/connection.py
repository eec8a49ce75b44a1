"""One Socket.IO connection, from its beginning to its end; it does not come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from socketio import AsyncClient
from socketio.exceptions import SocketIOError
from socketio.packet import Packet

from apex.client.call import Call
from apex.client.failure import rebuild
from apex.encoding import JSON
from apex.errors import BadRequest, OutcomeUnknown, Unavailable
from apex.types import taken_by

CONNECT_SECONDS = 10

# Below this level the libraries write down whole frames, tokens with them.
_log = logging.getLogger("apex.client.frames")
_log.setLevel(logging.ERROR)


class _Packet(Packet):  # type: ignore[misc]
    json = JSON
    uses_binary_events = False


class _Opening:
    """The session as the library uses it. The library forgets a WebSocket whose handshake does not come to an end."""

    def __init__(self, http: ClientSession) -> None:
        self._http = http
        self.socket: ClientWebSocketResponse | None = None

    async def ws_connect(self, *arguments: Any, **options: Any) -> ClientWebSocketResponse:
        self.socket = await self._http.ws_connect(*arguments, **options)
        return self.socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._http, name)


@asynccontextmanager
async def connected(
    url: str, path: str, headers: Mapping[str, str], receive: Callable[..., None]
) -> AsyncIterator[Connection]:
    """A connection to a server. Raises Unavailable when there is none to be had within 10 seconds."""
    async with ClientSession() as http:
        connection = Connection(http, receive)
        try:
            await connection.open(url, path, headers)
            yield connection
        finally:
            await connection.close()


class Connection:
    """Calls as events with an acknowledgement. ``over`` is done when the connection is."""

    def __init__(self, http: ClientSession, receive: Callable[..., None]) -> None:
        self._opening = _Opening(http)
        self._client = AsyncClient(
            reconnection=False,
            handle_sigint=False,
            serializer=_Packet,
            logger=_log,
            engineio_logger=_log,
            http_session=self._opening,
            # Of a server that is trusted with the calls, an answer may have any size.
            websocket_extra_options={"max_msg_size": 0},
        )
        self.over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._client.on("connect", lambda: _settle(self._accepted, None))
        self._client.on("disconnect", lambda reason: _settle(self.over, reason))
        self._client.on("connect_error", lambda *told: _settle(self._accepted, rebuild(*told)))
        self._client.on("*", receive)

    async def open(self, url: str, path: str, headers: Mapping[str, str]) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connect(url, path, headers)
        except Exception as error:  # The library lets through whatever it has stumbled over.
            raise Unavailable(f"No connection to {url}: {str(error) or type(error).__name__}") from error

    async def _connect(self, url: str, path: str, headers: Mapping[str, str]) -> None:
        """By WebSocket alone: what the library polls breaks off when more than 16 packets come at once."""
        way = {"transports": ["websocket"], "socketio_path": path, "namespaces": ["/"], "wait": False}
        await self._client.connect(url, headers=dict(headers), **way)
        self._client.eio.read_loop_task.add_done_callback(lambda _: _settle(self.over, None))
        await first(self._accepted, self.over)
        if not self._accepted.done():
            raise ConnectionError("it was closed at once")
        if (refusal := self._accepted.result()) is not None:
            raise refusal

    async def close(self) -> None:
        # Told to go by the server, the library forgets to end what it writes with, and waits for it for half a minute.
        if (writer := self._client.eio.write_loop_task) is not None:
            writer.cancel()
        # What was canceled may say so here: that does not mean this task.
        await asyncio.gather(self._client.disconnect(), return_exceptions=True)
        if self._opening.socket is not None:
            await self._opening.socket.close()

    async def call(self, call: Call) -> Any:
        """The result of a call. Raises what the server raises; Unavailable, at once, when the connection breaks."""
        answer: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        try:
            await self._client.emit(call.method, _arguments(call), callback=lambda *told: _settle(answer, told))
        except SocketIOError as error:
            raise Unavailable("The connection is closed") from error
        await first(answer, self.over)
        if not answer.done():
            raise OutcomeUnknown("The connection broke before the answer came: the call may have been carried out")
        failure, result = (*answer.result(), None, None)[:2]
        if failure is not None:
            raise rebuild(failure)
        return result


async def first(*futures: asyncio.Future[Any]) -> None:
    """Waits until one of them is done, and cancels none."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _arguments(call: Call) -> tuple[Any, ...]:
    """``(path, ...arguments, query)``. Raises BadRequest for a value that would be more than one segment."""
    if any("/" in segment for segment in call.segments):
        raise BadRequest("A value in params['route'] must not hold a slash")
    own = (getattr(call, name) for name in taken_by(call.method))
    return ("/".join(call.segments), *own, dict(call.query))
