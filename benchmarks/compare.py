"""apex beside its peers: the same requests, in rounds that take turns.

``python -m benchmarks compare get list create --peers apex,feathers --seconds 3 --rounds 3``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import limits, load
from benchmarks.bodies import require_audit, require_same
from benchmarks.load import Figures, Load
from benchmarks.peers import NAMES, install, serving
from benchmarks.servers import Server
from benchmarks.stage import Stage, stage, tokens
from benchmarks.tenants import Tenants, clear_created

WARM_UP = 2
PEER, BARE = "Feathers", "bare ASGI"
BUSY = 0.2
FIGURES = Path("var/benchmarks")

Rounds = Sequence[Figures]
Results = dict[str, dict[str, list[Figures]]]
Measure = Callable[[Load, int], Figures]


def nothing() -> None:
    """Do nothing after a round."""


def measure(
    contenders: Mapping[str, Measure], given: Load, rounds: int, after: Callable[[], None] = nothing
) -> dict[str, list[Figures]]:
    """Return the figures of each contender, round by round. ``after`` is called after each round."""
    for seed, (name, one) in enumerate(contenders.items()):
        warm = one(replace(given, seconds=WARM_UP), 100 + seed)
        if wrong := warm.failed + warm.lost:
            print(f"\n{name}: {wrong:,} requests failed while it warmed up", flush=True)
        after()
    measured: dict[str, list[Figures]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, one in contenders.items():
            measured[name].append(one(given, number + 1))
            after()
    return measured


def over_http(server: Server, on: Stage | None = None, **changes: Any) -> Measure:
    """Return a function that puts load on a server, with ``changes`` to the load."""
    database = None if on is None else on.server
    return lambda given, seed: load.run(replace(given, **changes), server, database, seed)


def compare(on: Stage, names: Sequence[str], kinds: Sequence[str], given: Load, rounds: int) -> Results:
    """Measure all kinds with one start of each server."""
    found: Results = {}
    served = [name for name in names if name != limits.NAME]
    with serving(served, on.url) as servers:
        require_same({name: servers[name] for name in served if name != BARE}, on.tenants, kinds)
        require_audit(on.url, on.tenants)
        for kind in kinds:
            after = partial(clear_created, on.url, on.tenants) if kind == "create" else nothing
            after()
            contenders = {name: over_http(servers[name], on) for name in served if name != BARE or kind == "get"}
            if limits.NAME in names:
                contenders[limits.NAME] = limits.Pgbench(on, kind)
            found[kind] = measure(contenders, replace(given, kind=kind), rounds, after)
            print(table(kind, found[kind]), flush=True)
    return found


HEAD = (
    "| | requests/s | p50 ms | p99 ms | server: processor µs/request | database: µs/request | MiB "
    "| to {peer} | by processor time |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def table(title: str, measured: Mapping[str, list[Figures]], peer: str = PEER) -> str:
    """Return a table of medians, ranges, and the ratio to the peer in the same round."""
    lines = [f"\n**{title}**\n", HEAD.format(peer=peer)]
    for name, rounds in measured.items():
        rates = [one.rate for one in rounds]
        cells = [
            f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
            f"{median(one.p50 for one in rounds):.1f}",
            f"{median(one.p99 for one in rounds):.1f}",
            _figure(median(one.server / one.requests for one in rounds) * 1e6),
            _figure(median(one.database / one.requests for one in rounds) * 1e6),
            _figure(max(one.memory for one in rounds)),
            _ratio(ratio, rounds, measured.get(peer)),
            _ratio(thrift, rounds, measured.get(peer)),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    wrong = {name: sum(one.failed + one.lost for one in rounds) for name, rounds in measured.items()}
    shares = [one.others for rounds in measured.values() for one in rounds if one.server]
    lines.append(f"\nOthers used {median(shares):.0%} of the machine's processors, at most {max(shares):.0%}.")
    if median(shares) > BUSY:
        lines.append("The machine is too busy: these figures and ratios say little.")
    lines += [f"\n{name}: {count:,} requests failed" for name, count in wrong.items() if count]
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value else ""


def _ratio(kind: Callable[[Rounds, Rounds], float], ours: Rounds, theirs: Rounds | None) -> str:
    value = kind(ours, theirs) if theirs else 0
    return f"{value:.2f}" if value else ""


def ratio(ours: Rounds, theirs: Rounds) -> float:
    """Return the ratio of requests per second, as the median of the rounds."""
    return median(one.rate / other.rate for one, other in zip(ours, theirs, strict=True))


def thrift(ours: Rounds, theirs: Rounds) -> float:
    """How many times as many requests for a second of the server's processor time, which others on the machine
    disturb less; 0 for what has no server.
    """
    if not all(one.server for one in ours):
        return 0
    pairs = zip(ours, theirs, strict=True)
    return median((other.server / other.requests) / (one.server / one.requests) for one, other in pairs)


def write(name: str, found: Results) -> None:
    """Store the figures for ``python -m benchmarks plot``."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    plain = {title: {who: [vars(one) for one in rounds] for who, rounds in row.items()} for title, row in found.items()}
    (FIGURES / f"{name}.json").write_text(json.dumps(plain, indent=1))


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(load.KINDS)}; all without")
    parser.add_argument("--peers", default="apex,feathers,fastapi", help=f"of {', '.join([*NAMES, limits.NAME])}")
    parser.add_argument("--seconds", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--cold", action="store_true", help="each request has another token")
    return parser.parse_args(given)


def main(*given: str) -> None:
    asked = arguments(given)
    names = [NAMES.get(name, name) for name in asked.peers.split(",")]
    load.require_wrk()
    install()
    tenants = Tenants(contacts=asked.contacts)
    with stage(tenants) as on, tokens(tenants, asked.cold) as file:
        how = Load("get", file, tenants, asked.connections, asked.seconds, in_turn=asked.cold)
        compare(on, names, asked.kinds or load.KINDS, how, asked.rounds)
