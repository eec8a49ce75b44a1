"""Memory under load over a long time: ``python -m benchmarks soak 600`` (seconds)."""

from __future__ import annotations

from statistics import median

from benchmarks import load
from benchmarks.load import KINDS, Load
from benchmarks.peers import serving
from benchmarks.stage import stage, tokens
from benchmarks.tenants import Tenants, clear_created

SECONDS, ROUND = 600, 5
SHOWN = 12


def main(seconds: str = str(SECONDS), contacts: str = "100000") -> None:
    load.require_wrk()
    tenants, rounds = Tenants(contacts=int(contacts)), []
    with stage(tenants) as on, tokens(tenants) as file, serving(["apex"], on.url) as servers:
        for number in range(max(int(seconds) // ROUND, 4)):
            given = Load(KINDS[number % len(KINDS)], file, tenants, seconds=ROUND)
            rounds.append(load.run(given, servers["apex"], on.server, number))
            if given.kind == "create":
                clear_created(on.url, tenants)
    failed = sum(one.failed + one.lost for one in rounds)
    report([one.memory for one in rounds], sum(one.requests for one in rounds), failed)


def report(memory: list[float], done: int, failed: int) -> None:
    """Print the growth from the second quarter of the time, when the server is warm, to the last."""
    print(f"\n{len(memory) * ROUND:,} seconds of get, list and create in turn: {done:,} requests, {failed:,} failed\n")
    print("| after seconds | resident memory (MiB) |\n|---:|---:|")
    step = max(len(memory) // SHOWN, 1)
    for place in range(step - 1, len(memory), step):
        print(f"| {(place + 1) * ROUND:,} | {memory[place]:.1f} |")
    quarter = len(memory) // 4
    warm, end = median(memory[quarter : 2 * quarter]), median(memory[-quarter:])
    print(f"\nSecond quarter {warm:.1f} MiB, last quarter {end:.1f} MiB: {end / warm:.2f} times", flush=True)
