"""An idle process that follows the log, and the order of events: ``python -m benchmarks live``.

Calls are made inside the process, to connections without a transport. ``writes`` measures what the log costs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, text

from apex import Apex, Connection, Context, SQLService, database
from apex.encoding import decode, encode
from apex.log import log, log_table
from benchmarks.servers import database_processor
from tests.support.databases import new_database, start_server

AT_ONCE = 16
IDLE_SECONDS = 10
WRITES, RECORDS, SOCKETS = 5_000, 20, 2
"""The writes of each of two processes, their records, and the sockets of each: 40,000 deliveries."""

NEXT_VERSION = [
    "CREATE FUNCTION next_version() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN NEW.version = OLD.version + 1; RETURN NEW; END'",
    "CREATE TRIGGER next_version BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION next_version()",
]


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Apex]:
    """Run an app with the service ``notes`` and a log."""
    metadata = MetaData()
    columns: list[Column[Any]] = [Column("text", String(50)), Column("version", Integer, server_default="0")]
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), *columns)
    app = Apex().configure(database(url)).configure(log(log_table(metadata)))
    app.use("notes", SQLService(notes)).publish(lambda data, context: context.app.channel("all"))
    await app.setup()
    await app.get("database").create_all(metadata)
    try:
        yield app
    finally:
        await app.teardown()


def connect(app: Apex, count: int) -> None:
    """Open connections that get all events."""
    for _ in range(count):
        connection = Connection()
        app.events.connections.add(connection)
        app.channel("all").join(connection)


async def idle(url: str, server: Any = None) -> None:
    async with running(url) as app:
        connect(app, 1)
        await asyncio.sleep(1)
        own, of_database = time.process_time(), 0.0 if server is None else database_processor(server.data)
        await asyncio.sleep(IDLE_SECONDS)
        own = time.process_time() - own
        of_database = 0.0 if server is None else database_processor(server.data) - of_database
    print(f"idle: {own / IDLE_SECONDS:.2%} of a core, the database {of_database / IDLE_SECONDS:.2%}")


async def write(url: str, count: int) -> None:
    """Write as one of the processes of ``order``, and print what its connections get."""
    seen: list[tuple[int, int]] = []
    async with running(url) as app:
        connect(app, SOCKETS)

        def keep(context: Context, recipients: Any) -> None:
            seen.extend([(context.result["id"], context.result["version"])] * len(recipients))

        app.on("publish", keep)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                await app.service("notes").patch(number % RECORDS + 1, {"text": str(number)})

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        taken = time.perf_counter() - began
        expected = SOCKETS * 2 * count
        async with asyncio.timeout(60):
            while len(seen) < expected:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
    print(encode({"seen": seen, "taken": taken}).decode(), flush=True)


async def order(url: str) -> None:
    async with running(url) as app:
        for number in range(RECORDS):
            await app.service("notes").create({"id": number + 1, "text": "a"})
        for statement in NEXT_VERSION:
            await app.get("database").execute(text(statement))
        command = [sys.executable, "-m", "benchmarks", "live", "write", url]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, **pipes) for _ in range(2)]
        for worker in workers:
            worker.stdout.readline()  # type: ignore[union-attr]
        outputs = await asyncio.gather(*(asyncio.to_thread(worker.communicate, "\n") for worker in workers))
        rows = await app.service("notes").find({"paginate": False, "query": {"id": {"$lte": RECORDS}}})
    late = stale = deliveries = 0
    final = {row["id"]: row["version"] for row in rows}
    for output, _ in outputs:
        last: dict[int, int] = {}
        seen = decode(output)["seen"][::SOCKETS]
        for id, version in seen:
            late += SOCKETS * (version != last.get(id, 0) + 1)
            last[id] = version
        deliveries += SOCKETS * len(seen)
        stale += SOCKETS * sum(last[id] != final[id] for id in final)
    seconds = max(decode(output)["taken"] for output, _ in outputs)
    print(f"order: {deliveries:,} deliveries in {seconds:.1f} s, {late} out of order, missed or repeated;", end=" ")
    print(f"of {2 * SOCKETS * RECORDS} last events {stale} are not the last state")


def main(part: str = "all", url: str = "") -> None:
    if part == "write":
        asyncio.run(write(url, WRITES))
        return
    server = start_server()
    try:
        for measure in (idle, order):
            if part in ("all", measure.__name__):
                with new_database(server.url) as each:
                    print(f"\nPostgreSQL, {measure.__name__}:", flush=True)
                    asyncio.run(idle(each, server) if measure is idle else measure(each))
    finally:
        server.stop()
    if part in ("all", "idle"):
        with tempfile.TemporaryDirectory() as folder:
            print("\nSQLite, idle:", flush=True)
            asyncio.run(idle(f"sqlite:///{Path(folder) / 'idle.db'}"))
