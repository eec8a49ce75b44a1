"""Service events on their way to connections: publishers choose the channels, in every process of the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from apex.channels import Channels, Connection, payloads
from apex.context import Context, Params

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.service import BoundService

Publisher = Callable[[Any, Context], Any]
Message = dict[str, Any]

ALL = "*"


class Publishers(dict[str, Publisher]):
    """The publishers of a service or of an app, by event; one registered without an event serves all."""

    def register(self, event: str | Publisher, publisher: Publisher | None = None) -> None:
        name, function = (event, publisher) if isinstance(event, str) else (ALL, event)
        if function is None:
            raise TypeError(f"publish('{name}') needs a function of the data and the context")
        self[name] = function

    def of(self, event: str) -> Publisher | None:
        return self.get(event) or self.get(ALL)


class Events:
    """The events of an app: its channels, its open connections, and the way from an event to them.

    A publisher is called in every process with ``(data, context)``. The context has what can be told: path, method,
    id, event, result, dispatch, and of the params ``query``, ``route``, ``provider`` and the id of ``user``.
    """

    def __init__(self, app: Apex) -> None:
        self.app = app
        self.channels = Channels()
        self.connections: set[Connection] = set()
        self.publishers = Publishers()
        self.published = 0

    def publisher(self, service: BoundService, event: str) -> Publisher | None:
        """The service's for the event or for all, else the app's."""
        return service._publishers.of(event) or self.publishers.of(event)

    def is_followed(self, service: BoundService, event: str) -> bool:
        """Whether there is a publisher for an event, and anybody here or elsewhere whom it could be for."""
        has_followers = bool(self.connections) or not self.app.bus.alone
        return has_followers and self.publisher(service, event) is not None

    def publish(self, service: BoundService, event: str, message: Message) -> None:
        """Sends an event to the connections of this process, and tells the others."""
        if self.publisher(service, event) is not None:
            self.published += 1
            message = {"path": service._path, "event": event, **message}
            self.deliver(message)
            self.app.bus.send("event", message)

    def deliver(self, message: Message) -> None:
        """Sends an event, of this process or of another one, to the connections of this one."""
        service = self.app.services.get(message["path"])
        publisher = None if service is None else self.publisher(service, message["event"])
        if service is None or publisher is None or not self.connections:
            return
        context = _told(self.app, service, message)
        try:
            published = publisher(message["result"], context)
            if isawaitable(published):
                self._send_later(publisher, published, context)
            else:
                self._send(published, context)
        except Exception:
            self._failed(context, publisher)

    def _send(self, published: Any, context: Context) -> None:
        if recipients := payloads(published):
            self.app.emit("publish", context, recipients)

    def _send_later(self, publisher: Publisher, published: Awaitable[Any], context: Context) -> None:
        async def send() -> None:
            try:
                self._send(await published, context)
            except Exception:
                self._failed(context, publisher)

        self.app.callbacks.start(send())

    def _failed(self, context: Context, publisher: Publisher) -> None:
        self.app.callbacks.fail(f"The publisher of '{context.path} {context.event}'", publisher)


def message_of(context: Context, result: Any, dispatch: Any) -> Message:
    """What is told of one item of a call's result."""
    params = context.params
    told = {"query": dict(params.query), "route": params.route or {}, "provider": params.provider}
    if isinstance(params.user, Mapping):
        told["user"] = {"id": params.user.get("id")}
    message = {"method": context.method, "id": context.id, "params": told, "result": result}
    return message if dispatch is result else {**message, "dispatch": dispatch}


def _told(app: Apex, service: BoundService, message: Mapping[str, Any]) -> Context:
    params = Params(message.get("params"))
    context = Context(app, service, message.get("method", ""), id=message.get("id"), params=params)
    context.event, context.result, context.is_open = message["event"], message["result"], False
    if "dispatch" in message:
        context.dispatch = message["dispatch"]
    return context
