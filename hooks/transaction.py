"""A call that is one unit of work."""

from __future__ import annotations

from apex import Context, Next


async def transaction(context: Context, next: Next) -> None:
    """Around any method: what the method and its hooks store is stored as a whole, or, on an error, not at all."""
    async with context.app.get("database").transaction():
        await next()
