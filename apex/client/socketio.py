"""Calls and events over Socket.IO, on a connection that is made anew when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from random import uniform
from typing import Any

from apex.callbacks import end_tasks
from apex.client.call import Call, Receiver
from apex.client.connection import Connection, connected, first
from apex.errors import Unavailable

MOST_DOUBLINGS = 5

CLOSE_SECONDS = 5
"""Seconds that a connection has to close before it is cancelled again."""

log = logging.getLogger("apex.client")


def socketio(
    url: str,
    *,
    timeout: float = 30,
    headers: Mapping[str, str] | None = None,
    path: str = "/socket.io/",
    delay: float = 1,
) -> SocketIO:
    """The Socket.IO transport: ``Client(socketio("http://localhost:3030"))``.

    ``timeout`` is in seconds, for a call and its wait for a connection. ``headers`` go out with the handshake.
    ``delay`` is the longest pause in seconds before the first attempt to reconnect; it doubles up to 32 times as long.
    """
    return SocketIO(url, path, headers or {}, timeout, delay)


class SocketIO:
    """Keeps a connection; calls wait while there is none."""

    realtime = True

    def __init__(self, url: str, path: str, headers: Mapping[str, str], timeout: float, delay: float) -> None:
        self.url, self.path, self.headers = url, path, headers
        self.timeout, self.delay = timeout, delay
        self.trouble: Exception | None = None
        self._connection: asyncio.Future[Connection]
        self._keeper: asyncio.Task[None]

    async def open(self, receiver: Receiver) -> None:
        self._connection = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep_connected(receiver))

    async def close(self) -> None:
        await end_tasks([self._keeper], again=CLOSE_SECONDS)

    async def call(self, call: Call) -> Any:
        connection = self._connection
        await first(connection, self._keeper)
        if not connection.done():
            raise Unavailable("The client is closed")
        return await connection.result().call(call)

    async def _keep_connected(self, receiver: Receiver) -> None:
        failures = 0
        while True:
            try:
                async with connected(self.url, self.path, self.headers, receiver.receive) as connection:
                    await self._log_in(connection, receiver)
                    failures = 0
                    await self._use(connection, receiver)
            except Exception as error:
                log.info("The connection failed: %s", error)
                self.trouble = error
                failures += 1
            # Not all at once: with a server that restarts, its clients come back over some time.
            await asyncio.sleep(self.delay * 2 ** min(failures, MOST_DOUBLINGS) * uniform(0.5, 1))

    async def _log_in(self, connection: Connection, receiver: Receiver) -> None:
        async with asyncio.timeout(self.timeout):
            await receiver.welcome(connection.call)

    async def _use(self, connection: Connection, receiver: Receiver) -> None:
        """Lets calls through until the connection is over."""
        self.trouble = None
        self._connection.set_result(connection)
        receiver.emit("connect")
        try:
            await asyncio.wait({connection.over})
        finally:
            self._connection = asyncio.get_running_loop().create_future()
            receiver.emit("disconnect")
