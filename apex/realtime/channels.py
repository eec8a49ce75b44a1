"""Channels: named groups of the connections that follow what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import isawaitable
from typing import Any

UNSET: Any = object()


class Connection(dict[str, Any]):
    """One open socket: a dict whose keys are attributes too, equal to nothing but itself.

    ``provider`` and ``headers`` come with it, ``authentication`` and the entity (``user``) with a login. What is in
    it is laid into the params of each of its calls.
    """

    __slots__ = ("channels",)
    channels: set[str]

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        object.__setattr__(self, "channels", set())

    # In C: a connection is looked up several times for each frame that it is sent.
    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Channel:
    """Connections, in the order in which they came, and the payload that they get instead of the event's own."""

    def __init__(self, connections: Iterable[Connection] = (), data: Any = UNSET) -> None:
        self._connections = dict.fromkeys(connections)
        self.data = data

    @property
    def connections(self) -> list[Connection]:
        return list(self._connections)

    @property
    def length(self) -> int:
        return len(self.connections)

    def filter(self, function: Callable[[Connection], Any]) -> Channel:
        """Return a channel of the connections for which the function is true. Raises TypeError for an ``async def``."""
        return Channel(_accepted(function, self.connections), self.data)

    def send(self, data: Any) -> Channel:
        """A new channel whose connections get this payload."""
        return Channel(self.connections, data)


class NamedChannel(Channel):
    """One or several channels of an app, to be joined and left."""

    def __init__(self, members: dict[str, dict[Connection, None]], names: tuple[str, ...]) -> None:
        self._members, self.names, self.data = members, names, UNSET

    @property
    def connections(self) -> list[Connection]:
        if len(self.names) == 1:
            return list(self._members.get(self.names[0], ()))
        return list(dict.fromkeys(one for name in self.names for one in self._members.get(name, ())))

    def join(self, *connections: Connection | None) -> NamedChannel:
        """Takes connections in; None, the connection of a call that came over REST, is passed over."""
        for connection in connections:
            if connection is not None:
                for name in self.names:
                    self._members.setdefault(name, {})[connection] = None
                    connection.channels.add(name)
        return self

    def leave(self, *leaving: Connection | Callable[[Connection], Any] | None) -> NamedChannel:
        """Lets connections go: those given, or those that a function says yes to."""
        for one in leaving:
            gone = self.filter(one).connections if callable(one) else [one] if one is not None else []
            for connection in gone:
                for name in self.names:
                    self._let_go(name, connection)
        return self

    def _let_go(self, name: str, connection: Connection) -> None:
        connection.channels.discard(name)
        members = self._members.get(name, {})
        members.pop(connection, None)
        if not members:
            self._members.pop(name, None)


class Channels:
    """The channels of an app. One without connections takes no room."""

    def __init__(self) -> None:
        self._members: dict[str, dict[Connection, None]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def named(self, *names: str | Iterable[str]) -> NamedChannel:
        """The channel of that name, or several as one. Raises ValueError without a name."""
        flat = tuple(one for name in names for one in ([name] if isinstance(name, str) else name))
        if not flat:
            raise ValueError("app.channel needs at least one channel name")
        return NamedChannel(self._members, flat)

    def leave_all(self, connection: Connection) -> None:
        if connection.channels:
            self.named(tuple(connection.channels)).leave(connection)


def _accepted(function: Callable[[Connection], Any], connections: Iterable[Connection]) -> Iterator[Connection]:
    for connection in connections:
        answer = function(connection)
        if isawaitable(answer):  # An awaitable is always true.
            getattr(answer, "close", lambda: None)()
            raise TypeError("A channel is filtered by a 'def' function: await what it needs before, in the publisher")
        if answer:
            yield connection


def payloads(published: Any) -> dict[Connection, Any]:
    """Who gets what of the channels a publisher gave: a channel, lists of them, or None. The first one wins."""
    found: dict[Connection, Any] = {}
    for channel in _flat(published):
        found = dict.fromkeys(channel.connections, channel.data) | found
    return found


def _flat(published: Any) -> Iterator[Channel]:
    if isinstance(published, Channel):
        yield published
    elif isinstance(published, list | tuple):
        for one in published:
            yield from _flat(one)
    elif published is not None:
        raise TypeError(f"A publisher returned {type(published).__name__}: return a channel, a list of them or None")
