"""Load on a server: wrk with varying tokens and URLs, and the time that wrk, server and database used."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.servers import Server, database_processor, machine_processor
from benchmarks.tenants import FIRST_ORGANIZATION, Tenants, TokenFile
from tests.support import databases

SCRIPT = Path(__file__).with_name("wrk.lua")
KINDS = ("get", "list", "create")
PATIENT = 256
"""The connections of a load with a fixed rate."""


@dataclass(frozen=True)
class Load:
    """What is asked: ``kind`` of ``wrk.lua``, how many connections at once, tokens at random or in turn, and how many
    milliseconds a connection waits between two requests, on average.
    """

    kind: str
    tokens: TokenFile
    tenants: Tenants
    connections: int = 32
    seconds: int = 5
    in_turn: bool = False
    think: float = 0


@dataclass(frozen=True)
class Figures:
    """Of one round: requests a second, milliseconds, processor seconds, MiB, answers that were errors, and which share
    of the machine's processors others used meanwhile.
    """

    rate: float
    p50: float
    p99: float
    server: float
    database: float
    memory: float
    requests: int
    failed: int
    lost: int
    others: float = 0.0


def run(load: Load, server: Server, database: databases.Server | None, seed: int = 1) -> Figures:
    """Run one round. Raises SystemExit if wrk fails."""
    before = _used(server, database)
    told = _wrk(load, server.port, seed)
    all_, of_server, of_database, of_wrk = (
        after - one for one, after in zip(before, _used(server, database), strict=True)
    )
    others = all_ - of_server - of_database - of_wrk
    return Figures(
        told["requests"] / told["seconds"],
        told["p50"],
        told["p99"],
        of_server,
        of_database,
        server.memory / 1024,
        int(told["requests"]),
        int(told["failed"]),
        int(told["lost"]),
        max(others, 0.0) / told["seconds"] / (os.cpu_count() or 1),
    )


def _used(server: Server, database: databases.Server | None) -> tuple[float, float, float, float]:
    """Return the processor seconds of machine, server, database and the earlier runs of wrk."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    of_database = 0.0 if database is None else database_processor(database.data)
    return machine_processor(), server.processor, of_database, children.ru_utime + children.ru_stime


def _wrk(load: Load, port: int, seed: int) -> dict[str, float]:
    order, tenants = "in turn" if load.in_turn else "random", load.tenants
    how = ["--threads", "1", "--connections", str(load.connections), "--duration", f"{load.seconds}s"]
    url = f"http://127.0.0.1:{port}"
    what: list[object] = [load.kind, load.tokens.path, seed, order, tenants.organizations, tenants.contacts]
    command = ["wrk", *how, "--timeout", "20s", "--script", str(SCRIPT), url, "--"]
    command += [*map(str, what), str(FIRST_ORGANIZATION), str(load.think)]
    done = subprocess.run(command, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    told: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return told


def open_loop(given: Load, rate: float) -> Load:
    """Return a load of about ``rate`` requests per second from many connections with pauses."""
    return replace(given, connections=PATIENT, think=PATIENT / rate * 1_000)


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk not found: install it with 'apt-get install wrk'")
