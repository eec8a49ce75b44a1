"""Two services of the AgentVoice API: contacts, and the lookup of a contact by its id in another system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import validates_schema

from apex import Apex, Context, Params, validate_data
from apex.describe import describe
from apex.errors import BadRequest
from apex.permissions import can
from apex.query import MAX_ROWS, Query, querystring
from apex.schema import Schema, TextField, ValidationError, fields, validate
from apex.types import Row
from hooks.tenancy import ORGANIZATION_ID
from services.agentvoice.dialect import (
    CONTACT_FIELDS,
    CONTACT_SHAPE,
    AgentVoice,
    PersonSchema,
    dialect_hooks,
    example,
    inside,
    object_shape,
    to_error,
)
from services.contacts import CRM, CrmSchema, contacts
from services.personal_data import erase

MOST_CONTACTS = 1_000
"""Most contacts in a list."""


class PatchSchema(PersonSchema, CrmSchema):
    """The fields that a patch may change."""


class CreateSchema(PatchSchema):
    """A contact as callers create it."""

    keywords = {**PatchSchema.keywords, "anyOf": [{"required": ["first_name"]}, {"required": list(CRM)}]}

    first_name = TextField(max=100, allow_none=True, metadata={"example": "Jane"})

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_name(self, data: Any, original: Row, **_: Any) -> None:
        """Require a first name, or the id of the contact in another system."""
        if original.get("first_name") is None and any(original.get(name) is None for name in CRM):
            raise ValidationError("Is required unless crm_id and crm_source are given", "first_name")


class ListSchema(Schema):
    """The query of a list."""

    limit = fields.Integer(
        load_default=MOST_CONTACTS,
        validate=validate.Range(1, MOST_CONTACTS, error=f"Must be from 1 to {MOST_CONTACTS}"),
    )
    offset = fields.Integer(load_default=0, validate=validate.Range(0, MAX_ROWS, error="Must be 0 or more"))


class LookupSchema(Schema):
    """The query of a lookup."""

    crm_id = TextField(max=200, required=True)
    crm_source = TextField(max=100, required=True)


LIST_HEADERS = {
    "x-total-count": {"schema": {"type": "integer"}, "description": "Number of contacts."},
    "Link": {
        "schema": {"type": "string"},
        "description": 'Links to other pages, as in `</api/contacts?offset=9>; rel="next"`.',
    },
}


class Contacts(AgentVoice):
    """The contacts of the key's organization, in the shapes of the AgentVoice API."""

    noun = "AgentVoice contact"
    table, id, schema = contacts, "uuid", CreateSchema
    methods = ("find", "get", "create", "patch", "remove")
    permissions = {"viewer": can("find", "get"), "member": can("create", "patch", "remove")}
    examples = {
        "create": example(
            data={"first_name": "Jane", "phone": "+1987654321", "crm_id": "CRM456", "crm_source": "hubspot"}
        ),
        "find": example(query={"limit": 2}),
        "get": example(123),
        "patch": example(123, data={"last_name": "Roe"}),
        "remove": example(124),
    }

    @describe(result={"type": "array", "items": CONTACT_SHAPE}, answers=LIST_HEADERS)
    async def find(self, params: Params) -> Row:
        """Return a page of contacts, newest first. The answer is its list, which ``show_total`` takes from the page."""
        given = params.query
        newest = Query(limit=given["limit"], skip=given["offset"], sort=(("created_at", -1),), select=CONTACT_FIELDS)
        page = await self.contacts.find({**inside(params), "query": newest, "paginate": {"max": MOST_CONTACTS}})
        return {**page, "data": await self.present(page["data"], params)}

    @describe(result=CONTACT_SHAPE)
    async def get(self, id: Any, params: Params) -> Row:
        """Return the contact with a UUID. Raises NotFound."""
        return await self.present_one(params, uuid=id)

    @describe(result=CONTACT_SHAPE)
    async def create(self, data: Row, params: Params) -> Row:
        """Create a contact."""
        return (await self.write([(None, data)], params))[0]

    @describe(result=CONTACT_SHAPE)
    async def patch(self, id: Any, data: Row, params: Params) -> Row:
        """Change the fields of a contact that are given. Raises NotFound."""
        return (await self.write([(await self.find_contact(params, uuid=id), data)], params))[0]

    @describe(result=object_shape("AgentVoiceMessage", {"message": {"type": "string"}}))
    async def remove(self, id: Any, params: Params) -> Row:
        """Delete a contact and all copies of its data for good. Raises NotFound."""
        contact = await self.find_contact(params, uuid=id)
        await erase(self.app, "contacts", params.scope[ORGANIZATION_ID][0], contact["id"], params.user)
        return {"message": "Contact deleted successfully"}


class Lookup(AgentVoice):
    """A contact by its id in another system."""

    noun = "AgentVoice lookup"
    methods = ("find",)
    permissions = {"viewer": can("find")}
    summaries = {"find": "Find an AgentVoice contact by its id in another system"}
    examples = {"find": example(query={"crm_id": "CRM456", "crm_source": "hubspot"})}

    @describe(result=CONTACT_SHAPE, errors=(404,))
    async def find(self, params: Params) -> Row:
        """Return the contact with an id in another system. Raises NotFound."""
        return await self.present_one(params, **params.query)


def require_object(context: Context) -> None:
    """Raise BadRequest unless the data are one object. Runs before methods with data."""
    if context.takes_data and not isinstance(context.data, Mapping):
        raise BadRequest("The body must be a JSON object")


def show_total(context: Context) -> None:
    """Answer with the list, and with headers for the total and the other pages (RFC 8288). Runs after find."""
    page: Any = context.result
    context.result = page["data"]
    if context.http is not None:
        headers = {"x-total-count": page["total"]}
        if links := ", ".join(_links(context, page["total"])):
            headers["Link"] = links
        context.http["headers"] = {**context.http.get("headers", {}), **headers}


def _links(context: Context, total: int) -> Iterator[str]:
    """Yield the links to the first, the previous and the next page."""
    query, path = context.params.query, f"{context.params.mount or ''}/{context.path}"
    limit, offset = query["limit"], query["offset"]
    pages = {"first": 0, "prev": max(0, offset - limit)} if offset else {}
    if offset + limit < total:
        pages["next"] = offset + limit
    for relation, place in pages.items():
        yield f'<{path}?{querystring.write({**query, "offset": place})}>; rel="{relation}"'


def register(app: Apex) -> None:
    """Register the services ``api/contacts`` and ``api/contacts/crm/lookup``."""
    check_data = validate_data({"create": CreateSchema, "patch": PatchSchema}, "Invalid contact data")
    hooks = dialect_hooks(require_object, check_data, query=ListSchema, after={"find": [show_total]})
    # With ``multi``, a list reaches ``require_object``, which refuses it with the text of the contract.
    app.use("api/contacts", Contacts(), hooks=hooks, multi=True, errors=to_error)
    app.use("api/contacts/crm/lookup", Lookup(), hooks=dialect_hooks(query=LookupSchema), errors=to_error)
