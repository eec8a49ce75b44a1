"""The commands ``apex import`` and ``apex export``."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import click

from apex.cli import ID, load_app, run
from apex.encoding import encode
from apex.errors import ConfigError, FeathersError
from services.commands.common import find_organization, organization_option, require_member

if TYPE_CHECKING:
    from apex import Apex
    from services.transfer.imports import Progress

SERVICES = ("contacts", "companies")
ENDINGS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
CLEAR_LINE = "\r\x1b[2K"

Update = Callable[[int, int], None]

format_option = click.option("--format", type=click.Choice(FORMATS), help="Format of the file [default: by its ending]")


@click.command("import")
@click.argument("service", type=click.Choice(SERVICES))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@organization_option
@click.option("--user", type=ID, help="Id of the member who creates the records, and owns them by default.")
@format_option
@click.option(
    "--upsert",
    help="Change the record with the same value: email, phone or crm_id of a contact, name of a company.",
)
@click.option("--dry-run", is_flag=True, help="Check every row, but store nothing.")
@click.option("--again", is_flag=True, help="Start over, even if an earlier run was interrupted.")
@click.option("--errors", type=click.Path(dir_okay=False), help="File for the refused rows [default: stderr]")
@click.pass_obj
def import_(factory: str, /, service: str, file: str, format: str | None, errors: str | None, **options: Any) -> None:
    """Import contacts or companies from a CSV or JSON file.

    FILE is a path, or - for stdin. If a run is interrupted, start the same command again: it continues where the run
    ended. Each refused row is reported as a line of JSON. The exit code is 1 if this run or an interrupted one refused
    a row.
    """
    app = load_app(factory)
    format = format or _format_of(file)
    with _seekable(file) as source:
        progress = run(app, lambda: _import(app, service, source, format, errors, **options))
    sys.exit(1 if progress.refused or progress.refused_before else 0)


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@organization_option
@format_option
@click.option("--output", type=click.Path(dir_okay=False), default="-", help="File to write [default: stdout]")
@click.pass_obj
def export(factory: str, service: str, organization: int, format: str | None, output: str) -> None:
    """Export all contacts or companies of an organization as CSV or JSON."""
    app = load_app(factory)
    format = format or ("csv" if output == "-" else _format_of(output))
    run(app, lambda: _export(app, service, organization, format, output))


async def _import(
    app: Apex, service: str, source: BinaryIO, format: str, errors: str | None, organization: int, user: int | None,
    **options: Any,
) -> Progress:  # fmt: skip
    from services.transfer.formats import read_rows
    from services.transfer.imports import Import

    await _require(app, organization, user)
    tenant = app.service(service).service
    digest = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
    size, _ = source.tell(), source.seek(0)
    with _refusals(errors) as refuse, _bar(f"Importing {service}", size) as update:
        checkpoint = await tenant.checkpoint(organization, digest, format=format, user=user, upsert=options["upsert"])
        job = Import(app, service, organization, refuse, user=user, checkpoint=checkpoint, **options)
        async for progress in job.run(read_rows(source, format, await tenant.file_columns(organization))):
            update(source.tell(), progress.rows)
    click.echo(_summary(progress, job.dry_run))
    return progress


async def _export(app: Apex, service: str, organization: int, format: str, output: str) -> None:
    await find_organization(app, organization)
    query = {"organization_id": organization, "$limit": 0}
    total = (await app.service(service).find({"query": query, "paginate": {"default": 0}}))["total"]
    written = 0

    with _bar(f"Exporting {service}", total) as update, _opened(output, "wb", atomic=output != "-") as file:

        def count(records: int) -> None:
            nonlocal written
            written += records
            update(written, written)

        stream = await app.service(service).export_file(organization, format, count)
        async for chunk in stream.chunks:
            file.write(chunk)


async def _require(app: Apex, organization: int, user: int | None) -> None:
    """Raise ConfigError if there is no such organization, or the user is not a member of it."""
    await find_organization(app, organization)
    if user is not None:
        await require_member(app, organization, user)


def _format_of(file: str) -> str:
    ending = Path(file).suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"'{file}' does not end with {', '.join(ENDINGS)}: give --format csv or --format json")
    return ENDINGS[ending]


@contextmanager
def _seekable(file: str) -> Iterator[BinaryIO]:
    """Open a file. Standard input is copied to a temporary file first."""
    if file != "-":
        with open(file, "rb") as opened:
            yield opened
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.seek(0)
        yield copy


def _opened(file: str, mode: str, **options: Any) -> IO[Any]:
    """Open a file for writing. Raises ConfigError if that fails."""
    try:
        return click.open_file(file, mode, **options)
    except OSError as error:
        raise ConfigError(f"cannot write '{file}': {error.strerror}") from None


@contextmanager
def _refusals(file: str | None) -> Iterator[Callable[[int, FeathersError], None]]:
    """Return a function that writes refused rows as lines of JSON: at the end of a file, or to stderr."""
    from services.transfer.transferable import refused_row

    with nullcontext() if file is None else _opened(file, "a", encoding="utf-8") as opened:

        def refuse(line: int, error: FeathersError) -> None:
            text = encode(refused_row(line, error)).decode()
            before = CLEAR_LINE if opened is None and sys.stderr.isatty() else ""
            click.echo(before + text, file=opened, err=opened is None)

        yield refuse


@contextmanager
def _bar(label: str, length: int) -> Iterator[Update]:
    """Show the progress on stderr, with the rows per second and the time left, if stderr is a terminal."""
    started = time.monotonic()

    def rate(rows: int | None) -> str | None:
        return None if rows is None else f"{rows / (time.monotonic() - started):,.0f} rows/s"

    bar = click.progressbar(
        length=length, label=label, file=sys.stderr, item_show_func=rate, hidden=not sys.stderr.isatty()
    )
    with bar as shown:
        yield lambda position, rows: shown.update(position - shown.pos, rows)


def _summary(progress: Progress, dry_run: bool) -> str:
    """Return the last line of an import's output."""
    before = "done before" + (f", {progress.refused_before:,} of them refused" if progress.refused_before else "")
    if progress.skipped == progress.rows and not dry_run and progress.rows:
        return f"Nothing was left to do: all {progress.rows:,} rows were {before}."
    parts = {
        before: progress.skipped,
        "created": progress.created,
        "updated": progress.updated,
        "refused": progress.refused,
    }
    counts = ", ".join(f"{count:,} {name}" for name, count in parts.items() if count or name != before)
    return f"{'Dry run, nothing is stored. ' if dry_run else ''}{progress.rows:,} rows: {counts}."
