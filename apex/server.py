"""The server in front of an app: uvicorn, one process, from its setup to its teardown."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
import uvicorn
import uvloop

from apex.app import Apex
from apex.config import ConfigError
from apex.engine import MAX_PAYLOAD
from apex.frames import FrameProtocol

SHUTDOWN_SECONDS = 10
UNREAD_SECONDS = 30


class Server(uvicorn.Server):
    """Open connections do not hold it up when it stops: they are let go, and their clients find it again."""

    def __init__(self, app: Apex, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.emit("shutdown")
        await super().shutdown(sockets)


@asynccontextmanager
async def running(app: Apex) -> AsyncIterator[Apex]:
    """The app, set up; torn down at the end."""
    await app.setup()
    try:
        yield app
    finally:
        await app.teardown()


def serve_app(app: Apex, host: str | None = None, port: int | None = None, banner: str = "") -> None:
    """Serves the app until it is told to stop. ``banner`` may name the ``{url}``.

    Raises Unavailable when the database cannot be reached, ConfigError when nobody can listen at the address.
    """
    config = uvicorn.Config(
        app,
        host=host or app.get("host") or "localhost",
        port=app.get("port") if port is None else port,
        lifespan="off",
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        server_header=False,
        ws=FrameProtocol,
        ws_max_size=(app.get("sockets") or {}).get("maxPayload", MAX_PAYLOAD),
        # Frames are small and many: compressing them costs more memory for each connection than it saves.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )

    async def served() -> None:
        async with running(app):
            with _listener(config.host, config.port) as listener:
                gc.collect()
                gc.freeze()
                url = f"http://{_in_url(config.host)}:{listener.getsockname()[1]}"
                server = Server(app, config)
                # The server raises its signal again once it has stopped, when the teardown is still to come.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, server.handle_exit)
                click.echo((banner or "Serving at {url}").replace("{url}", url))
                await server.serve(sockets=[listener])

    uvloop.run(served())


def _listener(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigError(f"cannot listen on {_in_url(host)}:{port}: {reason}") from None
    # Connections inherit the options. asyncio would set this one, but not for a listener that it is given.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Who does not read what it is sent is disconnected by the system.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    return listener


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
