"""The AgentVoice dialect: contacts in its shapes, and what its services share.

A dialect maps paths, fields and errors, and stores nothing by itself. What it is asked it asks of contacts and
companies inside the process, so that rules, events and search are theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apex import Apex, Context, Params, Service, authenticate
from apex.coerce import uuid
from apex.common import disallow
from apex.describe import Example, describe
from apex.encoding import timestamp
from apex.errors import Conflict, FeathersError, MethodNotAllowed, NotAuthenticated, NotFound
from apex.hooks import Hook, ahead
from apex.predicates import Compare, every
from apex.query import Query
from apex.schema import Email, Schema, Text, ValidationError, fields, load
from apex.service import BoundService
from apex.sql import Database
from apex.types import Row
from hooks.rate_limit import limit_rate
from hooks.signature import InvalidSignature
from hooks.tenancy import FIELD, ON_RECORDS, membership, tenancy_of_key
from services import phones
from services.companies import company_named
from services.contacts import CRM
from services.examples import ORGANIZATION, uuid_of
from services.tenant import ONCE

HEADER = "x-organization-id"
"""The header that names the organization of the key."""

UNKNOWN = "Unknown"
"""The first name of a contact that another system sends without one."""

STORED = (
    "id", "uuid", "owned_by_user_id", "first_name", "last_name", "email", "phone", "phone_country_code",
    "phone_country_iso", "company_id", "created_at", "updated_at", "last_task_run", "total_tasks_run", "crm_id",
    "crm_source",
)  # fmt: skip
"""What is read of a contact."""

_TEXT, _TEXT_OR_NULL = {"type": "string"}, {"type": ["string", "null"]}

_UUID = {"type": "string", "format": "uuid"}

_MOMENT = {"type": "string", "format": "date-time"}

SHOWN: dict[str, Any] = {
    "id": _UUID,
    "user_id": {"type": ["string", "null"], "format": "uuid"},
    "first_name": _TEXT,
    **dict.fromkeys(("last_name", "email", "phone", "company"), _TEXT_OR_NULL),
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
    "last_task_run": {"type": ["string", "null"], "format": "date-time"},
    "total_tasks_run": {"type": "integer"},
    "organization_id": _UUID,
    **dict.fromkeys(CRM, _TEXT_OR_NULL),
}


def described(title: str, properties: Mapping[str, Any]) -> Row:
    """The shape of an object that has these and no other fields, for documents."""
    shape = {"title": title, "type": "object", "properties": dict(properties)}
    return {**shape, "required": list(properties), "additionalProperties": False}


CONTACT = described("AgentVoiceContact", SHOWN)

ERROR = described("AgentVoiceError", {"error": _TEXT})


class Number(Text):
    """A phone number, as calling code and digits: ``+1234567890``, or digits alone."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            code, digits = phones.split(super()._deserialize(value, attr, data, **kwargs))
        except ValidationError:
            raise
        except ValueError:
            raise ValidationError("Must be digits, or + with a calling code and digits") from None
        if len(digits) > phones.LONGEST:
            raise ValidationError(f"Must have at most {phones.LONGEST} digits")
        return code, digits


class PersonSchema(Schema):
    """What is said of a contact, by callers and by webhooks."""

    first_name = Text(max=100)
    last_name = Text(max=100, allow_none=True)
    email = Email(max=254, allow_none=True)
    phone = Number(max=40, allow_none=True)
    company = Text(max=200, allow_none=True)
    id = fields.String(dump_only=True)
    user_id = fields.String(dump_only=True)
    organization_id = fields.String(dump_only=True)
    created_at = fields.String(dump_only=True)
    updated_at = fields.String(dump_only=True)
    last_task_run = fields.String(dump_only=True)
    total_tasks_run = fields.Integer(dump_only=True)


def example(id: int | None = None, **given: Any) -> Example:
    """A call for the demo data."""
    uuid = None if id is None else uuid_of(id)
    return Example(uuid, headers={HEADER: uuid_of(ORGANIZATION)}, **given)


