"""The data of a create or patch, whether it is one row or many."""

from __future__ import annotations

from collections.abc import Callable

from apex import Context
from apex.types import Row


def rows(context: Context) -> list[Row]:
    return context.data if isinstance(context.data, list) else [context.data]


def change_rows(context: Context, change: Callable[[Row], Row]) -> None:
    """Replaces each row of the data by what ``change`` makes of it."""
    changed = [change(row) for row in rows(context)]
    context.data = changed if isinstance(context.data, list) else changed[0]
