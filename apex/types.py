"""Types that the modules share: ids, rows, pages, the methods of services, and ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Generic, Literal, NotRequired, TypedDict

from typing_extensions import TypeVar

__all__ = ["Id", "Page", "Paginate", "Row", "is_many", "items", "map_items", "with_items"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""The types of ASGI (https://asgi.readthedocs.io/en/stable/specs/main.html)."""

Id = int | str
Row = dict[str, Any]
Record = TypeVar("Record", default=Row)
Paginate = Mapping[str, int] | Literal[False]

UNSET: Any = object()
"""The value of a result, a dispatch or a payload that is not set, as None may be one."""

STANDARD: Mapping[str, tuple[str, ...]] = {
    "find": (),
    "get": ("id",),
    "create": ("data",),
    "update": ("id", "data"),
    "patch": ("id", "data"),
    "remove": ("id",),
}
"""The standard methods and their arguments before ``params``."""

VERBS: Mapping[str, str] = {
    "find": "GET", "get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "remove": "DELETE",
}  # fmt: skip
"""The HTTP verbs of the standard methods. A custom method is a POST."""

READS: tuple[str, ...] = ("find", "get")
"""The standard methods that only read."""

WRITES: tuple[str, ...] = ("create", "update", "patch")
"""The standard methods whose data is a record."""


def taken_by(method: str) -> tuple[str, ...]:
    """Return the arguments of a method before ``params``. A custom method takes data."""
    return STANDARD.get(method, ("data",))


class Page(TypedDict, Generic[Record]):
    """A page of ``find``.

    ``data`` holds at most ``limit`` records: those after the first ``skip`` ones, or those between the cursors
    ``next`` and ``previous``, which are None at the end and the beginning. ``total`` counts all matching records. It is
    left out if the query does not want it. ``estimated`` is True if the total is an estimate.
    """

    total: NotRequired[int]
    estimated: NotRequired[bool]
    limit: int
    skip: NotRequired[int]
    next: NotRequired[str | None]
    previous: NotRequired[str | None]
    data: list[Record]


def items(method: str | None, value: Any) -> list[Any]:
    """Return the records in the result of a method. Data, which is never a page, has None for the method."""
    if _is_page(method, value):
        return list(value["data"])
    return value if isinstance(value, list) else [] if value is None else [value]


def with_items(method: str | None, value: Any, changed: list[Any]) -> Any:
    """Return the value with other records in the places of its own."""
    if _is_page(method, value):
        return {**value, "data": changed}
    return None if value is None else changed if isinstance(value, list) else changed[0]


def map_items(method: str | None, value: Any, function: Callable[[Any], Any]) -> Any:
    """Return the value with each record replaced by the result of the function."""
    return with_items(method, value, [function(item) for item in items(method, value)])


def is_many(method: str | None, value: Any) -> bool:
    """Return True for a list or a page."""
    return isinstance(value, list) or _is_page(method, value)


def _is_page(method: str | None, value: Any) -> bool:
    """Return True for a page, which ``find`` and custom methods return. A record is not a page, whatever its fields."""
    if method is None or (method != "find" and method in STANDARD):
        return False
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), list):
        return False
    return method == "find" or ("limit" in value and ("skip" in value or "next" in value))
