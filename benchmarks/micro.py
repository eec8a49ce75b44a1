"""What is remembered or taken the short way, with and without: time per call, in one process.

``python -m benchmarks micro``. The best of several rounds counts: what else a machine does only ever adds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import Timer
from typing import Any

from apex import load_config
from apex.migrate import upgrade
from apex.tokens import Tokens
from benchmarks.people import USER
from services.app import CONFIG, create_app
from services.demo import load_demo

ROUNDS = 5
SECRET = "a secret of benchmarks, which is longer than a hash of it would be"
PEOPLE = 1_000
CALLS = 100

Case = tuple[str, Callable[[], Any], Callable[[], Any]]
"""What is done, without and with what makes it fast."""


def main() -> None:
    print("| what | without µs | with µs | ratio |\n|---|---:|---:|---:|")
    for cases in (tokens, memberships):
        for name, without, with_ in cases():
            slow, fast = microseconds(without), microseconds(with_)
            print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |", flush=True)


def microseconds(function: Callable[[], Any]) -> float:
    """Of one call."""
    timer = Timer(function)
    number, _ = timer.autorange()
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def tokens() -> Iterator[Case]:
    """The tokens of as many people, each in turn."""
    here = Tokens(SECRET, {})
    made = cycle([here.create(number)[0] for number in range(PEOPLE)])
    nested = cycle([here.create(number, {"roles": ["admin"]})[0] for number in range(PEOPLE)])
    yield "a token is verified", lambda: here._verify(next(made)), lambda: here.verify(next(made))
    yield "one with a list in it", lambda: here._verify(next(nested)), lambda: here.verify(next(nested))


def memberships() -> Iterator[Case]:
    """Those of one user, who calls again and again, on SQLite."""
    with TemporaryDirectory() as directory, asyncio.Runner() as runner:
        url = f"sqlite:///{Path(directory) / 'crm.db'}"
        upgrade(url)
        app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
        service = app.service("memberships").service

        def calls(once: Callable[[int], Awaitable[Any]]) -> Callable[[], None]:
            async def all_of_them() -> None:
                for _ in range(CALLS):
                    await once(USER)

            return lambda: runner.run(all_of_them())

        runner.run(app.setup())
        runner.run(load_demo(app))
        yield f"the memberships of {CALLS} calls", calls(service._read), calls(service.of_user)
        runner.run(app.teardown())
