"""The records in what a method takes or gives: one, a list of them, or a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apex.types import STANDARD


def items(method: str | None, value: Any) -> list[Any]:
    """Return the records in the result of a method, or with None for the method in data, which is never a page."""
    if _is_page(method, value):
        return list(value["data"])
    return value if isinstance(value, list) else [] if value is None else [value]


def with_items(method: str | None, value: Any, changed: list[Any]) -> Any:
    """The value with other records in the places of its own."""
    if _is_page(method, value):
        return {**value, "data": changed}
    return None if value is None else changed if isinstance(value, list) else changed[0]


def map_items(method: str | None, value: Any, function: Callable[[Any], Any]) -> Any:
    """The value with each record replaced by what the function makes of it."""
    return with_items(method, value, [function(item) for item in items(method, value)])


def is_many(method: str | None, value: Any) -> bool:
    """Return True for a list or a page."""
    return isinstance(value, list) or _is_page(method, value)


def _is_page(method: str | None, value: Any) -> bool:
    """``find`` gives pages and custom methods may. A record is never one, whatever its fields are called."""
    if method is None or (method != "find" and method in STANDARD):
        return False
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), list):
        return False
    return method == "find" or ("limit" in value and ("skip" in value or "next" in value))
