"""A call to a server, and the transports that carry it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apex.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a method of a service. ``segments`` are those of the path, with values for its placeholders."""

    segments: tuple[str, ...]
    method: str
    id: Any = None
    # Data and headers may contain passwords and tokens, which must not be printed.
    data: Any = field(default=None, repr=False)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)


Send = Callable[[Call], Awaitable[Any]]


class Receiver(Protocol):
    """The part of a client that a transport calls."""

    async def log_in(self, send: Send) -> None:
        """Log in on a new connection, before it carries any other call."""
        ...

    def receive(self, event: str, *args: Any) -> None:
        """Receive an event of the server, named ``<path> <event>``."""
        ...

    def emit(self, event: str, *args: Any) -> None:
        """Emit ``connect`` or ``disconnect``."""
        ...


class Transport(Protocol):
    """A way to carry calls to a server.

    ``timeout`` is in seconds. ``problem`` is the reason why calls have to wait. A transport that is ``realtime``
    receives events. It is ``recovered`` if it receives those of the time before its connection as well.
    """

    timeout: float
    problem: Exception | None
    realtime: bool
    recovered: bool

    async def open(self, receiver: Receiver) -> None:
        """Prepare for calls."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

    async def call(self, call: Call) -> Any:
        """Return the result of a call. Raises the errors of the server, and Unavailable if it cannot be reached."""
        ...


def segments(path: str, route: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the segments of a path such as ``groups/:groupId/members``, with the values of ``{"groupId": 12}``.

    Raises BadRequest if a value is missing.
    """
    return tuple(_fill(segment, route or {}) for segment in path.strip("/").split("/"))


def _fill(segment: str, route: Mapping[str, Any]) -> str:
    if not segment.startswith(":"):
        return segment
    value = route.get(segment[1:])
    if value is None or value == "":
        raise BadRequest(f"The path needs params['route']['{segment[1:]}']")
    return str(value)
