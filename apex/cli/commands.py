"""The ``apex`` command, with the commands of the framework and those that applications add.

The help lists the commands in the order of this file. An application names its commands in the table
``tool.apex.commands`` of its ``pyproject.toml``. They are imported when they are called or listed. Each command imports
the framework inside its function, which keeps help and completion fast.
"""

from __future__ import annotations

import gc
import json
import sys
import tomllib
from datetime import datetime
from errno import EROFS
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from apex.cli.loading import (
    AHEAD,
    FACTORY,
    app_within,
    line_of,
    line_with_place,
    load_app,
    load_asgi,
    place_of,
    require_migrated,
    run,
    warn_of_differences,
)
from apex.cli.log import log_commands
from apex.cli.options import DAY, as_json_option
from apex.cli.permissions import explain, permissions
from apex.cli.webhooks import webhooks
from apex.errors import ConfigError, FeathersError

if TYPE_CHECKING:
    from apex.app import Apex

HIDDEN: tuple[str, ...] = ("worker",)
COLLECT_AFTER = (50_000, 20, 50)
"""The thresholds of garbage collection. By default, collections take a tenth of the time in which a command starts."""


class Commands(click.Group):
    """The framework's commands, those of the application in this folder, and those of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands: those of the framework, and then those of the application."""
        return list(dict.fromkeys([*self.commands, *sorted(_extensions())]))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command. That of an application is imported. Raises ConfigError if it cannot be imported."""
        extension = _extensions().get(cmd_name)
        if extension is None:
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = extension.load()
        except Exception as error:
            raise ConfigError(f"cannot load the command '{cmd_name}': {line_with_place(error)}") from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write two lists: the commands of the framework, and those of the application."""
        added = sorted(_extensions())
        own = [name for name in self.commands if name not in added and name not in HIDDEN]
        for title, names in (("Commands", own), ("Commands of the application", added)):
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, self._short_help(ctx, name, formatter.width - 18)) for name in names])

    def _short_help(self, ctx: click.Context, name: str, width: int) -> str:
        try:
            command = self.get_command(ctx, name)
        except ConfigError as error:
            return str(error)
        return "" if command is None else command.get_short_help_str(width)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments. Raises NoSuchCommand, which names similar commands."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            known = [name for name in self.list_commands(ctx) if name not in HIDDEN]
            raise click.NoSuchCommand(error.command_name, possibilities=known, ctx=ctx) from None


def _extensions() -> dict[str, EntryPoint]:
    """Return the commands of installed packages and of the application in this folder, by name."""
    return _extensions_in(Path.cwd())


@cache
def _extensions_in(folder: Path) -> dict[str, EntryPoint]:
    """Return the commands for a folder. Raises ConfigError if its ``pyproject.toml`` is wrong.

    Installed packages have entry points in the group ``apex.commands``.
    """
    own = [EntryPoint(name, value, "apex.commands") for name, value in _own_commands(folder).items()]
    return {point.name: point for point in (*entry_points(group="apex.commands"), *own)}


