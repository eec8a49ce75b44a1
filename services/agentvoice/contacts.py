"""The services of the AgentVoice API: contacts, and the lookup by the id of another system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import validates_schema

from apex import Apex, Context, Params, validate_data
from apex.describe import describe
from apex.errors import BadRequest
from apex.query import MAX_ROWS, Query, querystring
from apex.schema import Schema, Text, ValidationError, fields, validate
from apex.types import Row
from hooks.tenancy import ORGANIZATION_ID
from services.agentvoice.dialect import (
    CONTACT_FIELDS,
    CONTACT_SHAPE,
    AgentVoice,
    PersonSchema,
    described,
    dialect_hooks,
    example,
    inside,
    voiced,
)
from services.contacts import CRM, CrmSchema, contacts
from services.personal_data import erase

MOST = 1_000
"""How many contacts a list has at most."""


class PatchSchema(PersonSchema, CrmSchema):
    """What a patch may change."""


class CreateSchema(PatchSchema):
    keywords = {**PatchSchema.keywords, "anyOf": [{"required": ["first_name"]}, {"required": list(CRM)}]}

    first_name = Text(max=100, allow_none=True, metadata={"example": "Jane"})

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_name(self, data: Any, original: Row, **_: Any) -> None:
        if original.get("first_name") is None and any(original.get(name) is None for name in CRM):
            raise ValidationError("Is required unless crm_id and crm_source are given", "first_name")


class ListSchema(Schema):
    limit = fields.Integer(load_default=MOST, validate=validate.Range(1, MOST, error=f"Must be from 1 to {MOST}"))
    offset = fields.Integer(load_default=0, validate=validate.Range(0, MAX_ROWS, error="Must be 0 or more"))


class LookupSchema(Schema):
    crm_id = Text(max=200, required=True)
    crm_source = Text(max=100, required=True)


TOTAL = {
    "x-total-count": {"schema": {"type": "integer"}, "description": "How many contacts there are."},
    "Link": {"schema": {"type": "string"}, "description": 'Other pages, as in `</api/contacts?offset=9>; rel="next"`.'},
}


class Contacts(AgentVoice):
    """The contacts of the key's organization, in the shapes of the AgentVoice API."""

    noun = "AgentVoice contact"
    table, id, schema = contacts, "uuid", CreateSchema
    methods = ("find", "get", "create", "patch", "remove")
    examples = {
        "create": example(
            data={"first_name": "Jane", "phone": "+1987654321", "crm_id": "CRM456", "crm_source": "hubspot"}
        ),
        "find": example(query={"limit": 2}),
        "get": example(123),
        "patch": example(123, data={"last_name": "Roe"}),
        "remove": example(124),
    }

    @describe(result={"type": "array", "items": CONTACT_SHAPE}, answers=TOTAL)
    async def find(self, params: Params) -> Row:
        """A page; ``show_total`` makes the list of it that goes out."""
        asked = params.query
        newest = Query(limit=asked["limit"], skip=asked["offset"], sort=(("created_at", -1),), select=CONTACT_FIELDS)
        page = await self.contacts.find({**inside(params), "query": newest, "paginate": {"max": MOST}})
        return {**page, "data": await self.shown(page["data"], params)}

    @describe(result=CONTACT_SHAPE)
    async def get(self, id: Any, params: Params) -> Row:
        return await self.one(params, uuid=id)

    @describe(result=CONTACT_SHAPE)
    async def create(self, data: Row, params: Params) -> Row:
        return (await self.write([(None, data)], params))[0]

    @describe(result=CONTACT_SHAPE)
    async def patch(self, id: Any, data: Row, params: Params) -> Row:
        return (await self.write([(await self.row(params, uuid=id), data)], params))[0]

    @describe(result=described("AgentVoiceMessage", {"message": {"type": "string"}}))
    async def remove(self, id: Any, params: Params) -> Row:
        contact = await self.row(params, uuid=id)
        await erase(self.app, "contacts", params.scope[ORGANIZATION_ID][0], contact["id"], params.user)
        return {"message": "Contact deleted successfully"}


class Lookup(AgentVoice):
    """A contact by its id in another system."""

    noun = "AgentVoice lookup"
    methods = ("find",)
    summaries = {"find": "Find an AgentVoice contact by its id in another system"}
    examples = {"find": example(query={"crm_id": "CRM456", "crm_source": "hubspot"})}

    @describe(result=CONTACT_SHAPE, errors=(404,))
    async def find(self, params: Params) -> Row:
        return await self.one(params, **params.query)


def one_object(context: Context) -> None:
    """Before methods that take data: they take one object."""
    if context.takes_data and not isinstance(context.data, Mapping):
        raise BadRequest("The body must be a JSON object")


def show_total(context: Context) -> None:
    """Answer with the list alone, and with headers for the total and the other pages (RFC 8288): after find."""
    page: Any = context.result
    context.result = page["data"]
    if context.http is not None:
        shown = {"x-total-count": page["total"]}
        if links := ", ".join(_links(context, page["total"])):
            shown["Link"] = links
        context.http["headers"] = {**context.http.get("headers", {}), **shown}


def _links(context: Context, total: int) -> Iterator[str]:
    query, path = context.params.query, f"{context.params.mount or ''}/{context.path}"
    limit, offset = query["limit"], query["offset"]
    pages = {"first": 0, "prev": max(0, offset - limit)} if offset else {}
    if offset + limit < total:
        pages["next"] = offset + limit
    for relation, place in pages.items():
        yield f'<{path}?{querystring.write({**query, "offset": place})}>; rel="{relation}"'


def register(app: Apex) -> None:
    checked = validate_data({"create": CreateSchema, "patch": PatchSchema}, "Invalid contact data")
    hooks = dialect_hooks(one_object, checked, query=ListSchema, after={"find": [show_total]})
    # A list reaches one_object, which refuses it in the words of the page.
    app.use("api/contacts", Contacts(), hooks=hooks, multi=True, errors=voiced)
    app.use("api/contacts/crm/lookup", Lookup(), hooks=dialect_hooks(query=LookupSchema), errors=voiced)
