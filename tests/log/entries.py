"""Logs whose entries the tests insert by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, insert

from apex import Apex, database
from apex.log import Entry, Log, Position, log_table
from apex.log.settings import Settings


def new_table() -> Table:
    """Return the table of a log with teams."""
    return log_table(MetaData(), Column("team", Integer), tenant="team")


def row(number: int, record: str = "1", team: int | None = None, service: str | None = "notes") -> dict[str, Any]:
    """Return the columns of an entry whose record has a number."""
    moment = datetime.now(UTC)
    return {
        "origin": "test", "created_at": moment, "service": service, "event": "patched", "method": "patch",
        "record_id": record, "before": None, "record": {"n": number}, "call": None, "team": team,
    }  # fmt: skip


async def add(log: Log, *rows: Mapping[str, Any]) -> None:
    """Store entries in one transaction."""
    await log.database.execute(insert(log.table), [dict(row) for row in rows])


def numbers(entries: list[Entry]) -> list[int]:
    """Return the numbers of the records."""
    return [entry.record["n"] for entry in entries]


async def read_all(log: Log, after: Position, limit: int = 1000, **options: Any) -> tuple[list[Entry], Position]:
    """Return all entries after a position, page by page, each from the text of its position."""
    entries: list[Entry] = []
    more = True
    while more:
        page, after, more = await log.read(Position.parse(str(after)), limit=limit, **options)
        assert len(page) <= limit
        entries += page
    return entries, after


@asynccontextmanager
async def opened(url: str, creates: bool = True) -> AsyncIterator[Log]:
    """Open a database with a log, which nobody follows. It is created if it does not exist."""
    app = Apex().configure(database(url))
    log = Log(app, new_table(), Settings())
    await log.database.open()
    try:
        if creates:
            await log.database.create_all(log.table.metadata)
        yield log
    finally:
        await log.database.close()
