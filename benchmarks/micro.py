"""What is remembered or taken the short way, with and without: time per call, in one process.

``python -m benchmarks micro``. The best of several rounds counts: what else a machine does only ever adds.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from timeit import Timer
from typing import Any

from apex.tokens import Tokens

ROUNDS = 5
SECRET = "a secret of benchmarks, which is longer than a hash of it would be"
PEOPLE = 1_000

Case = tuple[str, Callable[[], Any], Callable[[], Any]]
"""What is done, without and with what makes it fast."""


def main() -> None:
    print("| what | without µs | with µs | ratio |\n|---|---:|---:|---:|")
    for name, without, with_ in (*tokens(),):
        slow, fast = microseconds(without), microseconds(with_)
        print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |", flush=True)


def microseconds(function: Callable[[], Any]) -> float:
    """Of one call."""
    timer = Timer(function)
    number, _ = timer.autorange()
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def tokens() -> list[Case]:
    """The tokens of as many people, each in turn."""
    here = Tokens(SECRET, {})
    made = cycle([here.create(number)[0] for number in range(PEOPLE)])
    nested = cycle([here.create(number, {"roles": ["admin"]})[0] for number in range(PEOPLE)])
    return [
        ("a token is verified", lambda: here._verify(next(made)), lambda: here.verify(next(made))),
        ("one with a list in it", lambda: here._verify(next(nested)), lambda: here.verify(next(nested))),
    ]
