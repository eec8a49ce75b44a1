"""The webhook of the AgentVoice API: other systems send what they know of contacts, one at a time or many at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from apex import Apex, Around, Context, Next, Params
from apex.describe import describe
from apex.errors import BadRequest, Conflict, FeathersError, NotFound
from apex.query import Compare, every
from apex.queues import FairQueue
from apex.schema import Schema, Text, fields, load
from apex.service import BodyLimit, BodyLimits
from apex.types import Row
from hooks.signature import signed_webhooks
from hooks.tenancy import ORGANIZATION_ID
from services.agentvoice.dialect import (
    CONTACT_PROPERTIES,
    ERROR_SHAPE,
    AgentVoice,
    PersonSchema,
    described,
    dialect_hooks,
    example,
    voiced,
)
from services.contacts import CRM
from services.tables import signatures

INVALID = "Invalid payload: source, data, and data.crm_id are required"
MESSAGE = "Invalid webhook data"
CREATED, UPDATED = "Contact created successfully", "Contact updated successfully"
ATTEMPTS = 5
MOST_EVENTS = 1_000
BATCH = 100
"""How many events are stored at once, as a request with many must not hold up others. They count as one request."""
AT_ONCE, MOST_AT_ONCE = 5, 5_000
"""Requests of a process that may be stored at the same moment, and those that may be there with the ones that wait.

Half of the connections to the database stay free for others, however many events come at once.
"""
HIDDEN = ("last_task_run", "total_tasks_run")

NAMES: Mapping[str, Sequence[str]] = {
    "first_name": ("firstName", "name"),
    "last_name": ("lastName",),
    "email": ("emailAddress",),
    "phone": ("phoneNumber",),
    "company": ("companyName", "organization"),
    "crm_id": (),
}
"""The fields, and what other systems call them. The field's own name wins, then the order here. Empty values lose."""


class EventDataSchema(PersonSchema):
    crm_id = Text(max=200, required=True)


class EventSchema(Schema):
    source = Text(max=100, required=True)
    data = fields.Nested(EventDataSchema, required=True)


EVENT = EventSchema()


def _documented() -> Row:
    """Return the shape of what is sent: an event, many of one source, or many of several."""
    declared: Mapping[str, Any] = EventDataSchema().fields
    sources: Any = EVENT.fields["source"]
    shapes = {field: {"type": ["string", "number", "null"], "maxLength": declared[field].max} for field in NAMES}
    shapes["email"]["type"] = ["string", "null"]
    required = {"type": ["string", "number"], "minLength": 1}
    said = {name: shapes[field] for field, aliases in NAMES.items() for name in (field, *aliases)}
    data = {
        "title": "AgentVoiceEventData",
        "type": "object",
        "description": "Empty texts mean null. Other properties are ignored.",
        "properties": {**said, "crm_id": {**required, "maxLength": declared["crm_id"].max}},
        "required": ["crm_id"],
    }

    def many(of: str) -> Row:
        alone = {"description": f"{of} One that is wrong is refused alone."}
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


STORED_CONTACT = described(
    "AgentVoiceKnown", {name: shape for name, shape in CONTACT_PROPERTIES.items() if name not in HIDDEN}
)
MESSAGES = {"enum": [CREATED, UPDATED]}
ANSWER: Row = {
    "title": "AgentVoiceAnswer",
    "type": "object",
    "properties": {
        "status": {"enum": [200, 201, 400, 404, 409]},
        "message": MESSAGES,
        "contact": STORED_CONTACT,
        "error": {"type": "string"},
    },
    "required": ["status"],
    "additionalProperties": False,
}
RESULT: Row = {
    "title": "AgentVoiceStored",
    "anyOf": [
        described("AgentVoiceKept", {"message": MESSAGES, "contact": STORED_CONTACT}),
        {"type": "array", "items": ANSWER},
    ],
}