def _own_commands(folder: Path) -> dict[str, str]:
    """Return the table ``tool.apex.commands`` of a folder's ``pyproject.toml``: names and ``module:function``."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read pyproject.toml: {error}") from None
    own: dict[str, str] = project.get("tool", {}).get("apex", {}).get("commands", {})
    for name, value in own.items() if isinstance(own, dict) else [("commands", own)]:
        if not isinstance(value, str) or not EntryPoint.pattern.fullmatch(value):
            example = 'report = "services.commands:report"'
            raise ConfigError(f"pyproject.toml, tool.apex.commands: '{name}' must name a function, such as {example}")
    return own


@click.group(cls=Commands)
@click.version_option(package_name="feathers-apex")
@click.option("--app", "factory", envvar="APEX_APP", default=FACTORY, show_default=True, help="module:name")
@click.pass_context
def apex(ctx: click.Context, factory: str) -> None:
    """Feathers for Python."""
    ctx.obj = factory


def main() -> None:
    """Run the command. Errors of the project or of its operator are printed as one line, with exit code 1."""
    sys.path.insert(0, "")
    gc.set_threshold(*COLLECT_AFTER)
    try:
        apex(prog_name="apex")
        return
    except (ConfigError, FeathersError) as error:
        line = line_of(error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == EROFS:
            line = f"{error.filename or ''} cannot be written: {error.strerror}"
        elif place_of(error) is not None:
            line = line_with_place(error)
        else:
            # The project's code did not take part, so it is an error of apex, which needs its traceback.
            raise
    click.echo(f"apex: {line}", err=True)
    sys.exit(1)


@apex.command()
@click.argument("name")
@click.option(
    "--database", type=click.Choice(["sqlite", "postgresql", "memory"]), help="[default: sqlite, or memory with --bare]"
)
@click.option("--bare", is_flag=True, help="The smallest app: one service, and no users.")
@click.option("--tenants", is_flag=True, help="Organizations with members and roles, whose data stay apart.")
def new(name: str, database: str | None, bare: bool, tenants: bool) -> None:
    """Make a project in a new folder.

    It has users who log in, messages, migrations and tests.
    """
    from apex.cli.scaffold import new_project

    folder = new_project(name, database, bare, tenants)
    start = ["docker compose up --detach postgres"] if database == "postgresql" else []
    migrate = [*start, "apex migrate"] if (folder / "migrations").is_dir() else []
    steps = (f"cd {folder}", "make install", "source .venv/bin/activate", *migrate, "make run")
    click.echo("\n  ".join([f"Project {folder} made. Next:", *steps]))


@apex.command()
@click.option("--host", help="Address to listen on [default: the configuration's]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on [default: the configuration's]")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Number of processes.")
@click.option("--reload", is_flag=True, help="Restart when *.py or config/*.json change, for development.")
@click.pass_obj
def serve(factory: str, host: str | None, port: int | None, workers: int, reload: bool) -> None:
    """Serve the application.

    SIGTERM and SIGINT stop it after the running requests. With several workers, SIGHUP restarts them one after the
    other without refusing requests.
    """
    outer = load_asgi(factory)
    app = app_within(outer, factory)
    if reload and app.get("env") == "production":
        raise ConfigError("--reload is for development, but APEX_ENV is 'production'")
    if workers > 1 or reload:
        from apex.server.workers import serve_workers

        serve_workers(app, factory, workers, host, port, reload=reload)
    else:
        from apex.server.uvicorn import serve_app

        require_migrated(app)
        warn_of_differences(app)
        serve_app(app, host, port, outer=outer)


@apex.command(hidden=True)
@click.argument("listener", type=int)
@click.argument("line", type=int)
@click.pass_obj
def worker(factory: str, listener: int, line: int) -> None:
    """Serve the application as one of several workers."""
    from apex.server.workers import work

    outer = load_asgi(factory)
    app = app_within(outer, factory)
    require_migrated(app)
    warn_of_differences(app)
    work(app, listener, line, outer)


def complete_service(ctx: click.Context, argument: click.Parameter, incomplete: str) -> list[str]:
    """Return the paths of services that complete an argument, or none if the application cannot be made."""
    sys.path.insert(0, "")
    try:
        app = load_app(ctx.find_root().params["factory"])
    except (ConfigError, FeathersError):
        return []
    return [path for path, bound in app.services.items() if path.startswith(incomplete) and bound._options.methods]


@apex.command()
@click.argument("service", required=False, shell_complete=complete_service)
@as_json_option
@click.pass_obj
def routes(factory: str, service: str | None, as_json: bool) -> None:
    """List endpoints and events, or the hooks of a service.

    Hooks are listed in the order in which they run. A bar marks the hooks that run inside the transaction.
    """
    from apex.cli import listing

    app = load_app(factory)
    if service is None:
        listed = listing.services(app)
        click.echo(json.dumps(listed) if as_json else "\n".join(listing.service_lines(listed)))
        return
    bound = listing.find(app, service)
    entry = listing.entry(bound)
    hooks = {method: listing.chain(bound, method) for method in bound._hookable}
    if as_json:
        click.echo(json.dumps({**entry, "hooks": hooks}))
        return
    lines = [line for method, steps in hooks.items() for line in ("", method, *listing.chain_lines(steps))]
    click.echo("\n".join([*listing.service_lines([entry]), *lines]))


@apex.command()
@as_json_option
@click.pass_obj
def check(factory: str, as_json: bool) -> None:
    """Find problems before you deploy.

    The checks cover configuration, secrets, database, migrations, Redis and the limits of tenants.
    Each problem is printed as a line, and the exit code is then 1.
    """
    from apex.cli.checks import findings

    try:
        found = findings(load_app(factory))
    except ConfigError as error:
        found = [{"check": "configuration", "message": line_of(error)}]
    if as_json:
        click.echo(json.dumps({"ok": not found, "findings": found}))
    else:
        click.echo("\n".join(f"{one['check']}: {one['message']}" for one in found) or "Nothing is wrong.")
    sys.exit(1 if found else 0)


apex.add_command(permissions)
apex.add_command(explain)


@apex.command()
@click.argument("revision", required=False)
@click.option("--down", is_flag=True, help="Migrate down to the revision; 'base' undoes everything.")
@click.option("--status", is_flag=True, help="Print the revision of the database and change nothing.")
@click.option("--new", "message", metavar="MESSAGE", help="Write the next migration and change no database.")
@click.option("--auto", is_flag=True, help="With --new: write what brings the database to the tables in the code.")
@as_json_option
@click.pass_obj
def migrate(
    factory: str, revision: str | None, down: bool, status: bool, message: str | None, auto: bool, as_json: bool
) -> None:
    """Migrate the database to a revision.

    The default is the newest revision.
    """
    from apex.migrations.migrate import current, downgrade, pending, unknown_revision, upgrade

    if message is not None:
        (write_changes(factory, message, as_json) if auto else write_migration(message, as_json))
        return
    if auto:
        raise ConfigError("--auto needs the title of the migration: apex migrate --new 'add due' --auto")
    url = _database_url(load_app(factory))
    if down and revision is None:
        raise ConfigError("--down needs a revision; 'base' undoes everything")
    if not status:
        (downgrade if down else upgrade)(url, revision or "head")
    left, reached, unknown = pending(url), current(url), unknown_revision(url)
    if as_json:
        click.echo(json.dumps({"current": reached, "pending": left, "ahead": unknown is not None}))
        return
    if status:
        click.echo(f"The database is at {reached}." if reached else "The database is empty.")
    if unknown is not None:
        click.echo(AHEAD.format(unknown))
    else:
        click.echo(f"Migrations pending: {', '.join(left)}." if left else "The database is up to date.")


def write_migration(message: str, as_json: bool = False) -> None:
    """Write the next migration and print its file."""
    from apex.migrations.migrate import write

    file = str(write(message))
    click.echo(json.dumps({"written": file}) if as_json else f"{file} written.")


def write_changes(factory: str, message: str, as_json: bool) -> None:
    """Write the migrations for the tables in the code, and print their files and what to look at in them."""
    from apex.migrations.writing import write_changes

    written = write_changes(_database_url(load_app(factory)), message)
    files = [str(file) for file in written.files]
    if as_json:
        click.echo(json.dumps({"written": files, "notes": written.notes}))
        return
    click.echo(
        "\n".join(f"{file} written." for file in files) or "Nothing to do: the database has the tables of the code."
    )
    for note in written.notes:
        click.echo(f"Look at this: {note}.")


def _database_url(app: Apex) -> str:
    """Return the URL of the app's database. Raises ConfigError for an app without one."""
    url: str | None = app.get("database_url")
    if url is None:
        raise ConfigError("the application has no database; add one with app.configure(database(url))")
    return url


