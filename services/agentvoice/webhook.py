"""The webhook of the AgentVoice API, to which other systems send events about contacts, one or many at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from apex import Apex, Around, Context, Next, Params
from apex.describe import describe
from apex.errors import BadRequest, Conflict, FeathersError, NotFound
from apex.limits import FairQueue
from apex.permissions import can
from apex.query import Compare, every
from apex.schema import Schema, TextField, fields, load
from apex.service import BodyLimit, BodyLimits
from apex.types import Row
from hooks.signature import signed_webhooks
from hooks.tenancy import ORGANIZATION_ID
from services.agentvoice.dialect import (
    CONTACT_PROPERTIES,
    ERROR_SHAPE,
    AgentVoice,
    PersonSchema,
    dialect_hooks,
    example,
    object_shape,
    to_error,
)
from services.contacts import CRM
from services.tables import signatures

INVALID = "Invalid payload: source, data, and data.crm_id are required"
MESSAGE = "Invalid webhook data"
CREATED, UPDATED = "Contact created successfully", "Contact updated successfully"
ATTEMPTS = 5
MOST_EVENTS = 1_000
BATCH = 100
"""Number of events that are stored at once. They count as one request for the rate limit."""
AT_ONCE, MOST_WAITING = 5, 5_000
"""Most requests of a process that store events at the same time, and most requests that do or wait for it.

Half of the connections to the database stay free for other calls.
"""
HIDDEN = ("last_task_run", "total_tasks_run")
"""Fields of a contact that answers leave out."""

ALIASES: Mapping[str, Sequence[str]] = {
    "first_name": ("firstName", "name"),
    "last_name": ("lastName",),
    "email": ("emailAddress",),
    "phone": ("phoneNumber",),
    "company": ("companyName", "organization"),
    "crm_id": (),
}
"""The names that other systems use for a field. If several are given, the first value that is not empty counts.