class Webhook(AgentVoice):
    noun = "AgentVoice event"
    schema = EventSchema
    methods = ("create",)
    body_limits: BodyLimits = {"create": BodyLimit(4 * 1024 * 1024, "Send fewer events in a request")}
    summaries = {"create": "Receive an event of another system"}
    examples = {
        "create": example(data={"source": "salesforce", "data": {"crm_id": "CRM123", "name": "Jo", "lastName": "Roe"}})
    }

    def cost(self, data: Any) -> int:
        """Return how many requests a request counts as: each hundred events are one."""
        return ceil(min(len(_payloads(data)), MOST_EVENTS) / BATCH) or 1

    @describe(data={"create": _documented()}, result=RESULT)
    async def create(self, data: Any, params: Params) -> Any:
        """Make or change the contact of an event. For a list of events return an answer for each, in their order."""
        if not isinstance(data, list):
            return await self._store_one(data, params)
        answers = [_refusal(event) if isinstance(event, FeathersError) else {} for event in data]
        for places in _parts(data):
            for place, answer in zip(places, await self._store([data[place] for place in places], params), strict=True):
                answers[place] = answer
        return answers

    async def _store(self, events: Sequence[Row], params: Params) -> list[Row]:
        """Store events with different ids, all at once if that works."""
        if len(events) > 1:
            try:
                return [{"status": _status(answer), **answer} for answer in await self._written(events, params)]
            except FeathersError as error:
                if error.code >= 500:
                    raise
        return [await self._settled(event, params) for event in events]

    async def _settled(self, event: Row, params: Params) -> Row:
        try:
            answer = await self._store_one(event, params)
        except FeathersError as error:
            if error.code >= 500:
                raise
            return _refusal(error)
        return {"status": _status(answer), **answer}

    async def _store_one(self, event: Row, params: Params) -> Row:
        """Store an event as a whole. If others change the same contact at the same moment, look again."""
        for _ in range(ATTEMPTS - 1):
            try:
                return (await self._written([event], params))[0]
            except (Conflict, NotFound):
                continue
        return (await self._written([event], params))[0]

    async def _written(self, events: Sequence[Row], params: Params) -> list[Row]:
        said = [{**event["data"], "crm_source": event["source"]} for event in events]
        wanted = (Compare(name, "$in", sorted({data[name] for data in said})) for name in CRM)
        stored = {_crm(row): row for row in await self.rows(params, where=every(*wanted))}
        asked = [(stored.get(_crm(data)), data) for data in said]
        contacts = await self.write(asked, params)
        return [
            {
                "message": CREATED if row is None else UPDATED,
                "contact": {name: contact[name] for name in contact if name not in HIDDEN},
            }
            for (row, _), contact in zip(asked, contacts, strict=True)
        ]


def _crm(row: Row) -> tuple[str, str]:
    return row["crm_source"], row["crm_id"]


def _parts(events: Sequence[Any]) -> Iterator[list[int]]:
    """Yield the places of the events that are stored together. Of two with the same id the second one comes later."""
    rounds: list[list[int]] = []
    seen: dict[tuple[str, str], int] = {}
    for place, event in enumerate(events):
        if not isinstance(event, FeathersError):
            crm = event["source"], event["data"]["crm_id"]
            nth = seen[crm] = seen.get(crm, -1) + 1
            if nth == len(rounds):
                rounds.append([])
            rounds[nth].append(place)
    for places in rounds:
        yield from (places[start : start + BATCH] for start in range(0, len(places), BATCH))


def _status(answer: Row) -> int:
    return 201 if answer["message"] == CREATED else 200


def _refusal(error: FeathersError) -> Row:
    return {"status": error.code, **answered(error)}


def read_events(context: Context) -> None:
    """Read an event, or a list of events in which those that are wrong are errors, before create.

    Raises BadRequest for an event that is wrong, and for a list that is empty or too long.
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
    context.data = [_settled_event(event) for event in payloads]


def _is_many(payload: Any) -> bool:
    return isinstance(payload, list) or (isinstance(payload, Mapping) and isinstance(payload.get("data"), list))


def _payloads(payload: Any) -> list[Any]:
    """Return what is sent as a list of events."""
    if isinstance(payload, list):
        return payload
    if not _is_many(payload):
        return [payload]
    return [{"source": payload.get("source"), "data": data} for data in payload["data"]]


def _settled_event(payload: Any) -> Row | FeathersError:
    try:
        return _event(payload)
    except BadRequest as error:
        return error


def _event(payload: Any) -> Row:
    """Return an event as it is stored. Raises BadRequest."""
    sent: Any = payload if isinstance(payload, Mapping) else {}
    source, data = _text(sent.get("source")), sent.get("data")
    named = _named(data) if isinstance(data, Mapping) else {}
    if not isinstance(source, str) or not isinstance(named.get("crm_id"), str):
        raise BadRequest(INVALID)
    event: Row = load(EVENT, {**sent, "source": source, "data": named}, MESSAGE)
    return event


def _named(data: Mapping[str, Any]) -> Row:
    """Return the fields under their own names. A first name that is empty was not sent."""
    named: Row = {}
    for field, aliases in NAMES.items():
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


def in_turn() -> Around:
    """Return an around hook in which requests wait for their turn. Organizations take turns."""
    queue = FairQueue(AT_ONCE, MOST_AT_ONCE, "Too many events at the same time: try again, with many in one request")

    async def in_turn(context: Context, next: Next) -> None:
        async with queue.turn((str(context.params.authentication[ORGANIZATION_ID]),)):
            await next()

    return in_turn


@describe(statuses=(200, 201))
def show_status(context: Context) -> None:
    """Answer 201 for a contact that is new, 200 for one that was there and for a list of answers, after create."""
    result: Any = context.result
    if context.http is not None:
        context.http["status"] = 200 if isinstance(result, list) else _status(result)


@describe(result=ERROR_SHAPE)
def answered(error: FeathersError) -> Row:
    """Return an error as AgentVoice has it. A body that is no JSON object lacks what is required."""
    return {"error": INVALID} if error.code == 400 and not error.errors else voiced(error)


def register(app: Apex) -> None:
    signed = signed_webhooks(app, signatures)
    hooks = dialect_hooks(signed.verify, read_events, around=[in_turn(), signed.once], after={"create": [show_status]})
    app.use("api/webhook/crm", Webhook(), hooks=hooks, multi=True, errors=answered)
