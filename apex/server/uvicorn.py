"""The server of an app in one process, with uvicorn."""

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

from apex.app import Apex
from apex.config import exposed_secrets
from apex.errors import ConfigError
from apex.observability.logs import logs
from apex.server.protocol import CLOSE, Config, close_overdue, limits_of
from apex.transports.socketio.transport import MOUNT, Sockets
from apex.types import ASGIApp

PORT = 3030
SHUTDOWN_SECONDS = 10
UNREAD_SECONDS = 30
"""Seconds after which the system closes a connection whose client does not read."""
TICK_SECONDS = 0.05
TICKS = 10
"""The ticks of uvicorn, of 0.1 seconds each, between two checks of the connections."""
COLLECT_AFTER = 10_000
"""Objects that are created between two garbage collections. A request creates about a hundred."""


class Server(uvicorn.Server):
    """A server of uvicorn that does not wait for open connections when it stops. Their clients reconnect.

    ``ready`` is called when the server accepts connections.
    """

    def __init__(self, app: Apex, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.app: Apex = app
        self.ready: Callable[[], None] = ready
        self.retiring: bool = False
        self._stop_at: float | None = None

    def retire(self) -> None:
        """Stop, but let each open connection make one more request."""
        self.retiring = self.should_exit = True

    def stop(self) -> None:
        """Stop when the running requests are answered, without ``drainSeconds``.

        During that time a replacement process could not bind the address.
        """
        self.retiring, self.should_exit, self._stop_at = False, True, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.retiring = False
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Return True if the server should stop now.

        Unless it retires, it goes on for ``drainSeconds`` after it was told to stop. Meanwhile ``/readyz`` reports that
        it drains, so that a load balancer sends the next requests to another server.
        """
        if counter % TICKS == 0:
            close_overdue(self.server_state.connections, asyncio.get_running_loop().time())
        if not await super().on_tick(counter):
            return False
        if self._stop_at is None and not self.retiring:
            self.app.emit("draining")
            self._stop_at = time.monotonic() + (self.app.get("drainSeconds") or 0)
        return self.retiring or self.force_exit or time.monotonic() >= (self._stop_at or 0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.emit("shutdown")
        if self.retiring:
            await self._wait_for_connections()
            self.app.emit("shutdown")
        await super().shutdown(sockets)

    async def _wait_for_connections(self) -> None:
        """Accept no more connections, and wait until each has ended after its next response or its idle time.

        An idle connection is not closed at once, as its client may be sending a request at this moment.
        """
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            # The header of a response tells the client not to use the connection again.
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_keep_alive):
                while self.server_state.connections and self.retiring:
                    await asyncio.sleep(TICK_SECONDS)


def serve_app(
    app: Apex, host: str | None = None, port: int | None = None, banner: str = "", *, outer: ASGIApp | None = None
) -> None:
    """Serve the app until the process gets SIGINT or SIGTERM.

    ``outer`` is middleware around the app. ``banner`` is printed first, with the address in place of ``{url}``::

        serve_app(app, "127.0.0.1", 3030)

    Raises Unavailable if the database cannot be reached, and ConfigError if the address cannot be used.
    """
    app.set("isCommand", False)  # A command that serves, such as one that loads data before, is a server from now on.

    async def served() -> None:
        async with app.lifespan():
            with listening(app, host, port) as (listener, url):
                await serve_on(listener, Server(app, configured(app, outer), lambda: announce(url, banner)))

    uvloop.run(served())


def configured(app: Apex, outer: ASGIApp | None = None) -> Config:
    """Return the configuration of a server for the app in its ``outer`` middleware. Set up logging as well."""
    logs(app)
    return Config(
        outer or app,
        limits_of(app),
        lifespan="off",
        loop="uvloop",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # ``apex.limits.clients.address_of`` reads the headers of proxies.
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        **_websocket_options(app),
    )


def _websocket_options(app: Apex) -> dict[str, Any]:
    """Return the options for WebSockets, if the app has sockets."""
    sockets = app.mounts.get(MOUNT)
    if not isinstance(sockets, Sockets):
        return {}
    limits = sockets.engine.limits
    # Frames are small and many. Compression would cost more memory for each connection than it saves.
    return {"ws": "websockets-sansio", "ws_max_size": limits["maxPayload"], "ws_per_message_deflate": False}


async def serve_on(listener: socket.socket, server: Server) -> None:
    """Serve the connections of a listener until the server stops."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    # The server raises its signal again when it has stopped, before the teardown of the app.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    await server.serve(sockets=[listener])


def announce(url: str, banner: str = "") -> None:
    """Print the address of a server, or a banner with the address in place of ``{url}``."""
    click.echo((banner or "Serving at {url}").replace("{url}", url))


@contextmanager
def listening(app: Apex, host: str | None = None, port: int | None = None) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening socket and its URL. The address is by default that of the configuration.

    Raises ConfigError if the address cannot be used, or if others can reach an app whose secret is published.
    """
    address: str = host or app.get("host") or "localhost"
    for problem in exposed_secrets(app.settings, address):
        raise ConfigError(problem)
    port = app.get("port") if port is None else port
    with _listener(address, PORT if port is None else port) as listener:
        yield listener, f"http://{_host_in_url(address)}:{listener.getsockname()[1]}"


def _listener(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigError(f"cannot listen on {_host_in_url(host)}:{port}: {reason}") from None
    # Connections inherit the options. asyncio sets this one only for listeners that it creates itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    return listener


def _host_in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
