"""Clients of an app: called directly, or through a real server on a free port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from httpx2 import ASGITransport, AsyncClient

from apex import Apex
from apex.server.protocol import Config, limits_of
from apex.server.uvicorn import Server
from tests.support.waiting import until

OPTIONS: dict[str, Any] = {
    "ws": "websockets-sansio",
    "lifespan": "on",
    "log_level": "critical",
    # A test that fails may leave calls that never end.
    "timeout_graceful_shutdown": 10,
}


class _Server(Server):
    """A server that stops as soon as its connections have ended.

    uvicorn's own looks ten times a second if it should stop, and then rests for 0.1 seconds. The tests stop more than a
    thousand servers. The tests in ``tests/process`` stop servers as users do.
    """

    def __init__(self, app: Apex, config: Config) -> None:
        self.started_up = asyncio.Event()
        self.told_to_stop = asyncio.Event()
        super().__init__(app, config, self.started_up.set)

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self.told_to_stop.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.emit("shutdown")
        state = self.server_state
        await stop_accepting(sockets or [])
        for server in self.servers:
            server.close()
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await until(lambda: not (state.connections or state.tasks))
        except TimeoutError:
            for task in state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


async def stop_accepting(listeners: Iterable[Any]) -> None:
    """Accept no more connections, and finish those that are just accepted.

    A server of asyncio loses them when it closes: their sockets stay open. One of uvloop does not.
    """
    for listener in listeners:
        asyncio.get_running_loop().remove_reader(listener)
    for _ in range(2):  # One begins the connection, one tells its protocol.
        await asyncio.sleep(0)


@asynccontextmanager
async def calling(app: Apex) -> AsyncIterator[AsyncClient]:
    """Yield a client that calls the running app without a network."""
    await app.setup()
    try:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://apex") as client:
            yield client
    finally:
        await app.teardown()


@asynccontextmanager
async def listening(app: Any, port: int = 0, **options: Any) -> AsyncIterator[str]:
    """Yield the URL of a server that runs the app. The server's lifespan sets it up and tears it down."""
    options = OPTIONS | options
    owner = app if isinstance(app, Apex) else Apex()
    server = _Server(owner, Config(app, limits_of(owner), **options))
    with socket.create_server(("127.0.0.1", port)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await server.started_up.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.told_to_stop.set()
            await running


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[AsyncClient]:
    """Yield a client of a server that runs the app."""
    # To read the certificates of the system takes longer than most tests, and this server has none.
    async with listening(app, **options) as url, AsyncClient(base_url=url, verify=False) as client:
        yield client
