"""Tests of the whole app with real clients, while connections break and processes die.

A longer run is ``python -m tests.oracle --seed 7 --minutes 2``.
"""

from __future__ import annotations

import pytest

from tests.interop.node import needs_node
from tests.oracle.run import Options, Run

pytestmark = needs_node


async def check(options: Options) -> None:
    run = Run(options)
    faults = await run()
    assert not faults.total, f"{run.summary()}\n{run.story}"
    assert run.counts["writes"]


async def test_nobody_misses_anything_of_one_process_on_sqlite(sqlite_url: str) -> None:
    await check(Options(sqlite_url, seed=1, seconds=4, processes=1))


@pytest.mark.parametrize("redis", [False, True], ids=["without-redis", "with-redis"])
async def test_nobody_misses_anything_of_two_processes(postgres_url: str, redis: bool) -> None:
    await check(Options(postgres_url, seed=2, seconds=4, processes=2, redis=redis))
