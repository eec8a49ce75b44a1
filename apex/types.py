"""The words the other modules speak in: ids, rows, pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired, TypedDict

__all__ = ["Id", "Page", "Paginate", "Row", "is_many", "items", "map_items", "with_items"]


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


Id = int | str
Row = dict[str, Any]
Paginate = Mapping[str, int] | Literal[False]

STANDARD: Mapping[str, tuple[str, ...]] = {
    "find": (),
    "get": ("id",),
    "create": ("data",),
    "update": ("id", "data"),
    "patch": ("id", "data"),
    "remove": ("id",),
}
"""The standard methods and what they take before ``params``."""


VERBS: Mapping[str, str] = {
    "find": "GET", "get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "remove": "DELETE",
}  # fmt: skip
"""The verbs of HTTP for the standard methods; a custom method is a POST."""


def taken_by(method: str) -> tuple[str, ...]:
    """What a method takes before ``params``; a custom method takes data."""
    return STANDARD.get(method, ("data",))


class Page(TypedDict):
    """One page of ``find``: ``data`` holds at most ``limit`` of the rows, those after ``skip`` others, or those between
    the cursors ``next`` and ``previous``, which are None where there is nothing further.

    ``total`` counts all matches; it is absent where it was not wanted. ``estimated`` says, of a total that may be, that
    it is about right.
    """

    total: NotRequired[int]
    estimated: NotRequired[bool]
    limit: int
    skip: NotRequired[int]
    next: NotRequired[str | None]
    previous: NotRequired[str | None]
    data: list[Row]


def is_pagination(paginate: Any) -> bool:
    if not isinstance(paginate, Mapping) or not paginate.keys() <= {"default", "max"}:
        return False
    return all(type(rows) is int and rows >= 0 for rows in paginate.values())


def limit_of(asked: int | None, page: Paginate) -> int | None:
    """Feathers' rule: what was asked or the default (0 where only a maximum is set), at most the maximum."""
    if not page:
        return asked
    limit = page.get("default", 0) if asked is None else asked
    return min(limit, page.get("max", limit))
