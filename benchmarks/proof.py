"""All comparisons of apex with its peers, and the aims that they reach: ``make bench``.

``python -m benchmarks proof --seconds 5 --rounds 5``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from benchmarks import aims, limits, load, startup
from benchmarks.aims import CALM, FASTAPI, FEW, FULL, MANY
from benchmarks.bodies import require_same
from benchmarks.compare import BARE, PEER, Results, compare, measure, nothing, over_http, table, write
from benchmarks.load import KINDS, Figures, Load, open_loop
from benchmarks.peers import install, install_sqlite, serving
from benchmarks.servers import Server, allow_open_files
from benchmarks.stage import Stage, stage, stage_on_sqlite, tokens
from benchmarks.tenants import Tenants, clear_created

PATIENCE, PATIENT_ROUNDS = 12, 3
"""Seconds of a round in which a server may be overrun: what it refuses after it has waited for a database connection
(5 s) is to be seen. wrk does not count what is still on its way at the end.
"""
NAMES = ["apex", PEER, FASTAPI, limits.NAME, BARE]


def main(*given: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks proof", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contacts", type=int, default=100_000)
    asked = parser.parse_args(given)
    load.require_wrk()
    install()
    allow_open_files(2 * MANY)
    tenants = Tenants(contacts=asked.contacts)
    with stage(tenants) as on, tokens(tenants) as file, tokens(tenants, cold=True) as many_tokens:
        given_load = Load("get", file, tenants, FEW, asked.seconds)
        main_part = compare(on, NAMES, KINDS, given_load, asked.rounds)
        cold_load = replace(given_load, tokens=many_tokens, in_turn=True)
        cold_part = cold(on, cold_load, asked.rounds)
        patient = replace(given_load, seconds=max(asked.seconds, PATIENCE))
        connected = connections(on, patient, min(asked.rounds, PATIENT_ROUNDS))
        calm_part = calm(on, patient, min(asked.rounds, PATIENT_ROUNDS))
        embedded = sqlite(tenants, given_load, asked.rounds)
    started = startup.main()
    parts = {"main": main_part, "cold": cold_part, "connections": connected, "calm": calm_part, "sqlite": embedded}
    for name, found in parts.items():
        write(name, found)
    print(f"\n{aims.table(aims.reached(parts, started))}\n\n{aims.disturbance(parts)}", flush=True)


def cold(on: Stage, given: Load, rounds: int) -> Results:
    """Measure requests that each have a new token."""
    names = ["apex", PEER, FASTAPI]
    with serving(names, on.url) as servers:
        return _shown(
            {
                kind: measure(_all(servers, on), replace(given, kind=kind), rounds)
                for kind in ("get", "list")
            },
            ", each request with another token",
        )  # fmt: skip


def connections(on: Stage, given: Load, rounds: int) -> Results:
    """Measure the same load from few and from many connections."""
    with serving(["apex", PEER], on.url) as servers:
        contenders = {
            aims.connected(name, count): over_http(server, on, connections=count)
            for name, server in servers.items()
            for count in (FEW, MANY)
        }
        found = {"get": measure(contenders, given, rounds)}
    print(table("get, by connections", found["get"], aims.connected("apex", FEW)), flush=True)
    return found


def calm(on: Stage, given: Load, rounds: int) -> Results:
    """Measure the peer at full load, and apex at the rate that the peer reached."""
    found: Results = {}
    with serving(["apex", PEER], on.url) as servers:
        rate = [0.0]

        def full(given: Load, seed: int) -> Figures:
            figures = load.run(given, servers[PEER], on.server, seed)
            rate[0] = figures.rate
            return figures

        def quiet(given: Load, seed: int) -> Figures:
            return load.run(open_loop(given, rate[0]), servers["apex"], on.server, seed)

        for kind in KINDS:
            after = partial(clear_created, on.url, on.tenants) if kind == "create" else nothing
            found[kind] = measure({FULL: full, CALM: quiet}, replace(given, kind=kind), rounds, after)
    return _shown(found, f", as many requests as {PEER} can answer", FULL)


def sqlite(tenants: Tenants, given: Load, rounds: int) -> Results:
    """Measure apex and Feathers with better-sqlite3 on SQLite."""
    install_sqlite()
    with stage_on_sqlite(tenants) as url, serving(["apex", PEER], url) as servers:
        kinds = ("get", "list")
        require_same(servers, tenants, kinds)
        found = {kind: measure(_all(servers, None), replace(given, kind=kind), rounds) for kind in kinds}
    return _shown(found, ", on SQLite")


def _all(servers: Mapping[str, Server], on: Stage | None) -> dict[str, Callable[[Load, int], Figures]]:
    return {name: over_http(server, on) for name, server in servers.items()}


def _shown(found: Results, what: str, peer: str = PEER) -> Results:
    for kind, measured in found.items():
        print(table(f"{kind}{what}", measured, peer), flush=True)
    return found
