"""What a process takes before it does anything: ``python -m benchmarks start``.

Times an import and the way to the first answer on SQLite, and reads the memory then. With the URL of a PostgreSQL
database, which gets the demo data, memory is measured under load as well, for a minute or the seconds that are given:
``python -m benchmarks start postgresql://host/name 600``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.crm import Client, Request

ROUNDS = 7
SECONDS, SAMPLES = "60", 12
CONNECTIONS = 8
COMMAND = [sys.executable, "-m", "apex"]


class Started(NamedTuple):
    """A process that serves, and a connection to it."""

    id: int
    client: Client
    port: int

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        lines = Path(f"/proc/{self.id}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def main(url: str = "", seconds: str = SECONDS) -> None:
    print("\n| figure | median | from | to |\n|---|---:|---:|---:|")
    report("`import apex` (s)", [_seconds(lambda: _run([sys.executable, "-c", "import apex"])) for _ in range(ROUNDS)])
    with tempfile.TemporaryDirectory() as folder:
        _on_sqlite(f"sqlite:///{folder}/apex.db")
    if url:
        _under_load(url, int(seconds))


def report(name: str, values: list[float]) -> None:
    print(f"| {name} |", *(f"{value:,.2f} |" for value in (median(values), min(values), max(values))), flush=True)


def _on_sqlite(url: str) -> None:
    _run([*COMMAND, "demo"], url)
    taken, memory = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        with _served(url) as server:
            server.client.find({"$limit": 25})
            taken.append(time.perf_counter() - begin)
            memory.append(server.memory)
    report("start to first answer, SQLite (s)", taken)
    report("memory then (MiB)", memory)


def _under_load(url: str, seconds: int) -> None:
    """Pages, records and creates, one after the other on each of some connections; the figures over time."""
    _run([*COMMAND, "demo"], url)
    with _served(url) as server, ThreadPoolExecutor(CONNECTIONS) as threads:
        server.client.find({"$limit": 25})
        report("memory after the first answer, PostgreSQL (MiB)", [server.memory])
        end = time.monotonic() + seconds
        working = [threads.submit(_ask, server.port, end) for _ in range(CONNECTIONS)]
        memory = []
        for _ in range(SAMPLES):
            time.sleep(seconds / SAMPLES)
            memory.append(server.memory)
        requests = sum(one.result() for one in working)
        report("memory under load (MiB)", memory)
    print(f"\n{requests:,} requests in {seconds} s; memory at equal times:", *(f"{value:.1f}" for value in memory))


def _ask(port: int, end: float) -> int:
    """Asks until then, and gives how often."""
    client, done = Client(port), 0
    kinds: list[Request] = [
        lambda: client.find({"$limit": 25, "$sort[created_at]": -1}),
        lambda: client.find({"id": 123}),
        lambda: client.create("contacts", {"first_name": "Ann", "last_name": f"Lee {done}"}),
    ]
    while time.monotonic() < end:
        kinds[done % len(kinds)]()
        done += 1
    return done


@contextmanager
def _served(url: str) -> Iterator[Started]:
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(command, env=_environment(url), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            yield Started(process.pid, Client(port), port)
        finally:
            process.terminate()


def _run(command: list[str], url: str = "") -> None:
    subprocess.run(command, env=_environment(url), check=True, stdout=subprocess.DEVNULL)


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": url, "APEX_ENV": "development"}


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
