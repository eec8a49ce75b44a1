"""The state of the log in the database, for ``apex log status``."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from typing import Any

from sqlalchemy import func, select, text

from apex.log.app_log import Log
from apex.log.bus import REPORT, REPORTED
from apex.log.position import Position
from apex.migrations import connect

ANSWER_SECONDS = 1.0
"""The time for the answers of other processes. One that takes longer lags behind."""

LOOK_SECONDS = 0.02

SIZE = "SELECT pg_total_relation_size(oid) AS bytes, reltuples AS rows FROM pg_class WHERE oid = to_regclass(:name)"

OPEN = """
    SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start) AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL
    ORDER BY xact_start LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class End:
    """The first or the last entry that is kept."""

    id: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that has written something and is open for so many seconds, in a process of PostgreSQL."""

    pid: int
    application: str
    state: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the app. It has read an entry, and stored another one, within so many ``seconds``.

    ``waiting`` is the number of its calls that wait for an event.
    """

    host: str
    pid: int
    seconds: float
    waiting: int


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the log.

    ``rows`` is the number of entries. With ``is_estimated`` it comes from the statistics of PostgreSQL. ``bytes`` is
    the size of the table with its indexes, and None on SQLite.
    """

    first: End | None
    last: End | None
    rows: int
    is_estimated: bool
    bytes: int | None
    position: Position


async def status_of(log: Log) -> Status:
    """Return the state of a log."""
    table, database = log.table, log.database
    c = table.c
    first, last = [
        [End(**row) for row in await database.execute(select(c.id, c.created_at).order_by(order).limit(1))]
        for order in (c.id, c.id.desc())
    ]
    rows, size = -1, None
    if database.dialect.name == "postgresql":
        (found,) = await database.execute(text(SIZE), {"name": table.name})
        rows, size = int(found["rows"]), found["bytes"]
    is_estimated = rows >= 0
    if not is_estimated:  # PostgreSQL has not analyzed the table yet, and SQLite has no such statistics.
        (counted,) = await database.execute(select(func.count().label("rows")).select_from(table))
        rows = counted["rows"]
    return Status(next(iter(first), None), next(iter(last), None), rows, is_estimated, size, await log.position())


async def processes_of(log: Log, seconds: float = ANSWER_SECONDS) -> list[Process]:
    """Ask all processes for an answer through the log, and return those that answer within some seconds."""
    question, found, position = token_hex(8), list[Process](), await log.position()
    await log.writer.write([log.writer.message(REPORT, question)])
    asked = time.monotonic()
    while (elapsed := time.monotonic() - asked) < seconds:
        entries, position, _ = await log.read(position, services=[None], event=REPORTED)
        answers = [entry.record for entry in entries if entry.record["to"] == question]
        found += [Process(one["host"], one["pid"], round(elapsed, 3), one["waiting"]) for one in answers]
        await asyncio.sleep(LOOK_SECONDS)
    return sorted(found, key=lambda process: (process.host, process.pid))


def oldest_transaction(url: str) -> OpenTransaction | None:
    """Return the oldest open transaction that has written something, as far as the user of the URL may see them.

    None, if there is none, and on SQLite.
    """
    with connect(url) as connection:
        if connection.dialect.name != "postgresql":
            return None
        row: Any = connection.execute(text(OPEN)).first()
    return None if row is None else OpenTransaction(row[0], row[1], row[2], float(row[3]))
