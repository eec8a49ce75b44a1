"""Events as messages: dicts with the record of an event and a description of its call, which have a JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from apex.context import Context, Params
from apex.encoding import RawJSON, encode
from apex.types import UNSET

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.service import BoundService

Message = dict[str, Any]
"""An event: ``path``, ``event`` and ``result``, ``dispatch`` if that differs, and what ``call_of`` returns."""

EVENTS: Mapping[str, str] = {"create": "created", "update": "updated", "patch": "patched", "remove": "removed"}
"""The events of the methods that store records."""

MOVED_TO = "moved_to"
"""The key of the tenant that a record has moved to, in the message for the tenant that it has left.

The change itself is another message. Connections that get that one are told by it.
"""


def encoded(
    service: BoundService, event: str, result: Any, dispatch: Any = UNSET, context: Context | None = None
) -> bytes:
    """Return the message of an event as JSON. Raises TypeError if it has no JSON form."""
    message = {"path": service._path, "event": event, "result": result}
    if dispatch is not UNSET and dispatch is not result:
        message["dispatch"] = dispatch
    return encode(message if context is None else {**message, **call_of(context)})


def call_of(context: Context) -> Message:
    """Return the part of a message that describes the call of the event."""
    params = context.params
    shown = {"query": dict(params.query), "route": params.route or {}, "provider": params.provider}
    authentication = context.app.get("defaultAuthentication")
    entity = "user" if authentication is None else authentication.entity
    if isinstance(user := params.get(entity), Mapping):
        id = "id" if authentication is None else authentication.entity_id
        shown[entity] = {id: user.get(id)}
    return {"method": context.method, "id": context.id, "params": shown}


def context_of(app: Apex, service: BoundService, message: Mapping[str, Any]) -> Context:
    """Return the context that publishers get for a message. In every process it has what the message has."""
    params = Params(message.get("params"))
    context = Context(app, service, message.get("method", ""), id=message.get("id"), params=params)
    context.event, context.result, context.is_open = message["event"], message["result"], False
    context.entry = message.get("entry")
    if "dispatch" in message:
        context.dispatch = message["dispatch"]
    return context


def sent_by(context: Context) -> list[tuple[Any, Any]]:
    """Return the records that the events of a call are about, each with the part of it that is sent."""
    dispatch = context.result if context.dispatch is UNSET else context.dispatch
    results, sent = records_of(context.result), records_of(dispatch)
    if len(sent) != len(results):
        sent = [dispatch] * len(results)
    pairs = zip(results, sent, strict=True)
    service = context.service
    if not service._unsent:
        return list(pairs)
    shown = [(result, sent_part(service, result), other) for result, other in pairs]
    return [(one, one if other is result else sent_part(service, other)) for result, one, other in shown]


def sent_part(service: BoundService, record: Any) -> Any:
    """Return a record without the fields that neither events nor the log have: private and ``answer_only`` ones."""
    unsent = service._unsent
    if not isinstance(record, Mapping) or unsent.isdisjoint(record):
        return record
    return {name: value for name, value in record.items() if name not in unsent}


def records_of(value: Any) -> list[Any]:
    """Return the records in the result of a call."""
    value = value.value if isinstance(value, RawJSON) else value
    return value if isinstance(value, list) else [value]
