"""apex and Feathers on an overloaded machine: ``python -m benchmarks pressure``.

Four processes that do nothing but count take the processors from the servers, the database and the load, as in a
container whose processor time is throttled. Every answer is late then, and none because of its statement: nothing may
be set apart. Exits with 1 unless apex makes at least twice as many gets as Feathers in every round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import httpx2

from benchmarks import load
from benchmarks.compare import PEER, measure, over_http, table
from benchmarks.load import Figures, Load
from benchmarks.peers import install, serving
from benchmarks.servers import Server
from benchmarks.stage import stage, tokens
from benchmarks.tenants import Tenants

LEAST = 2.0
TURN = 2
"""The seconds of a turn. Short turns let other load on the machine affect both servers."""
SET_APART = "apex_lanes_set_apart_total"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes busy."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


def set_apart(server: Server) -> int:
    """Return how often a server has set a statement apart since its start."""
    lines = httpx2.get(f"http://127.0.0.1:{server.port}/metrics", timeout=60).raise_for_status().text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith(SET_APART))))


def _rounds(turns: Sequence[Figures], length: int) -> list[list[float]]:
    rates = [one.rate for one in turns]
    return [rates[start : start + length] for start in range(0, len(rates), length)]


def main(*given: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pressure", description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of a round, for each server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=4, help="processes beside the servers")
    asked = parser.parse_args(given)
    load.require_wrk()
    install()
    tenants = Tenants(contacts=20_000)
    with stage(tenants) as on, tokens(tenants) as file, serving(["apex", PEER], on.url, METRICS="true") as servers:
        contenders = {name: over_http(server, on) for name, server in servers.items()}
        with busy(asked.busy):
            turns = asked.rounds * asked.seconds // TURN
            found = measure(contenders, Load("get", file, tenants, seconds=TURN), turns)
            apart = set_apart(servers["apex"])
    print(table("get, beside busy processes", found))
    ours, theirs = ([sum(rates) for rates in _rounds(found[name], asked.seconds // TURN)] for name in ("apex", PEER))
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    print(f"\napex to {PEER}, round by round: {', '.join(f'{one:.2f}' for one in ratios)}. Set apart: {apart}.")
    if min(ratios) < LEAST or apart:
        raise SystemExit(1)
