"""The AgentVoice dialect: contacts in its shapes, and what its services share.

A dialect maps paths, fields and errors, and stores nothing by itself. What it is asked it asks of contacts and
companies inside the process, so that rules, events and search are theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

from apex import Apex, Around, Context, Hook, Params, Service, authenticate
from apex.common import InvalidSignature, disallow
from apex.describe import Example, describe
from apex.encoding import timestamp
from apex.errors import Conflict, FeathersError, MethodNotAllowed, NotAuthenticated, NotFound
from apex.hooks import ahead
from apex.query import Compare, Query, every
from apex.query.coercion import uuid
from apex.schema import Email, Schema, Text, ValidationError, fields, load
from apex.service import BoundService
from apex.sql import Database
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import is_in_transaction
from apex.types import Row
from hooks.rate_limit import limit_rate
from hooks.tenancy import ON_RECORDS, ORGANIZATION_ID, membership, tenancy_of_key
from services.companies import companies_named, ensure_companies
from services.contacts import CRM
from services.shared import phones
from services.shared.examples import DEMO_ORGANIZATION, uuid_of
from services.shared.tenant import IDEMPOTENCY

ORGANIZATION_HEADER = "x-organization-id"
"""The header that names the organization of the key."""

UNKNOWN = "Unknown"
"""The first name of a contact that another system sends without one."""

CONTACT_FIELDS = (
    "id", "uuid", "owned_by_user_id", "first_name", "last_name", "email", "phone", "phone_country_code",
    "phone_country_iso", "company_id", "created_at", "updated_at", "last_task_run", "total_tasks_run", "crm_id",
    "crm_source",
)  # fmt: skip
"""What is read of a contact."""

NEW_CONTACT: Row = dict.fromkeys(CRM) | {"last_task_run": None, "total_tasks_run": 0}
"""The values of a new contact that are not given."""

Asked = tuple[Row | None, Row]
"""The contact as it is stored, or None for a new one, and what a caller says of it."""

_TEXT, _TEXT_OR_NULL = {"type": "string"}, {"type": ["string", "null"]}

_UUID = {"type": "string", "format": "uuid"}

_MOMENT = {"type": "string", "format": "date-time"}

CONTACT_PROPERTIES: dict[str, Any] = {
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


CONTACT_SHAPE = described("AgentVoiceContact", CONTACT_PROPERTIES)

ERROR_SHAPE = described("AgentVoiceError", {"error": _TEXT})


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

    empty_is_null = True

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
    return Example(uuid, headers={ORGANIZATION_HEADER: uuid_of(DEMO_ORGANIZATION)}, **given)


class AgentVoice(Service):
    """What the services of the dialect share: contacts on their way in and out."""

    api = "agentvoice"

    app: Apex
    contacts: BoundService
    database: Database

    async def setup(self, app: Apex, path: str) -> None:
        self.app, self.contacts, self.database = app, app.service("contacts"), app.get("database")
        self.record: Schema = self.contacts.service.record()

    async def rows(self, params: Params, **asked: Any) -> list[Row]:
        """The contacts that a query finds, as they are stored."""
        query, more = Query(select=CONTACT_FIELDS, **asked), {"paginate": False, "adapter": params.adapter}
        found: list[Row] = await self.contacts.find({**inside(params), "query": query, **more})
        return found

    async def row(self, params: Params, **equal: Any) -> Row:
        """The one contact whose fields are these. Raises NotFound."""
        found = await self.rows(params, where=every(*(Compare(name, "$eq", equal[name]) for name in equal)))
        if not found:
            raise NotFound("Contact not found")
        return found[0]

    async def write(self, asked: Sequence[Asked], params: Params) -> list[Row]:
        """Store contacts, and return each as it is shown. A contact that would stay as it is is not written."""
        organization_id: int = params.scope[ORGANIZATION_ID][0]
        names = {name for _, data in asked if (name := data.get("company")) is not None}
        companies = await companies_named(self.app, names, organization_id)
        asked = await self._without_same_company(asked, companies, params)
        missing = names - companies.keys()
        if missing or any(_is_change(stored, _values(data, stored, companies)) for stored, data in asked):
            # One call of contacts is a unit of work by itself.
            alone = len(asked) == 1 and not missing and not is_in_transaction()
            async with nullcontext() if alone else self.database.savepoint():
                companies |= await ensure_companies(self.app, sorted(missing), organization_id, params.user)
                rows = await self._stored(asked, companies, params)
        else:
            rows = [stored for stored, _ in asked if stored is not None]
        return await self.shown(rows, params, {id: name for name, id in companies.items()})

    async def _without_same_company(
        self, asked: Sequence[Asked], companies: Mapping[str, int], params: Params
    ) -> Sequence[Asked]:
        """Leave out the company of a contact that is with another one of the same name already."""
        others = {
            stored["company_id"]
            for stored, data in asked
            if stored is not None and data.get("company") and companies.get(data["company"]) != stored["company_id"]
        }
        names = await self._related("companies", "name", others, {**params.scope, "deleted_at": None}, {})
        if not names:
            return asked
        return [
            (stored, {name: value for name, value in data.items() if name != "company"})
            if stored is not None and "company" in data and data["company"] == names.get(stored["company_id"])
            else (stored, data)
            for stored, data in asked
        ]

    async def _stored(self, asked: Sequence[Asked], companies: Mapping[str, int], params: Params) -> list[Row]:
        """Write in the order of keys: of two calls with the same contacts one waits for the other."""
        values = [_values(data, stored, companies) for stored, data in asked]
        rows = [{} if stored is None else stored for stored, _ in asked]
        new = [place for place, row in enumerate(rows) if not row]
        changed = [place for place, row in enumerate(rows) if row and _is_change(row, values[place])]
        new.sort(key=lambda place: _key(values[place]))
        changed.sort(key=lambda place: rows[place]["id"])
        for place, row in zip(new, await self._add([values[place] for place in new], params), strict=True):
            rows[place] = row
        for place in changed:
            now = await self.contacts.patch(rows[place]["id"], values[place], inside(params))
            rows[place] = {**rows[place], **{name: values[place][name] for name in CRM if name in values[place]}, **now}
        return rows

    async def _add(self, rows: Sequence[Row], params: Params) -> list[Row]:
        """Create contacts with UUIDs of their own, so that nothing has to be read to show them."""
        if not rows:
            return []
        organization = {ORGANIZATION_ID: params.scope[ORGANIZATION_ID][0]}
        checked = [load(self.record, organization | row, "Invalid contact data") for row in rows]
        new = [row | {"uuid": uuid4()} for row in checked]
        call = {**inside(params), "loaded": True, "adapter": {"multi": True}}
        made = await self.contacts.create(new, call) if len(new) > 1 else [await self.contacts.create(new[0], call)]
        return [{**NEW_CONTACT, **given, **stored} for given, stored in zip(new, made, strict=True)]

    async def one(self, params: Params, **equal: Any) -> Row:
        """The one contact whose fields are these, as it is shown. Raises NotFound."""
        return (await self.shown([await self.row(params, **equal)], params))[0]

    async def shown(self, rows: Sequence[Row], params: Params, companies: Mapping[int, str] = {}) -> list[Row]:
        """Return contacts as they are shown. The names of these ``companies`` are known."""
        proof: Any = params.authentication
        caller = {params.user["id"]: proof["user_uuid"]}
        with tenant_context(ALL_TENANTS):  # An owner may have left the organization.
            owners = await self._related("users", "uuid", (row["owned_by_user_id"] for row in rows), {}, caller)
        living = {**params.scope, "deleted_at": None}
        names = await self._related("companies", "name", (row["company_id"] for row in rows), living, companies)
        organization = proof["organization_uuid"]
        return [
            _shown(row, owners.get(row["owned_by_user_id"]), names.get(row["company_id"]), organization) for row in rows
        ]

    async def _related(
        self, path: str, field: str, ids: Iterable[int | None], scope: Mapping[str, Any], known: Mapping[int, Any]
    ) -> Mapping[int, Any]:
        """The field of the records with these ids, by id; past the hooks, as who was removed owned it all the same."""
        wanted = sorted({id for id in ids if id is not None and id not in known})
        if not wanted:
            return known
        query = Query(where=Compare("id", "$in", wanted), select=("id", field))
        found = await self.app.service(path).service.find(Params({"query": query, "scope": scope, "paginate": False}))
        return {**known, **{row["id"]: row[field] for row in found}}


def _values(data: Row, stored: Row | None, companies: Mapping[str, int]) -> Row:
    """Return what a caller says of a contact as contacts have it. A company that is missing has the id None."""
    values = dict(data)
    if "phone" in values:
        values |= phones.replaced(values["phone"], stored or {})
    if "company" in values:
        values["company_id"] = companies.get(values.pop("company"))
    if stored is None:
        values["first_name"] = values.get("first_name") or UNKNOWN
    return values


def _is_change(stored: Row | None, values: Row) -> bool:
    return stored is None or any(stored[name] != value for name, value in values.items())


def _key(values: Row) -> tuple[str, str]:
    return values.get("crm_source") or "", values.get("crm_id") or ""


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


@describe(sends={ORGANIZATION_HEADER: {"required": True, "schema": _UUID}})
def same_organization(context: Context) -> None:
    """Before all methods, after ``authenticate``: ``x-organization-id`` is that of the key. Raises NotAuthenticated."""
    named = (context.params.headers or {}).get(ORGANIZATION_HEADER, "").strip().lower()
    if named != str(context.params.authentication["organization_uuid"]):
        raise NotAuthenticated(f"{ORGANIZATION_HEADER} must be the organization of the API key")


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
    *checks: Hook,
    query: type[Schema] = Schema,
    around: Sequence[Around] = (),
    after: Mapping[str, Sequence[Hook]] | None = None,
) -> Row:
    """The hooks of the dialect's services, which are for callers with a key alone. ``checks`` look at the data,
    ``query`` is the schema of a list's query. ``around`` hooks follow the checks.
    """
    outer = [
        ahead(disallow("server", "socketio"), authenticate("api-key", entity=False), same_organization),
        limit_rate,
        # A stored answer is for a caller that could make the call today.
        ahead(name_contact, check_query(query), *checks, membership, tenancy_of_key),
        *around,
        IDEMPOTENCY,
    ]
    return {"around": {"all": outer}, "after": after or {}}


@describe(result=ERROR_SHAPE)
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
