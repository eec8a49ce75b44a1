"""Publishers: functions of an app that choose the channels, and so the connections, that get an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

from apex.context import Context
from apex.events.messages import Message, context_of
from apex.permissions.delivery import Recipients, permitted
from apex.realtime.channels import Connection, payloads
from apex.signatures import name_of, takes
from apex.types import UNSET

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.service import BoundService

Publisher = Callable[[Any, Context], Any]
AnyPublisher = Publisher | Callable[[Any], Any]
"""A function that can be registered as a publisher. It may take only the data."""

Delivery = tuple[Context, Recipients]
"""An event, and the payloads of the connections that get it."""

ALL = "*"


class Publishers(dict[str, Publisher]):
    """The publishers of a service or of an app, by event. One without an event is for all events."""

    def register(self, event: str | AnyPublisher, publisher: AnyPublisher | None = None) -> None:
        """Keep a publisher, which may take only the data. Raises TypeError if it cannot be called with the data."""
        name, function = (event, publisher) if isinstance(event, str) else (ALL, event)
        if not callable(function):
            raise TypeError(f"publish('{name}') needs a function of the data and the context")
        if takes(function, 2):
            self[name] = cast(Publisher, function)
        elif takes(function, 1):
            self[name] = _of_data(cast(Callable[[Any], Any], function))
        else:
            raise TypeError(f"The publisher {name_of(function)} cannot be called with (data, context), or with (data)")

    def of(self, event: str) -> Publisher | None:
        """Return the publisher of an event, or None."""
        return self.get(event) or self.get(ALL)


def _of_data(function: Callable[[Any], Any]) -> Publisher:
    """Return the publisher for a function that takes only the data, under its name."""

    def publisher(data: Any, context: Context) -> Any:
        return function(data)

    publisher.__qualname__ = name_of(function)
    return publisher


def deliveries_of(
    app: Apex, service: BoundService, publisher: Publisher, message: Message, only: Connection | None = None
) -> list[Delivery] | Awaitable[list[Delivery]]:
    """Return an event with the connections that get it, and the event of its record for those that it leaves.

    If the fields before the change are known, a connection that would have got the record before and does not get it
    now is told that it was removed, with the id alone. With ``only``, look at one connection alone.
    """
    context, record, before = context_of(app, service, message), message["result"], message.get("before")
    found = _recipients(publisher, context, only)
    if not before or not isinstance(record, Mapping) or message["event"] == "removed":
        return _later([(context, found)]) if isawaitable(found) else [(context, found)]
    id = getattr(service.service, "id", "id")
    own = {name: value for name, value in message.items() if name != "dispatch"}
    past = context_of(app, service, {**own, "result": {**record, **before}})
    left = context_of(app, service, {**own, "event": "removed", "result": {id: record.get(id)}})
    earlier = _recipients(publisher, past, only)
    if isawaitable(found) or isawaitable(earlier):
        return _later([(context, found), (left, earlier)])
    return _parted([(context, found), (left, earlier)])


async def _later(audiences: list[tuple[Context, Recipients | Awaitable[Recipients]]]) -> list[Delivery]:
    return _parted([(context, await found if isawaitable(found) else found) for context, found in audiences])


def _parted(audiences: list[Delivery]) -> list[Delivery]:
    """Return an event, and the one for connections that no longer get the first one."""
    (context, found), *rest = audiences
    return [(context, found), *((left, dict.fromkeys(earlier.keys() - found.keys(), UNSET)) for left, earlier in rest)]


def _recipients(publisher: Publisher, context: Context, only: Connection | None) -> Recipients | Awaitable[Recipients]:
    """Return the payloads of the connections that a publisher chooses and that permissions allow."""
    published = publisher(context.result, context)
    return (
        _permitted_later(published, context, only) if isawaitable(published) else _permitted(published, context, only)
    )


def _permitted(published: Any, context: Context, only: Connection | None) -> Recipients | Awaitable[Recipients]:
    recipients, policy = payloads(published, only), context.service._policy
    return recipients if policy is None or not recipients else permitted(recipients, context, policy)


async def _permitted_later(published: Awaitable[Any], context: Context, only: Connection | None) -> Recipients:
    recipients = _permitted(await published, context, only)
    return await recipients if isawaitable(recipients) else recipients
