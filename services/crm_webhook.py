"""The webhook of the AgentVoice API: other systems send what they know of a contact, and it is made or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import pre_load

from apex import Apex, Context, Params, validate_data
from apex.describe import describe
from apex.errors import BadRequest, Conflict, FeathersError, NotFound
from apex.schema import Schema, Text, fields
from apex.types import Row
from hooks.signature import verify_signature
from services.dialect import ERROR, SHOWN, AgentVoice, PersonSchema, described, dialect_hooks, example, voiced

INVALID = "Invalid payload: source, data, and data.crm_id are required"
CREATED, UPDATED = "Contact created successfully", "Contact updated successfully"
ATTEMPTS = 5
HIDDEN = ("last_task_run", "total_tasks_run")

ALIASES = {
    "first_name": ("firstName", "name"),
    "last_name": ("lastName",),
    "email": ("emailAddress",),
    "phone": ("phoneNumber",),
    "company": ("companyName", "organization"),
}
"""What other systems call the fields. The field's own name wins, then the order here, but for what is empty."""


class EventDataSchema(PersonSchema):
    keywords = {"properties": {alias: {"type": ["string", "null"]} for names in ALIASES.values() for alias in names}}

    crm_id = Text(max=200, required=True)

    @pre_load
    def named(self, data: Any, **_: Any) -> Any:
        """The fields under their own names. What is empty is null, where no other name of the field has more to say; a
        first name that is, was not sent.
        """
        if not isinstance(data, Mapping):
            return data
        named = {name: None if value == "" else value for name, value in data.items()}
        for field, aliases in ALIASES.items():
            given = [named.pop(name) for name in (field, *aliases) if name in named]
            if given:
                named[field] = next((value for value in given if value is not None), None)
        if named.get("first_name", "") is None:
            del named["first_name"]
        return named


class EventSchema(Schema):
    source = Text(max=100, required=True)
    data = fields.Nested(EventDataSchema, required=True)


STORED = described(
    "AgentVoiceStored",
    {
        "message": {"enum": [CREATED, UPDATED]},
        "contact": described("AgentVoiceKnown", {name: SHOWN[name] for name in SHOWN if name not in HIDDEN}),
    },
)


class Webhook(AgentVoice):
    noun = "AgentVoice event"
    schema = EventSchema
    methods = ("create",)
    summaries = {"create": "Receive an event of another system"}
    examples = {
        "create": example(data={"source": "salesforce", "data": {"crm_id": "CRM123", "name": "Jo", "lastName": "Roe"}})
    }

    @describe(result=STORED)
    async def create(self, data: Row, params: Params) -> Row:
        """Makes or changes the contact of ``(source, crm_id)``, as a whole. Where others do so at the same moment it
        looks again.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._store(data["source"], data["data"], params)
            except (Conflict, NotFound):
                continue
        return await self._store(data["source"], data["data"], params)

    async def _store(self, source: str, data: Row, params: Params) -> Row:
        crm = {"crm_source": source, "crm_id": data["crm_id"]}
        async with self.database.transaction():
            try:
                known = await self.row(params, **crm)
            except NotFound:
                return _told(CREATED, await self.add({**data, **crm}, params))
            changes = {name: value for name, value in data.items() if name != "crm_id"}
            return _told(UPDATED, await self.change(known, changes, params))


def _told(message: str, contact: Row) -> Row:
    return {"message": message, "contact": {name: contact[name] for name in contact if name not in HIDDEN}}


def check_payload(context: Context) -> None:
    """Before create: raises BadRequest with the one sentence for a payload that lacks what is required."""
    payload = context.data if isinstance(context.data, Mapping) else {}
    data = payload.get("data")
    if not isinstance(data, Mapping) or not all(map(_is_text, (payload.get("source"), data.get("crm_id")))):
        raise BadRequest(INVALID)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


@describe(statuses=(200, 201))
def show_status(context: Context) -> None:
    """After create: 201 for a contact that is new, 200 for one that was there."""
    result: Any = context.result
    if context.http is not None:
        context.http["status"] = 201 if result["message"] == CREATED else 200


@describe(result=ERROR)
def answered(error: FeathersError) -> Row:
    """An error as AgentVoice has it. A body that is no JSON object lacks what is required."""
    return {"error": INVALID} if error.code == 400 and not error.errors else voiced(error)


def register(app: Apex) -> None:
    checked = validate_data({"create": EventSchema}, "Invalid webhook data")
    hooks = dialect_hooks(verify_signature, check_payload, checked, after={"create": [show_status]})
    # A list reaches check_payload, which refuses it in the words of the page.
    app.use("api/webhook/crm", Webhook(), hooks=hooks, multi=True, errors=answered)