The field's own name comes first, then the names in this order.
"""


class EventDataSchema(PersonSchema):
    """The contact of an event."""

    crm_id = TextField(max=200, required=True)


class EventSchema(Schema):
    """An event: a contact, and the system that knows it."""

    source = TextField(max=100, required=True)
    data = fields.Nested(EventDataSchema, required=True)


EVENT_SCHEMA = EventSchema()


def _text_shape(max: int) -> Row:
    """Return the JSON schema of a text that may also come as a number."""
    return {"title": f"AgentVoiceText{max}", "type": ["string", "number", "null"], "maxLength": max}


def _body_shape() -> Row:
    """Return the JSON schema of the body: an event, several events of one source, or a list of events."""
    declared: Mapping[str, Any] = EventDataSchema().fields
    sources: Any = EVENT_SCHEMA.fields["source"]
    shapes = {field: _text_shape(declared[field].max) for field in ALIASES}
    shapes["email"] = {"type": ["string", "null"], "maxLength": declared["email"].max}
    required = {"type": ["string", "number"], "minLength": 1}
    named = {name: shapes[field] for field, aliases in ALIASES.items() for name in (field, *aliases)}
    data = {
        "title": "AgentVoiceEventData",
        "type": "object",
        "description": "An empty text means null. Other properties are ignored.",
        "properties": {**named, "crm_id": {**required, "maxLength": declared["crm_id"].max}},
        "required": ["crm_id"],
    }

    def many(of: str) -> Row:
        alone = {"description": f"{of} A wrong one is refused alone."}
        return {"type": "array", "minItems": 1, "maxItems": MOST_EVENTS, "items": alone}

    event = {
        "type": "object",
        "properties": {
            "source": {**required, "maxLength": sources.max},
            "data": {"anyOf": [data, many("The data of an event.")]},
        },
        "required": ["source", "data"],
        "additionalProperties": False,
    }
    return {"title": "AgentVoiceEvent", "anyOf": [event, many("An event with source and data.")]}


EVENT_CONTACT = object_shape(
    "AgentVoiceKnown", {name: shape for name, shape in CONTACT_PROPERTIES.items() if name not in HIDDEN}
)
MESSAGE_SHAPE = {"enum": [CREATED, UPDATED]}
ANSWER_SHAPE: Row = {
    "title": "AgentVoiceAnswer",
    "type": "object",
    "properties": {
        "status": {"enum": [200, 201, 400, 404, 409]},
        "message": MESSAGE_SHAPE,
        "contact": EVENT_CONTACT,
        "error": {"type": "string"},
    },
    "required": ["status"],
    "additionalProperties": False,
}
RESULT_SHAPE: Row = {
    "title": "AgentVoiceStored",
    "anyOf": [
        object_shape("AgentVoiceKept", {"message": MESSAGE_SHAPE, "contact": EVENT_CONTACT}),
        {"type": "array", "items": ANSWER_SHAPE},
    ],
}


class Webhook(AgentVoice):
    """The webhook for events of other CRMs."""

    noun = "AgentVoice event"
    schema = EventSchema
    methods = ("create",)
    permissions = {"member": can("create")}
    body_limits: BodyLimits = {"create": BodyLimit(4 * 1024 * 1024, "Send fewer events in a request")}
    summaries = {"create": "Receive an event of another system"}
    examples = {
        "create": example(data={"source": "salesforce", "data": {"crm_id": "CRM123", "name": "Jo", "lastName": "Roe"}})
    }

    def cost(self, data: Any) -> int:
        """Return how many requests a request counts as for the rate limit: one for each hundred events."""
        return ceil(min(len(_payloads(data)), MOST_EVENTS) / BATCH) or 1

    @describe(data={"create": _body_shape()}, result=RESULT_SHAPE)
    async def create(self, data: Any, params: Params) -> Any:
        """Create or change the contact of an event. Return its answer, or the answers to a list of events in order."""
        if not isinstance(data, list):
            return await self._store_one(data, params)
        answers = [_refusal(event) if isinstance(event, FeathersError) else {} for event in data]
        for positions in _batches(data):
            stored = await self._store_batch([data[position] for position in positions], params)
            for position, answer in zip(positions, stored, strict=True):
                answers[position] = answer
        return answers

    async def _store_batch(self, events: Sequence[Row], params: Params) -> list[Row]:
        """Store events with different ids in one transaction, or if one is refused, each in its own."""
        if len(events) > 1:
            try:
                return [{"status": _status(answer), **answer} for answer in await self._write_events(events, params)]
            except FeathersError as error:
                if error.code >= 500:
                    raise
        return [await self._store_or_refuse(event, params) for event in events]

    async def _store_or_refuse(self, event: Row, params: Params) -> Row:
        try:
            answer = await self._store_one(event, params)
        except FeathersError as error:
            if error.code >= 500:
                raise
            return _refusal(error)
        return {"status": _status(answer), **answer}

    async def _store_one(self, event: Row, params: Params) -> Row:
        """Store an event. Retry if another call changes the same contact at the same time."""
        for _ in range(ATTEMPTS - 1):
            try:
                return (await self._write_events([event], params))[0]
            except (Conflict, NotFound):
                continue
        return (await self._write_events([event], params))[0]

    async def _write_events(self, events: Sequence[Row], params: Params) -> list[Row]:
        sent = [{**event["data"], "crm_source": event["source"]} for event in events]
        where = every(*(Compare(name, "$in", sorted({data[name] for data in sent})) for name in CRM))
        stored = {_crm_key(row): row for row in await self.find_contacts(params, where)}
        changes = [(stored.get(_crm_key(data)), data) for data in sent]
        contacts = await self.write(changes, params)
        return [
            {
                "message": CREATED if row is None else UPDATED,
                "contact": {name: contact[name] for name in contact if name not in HIDDEN},
            }
            for (row, _), contact in zip(changes, contacts, strict=True)
        ]


def _crm_key(row: Row) -> tuple[str, str]:
    return row["crm_source"], row["crm_id"]


def _batches(events: Sequence[Any]) -> Iterator[list[int]]:
    """Yield the positions of events that are stored together. Events with the same id are in different batches."""
    rounds: list[list[int]] = []
    seen: dict[tuple[str, str], int] = {}
    for position, event in enumerate(events):
        if not isinstance(event, FeathersError):
            key = event["source"], event["data"]["crm_id"]
            nth = seen[key] = seen.get(key, -1) + 1
            if nth == len(rounds):
                rounds.append([])
            rounds[nth].append(position)
    for positions in rounds:
        yield from (positions[start : start + BATCH] for start in range(0, len(positions), BATCH))


def _status(answer: Row) -> int:
    return 201 if answer["message"] == CREATED else 200


def _refusal(error: FeathersError) -> Row:
    return {"status": error.code, **to_webhook_error(error)}


def read_events(context: Context) -> None:
    """Load an event, or a list in which each wrong event is replaced by its error. Runs before create.

    Raises BadRequest for a single event that is wrong, and for a list that is empty or too long.
    """
    payload = context.data
    if not _is_many(payload):
        context.data = _event(payload)
        return
    payloads = _payloads(payload)
    if not payloads:
        raise BadRequest(INVALID)
    if len(payloads) > MOST_EVENTS:
        raise BadRequest(MESSAGE, errors={"data": f"Must have at most {MOST_EVENTS:,} events"})
    if isinstance(payload, Mapping):
        _event({**payload, "data": {"crm_id": "1"}})
    context.data = [_event_or_error(event) for event in payloads]


def _is_many(payload: Any) -> bool:
    return isinstance(payload, list) or (isinstance(payload, Mapping) and isinstance(payload.get("data"), list))


def _payloads(payload: Any) -> list[Any]:
    """Return the events of a body as a list."""
    if isinstance(payload, list):
        return payload
    if not _is_many(payload):
        return [payload]
    return [{"source": payload.get("source"), "data": data} for data in payload["data"]]


def _event_or_error(payload: Any) -> Row | FeathersError:
    try:
        return _event(payload)
    except BadRequest as error:
        return error


def _event(payload: Any) -> Row:
    """Return the event of a payload, checked by the schema. Raises BadRequest."""
    sent: Any = payload if isinstance(payload, Mapping) else {}
    source, data = _text(sent.get("source")), sent.get("data")
    named = _rename(data) if isinstance(data, Mapping) else {}
    if not isinstance(source, str) or not isinstance(named.get("crm_id"), str):
        raise BadRequest(INVALID)
    event: Row = load(EVENT_SCHEMA, {**sent, "source": source, "data": named}, MESSAGE)
    return event


def _rename(data: Mapping[str, Any]) -> Row:
    """Return the fields under their own names. An empty first name is left out."""
    named: Row = {}
    for field, aliases in ALIASES.items():
        given = [_text(data[name]) for name in (field, *aliases) if name in data]
        if given:
            named[field] = next((value for value in given if value is not None), None)
    if named.get("first_name", "") is None:
        del named["first_name"]
    return named


def _text(value: Any) -> Any:
    """Return a number as a text, and None for an empty text."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def wait_in_queue() -> Around:
    """Return an around hook in which requests wait for their turn. Organizations take turns."""
    queue = FairQueue(AT_ONCE, MOST_WAITING, "Too many events at the same time: try again, with many in one request")

    async def wait_in_queue(context: Context, next: Next) -> None:
        async with queue.turn((str(context.params.authentication[ORGANIZATION_ID]),)):
            await next()

    return wait_in_queue


@describe(statuses=(200, 201))
def show_status(context: Context) -> None:
    """Set the status: 201 for a new contact, and 200 for a changed one or a list of answers. Runs after create."""
    result: Any = context.result
    if context.http is not None:
        context.http["status"] = 200 if isinstance(result, list) else _status(result)


@describe(result=ERROR_SHAPE)
def to_webhook_error(error: FeathersError) -> Row:
    """Return an error in the shape of the AgentVoice API. Malformed bodies get the text for missing fields."""
    return {"error": INVALID} if error.code == 400 and not error.errors else to_error(error)


def register(app: Apex) -> None:
    """Register the service ``api/webhook/crm``."""
    signed = signed_webhooks(app, signatures)
    hooks = dialect_hooks(
        signed.verify, read_events, around=[wait_in_queue(), signed.once], after={"create": [show_status]}
    )
    app.use("api/webhook/crm", Webhook(), hooks=hooks, multi=True, errors=to_webhook_error)
