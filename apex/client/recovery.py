"""The recovery of a broken connection: the server goes on with the events where the last connection ended."""

from __future__ import annotations

from typing import Any

MOST_KNOWN = 10_000
"""The number of received events that are remembered. A server sends at most as many again."""


class Recovery:
    """The progress of a client through the events of a server.

    The protocol is that of socket.io-client: the server gives each client a ``pid``, and a text at the end of an event
    is its offset, such as ``<position>;<id of the event>``. A client that reconnects sends both. If it gets the same
    ``pid`` back, the server sends the events since the offset. Some of them may have come before.

    A client without a ``pid`` may follow from the ``position`` of a find instead.
    """

    def __init__(self, position: str | None = None) -> None:
        self.position: str | None = position
        self.pid: str | None = None
        self.offset: str | None = None
        self._known: dict[str, None] = {}

    @property
    def auth(self) -> dict[str, str] | None:
        """The data for the CONNECT packet."""
        if self.pid is None:
            return None if self.position is None else {"position": self.position}
        return {"pid": self.pid} if self.offset is None else {"pid": self.pid, "offset": self.offset}

    def connect(self, pid: str | None) -> bool:
        """Note the server's answer to a CONNECT packet. Return True if the server sends the events that were missed."""
        recovered = pid is not None and (pid == self.pid or self.position is not None)
        self.position = None
        if not recovered:
            self.pid, self.offset, self._known = pid, None, {}
        return recovered

    def receive(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the arguments of an event without its offset, or None if the event has come before."""
        if self.pid is None or not args or not isinstance(args[-1], str | None):
            return args
        if args[-1] is not None:  # None stands for no offset, after data that is a text.
            self.offset = args[-1]
            if self._is_known(self.offset):
                return None
        return args[:-1]

    def _is_known(self, offset: str) -> bool:
        """Return True if the event of an offset has come before. An offset without an id is of no event."""
        _, _, rest = offset.partition(";")
        id, _, _ = rest.partition(";")
        if not id or id in self._known:
            return bool(id)
        self._known[id] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return False
