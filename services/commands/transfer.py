"""``apex import`` and ``apex export``."""

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
from services.commands.main import organization_option

if TYPE_CHECKING:
    from apex import Apex
    from services.transfer.imports import Progress

SERVICES = ("contacts", "companies")
ENDINGS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
CLEAR_LINE = "\r\x1b[2K"

Update = Callable[[int, int], None]

format_option = click.option("--format", type=click.Choice(FORMATS), help="By default the file's ending tells.")


@click.command("import")
@click.argument("service", type=click.Choice(SERVICES))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@organization_option
@click.option("--user", type=ID, help="Id of the member who makes the new records, and owns them by default.")
@format_option
@click.option("--upsert", help="Change the record with the same email, phone or crm_id (contacts), name (companies).")
@click.option("--dry-run", is_flag=True, help="Check every row, and store nothing.")
@click.option("--again", is_flag=True, help="Start over, also where a run of this import was broken off.")
@click.option("--errors", type=click.Path(dir_okay=False), help="File for the rows refused [default: stderr]")
@click.pass_obj
def import_(factory: str, /, service: str, file: str, format: str | None, errors: str | None, **options: Any) -> None:
    """Store the rows of FILE (- is stdin), CSV or JSON, as contacts or companies.

    A run that was broken off goes on where it ended when the same command is started again. Each row that is wrong is
    told in a line of JSON, and the exit code is then 1, as it is for rows that were refused before a run broke off.
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
@click.option("--output", type=click.Path(dir_okay=False), default="-", help="The file to write [default: stdout]")
@click.pass_obj
def export(factory: str, service: str, organization: int, format: str | None, output: str) -> None:
    """Write all contacts or companies of an organization as CSV or JSON."""
    app = load_app(factory)
    format = format or ("csv" if output == "-" else _format_of(output))
    run(app, lambda: _export(app, service, organization, format, output))


async def _import(
    app: Apex, service: str, source: BinaryIO, format: str, errors: str | None, organization: int, user: int | None,
    **options: Any,
) -> Progress:  # fmt: skip
    from services.transfer.formats import rows
    from services.transfer.imports import Import

    await _check(app, organization, user)
    tenant = app.service(service).service
    digest = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
    size, _ = source.tell(), source.seek(0)
    with _refusals(errors) as refuse, _bar(f"Importing {service}", size) as update:
        checkpoint = await tenant.checkpoint(organization, digest, format=format, user=user, upsert=options["upsert"])
        job = Import(app, service, organization, refuse, user=user, checkpoint=checkpoint, **options)
        async for progress in job.run(rows(source, format, await tenant.file_columns(organization))):
            update(source.tell(), progress.rows)
    click.echo(_summary(progress, job.dry_run))
    return progress


async def _export(app: Apex, service: str, organization: int, format: str, output: str) -> None:
    await _check(app, organization, None)
    query = {"organization_id": organization, "$limit": 0}
    total = (await app.service(service).find({"query": query, "paginate": {"default": 0}}))["total"]
    written = 0

    with _bar(f"Exporting {service}", total) as update, _opened(output, "wb", atomic=output != "-") as file:

        def count(rows: int) -> None:
            nonlocal written
            written += rows
            update(written, written)

        stream = await app.service(service).exported(organization, format, count)
        async for chunk in stream.chunks:
            file.write(chunk)


async def _check(app: Apex, organization: int, user: int | None) -> None:
    """Raises ConfigError for an organization that is not there, and for a user who is no member of it."""
    if not await app.service("organizations").find({"query": {"id": organization}, "paginate": False}):
        raise ConfigError(f"there is no organization {organization}")
    if user is not None and organization not in (await app.service("memberships").of_user(user) or ()):
        raise ConfigError(f"user {user} is not a member of organization {organization}")


def _format_of(file: str) -> str:
    ending = Path(file).suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"'{file}' does not end with {', '.join(ENDINGS)}: say --format csv or --format json")
    return ENDINGS[ending]


@contextmanager
def _seekable(file: str) -> Iterator[BinaryIO]:
    """The file; what comes from stdin is kept in one that is deleted at the end."""
    if file != "-":
        with open(file, "rb") as opened:
            yield opened
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield kept


def _opened(file: str, mode: str, **options: Any) -> IO[Any]:
    """A file to write. Raises ConfigError where there can be none."""
    try:
        return click.open_file(file, mode, **options)
    except OSError as error:
        raise ConfigError(f"cannot write '{file}': {error.strerror}") from None


@contextmanager
def _refusals(file: str | None) -> Iterator[Callable[[int, FeathersError], None]]:
    """Writes each refusal as a line of JSON: into a file, behind those of earlier runs, or on stderr."""
    from services.transfer.service import refused_row

    with nullcontext() if file is None else _opened(file, "a", encoding="utf-8") as opened:

        def refuse(line: int, error: FeathersError) -> None:
            text = encode(refused_row(line, error)).decode()
            before = CLEAR_LINE if opened is None and sys.stderr.isatty() else ""
            click.echo(before + text, file=opened, err=opened is None)

        yield refuse


@contextmanager
def _bar(label: str, length: int) -> Iterator[Update]:
    """A bar on a terminal's stderr, with rows a second and the time left; nothing elsewhere."""
    started = time.monotonic()

    def rate(rows: int | None) -> str | None:
        return None if rows is None else f"{rows / (time.monotonic() - started):,.0f} rows/s"

    bar = click.progressbar(
        length=length, label=label, file=sys.stderr, item_show_func=rate, hidden=not sys.stderr.isatty()
    )
    with bar as shown:
        yield lambda position, rows: shown.update(position - shown.pos, rows)


def _summary(progress: Progress, dry_run: bool) -> str:
    before = f"done before{f', {progress.refused_before:,} of them refused' if progress.refused_before else ''}"
    if progress.skipped == progress.rows and not dry_run and progress.rows:
        return f"Nothing was left to do: all {progress.rows:,} rows were {before}."
    parts = {
        before: progress.skipped,
        "created": progress.created,
        "updated": progress.updated,
        "refused": progress.refused,
    }
    told = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count or what != before)
    return f"{'Dry run, nothing is stored. ' if dry_run else ''}{progress.rows:,} rows: {told}."
