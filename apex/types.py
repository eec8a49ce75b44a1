"""The words the other modules speak in: ids, rows, pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

Id = int | str
Row = dict[str, Any]
Scope = Mapping[str, Any]
"""What a caller may touch: field to a value, or to the list of values allowed."""


STANDARD: Mapping[str, tuple[str, ...]] = {
    "find": (),
    "get": ("id",),
    "create": ("data",),
    "update": ("id", "data"),
    "patch": ("id", "data"),
    "remove": ("id",),
}
"""The standard methods and what they take before ``params``; a custom method takes data."""


class Page(TypedDict):
    """One page of ``find``: ``total`` counts all matches, ``data`` holds at most ``limit`` of them after ``skip``."""

    total: int
    limit: int
    skip: int
    data: list[Row]
