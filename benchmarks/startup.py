"""The time to import apex, the time to the first answer of a new process on SQLite, and its memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.aims import FIRST
from benchmarks.bodies import ask
from benchmarks.peers import COMMANDS
from benchmarks.servers import started
from benchmarks.tenants import Tenants, fill, sample

TIMES = 7
SMALL = Tenants(contacts=2_000)


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="apex-sqlite-") as folder:
        url = f"sqlite:///{Path(folder) / 'apex.db'}"
        fill(url, SMALL)
        memory: list[float] = []
        found = {
            "import apex": _median(lambda: _run("import apex")),
            "import services.app": _median(lambda: _run("import services.app")),
            FIRST: _median(lambda: _first_answer(url, memory)),
        }
    print("\n| start | seconds |\n|---|---:|")
    for name, (middle, least, most) in found.items():
        print(f"| {name} | {middle:.2f} ({least:.2f} to {most:.2f}) |", flush=True)
    print(f"\nMemory after the first answer: {median(memory):.1f} MiB", flush=True)
    return {name: middle for name, (middle, _, _) in found.items()}


def _median(measured: Callable[[], float]) -> tuple[float, float, float]:
    measured()
    taken = [measured() for _ in range(TIMES)]
    return median(taken), min(taken), max(taken)


def _run(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def _first_answer(url: str, memory: list[float]) -> float:
    mine = sample(SMALL)
    environ = {"DATABASE_URL": url, "APEX_ENV": "development"}
    begin = time.perf_counter()
    with started(COMMANDS["apex"], environ) as server:
        status, body = ask(server.port, "GET", f"/contacts/{mine['id']}", mine["token"])
        taken = time.perf_counter() - begin
        memory.append(server.memory / 1024)
    if status != 200:
        raise SystemExit(f"the first answer is {status}: {body}")
    return taken
