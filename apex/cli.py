"""The ``apex`` command: serve, migrate and token, and the commands that applications add.

An application's commands are entry points in the group ``apex.commands``; they are imported when they are called.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import click

from apex.app import Apex
from apex.config import ConfigError
from apex.engine import MAX_PAYLOAD
from apex.errors import FeathersError

T = TypeVar("T")

FACTORY = "services.app:create_app"
SHUTDOWN_SECONDS = 10
UNREAD_SECONDS = 30


class Commands(click.Group):
    """The framework's commands and, by their entry points, those of the application."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_extensions()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        extension = _extensions().get(name)
        if extension is None:
            return super().get_command(ctx, name)
        command: click.Command = extension.load()
        return command


def _extensions() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="apex.commands")}


@click.group(cls=Commands)
@click.option("--app", "factory", envvar="APEX_APP", default=FACTORY, show_default=True, help="module:function")
@click.pass_context
def apex(ctx: click.Context, factory: str) -> None:
    """Feathers for Python."""
    ctx.obj = factory


def main() -> None:
    """Runs the command. What an operator can mend is said in one line, with exit code 1."""
    sys.path.insert(0, "")
    try:
        apex()
    except (ConfigError, FeathersError) as error:
        errors: dict[str, str] = getattr(error, "errors", None) or {}
        told = [f"{name}: {rule}" for name, rule in errors.items() if rule not in str(error)]
        click.echo("; ".join([f"apex: {error}", *told]), err=True)
        sys.exit(1)


@apex.command()
@click.option("--host", help="Address to listen on [default: the configuration's]")
@click.option("--port", type=int, help="Port to listen on [default: the configuration's]")
@click.pass_obj
def serve(factory: str, host: str | None, port: int | None) -> None:
    """Serve the application."""
    app = load_app(factory)
    require_migrated(app)
    serve_app(app, host, port)


@apex.command()
@click.argument("revision", required=False)
@click.option("--down", is_flag=True, help="Take the database down to the revision ('base' undoes everything).")
@click.pass_obj
def migrate(factory: str, revision: str | None, down: bool) -> None:
    """Bring the database up to a revision, by default the newest."""
    from apex.migrate import downgrade, pending, upgrade

    url = load_app(factory).get("database_url")
    if down and revision is None:
        raise ConfigError("say down to which revision: 'base' undoes everything")
    (downgrade if down else upgrade)(url, revision or "head")
    left = pending(url)
    click.echo(f"Migrations pending: {', '.join(left)}." if left else "The database is up to date.")


@apex.command()
@click.argument("name")
@click.pass_obj
def token(factory: str, name: str) -> None:
    """Print an access token for a user, by the name the user logs in with."""
    app = load_app(factory)
    click.echo(run(app, lambda: _token(app, name)))


async def _token(app: Apex, name: str) -> str:
    authentication = app.get("defaultAuthentication")
    field = authentication.settings.get("local", {}).get("usernameField", "email")
    found = await authentication.users.find({"query": {field: name.lower(), "$limit": 1}, "paginate": False})
    if not found:
        raise ConfigError(f"there is no user '{name}'")
    token: str = authentication.tokens.create(found[0]["id"])[0]
    return token


def load_app(factory: str) -> Apex:
    """The application that ``module:function`` makes. Raises ConfigError when there is none."""
    module, _, function = factory.partition(":")
    try:
        create: Callable[[], Apex] = getattr(import_module(module), function or "create_app")
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load the application '{factory}': {error}") from None
    return create()


def require_migrated(app: Apex) -> None:
    """Raises ConfigError when the app's database lacks migrations, Unavailable when it cannot be reached."""
    from apex.migrate import pending

    url = app.get("database_url")
    if url is not None and pending(url):
        raise ConfigError("the database is not up to date: run 'apex migrate'")


@asynccontextmanager
async def running(app: Apex) -> AsyncIterator[Apex]:
    """The app, set up; torn down at the end."""
    await app.setup()
    try:
        yield app
    finally:
        await app.teardown()


def run(app: Apex, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs something asynchronous inside the running app, and gives its result. The database must be migrated."""
    require_migrated(app)

    async def inside() -> T:
        async with running(app):
            return await work()

    return asyncio.run(inside())


def serve_app(app: Apex, host: str | None = None, port: int | None = None, banner: str = "") -> None:
    """Serves the app until it is told to stop. ``banner`` may name the ``{url}``.

    Raises Unavailable when the database cannot be reached, ConfigError when nobody can listen at the address.
    """
    import uvicorn
    import uvloop

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
                server = uvicorn.Server(config)
                # The server raises its signal again once it has stopped, when the teardown is still to come.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, partial(_stop, app, server, asyncio.get_running_loop()))
                click.echo((banner or "Serving at {url}").replace("{url}", url))
                await server.serve(sockets=[listener])

    uvloop.run(served())


def _stop(app: Apex, server: Any, loop: asyncio.AbstractEventLoop, number: int, frame: Any) -> None:
    """Open connections do not hold the server up: they are let go, and their clients find it again."""
    server.handle_exit(number, frame)
    loop.call_soon_threadsafe(app.emit, "shutdown")


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
