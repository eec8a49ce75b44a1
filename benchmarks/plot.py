"""Pictures of the figures that were measured last: ``python -m benchmarks plot`` writes ``throughput.svg`` and
``growth.svg`` beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import FIGURES

HERE = Path(__file__).parent
COLOURS = {"apex": "#1f6feb", "Feathers": "#8b949e", "FastAPI": "#c9a227"}
GROWN = {"rows": "contacts", "organizations": "organizations", "services": "services"}
WIDTH, BAR, GAP, LEFT, RIGHT = 720, 22, 6, 190, 110
STYLE = "<style>text{font:13px sans-serif;fill:#222}.title{font-weight:bold}</style>"

Bar = tuple[str, float, str]
"""A bar: name, value, colour."""


def main() -> None:
    groups = {
        f"{kind}: requests a second": [
            (name, _rate(rounds), COLOURS[name]) for name, rounds in row.items() if name in COLOURS
        ]
        for kind, row in _read("main").items()
    }  # fmt: skip
    (HERE / "throughput.svg").write_text(bars(groups))
    grown = {f"{kind}, by {what}: requests a second": _grown(row) for name, what in GROWN.items()
             for kind, row in _read(name).items()}  # fmt: skip
    if grown:
        (HERE / "growth.svg").write_text(bars(grown))


def _read(name: str) -> Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]:
    file = FIGURES / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _rate(rounds: Sequence[Mapping[str, Any]]) -> float:
    return float(median(one["rate"] for one in rounds))


def _grown(row: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Bar]:
    return [(name, _rate(rounds), COLOURS["apex"]) for name, rounds in row.items()]


def bars(groups: Mapping[str, Sequence[Bar]]) -> str:
    """Return an SVG image with the bars of each group in its own scale."""
    parts, top = [STYLE], 10
    for title, group in groups.items():
        parts.append(f'<text class="title" x="10" y="{top + 14}">{title}</text>')
        top += 24
        most = max(value for _, value, _ in group)
        for name, value, colour in group:
            parts.append(_bar(name, value, value / most * (WIDTH - LEFT - RIGHT), colour, top))
            top += BAR + GAP
        top += 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="white"/>', *parts, "</svg>\n"])


def _bar(name: str, value: float, length: float, colour: str, top: int) -> str:
    middle = top + BAR - 6
    return (
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{name}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<text x="{LEFT + length + 6:.1f}" y="{middle}">{value:,.0f}</text>'
    )
