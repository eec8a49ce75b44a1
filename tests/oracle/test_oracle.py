"""Tests of the whole app with real clients, while connections break and processes die."""

from __future__ import annotations

import pytest

from tests.interop.node import needs_node
from tests.oracle.run import Options, Run


@needs_node
@pytest.mark.parametrize("seed", [1])
async def test_nobody_misses_anything(empty_url: str, seed: int) -> None:
    run = Run(Options(empty_url, seed=seed, seconds=6, processes=1))
    faults = await run()
    assert not faults.total, f"{run.summary()}\n{run.story}"
    assert run.counts["writes"]