@apex.group()
def generate() -> None:
    """Add a service, webhooks, a hook or a migration."""


@generate.command("service")
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[FIELD]...")
@click.pass_obj
def generate_service(factory: str, name: str, fields: tuple[str, ...]) -> None:
    """Write a service with its schema, table, migration and tests, and register it.

    FIELD is NAME:TYPE, then '!' if it is required, ':unique' or ':index', and '=' with a default:

    \b
      title:string! code:string(20)!:unique 'status:enum(open,closed)=open'
      due:date project:belongs_to! labels:many_to_many

    The types are string, text, integer, decimal, float, boolean, date, datetime, time, uuid, json, email, enum,
    belongs_to and many_to_many.
    """
    from apex.cli.scaffold import new_service

    _wrote(new_service(name, fields, factory))


@generate.command("webhooks")
def generate_webhooks() -> None:
    """Write services for webhooks, with their migration and a test, and register them.

    In a project with tenants they are those of an organization, else each user has their own.
    """
    from apex.cli.scaffold import new_webhooks

    _wrote(new_webhooks())


@generate.command("hook")
@click.argument("name")
@click.option(
    "--type", "kind", type=click.Choice(["around", "before", "after", "error"]), default="around", show_default=True
)
def generate_hook(name: str, kind: str) -> None:
    """Write a hook and its test."""
    from apex.cli.scaffold import new_hook

    _wrote(new_hook(name, kind))


