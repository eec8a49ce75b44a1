"""apex beside its peers: the same requests, in rounds that take turns.

``python -m benchmarks compare get list create --peers apex,feathers --seconds 3 --rounds 3``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from benchmarks import load
from benchmarks.bodies import require_audit, require_same
from benchmarks.load import Figures, Load
from benchmarks.peers import NAMES, install, serving
from benchmarks.servers import Server
from benchmarks.tenants import Tenants, TokenFile, clear_created, fill, token_file
from tests import databases
from tests.databases import new_database, start_server

MEMORY = "shared_buffers = 1GB\nmax_wal_size = 4GB\nautovacuum = off"
"""Room for the table and its indexes; nothing happens but what is measured."""
WARM_UP = 2
PEER = "Feathers"
COLD = 150_000
"""Tokens of a run in which each request has another one: more than a round takes."""

Results = dict[str, dict[str, list[Figures]]]
Measure = Callable[[Load, int], Figures]


@dataclass(frozen=True)
class Stage:
    """A filled database, and the server that it is in."""

    url: str
    server: databases.Server
    tenants: Tenants


@contextmanager
def stage(tenants: Tenants) -> Iterator[Stage]:
    server = start_server(MEMORY)
    try:
        with new_database(server.url) as url:
            fill(url, tenants)
            yield Stage(url, server, tenants)
    finally:
        server.stop()


def nothing() -> None:
    """What is done after a round that has changed nothing."""


def measure(
    contenders: Mapping[str, Measure], given: Load, rounds: int, after: Callable[[], None] = nothing
) -> dict[str, list[Figures]]:
    """The figures of each contender, round by round; ``after`` is called after each."""
    for seed, one in enumerate(contenders.values()):
        one(replace(given, seconds=WARM_UP), 100 + seed)
        after()
    measured: dict[str, list[Figures]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, one in contenders.items():
            measured[name].append(one(given, number + 1))
            after()
    return measured


def compare(on: Stage, names: Sequence[str], kinds: Sequence[str], given: Load, rounds: int) -> Results:
    """All kinds, with one start of each server."""
    found: Results = {}
    with serving(list(names), on.url) as servers:
        require_same(servers, on.tenants, kinds)
        require_audit(on.url, on.tenants)
        contenders = {name: _over_http(on, name, servers) for name in names}
        for kind in kinds:
            after = partial(clear_created, on.url, on.tenants) if kind == "create" else nothing
            after()
            found[kind] = measure(contenders, replace(given, kind=kind), rounds, after)
            print(table(kind, found[kind]), flush=True)
    return found


def _over_http(on: Stage, name: str, servers: Mapping[str, Server]) -> Measure:
    def one(given: Load, seed: int) -> Figures:
        figures = load.run(given, servers[name], on.server, seed)
        if figures.failed or figures.lost:
            raise SystemExit(f"{name}, {given.kind}: {figures.failed} answers were errors, {figures.lost} were lost")
        return figures

    return one


HEAD = (
    "| | requests/s | p50 ms | p99 ms | server: processor µs/request | database: µs/request | MiB | to Feathers |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


def table(title: str, measured: Mapping[str, list[Figures]]) -> str:
    """Medians, from where to where, and the ratio to the peer in the same round."""
    lines = [f"\n**{title}**\n", HEAD]
    for name, rounds in measured.items():
        cells = [
            _range([one.rate for one in rounds]),
            f"{median(one.p50 for one in rounds):.1f}",
            f"{median(one.p99 for one in rounds):.1f}",
            f"{median(one.server / one.requests for one in rounds) * 1e6:,.0f}",
            f"{median(one.database / one.requests for one in rounds) * 1e6:,.0f}",
            f"{max(one.memory for one in rounds):.0f}",
            ratio(rounds, measured.get(PEER)),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures] | None) -> str:
    if theirs is None:
        return ""
    return f"{median(one.rate / other.rate for one, other in zip(ours, theirs, strict=True)):.2f}"


def _range(values: Sequence[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


@contextmanager
def tokens(tenants: Tenants, cold: bool) -> Iterator[TokenFile]:
    with token_file(tenants, COLD if cold else tenants.users) as file:
        yield file


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(load.KINDS)}; all without")
    parser.add_argument("--peers", default="apex,feathers,fastapi", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--cold", action="store_true", help="each request has another token")
    return parser.parse_args(given)


def main(*given: str) -> None:
    asked = arguments(given)
    names = [NAMES[name] for name in asked.peers.split(",")]
    load.require_wrk()
    install()
    tenants = Tenants(contacts=asked.contacts)
    with stage(tenants) as on, tokens(tenants, asked.cold) as file:
        how = Load("get", file, tenants, asked.connections, asked.seconds, in_turn=asked.cold)
        compare(on, names, asked.kinds or load.KINDS, how, asked.rounds)
