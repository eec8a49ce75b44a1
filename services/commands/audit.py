"""The commands ``apex audit``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from apex.cli import DAY, load_app, require_migrated
from apex.errors import ConfigError

if TYPE_CHECKING:
    from apex import Apex

IS_OWNER = "SELECT has_table_privilege('audit', 'DELETE') AND NOT row_security_active('audit')"

BATCH = 5_000
"""Number of entries that one transaction deletes."""


@click.group()
def audit() -> None:
    """Manage the audit."""


@audit.command()
@click.option("--before", type=DAY, required=True, help="A day in UTC, such as 2026-01-31.")
@click.pass_obj
def prune(factory: str, before: datetime) -> None:
    """Delete old entries of the audit, in all organizations.

    The command may run while the application serves requests: it deletes the oldest entries first, a few thousand in
    each transaction.
    """
    app = load_app(factory)
    require_migrated(app)
    deleted = sum(_prune(app, before))
    click.echo(f"{deleted:,} entries deleted.")


def _prune(app: Apex, before: datetime) -> Iterator[int]:
    """Delete entries batch by batch, and yield the number of entries in each.

    It connects as the owner of the tables, because the application may not delete entries. Raises ConfigError for
    another user.
    """
    from sqlalchemy import delete, func, select, text

    from apex.migrations import connect
    from services.accounts.audit import audit as entries

    c, old = entries.c, entries.c.created_at < before
    with connect(app.get("database_url")) as connection:
        if connection.dialect.name == "postgresql" and not connection.scalar(text(IS_OWNER)):
            raise ConfigError("only the owner of the tables can prune the audit: DATABASE_URL names another user")
        first: int | None = connection.scalar(select(func.min(c.id)))
        last: int | None = connection.scalar(select(c.id).where(old).order_by(c.id.desc()).limit(1))
        connection.rollback()
        while first is not None and last is not None and first <= last:
            batch = delete(entries).where(c.id.between(first, min(first + BATCH - 1, last)), old)
            with connection.begin():
                yield connection.execute(batch).rowcount
            first += BATCH
