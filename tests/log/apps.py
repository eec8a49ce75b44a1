"""The smallest app with a log, and a look into its table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, select

from apex import Apex, SQLService, database
from apex.log import log, log_table
from apex.types import Row


@asynccontextmanager
async def logged_app(
    url: str, *columns: Column[Any], tenant: str | None = None, settings: Row | None = None, **options: Any
) -> AsyncIterator[Apex]:
    """Yield an app with a log and the service ``notes``, whose class and hooks may be given."""
    metadata = MetaData()
    fields: list[Column[Any]] = [Column("text", String(200)), Column("team_id", Integer), Column("secret", String(50))]
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), *fields)
    entries = log_table(metadata, *columns, tenant=tenant)
    service, hooks = options.pop("service", SQLService), options.pop("hooks", None)
    app = Apex(settings).configure(database(url)).configure(log(entries, **options))
    app.use("notes", service(notes, multi=True, private=["secret"]), hooks=hooks)
    await app.setup()
    try:
        await app.get("database").create_all(metadata)
        yield app
    finally:
        await app.teardown()


async def entries_of(app: Apex, *names: str) -> list[Any]:
    """Return the entries of the log in their order: one column of each, or several as tuples."""
    made: Any = app.log
    table: Table = made.table
    rows = await app.get("database").execute(select(table).order_by(table.c.id))
    return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in rows]
