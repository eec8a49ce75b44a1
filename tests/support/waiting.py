"""Waiting for what happens beside a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

SECONDS = 120
"""How long a test waits for a condition. A deadline ends what hangs; a busy machine never reaches it."""


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.002)