@generate.command("migration")
@click.argument("message")
def generate_migration(message: str) -> None:
    """Write the next migration, as 'apex migrate --new' does."""
    write_migration(message)


def _wrote(files: list[Path]) -> None:
    for file in files:
        click.echo(f"{file} written.")


@apex.command()
@click.option("--output", type=click.File("w", "utf-8"), default="-", help="The file to write [default: stdout]")
@click.option("--typescript", "form", flag_value="typescript", help="Print TypeScript declarations instead.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a reference in Markdown instead.")
@click.pass_obj
def openapi(factory: str, output: IO[str], form: str | None) -> None:
    """Print the OpenAPI document.

    It is the document that the app serves at /openapi.json.
    """
    output.write(_described(load_app(factory), form))


def _described(app: Apex, form: str | None) -> str:
    if form == "typescript":
        from apex.openapi.declarations import declarations

        return declarations(app)
    from apex.openapi import document_of

    document = document_of(app)
    if form == "markdown":
        from apex.openapi.markdown import pages

        return "\n\n".join(pages(document).values()) + "\n"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


@apex.command()
@click.option("-c", "--code", metavar="CODE", help="Run this Python code and end.")
@click.pass_obj
def shell(factory: str, code: str | None) -> None:
    """Open a Python console with the app, its services and its database.

    The app is set up, and await works at the prompt: await service("users").find(). Calls are made inside the process,
    without a login.
    """
    from apex.cli.shell import run_shell

    app = load_app(factory)
    require_migrated(app)
    run_shell(app, code)


@apex.command()
@click.argument("name")
@as_json_option
@click.pass_obj
def token(factory: str, name: str, as_json: bool) -> None:
    """Print an access token for a user.

    NAME is the name that the user logs in with.
    """
    app = load_app(factory)
    token = run(app, lambda: _token(app, name))
    click.echo(json.dumps({"accessToken": token}) if as_json else token)


async def _token(app: Apex, name: str) -> str:
    authentication = app.get("defaultAuthentication")
    found = await authentication.user_named(name)
    if found is None:
        raise ConfigError(f"there is no user '{name}'")
    token: str = authentication.tokens.create(found[authentication.entity_id])[0]
    return token


@apex.group()
def trash() -> None:
    """List removed records, or delete them for good."""


@trash.command("list")
@as_json_option
@click.pass_obj
def list_removed(factory: str, as_json: bool) -> None:
    """Count the removed records of each service."""
    from dataclasses import asdict

    from apex.common.trash import list_trash
    from apex.encoding import encode

    app = load_app(factory)
    found = [one for one in run(app, lambda: list_trash(app)) if one.records]
    if as_json:
        click.echo(encode([asdict(one) for one in found]).decode())
        return
    for one in found:
        click.echo(f"{one.service}: {one.records:,}, the first removed on {one.oldest:%Y-%m-%d}")
    if not found:
        click.echo("There are no removed records.")


@trash.command()
@click.option("--before", type=DAY, required=True, help="A day in UTC, such as 2026-01-31.")
@as_json_option
@click.pass_obj
def prune(factory: str, before: datetime, as_json: bool) -> None:
    """Delete the records that were removed before a day, unless other records refer to them."""
    from dataclasses import asdict

    from apex.common.trash import prune_trash

    app = load_app(factory)
    pruned = [one for one in run(app, lambda: prune_trash(app, before)) if one.deleted or one.kept]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in pruned]))
        return
    for one in pruned:
        kept = f", kept {one.kept:,} that other records refer to" if one.kept else ""
        click.echo(f"{one.service}: deleted {one.deleted:,}{kept}")
    if not pruned:
        click.echo("Nothing was removed before that day.")


apex.add_command(log_commands)
apex.add_command(webhooks)
