"""A call on its way to a server, and what carries it there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apex.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Call:
    """Which method of which service, with what. ``segments`` are those of the path, placeholders filled."""

    segments: tuple[str, ...]
    method: str
    id: Any = None
    # Passwords and tokens pass through here: they stay out of what is printed.
    data: Any = field(default=None, repr=False)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)


Send = Callable[[Call], Awaitable[Any]]


class Receiver(Protocol):
    """Who is told what happens on a connection."""

    async def welcome(self, send: Send) -> None:
        """Logs a new connection in, before it carries any other call."""
        ...

    def receive(self, event: str, *args: Any) -> None:
        """An event of the server, named ``<path> <event>``."""
        ...

    def emit(self, event: str, *args: Any) -> None: ...


class Transport(Protocol):
    """Carries calls. ``timeout`` is in seconds; ``trouble`` is why calls have to wait, ``realtime``: it has events."""

    timeout: float
    trouble: Exception | None
    realtime: bool

    async def open(self, receiver: Receiver) -> None: ...

    async def close(self) -> None: ...

    async def call(self, call: Call) -> Any:
        """The result of a call. Raises what the server raised, or Unavailable when it cannot be reached."""
        ...


def segments(path: str, route: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The segments of ``groups/:groupId/members``, filled from ``{"groupId": 12}``.

    Raises BadRequest when a value is missing.
    """
    return tuple(_fill(segment, route or {}) for segment in path.strip("/").split("/"))


def _fill(segment: str, route: Mapping[str, Any]) -> str:
    if not segment.startswith(":"):
        return segment
    value = route.get(segment[1:])
    if value is None or value == "":
        raise BadRequest(f"The path needs params['route']['{segment[1:]}']")
    return str(value)
