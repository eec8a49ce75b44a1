"""The records in a value: one, a list of them, or a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def is_page(value: Any) -> bool:
    """Whether it is what ``find`` gives where a service paginates: ``{"total", "limit", "skip", "data"}``."""
    return isinstance(value, Mapping) and isinstance(value.get("data"), list) and "total" in value


def items(value: Any) -> list[Any]:
    """The records, in their order; none for None."""
    if is_page(value):
        return list(value["data"])
    return value if isinstance(value, list) else [] if value is None else [value]


def with_items(value: Any, changed: list[Any]) -> Any:
    """The value with other records in the places of its own."""
    if is_page(value):
        return {**value, "data": changed}
    return changed if isinstance(value, list) or value is None else changed[0]


def map_items(value: Any, function: Callable[[Any], Any]) -> Any:
    """The value with each record replaced by what the function makes of it."""
    return None if value is None else with_items(value, [function(item) for item in items(value)])
