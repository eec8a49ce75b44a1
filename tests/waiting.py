"""Waiting for what happens beside a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

SECONDS = 20


async def until(condition: Callable[[], Any]) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.002)
