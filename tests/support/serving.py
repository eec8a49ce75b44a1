"""Clients of an app: called directly, or through a real server on a free port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from httpx2 import ASGITransport, AsyncClient

from apex import Apex
from apex.server.protocol import Config, limits_of
from apex.server.uvicorn import Server


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
async def serving(app: Any, **options: Any) -> AsyncIterator[AsyncClient]:
    """Yield a client of a server that runs the app. The server's lifespan sets it up and tears it down."""
    options = {"ws": "websockets-sansio", "lifespan": "on", "log_level": "critical", **options}
    owner, ready = app if isinstance(app, Apex) else Apex(), asyncio.Event()
    server = Server(owner, Config(app, limits_of(owner), **options), ready.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await ready.wait()
        try:
            async with AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                yield client
        finally:
            server.should_exit = True
            await running