class AgentVoice(Service):
    """What the services of the dialect share: contacts on their way in and out."""

    api = "agentvoice"

    app: Apex
    contacts: BoundService
    database: Database

    async def setup(self, app: Apex, path: str) -> None:
        self.app, self.contacts, self.database = app, app.service("contacts"), app.get("database")

    async def rows(self, params: Params, **asked: Any) -> list[Row]:
        """The contacts that a query finds, as they are stored."""
        query, more = Query(select=STORED, **asked), {"paginate": False, "adapter": params.adapter}
        found: list[Row] = await self.contacts.find({**inside(params), "query": query, **more})
        return found

    async def row(self, params: Params, **equal: Any) -> Row:
        """The one contact whose fields are these. Raises NotFound."""
        found = await self.rows(params, where=every(*(Compare(name, "$eq", equal[name]) for name in equal)))
        if not found:
            raise NotFound("Contact not found")
        return found[0]

    async def add(self, data: Row, params: Params) -> Row:
        """To be called in a unit of work, as ``change``. Gives the contact as it is shown."""
        organization_id = params.scope[FIELD][0]
        values = {FIELD: organization_id, **await self._values(data, {}, params)}
        values["first_name"] = values.get("first_name") or UNKNOWN
        stored = await self.contacts.create(values, inside(params))
        return await self.one(params, id=stored["id"])

    async def change(self, known: Row, data: Row, params: Params) -> Row:
        """Change a contact as it is stored. Returns it as it is shown."""
        await self.contacts.patch(known["id"], await self._values(data, known, params), inside(params))
        return await self.one(params, id=known["id"])

    async def one(self, params: Params, **equal: Any) -> Row:
        """The one contact whose fields are these, as it is shown. Raises NotFound."""
        return (await self.shown([await self.row(params, **equal)], params))[0]

    async def shown(self, rows: Sequence[Row], params: Params) -> list[Row]:
        owners = await self._related("users", "uuid", (row["owned_by_user_id"] for row in rows), {})
        living = {**params.scope, "deleted_at": None}
        names = await self._related("companies", "name", (row["company_id"] for row in rows), living)
        organization = params.authentication["organization_uuid"]
        return [
            _shown(row, owners.get(row["owned_by_user_id"]), names.get(row["company_id"]), organization) for row in rows
        ]

    async def _values(self, data: Row, known: Row, params: Params) -> Row:
        """Return the data as contacts have them. ``known`` is the contact that they change."""
        values = dict(data)
        if "phone" in values:
            values |= phones.replaced(values["phone"], known)
        if "company" in values:
            name = values.pop("company")
            organization_id = params.scope[FIELD][0]
            linked = None if name is None else await company_named(self.app, name, organization_id, params.user)
            values["company_id"] = linked
        return values

    async def _related(self, path: str, field: str, ids: Iterable[int | None], scope: Mapping[str, Any]) -> Row:
        """The field of the records with these ids, by id; past the hooks, as who was removed owned it all the same."""
        wanted = sorted({id for id in ids if id is not None})
        query = Query(where=Compare("id", "$in", wanted), select=("id", field))
        asked = Params({"query": query, "scope": scope, "paginate": False})
        found = await self.app.service(path).service.find(asked) if wanted else []
        return {row["id"]: row[field] for row in found}


def inside(params: Params) -> Row:
    """The params of a call inside the process on behalf of a caller."""
    return {"scope": params.scope, "user": params.user}


def _shown(row: Row, owner: Any, company: str | None, organization: Any) -> Row:
    return {
        "id": str(row["uuid"]),
        "user_id": owner and str(owner),
        "first_name": row["first_name"],
        "last_name": row["last_name"],
        "email": row["email"],
        "phone": row["phone"] and (row["phone_country_code"] or "") + row["phone"],
        "company": company,
        "created_at": _moment(row["created_at"]),
        "updated_at": _moment(row["updated_at"]),
        "last_task_run": row["last_task_run"] and _moment(row["last_task_run"]),
        "total_tasks_run": row["total_tasks_run"],
        "organization_id": str(organization),
        "crm_id": row["crm_id"],
        "crm_source": row["crm_source"],
    }


def _moment(moment: Any) -> str:
    """Without milliseconds: ``2023-01-01T00:00:00Z``."""
    return timestamp(moment).partition(".")[0] + "Z"


@describe(sends={HEADER: {"required": True, "schema": _UUID}})
def same_organization(context: Context) -> None:
    """Before all methods, after ``authenticate``: ``x-organization-id`` is that of the key. Raises NotAuthenticated."""
    named = (context.params.headers or {}).get(HEADER, "").strip().lower()
    if named != str(context.params.authentication["organization_uuid"]):
        raise NotAuthenticated(f"{HEADER} must be the organization of the API key")


def name_contact(context: Context) -> None:
    """Before all methods: what is about one contact has its UUID in the path, and nothing else has one."""
    context.event = None  # It is contacts that tell of the change.
    if (context.id is not None) != (context.method in ON_RECORDS):
        raise MethodNotAllowed(f"{context.method} takes {'no id' if context.id is not None else 'the id of a contact'}")
    if context.id is not None:
        try:
            context.id = uuid(context.id)
        except ValueError:
            raise NotFound("Contact not found") from None


def check_query(schema: type[Schema] = Schema) -> Hook:
    """Before all methods: the query is what a schema of the dialect's own makes of it; lists alone ask for anything."""
    schemas = {"find": schema()}
    nothing = Schema()

    @describe(query={"find": schema})
    def check_query(context: Context) -> None:
        context.params.query = load(schemas.get(context.method, nothing), dict(context.params.query), "Invalid query")

    return check_query


def dialect_hooks(
    *checks: Hook, query: type[Schema] = Schema, after: Mapping[str, Sequence[Hook]] | None = None
) -> Row:
    """The hooks of the dialect's services, which are for callers with a key alone. ``checks`` look at the data,
    ``query`` is the schema of a list's query.
    """
    around = [
        ahead(disallow("server", "socketio"), authenticate("api-key", entity=False), same_organization),
        limit_rate,
        ONCE,
    ]
    before = [name_contact, check_query(query), *checks, membership, tenancy_of_key]
    return {"around": {"all": around}, "before": {"all": before}, "after": after or {}}


@describe(result=ERROR)
def voiced(error: FeathersError) -> Row:
    """An error as AgentVoice has it."""
    return {"error": _sentence(error)}


def _sentence(error: FeathersError) -> str:
    named = error.errors if isinstance(error.errors, Mapping) else {}
    if isinstance(error, Conflict) and "crm_id" in named:
        return "A contact with this CRM ID already exists"
    if error.code in SENTENCES and not isinstance(error, InvalidSignature):
        return SENTENCES[error.code]
    return "; ".join(f"{field}: {rule.removesuffix('.')}" for field, rule in named.items()) or error.message


SENTENCES = {
    401: "Invalid API key or organization ID",
    404: "Contact not found",
    429: "Rate limit exceeded",
    500: "Internal server error",
}
