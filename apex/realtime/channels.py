"""Channels: named groups of connections that receive events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from apex.signatures import is_async
from apex.types import UNSET


class Connection(dict[str, Any]):
    """An open socket: a dict whose keys are attributes too. It equals only itself.

    It has ``provider``, ``headers``, ``ip`` and ``handshake`` from the start. A login adds ``authentication`` and the
    entity (``user``). Its entries become params of each of its calls::

        app.on("connection", lambda connection: app.channel("everyone").join(connection))
    """

    __slots__ = ("channels",)
    channels: set[str]

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        object.__setattr__(self, "channels", set())

    if TYPE_CHECKING:

        def __eq__(self, other: object) -> bool: ...

        def __ne__(self, other: object) -> bool: ...

        def __hash__(self) -> int: ...  # type: ignore[override]

    else:
        # These are written in C. Each frame looks up its connection several times.
        __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Channel:
    """A group of connections in the order in which they joined.

    ``data`` is the payload that they receive, by default that of the event.
    """

    def __init__(self, connections: Iterable[Connection] = (), data: Any = UNSET) -> None:
        self._connections: dict[Connection, None] = dict.fromkeys(connections)
        self.data: Any = data

    @property
    def connections(self) -> list[Connection]:
        """The connections of the channel."""
        return list(self._connections)

    @property
    def length(self) -> int:
        """The number of connections."""
        return len(self.connections)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._connections

    def filter(self, function: Callable[[Connection], Any]) -> Channel:
        """Return a channel of the connections for which a function returns true.

        Raises TypeError for an ``async def``.
        """
        if is_async(function):
            raise _needs_def()
        return FilteredChannel(self, function)

    def send(self, data: Any) -> Channel:
        """Return a channel of the same connections that receives this payload."""
        return Channel(self.connections, data)


class FilteredChannel(Channel):
    """The connections of a channel for which a function returns true.

    It is called when it is needed, for all connections at once or for a single one.
    """

    def __init__(self, channel: Channel, function: Callable[[Connection], Any]) -> None:
        self._channel, self._function = channel, function
        self._found: list[Connection] | None = None
        self.data: Any = channel.data

    @property
    def connections(self) -> list[Connection]:
        """The connections, as they were when they were first asked for."""
        if self._found is None:
            self._found = list(_filtered(self._function, self._channel.connections))
        return list(self._found)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._channel and any(_filtered(self._function, (connection,)))


class NamedChannel(Channel):
    """One or several channels of an app, which connections can join and leave.

    ``app.channel`` returns it::

        app.channel("admins").join(connection)
    """

    def __init__(self, members: dict[str, dict[Connection, None]], names: tuple[str, ...]) -> None:
        self._members = members
        self.names: tuple[str, ...] = names
        self.data: Any = UNSET

    @property
    def connections(self) -> list[Connection]:
        """The connections of all of the channels, each of them once."""
        if len(self.names) == 1:
            return list(self._members.get(self.names[0], ()))
        return list(dict.fromkeys(one for name in self.names for one in self._members.get(name, ())))

    def __contains__(self, connection: Connection) -> bool:
        return any(connection in self._members.get(name, ()) for name in self.names)

    def join(self, *connections: Connection | None) -> NamedChannel:
        """Add connections. None, which is the connection of a call over REST, is ignored."""
        for connection in connections:
            if connection is not None:
                for name in self.names:
                    self._members.setdefault(name, {})[connection] = None
                    connection.channels.add(name)
        return self

    def leave(self, *leaving: Connection | Callable[[Connection], Any] | None) -> NamedChannel:
        """Remove connections, or those for which a function returns true."""
        for one in leaving:
            connections = self.filter(one).connections if callable(one) else [one] if one is not None else []
            for connection in connections:
                for name in self.names:
                    self._remove(name, connection)
        return self

    def _remove(self, name: str, connection: Connection) -> None:
        connection.channels.discard(name)
        members = self._members.get(name, {})
        members.pop(connection, None)
        if not members:
            self._members.pop(name, None)


class Channels:
    """The channels of an app. A channel without connections takes no memory."""

    def __init__(self) -> None:
        self._members: dict[str, dict[Connection, None]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the channels that have connections."""
        return list(self._members)

    def named(self, *names: str | Iterable[str]) -> NamedChannel:
        """Return the channel of a name, or several channels as one. Raises ValueError without a name."""
        flat = tuple(one for name in names for one in ([name] if isinstance(name, str) else name))
        if not flat:
            raise ValueError("app.channel needs at least one channel name")
        return NamedChannel(self._members, flat)

    def leave_all(self, connection: Connection) -> None:
        """Remove a connection from all of its channels."""
        if connection.channels:
            self.named(tuple(connection.channels)).leave(connection)


def _filtered(function: Callable[[Connection], Any], connections: Iterable[Connection]) -> Iterator[Connection]:
    for connection in connections:
        answer = function(connection)
        if isawaitable(answer):  # An awaitable is always true.
            getattr(answer, "close", lambda: None)()
            raise _needs_def()
        if answer:
            yield connection


def _needs_def() -> TypeError:
    return TypeError("A channel is filtered by a 'def' function: await its data earlier, in the publisher")


def payloads(published: Any, only: Connection | None = None) -> dict[Connection, Any]:
    """Return the payload of each connection in the result of a publisher: a channel, a list of channels, or None.

    A connection in several channels receives the payload of the first one. With ``only``, return that of one connection
    alone, without a look at the others. Raises TypeError for another result.
    """
    if only is not None:
        return next(({only: channel.data} for channel in _channels_of(published) if only in channel), {})
    found: dict[Connection, Any] = {}
    for channel in _channels_of(published):
        found = dict.fromkeys(channel.connections, channel.data) | found
    return found


def _channels_of(published: Any) -> Iterator[Channel]:
    if isinstance(published, Channel):
        yield published
    elif isinstance(published, list | tuple):
        for one in published:
            yield from _channels_of(one)
    elif published is not None:
        raise TypeError(f"A publisher returned {type(published).__name__}: return a channel, a list of them or None")
