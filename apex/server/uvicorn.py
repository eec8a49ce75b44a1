"""The server in front of an app: uvicorn, one process, from its setup to its teardown."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click
import uvicorn
import uvloop

from apex.app import ASGI, Apex
from apex.config import exposed_secrets
from apex.errors import ConfigError
from apex.observability.logs import logs
from apex.server.protocol import CLOSE, Config, Limits, close_overdue
from apex.transports.socketio.transport import Sockets

PORT = 3030
SHUTDOWN_SECONDS = 10
UNREAD_SECONDS = 30
TICK_SECONDS = 0.05
TICKS = 10
"""uvicorn's ticks, of 0.1 seconds each, between two looks at the connections."""
COLLECT_AFTER = 10_000
"""Objects made before the garbage collector looks for circles among them: a request makes about a hundred."""


class Server(uvicorn.Server):
    """Open connections do not hold it up when it stops: they are let go, and their clients find it again.

    ``ready`` is called once it accepts connections.
    """

    def __init__(self, app: Apex, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.app, self.ready = app, ready
        self.retiring = False
        self.ends: float | None = None

    def retire(self) -> None:
        """Stops it as ``stop`` does, but for connections that wait for a request: they may make one more."""
        self.retiring = self.should_exit = True

    def stop(self) -> None:
        """Stop once the requests under way are answered, without ``drainSeconds``, during which a replacement process
        could not bind the address.
        """
        self.retiring, self.should_exit, self.ends = False, True, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.retiring = False
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop. Who is told to, and does not retire, first goes on for ``drainSeconds`` and says at
        ``/readyz`` that it will: a load balancer sends the next requests elsewhere before there is nobody.
        """
        if counter % TICKS == 0:
            close_overdue(self.server_state.connections, asyncio.get_running_loop().time())
        if not await super().on_tick(counter):
            return False
        if self.ends is None and not self.retiring:
            self.app.emit("draining")
            self.ends = time.monotonic() + (self.app.get("drainSeconds") or 0)
        return self.retiring or self.force_exit or time.monotonic() >= (self.ends or 0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.emit("shutdown")
        if self.retiring:
            await self._retired()
            self.app.emit("shutdown")
        await super().shutdown(sockets)

    async def _retired(self) -> None:
        """Accepts no more, and waits for the connections to end: each after its next response, or when it is idle.

        A client may be sending a request at the very moment at which an idle connection would be closed.
        """
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            # A client that has read its response's headers without this would use the connection again.
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_keep_alive):
                while self.server_state.connections and self.retiring:
                    await asyncio.sleep(TICK_SECONDS)


def serve_app(
    app: Apex, host: str | None = None, port: int | None = None, banner: str = "", *, outer: ASGI | None = None
) -> None:
    """Serve the app, in its ``outer`` middleware if there is any, until it is told to stop. ``banner`` may name the
    ``{url}``.

    Raises Unavailable when the database cannot be reached, ConfigError when nobody can listen at the address.
    """

    async def served() -> None:
        async with app.lifespan():
            with listening(app, host, port) as (listener, url):
                await serve_on(listener, Server(app, configured(app, outer), lambda: announce(url, banner)))

    uvloop.run(served())


def configured(app: Apex, outer: ASGI | None = None) -> Config:
    """Return the configuration of a server for the app, in its ``outer`` middleware. Sets up its logging as well."""
    logs(app)
    return Config(
        outer or app,
        Limits.of(app),
        lifespan="off",
        loop="uvloop",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Nothing here looks at the client's address.
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        **_websockets(app),
    )


def _websockets(app: Apex) -> dict[str, Any]:
    """Return the further options of an app with sockets."""
    if not isinstance(app.transport, Sockets):
        return {}
    limits = app.transport.engine.limits
    # Frames are small and many: compressing them costs more memory for each connection than it saves.
    return {"ws": "websockets-sansio", "ws_max_size": limits["maxPayload"], "ws_per_message_deflate": False}


async def serve_on(listener: socket.socket, server: Server) -> None:
    """Serves what is connected to the listener until the server is told to stop."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    # The server raises its signal again once it has stopped, when the teardown is still to come.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    await server.serve(sockets=[listener])


def announce(url: str, banner: str = "") -> None:
    click.echo((banner or "Serving at {url}").replace("{url}", url))


@contextmanager
def listening(app: Apex, host: str | None = None, port: int | None = None) -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that listens, by default at the configuration's address, and its URL.

    Raises ConfigError, also where others can reach an app whose secret is published in its configuration.
    """
    host = host or app.get("host") or "localhost"
    for problem in exposed_secrets(app.settings, host):
        raise ConfigError(problem)
    port = app.get("port") if port is None else port
    with _listener(host, PORT if port is None else port) as listener:
        yield listener, f"http://{_in_url(host)}:{listener.getsockname()[1]}"


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
