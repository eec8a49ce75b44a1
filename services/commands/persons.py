"""The commands about what is stored of people: ``apex person`` and ``apex audit``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import click

from apex.cli import DAY, ID, load_app, require_migrated, run
from apex.encoding import encode
from apex.errors import ConfigError
from services.commands.main import organization_option

if TYPE_CHECKING:
    from apex import Apex
    from apex.types import Row

IS_OWNER = "SELECT has_table_privilege('audit', 'DELETE') AND NOT row_security_active('audit')"

BATCH = 5_000
"""The entries that ``prune`` deletes at once."""


@click.group()
def person() -> None:
    """Tell what is known of a person, or erase it."""


@person.command()
@click.argument("contact", type=ID)
@organization_option
@click.option("--output", type=click.File("w", "utf-8"), default="-", help="The file to write [default: stdout]")
@click.pass_obj
def export(factory: str, contact: int, organization: int, output: IO[str]) -> None:
    """Write all that is known of a contact, as JSON."""
    from services.accounts.persons import known_of

    app = load_app(factory)
    known: Row = run(app, lambda: known_of(app, "contacts", organization, contact))
    output.write(encode(known).decode() + "\n")


@person.command()
@click.argument("contact", type=ID)
@organization_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def erase(factory: str, contact: int, organization: int, yes: bool) -> None:
    """Delete a contact for good, and what is copied of it."""
    from services.accounts.persons import erase as erase_person

    if not yes:
        click.confirm(f"Erase contact {contact} of organization {organization}? This cannot be undone.", abort=True)
    app = load_app(factory)
    changed = run(app, lambda: erase_person(app, "contacts", organization, contact))
    told = ", ".join(f"{count:,} {path}" for path, count in changed.items() if count)
    click.echo(f"Contact {contact} erased.{f' Changed: {told}.' if told else ''}")


@click.group()
def audit() -> None:
    """Manage the audit."""


@audit.command()
@click.option("--before", type=DAY, required=True, help="A day in UTC, such as 2026-01-31.")
@click.pass_obj
def prune(factory: str, before: datetime) -> None:
    """Delete the entries of the audit that are older than a day, of all organizations.

    It may run while the app is served: it deletes a few thousand at once, the oldest first.
    """
    app = load_app(factory)
    require_migrated(app)
    deleted = sum(_prune(app, before))
    click.echo(f"{deleted:,} entries deleted.")


def _prune(app: Apex, before: datetime) -> Iterator[int]:
    """Delete as the owner of the tables: the app itself may not. Yield how many entries each batch had."""
    from sqlalchemy import delete, func, select, text

    from apex.migrations import connect
    from services.accounts.audit import audit as entries

    c, old = entries.c, entries.c.created_at < before
    with connect(app.get("database_url")) as connection:
        if connection.dialect.name == "postgresql" and not connection.scalar(text(IS_OWNER)):
            raise ConfigError("the owner of the tables prunes the audit: DATABASE_URL names another user")
        first: Any = connection.scalar(select(func.min(c.id)))
        last: Any = connection.scalar(select(c.id).where(old).order_by(c.id.desc()).limit(1))
        connection.rollback()
        while first is not None and last is not None and first <= last:
            batch = delete(entries).where(c.id.between(first, min(first + BATCH - 1, last)), old)
            with connection.begin():
                yield connection.execute(batch).rowcount
            first += BATCH
