"""The ``apex`` command: serve, migrate and token, and the commands that applications add.

An application's commands are entry points in the group ``apex.commands``; they are imported when they are called.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

import click

from apex.app import Apex
from apex.config import ConfigError
from apex.errors import FeathersError
from apex.revisions import is_up_to_date
from apex.server import running, serve_app
from apex.workers import serve_workers, work

T = TypeVar("T")

FACTORY = "services.app:create_app"
ID = click.IntRange(1, (1 << 63) - 1)


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
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that share the address."
)
@click.pass_obj
def serve(factory: str, host: str | None, port: int | None, workers: int) -> None:
    """Serve the application.

    SIGTERM and SIGINT stop it once the requests under way are answered. With several workers SIGHUP renews them one
    after the other, and no request is refused meanwhile.
    """
    app = load_app(factory)
    if workers > 1:
        serve_workers(app, factory, workers, host, port)
    else:
        require_migrated(app)
        serve_app(app, host, port)


@apex.command(hidden=True)
@click.argument("listener", type=int)
@click.argument("line", type=int)
@click.pass_obj
def worker(factory: str, listener: int, line: int) -> None:
    """Serve the application as one of several workers."""
    app = load_app(factory)
    require_migrated(app)
    work(app, listener, line)


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
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write [default: stdout]")
@click.pass_obj
def openapi(factory: str, output: Path | None) -> None:
    """Print the OpenAPI document of the application, as it is served at /openapi.json."""
    from apex.openapi import document_of

    text = json.dumps(document_of(load_app(factory)), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(f"{text}\n", encoding="utf-8")


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
    url = app.get("database_url")
    if url is None or is_up_to_date(url):
        return
    from apex.migrate import pending

    if pending(url):
        raise ConfigError("the database is not up to date: run 'apex migrate'")


def run(app: Apex, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs something asynchronous inside the running app, and gives its result. The database must be migrated."""
    require_migrated(app)

    async def inside() -> T:
        async with running(app):
            return await work()

    return asyncio.run(inside())
