"""The cost of a write with the log: ``python -m benchmarks writes``.

Two processes have the same app, one with the log and one without. They make the same calls in short rounds that take
turns, as requests of HTTP without a socket, 8 at once. A round ends when the process has read what it has logged.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, SQLService, database, rest
from apex.encoding import encode
from apex.log import log, log_table
from apex.server.uvicorn import COLLECT_AFTER
from tests.support.databases import new_database, start_server

ROUNDS, CALLS, AT_ONCE = 30, 300, 8
RECORDS = 100
KINDS = ("without", "with")

Request = tuple[str, str, bytes]

REQUESTS: Mapping[str, Callable[[int], Request]] = {
    "create": lambda number: ("POST", "/notes", encode({"text": f"a{number}"})),
    "create ten": lambda number: ("POST", "/notes", encode([{"text": f"a{number}.{place}"} for place in range(10)])),
    "patch": lambda number: ("PATCH", f"/notes/{number % RECORDS + 1}", encode({"text": f"b{number}"})),
    "remove": lambda number: ("DELETE", f"/notes/{RECORDS + number + 1}", b""),  # A round before has created it.
    "get": lambda number: ("GET", f"/notes/{number % RECORDS + 1}", b""),
}


async def ask(app: Apex, request: Request) -> None:
    """Send one request to the app. Raises RuntimeError unless it succeeds."""
    method, path, body = request
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": headers if body else [], "client": ("127.0.0.1", 1), "scheme": "http"}
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: Any) -> None:
        if message.get("status", 200) >= 300:
            raise RuntimeError(f"{method} {path} was answered with {message}")

    await app(scope, receive, send)


async def serve(url: str, kind: str) -> None:
    """Make a round of calls for each line of the standard input, and print the microseconds of a call."""
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(50)))
    app = Apex().configure(rest).configure(database(url))
    if kind == "with":
        app.configure(log(log_table(metadata)))
    app.use("notes", SQLService(notes, multi=True)).publish(lambda data, context: context.app.channel("all"))
    await app.setup()
    await app.get("database").create_all(metadata)
    numbers: Mapping[str, Iterator[int]] = {name: count() for name in REQUESTS}
    for _ in range(RECORDS):
        await ask(app, REQUESTS["create"](0))
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)  # As a server does.
    print("ready", flush=True)
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        print(await cost(app, lambda: ask(app, REQUESTS[name](next(numbers[name])))), flush=True)
    await app.teardown()


async def cost(app: Apex, call: Callable[[], Awaitable[None]]) -> float:
    """Return the microseconds of processor time that a call takes in this process."""
    rest_of_round = iter(range(CALLS))

    async def caller() -> None:
        for _ in rest_of_round:
            await call()

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    if app.log is not None:
        await app.log.catch_up()
    return (time.process_time() - before) / CALLS * 1_000_000


def compare(urls: Mapping[str, str]) -> None:
    """Print a table of what calls cost without the log and with it."""
    command = [sys.executable, "-m", "benchmarks", "writes", "serve"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers: dict[str, Any] = {kind: subprocess.Popen([*command, urls[kind], kind], **pipes) for kind in KINDS}
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        for worker in workers.values():
            worker.stdout.readline()
        for number in range(ROUNDS + 1):
            for name in REQUESTS:
                for kind in KINDS[:: 1 if number % 2 else -1]:
                    worker = workers[kind]
                    print(name, file=worker.stdin, flush=True)
                    found[name, kind].append(float(worker.stdout.readline()))
    finally:
        for worker in workers.values():
            worker.communicate()  # Without a next line it ends.
    print("| µs of processor time | without the log | with it | more | ratio |\n|---|---:|---:|---:|---:|")
    for name in REQUESTS:
        without, logged = (found[name, kind][1:] for kind in KINDS)  # The first round compiles the statements.
        pairs = list(zip(without, logged, strict=True))
        more, ratio = median(b - a for a, b in pairs), median(b / a for a, b in pairs)
        print(f"| {name} | {median(without):.0f} | {median(logged):.0f} | {more:.0f} | {ratio:.2f} |")


def main(part: str = "all", url: str = "", kind: str = "") -> None:
    if part == "serve":
        uvloop.run(serve(url, kind))
        return
    server = start_server()
    try:
        with new_database(server.url) as one, new_database(server.url) as other:
            print("\nPostgreSQL:", flush=True)
            compare(dict(zip(KINDS, (one, other), strict=True)))
    finally:
        server.stop()
    with tempfile.TemporaryDirectory() as folder:
        print("\nSQLite:", flush=True)
        compare({kind: f"sqlite:///{Path(folder) / kind}.db" for kind in KINDS})
