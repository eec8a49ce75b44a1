"""A call that is one unit of work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from apex import Context


async def transaction(context: Context, next: Callable[[], Awaitable[None]]) -> None:
    """Around any method: what the method and its hooks store is stored as a whole, or, on an error, not at all."""
    async with context.app.get("database").transaction():
        await next()
