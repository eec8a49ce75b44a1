"""The aims of the comparison, and the figures that reach or miss them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks import limits
from benchmarks.compare import BUSY, PEER, Results, ratio

FASTAPI = "FastAPI"
FEW, MANY = 32, 1_000
FULL, CALM = f"{PEER}, full load", f"apex, at {PEER}' rate"
FIRST = "start to first answer"

Aim = tuple[str, str, float, bool]
"""The subject, the aim, the figure, and True if the aim is reached."""


def reached(parts: Mapping[str, Results], started: Mapping[str, float]) -> list[Aim]:
    """Return the aims with their figures. ``parts`` come from ``benchmarks.proof``, ``started`` is in seconds."""
    memory = max(one.memory for row in parts["main"].values() for one in row["apex"])
    return [
        *_ratios(parts["main"]),
        *_flat(parts["connections"]),
        *_calm(parts["calm"]),
        *_embedded(parts["sqlite"]),
        _most("memory under load", memory, 80, " MiB"),
        _most(FIRST, started[FIRST], 1, " s"),
    ]


def table(aims: Sequence[Aim]) -> str:
    lines = [f"| {what} | {aim} | {figure:,.2f} | {'yes' if met else 'no'} |" for what, aim, figure, met in aims]
    return "\n".join(["| what | aim | measured | reached |", "|---|---|---:|---|", *lines])


def disturbance(parts: Mapping[str, Results]) -> str:
    """Return a sentence about the processor time of other processes, and a verdict on the table."""
    rows = [row for found in parts.values() for row in found.values()]
    shares = [one.others for row in rows for rounds in row.values() for one in rounds if one.server]
    told = f"Others used {median(shares):.0%} of the machine's processors, at most {max(shares):.0%}"
    return told + (": too much to believe the table." if median(shares) > BUSY else ".")


def connected(name: str, count: int) -> str:
    return f"{name}, {count:,} connections"


RATIOS = {"get": (6, 20), "list": (3.5, 6), "create": (5, 15)}
OF_DATABASE = 0.65


def _ratios(found: Results) -> list[Aim]:
    aims = []
    for kind, least in RATIOS.items():
        row = found[kind]
        for peer, times in zip((PEER, FASTAPI), least, strict=True):
            aims.append(_least(kind, ratio(row["apex"], row[peer]), times, f" times {peer}"))
    row = found["list"]
    share = ratio(row["apex"], row[limits.NAME])
    return [*aims, _least("list", share, OF_DATABASE, " of what the database alone does")]


def _flat(found: Results) -> list[Aim]:
    few, many = (found["get"][connected("apex", count)] for count in (FEW, MANY))
    failed = sum(one.failed + one.lost for one in many)
    return [
        _least(f"get, {MANY:,} connections", ratio(many, few), 0.9, f" times {FEW} connections"),
        _most(f"errors of {MANY:,} connections", failed, 0, ""),
    ]


def _calm(found: Results) -> list[Aim]:
    """Return the aims at a fixed rate. A server that does not keep up has no p99."""
    aims = []
    for kind, row in found.items():
        slowest = median(ours.p99 / theirs.p99 for ours, theirs in zip(row[CALM], row[FULL], strict=True))
        aims.append(
            _least(f"{kind}: keeps up with {PEER}' full load", ratio(row[CALM], row[FULL]), 0.9, " of its rate")
        )
        aims.append(_most(f"{kind}: p99 at {PEER}' full load", slowest, 0.5, f" of {PEER}'"))
    return aims


def _embedded(found: Results) -> list[Aim]:
    return [
        _least(f"{kind} on SQLite", ratio(row["apex"], row[PEER]), 1, f" times {PEER}") for kind, row in found.items()
    ]


def _least(what: str, figure: float, least: float, unit: str) -> Aim:
    return what, f"at least {least:g}{unit}", figure, figure >= least


def _most(what: str, figure: float, most: float, unit: str) -> Aim:
    return what, f"at most {most:g}{unit}", figure, figure <= most
