"""Background tasks: pauses between their attempts, and a cancellation that always ends them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts. A server that was away is found again within the longest pause."""

AGAIN_SECONDS = 0.1


class Backoff:
    """Growing pauses between attempts. Their length is random, so that processes do not all retry at once."""

    def __init__(self) -> None:
        self.seconds = FIRST_PAUSE

    async def wait(self) -> None:
        await asyncio.sleep(self.seconds * random.uniform(0.5, 1))
        self.seconds = min(self.seconds * 2, LONGEST_PAUSE)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], again: float = AGAIN_SECONDS) -> None:
    """Cancel tasks and wait until they have ended. Those that still run are cancelled again every ``again`` seconds.

    One cancellation is not enough: ``asyncio.wait_for`` of Python 3.11, which libraries use, drops one that arrives
    together with its result (https://github.com/python/cpython/issues/86296).
    """
    running = set(tasks)
    while running := {task for task in running if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=again)
