"""The words the other modules speak in: ids, rows, pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

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
