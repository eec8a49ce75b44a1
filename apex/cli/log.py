"""The commands ``apex log``: what the log holds, and its entries as they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

import click

from apex.cli.loading import load_app, require_migrated
from apex.cli.options import as_json_option
from apex.errors import ConfigError

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.log.app_log import Log
    from apex.log.position import Position
    from apex.log.reading import Entry
    from apex.log.status import End, OpenTransaction, Process, Status

T = TypeVar("T")

TAIL_SECONDS = 0.5
"""Seconds between two reads of ``apex log tail``."""

OLDEST = "oldest"


@click.group("log")
def log_commands() -> None:
    """Look at the log, which has all events in order."""


@log_commands.command()
@as_json_option
@click.pass_obj
def status(factory: str, as_json: bool) -> None:
    """Print what the log holds, the oldest open transaction, and how quickly each process reads."""
    from dataclasses import asdict

    from apex.encoding import encode
    from apex.log.status import ANSWER_SECONDS, oldest_transaction, processes_of, status_of

    app, log = _app_with_log(factory)

    async def look() -> tuple[Status, list[Process]]:
        return await status_of(log), await processes_of(log)

    found, processes = _on_database(app, look)
    oldest = oldest_transaction(app.get("database_url"))
    kept = {"days": log.settings.days, "rows": log.settings.rows}
    if as_json:
        shown = {**asdict(found), "position": str(found.position), "kept": kept}
        shown |= {"open_transaction": None if oldest is None else asdict(oldest)}
        click.echo(encode({**shown, "processes": [asdict(one) for one in processes]}))
        return
    limits = [f"{number:,}".removesuffix(".0") + f" {unit}" for unit, number in kept.items() if number is not None]
    lines = {
        "first entry": _end(found.first),
        "last entry": _end(found.last),
        "entries": f"{'about ' if found.is_estimated else ''}{found.rows:,}",
        "size": "-" if found.bytes is None else f"{found.bytes / 2**20:,.1f} MiB",
        "kept": ", at most ".join(limits) or "all",
        "position": str(found.position),
        "open transaction": "none" if oldest is None else _transaction(oldest),
    }
    click.echo("\n".join(f"{name:<18}{text}" for name, text in lines.items()))
    answers = [f"{one.pid} on {_printable(one.host)} after {one.seconds * 1000:,.0f} ms" for one in processes]
    for name, text in zip_longest(["processes"], answers or [f"none within {ANSWER_SECONDS:g} s"], fillvalue=""):
        click.echo(f"{name:<18}{text}")


@log_commands.command()
@click.option("--service", help="Only events of this service.")
@click.option("--event", help="Only events of this name, such as created.")
@click.option("--record", help="Only events of the record with this id.")
@click.option("--after", metavar="POSITION", help=f"Begin after a position, or with '{OLDEST}' [default: now]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, one entry a line.")
@click.pass_obj
def tail(
    factory: str, service: str | None, event: str | None, record: str | None, after: str | None, as_json: bool
) -> None:
    """Print the events of the log as they come.

    Ctrl-C ends it and prints the position. Give that to --after to go on from there.
    """
    import asyncio

    from apex.events import EVENTS
    from apex.log.position import Position

    app, log = _app_with_log(factory)
    if service is not None and service not in app.services:
        from apex.query import suggestion

        raise ConfigError(f"there is no service '{service}'.{suggestion(service, app.services)}")
    if event is not None and event in EVENTS:
        raise ConfigError(f"'{event}' is a method: its event is '{EVENTS[event]}'")
    try:
        begin = None if after in (None, OLDEST) else Position.parse(after or "")
    except ValueError:
        raise ConfigError(f"--after takes a position that this command has printed, or '{OLDEST}'") from None
    reached: list[Position] = []

    async def follow() -> None:
        position = begin
        if position is not None:
            await log.check(position)
        else:
            position = await (log.beginning() if after == OLDEST else log.position())
        while True:
            services = None if service is None else [service]
            entries, position, more = await log.read(position, services=services, event=event, record_id=record)
            reached[:] = [position]
            shown = [entry for entry in entries if entry.service is not None]
            for entry in shown:
                click.echo(_json_line(entry, position if entry is shown[-1] else None) if as_json else _line(entry))
            if not more:
                await asyncio.sleep(TAIL_SECONDS)

    try:
        _on_database(app, follow)
    except KeyboardInterrupt:
        pass
    finally:
        if reached:
            click.echo(f"The position is {reached[0]}", err=True)


def _app_with_log(factory: str) -> tuple[Apex, Log]:
    """Return the application and its log. Raises ConfigError if it has none, or if its database lacks the table."""
    from sqlalchemy import inspect

    from apex.migrations import connect

    app = load_app(factory)
    log: Any = app.log
    if log is None:
        raise ConfigError("the application has no log; add one with app.configure(log(table)), from apex.log")
    require_migrated(app)
    name = log.table.name
    with connect(app.get("database_url")) as connection:
        if not inspect(connection).has_table(name, schema=log.table.schema):
            raise ConfigError(
                f"the database has no table '{name}': run apex migrate --new 'add log' --auto, and then apex migrate"
            )
    return app, log


def _on_database(app: Apex, work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function with an open database, and without the services of the app."""
    import asyncio

    async def inside() -> T:
        database = app.get("database")
        await database.open()
        try:
            return await work()
        finally:
            await database.close()

    return asyncio.run(inside())


def _end(end: End | None) -> str:
    return "none" if end is None else f"{end.id} of {end.created_at:%Y-%m-%d %H:%M:%S}"


def _transaction(oldest: OpenTransaction) -> str:
    name = f" ({_printable(oldest.application)})" if oldest.application else ""
    return f"{oldest.state} for {oldest.seconds:.1f} s in process {oldest.pid}{name}"


def _line(entry: Entry) -> str:
    """Return an entry in columns: its moment, id, tenant, service, event and record, and the changed fields."""
    moment = f"{entry.created_at:%Y-%m-%d %H:%M:%S}.{entry.created_at.microsecond // 1000:03}"
    tenant = "" if entry.tenant is None else str(entry.tenant)
    before = entry.before
    changed = ", ".join(before) if isinstance(before, dict) else ""
    columns = (
        f"{moment}  {entry.id:>8}  {tenant:<6}  {entry.service:<20}  {entry.event:<10}  {entry.record_id or '':<8}"
    )
    return _printable(f"{columns}  {changed}".rstrip())


def _json_line(entry: Entry, position: Position | None) -> str:
    """Return an entry as JSON. The last one of a read has the position after it."""
    from apex.encoding import encode

    names = ("id", "created_at", "tenant", "service", "event", "method", "record_id", "before", "record")
    shown: dict[str, Any] = {name: getattr(entry, name) for name in names}
    return encode(shown if position is None else {**shown, "position": str(position)}).decode()


def _printable(text: str) -> str:
    """Return a text without characters that would control the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
