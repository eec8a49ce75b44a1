"""The base class, the shapes and the hooks that all AgentVoice services share.

These services map paths, fields and errors, and store nothing themselves. They call ``contacts`` and ``companies``
inside the process, so all rules, events and searches of those services apply.
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
from apex.hooks import run_before
from apex.permissions import authorize
from apex.query import Compare, Predicate, Query, every
from apex.query.coercion import uuid
from apex.schema import EmailField, Schema, TextField, ValidationError, fields, load
from apex.service import BoundService
from apex.sql import Database
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import is_in_transaction
from apex.types import Row
from hooks.rate_limit import limit_rate
from hooks.tenancy import ON_RECORDS, ORGANIZATION_ID, membership
from services.companies import ensure_companies, find_companies
from services.contacts import CRM
from services.shared import phones
from services.shared.examples import DEMO_ORGANIZATION, uuid_of
from services.shared.tenant import IDEMPOTENCY

ORGANIZATION_HEADER = "x-organization-id"
"""The header with the UUID of the key's organization."""

DEFAULT_NAME = "Unknown"
"""The first name of a contact that another system sends without one."""

CONTACT_FIELDS = (
    "id", "uuid", "owned_by_user_id", "first_name", "last_name", "email", "phone", "phone_country_code",
    "phone_country_iso", "company_id", "created_at", "updated_at", "last_task_run", "total_tasks_run", "crm_id",
    "crm_source",
)  # fmt: skip
"""The fields of a contact that are read from ``contacts``."""

NEW_CONTACT: Row = dict.fromkeys(CRM) | {"last_task_run": None, "total_tasks_run": 0}
"""The values of a new contact if they are not given."""

Change = tuple[Row | None, Row]
"""The stored contact, or None for a new one, with the data of the caller."""

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


def object_shape(title: str, properties: Mapping[str, Any]) -> Row:
    """Return the JSON schema of an object with these properties and no others."""
    shape = {"title": title, "type": "object", "properties": dict(properties)}
    return {**shape, "required": list(properties), "additionalProperties": False}


CONTACT_SHAPE = object_shape("AgentVoiceContact", CONTACT_PROPERTIES)

ERROR_SHAPE = object_shape("AgentVoiceError", {"error": _TEXT})


class PhoneNumber(TextField):
    """A phone number as a pair of calling code and digits, from ``+1234567890``. Without ``+`` the code is None."""

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
    """The fields of a contact that callers and webhooks may send."""

    empty_is_null = True

    first_name = TextField(max=100)
    last_name = TextField(max=100, allow_none=True)
    email = EmailField(max=254, allow_none=True)
    phone = PhoneNumber(max=40, allow_none=True)
    company = TextField(max=200, allow_none=True)
    id = fields.String(dump_only=True)
    user_id = fields.String(dump_only=True)
    organization_id = fields.String(dump_only=True)
    created_at = fields.String(dump_only=True)
    updated_at = fields.String(dump_only=True)
    last_task_run = fields.String(dump_only=True)
    total_tasks_run = fields.Integer(dump_only=True)


def example(id: int | None = None, **given: Any) -> Example:
    """Return an example of a call for the demo data."""
    uuid = None if id is None else uuid_of(id)
    return Example(uuid, headers={ORGANIZATION_HEADER: uuid_of(DEMO_ORGANIZATION)}, **given)


class AgentVoice(Service):
    """The base class of the AgentVoice services. It reads, writes and shows contacts."""

    logged = False  # The service ``contacts`` has the events.

    api = "agentvoice"

    app: Apex
    contacts: BoundService
    database: Database

    async def setup(self, app: Apex, path: str) -> None:
        """Keep the services that this one calls."""
        self.app, self.contacts, self.database = app, app.service("contacts"), app.get("database")
        self.record: Schema = self.contacts.service.record()

    async def find_contacts(self, params: Params, where: Predicate) -> list[Row]:
        """Return the contacts that match a predicate, as they are stored."""
        query = Query(select=CONTACT_FIELDS, where=where)
        asked = {**inside(params), "query": query, "paginate": False, "adapter": params.adapter}
        found: list[Row] = await self.contacts.find(asked)
        return found

    async def find_contact(self, params: Params, **equal: Any) -> Row:
        """Return the contact whose fields have these values, as it is stored. Raises NotFound."""
        found = await self.find_contacts(params, every(*(Compare(name, "$eq", equal[name]) for name in equal)))
        if not found:
            raise NotFound("Contact not found")
        return found[0]

    async def write(self, changes: Sequence[Change], params: Params) -> list[Row]:
        """Store contacts, and return them as callers see them. Contacts that would not change are not written."""
        organization_id: int = params.scope[ORGANIZATION_ID][0]
        names = {name for _, data in changes if (name := data.get("company")) is not None}
        companies = await find_companies(self.app, names, organization_id)
        changes = await self._without_same_company(changes, companies, params)
        missing = names - companies.keys()
        if missing or any(_is_change(stored, _values(data, stored, companies)) for stored, data in changes):
            # A single call of contacts has its own transaction.
            alone = len(changes) == 1 and not missing and not is_in_transaction()
            async with nullcontext() if alone else self.database.savepoint():
                companies |= await ensure_companies(self.app, sorted(missing), organization_id, params.user)
                rows = await self._store(changes, companies, params)
        else:
            rows = [stored for stored, _ in changes if stored is not None]
        return await self.present(rows, params, {id: name for name, id in companies.items()})

    async def _without_same_company(
        self, changes: Sequence[Change], companies: Mapping[str, int], params: Params
    ) -> Sequence[Change]:
        """Leave out the company of a contact whose stored company is another one with the same name."""
        others = {
            stored["company_id"]
            for stored, data in changes
            if stored is not None and data.get("company") and companies.get(data["company"]) != stored["company_id"]
        }
        names = await self._related("companies", "name", others, {**params.scope, "deleted_at": None}, {})
        if not names:
            return changes
        return [
            (stored, {name: value for name, value in data.items() if name != "company"})
            if stored is not None and "company" in data and data["company"] == names.get(stored["company_id"])
            else (stored, data)
            for stored, data in changes
        ]

    async def _store(self, changes: Sequence[Change], companies: Mapping[str, int], params: Params) -> list[Row]:
        """Store contacts in the order of their keys, so that two calls with the same contacts never deadlock."""
        values = [_values(data, stored, companies) for stored, data in changes]
        rows = [{} if stored is None else stored for stored, _ in changes]
        new = [position for position, row in enumerate(rows) if not row]
        changed = [position for position, row in enumerate(rows) if row and _is_change(row, values[position])]
        new.sort(key=lambda position: _key(values[position]))
        changed.sort(key=lambda position: rows[position]["id"])
        for position, row in zip(new, await self._add([values[position] for position in new], params), strict=True):
            rows[position] = row
        for position in changed:
            patched = await self.contacts.patch(rows[position]["id"], values[position], inside(params))
            # The answer to a patch has no fields on demand.
            crm = {name: values[position][name] for name in CRM if name in values[position]}
            rows[position] = {**rows[position], **crm, **patched}
        return rows

    async def _add(self, rows: Sequence[Row], params: Params) -> list[Row]:
        """Create contacts. Their UUIDs are chosen here, so that they can be shown without reading them again."""
        if not rows:
            return []
        organization = {ORGANIZATION_ID: params.scope[ORGANIZATION_ID][0]}
        checked = [load(self.record, organization | row, "Invalid contact data") for row in rows]
        new = [row | {"uuid": uuid4()} for row in checked]
        call = {**inside(params), "loaded": True, "adapter": {"multi": True}}
        created = await self.contacts.create(new, call) if len(new) > 1 else [await self.contacts.create(new[0], call)]
        return [{**NEW_CONTACT, **given, **stored} for given, stored in zip(new, created, strict=True)]

    async def present_one(self, params: Params, **equal: Any) -> Row:
        """Return the contact whose fields have these values, as callers see it. Raises NotFound."""
        return (await self.present([await self.find_contact(params, **equal)], params))[0]

    async def present(self, rows: Sequence[Row], params: Params, companies: Mapping[int, str] = {}) -> list[Row]:
        """Return contacts as callers see them. ``companies`` are names that need not be read."""
        proof: Any = params.authentication
        caller = {params.user["id"]: proof["user_uuid"]}
        with tenant_context(ALL_TENANTS):  # An owner may have left the organization.
            owners = await self._related("users", "uuid", (row["owned_by_user_id"] for row in rows), {}, caller)
        not_removed = {**params.scope, "deleted_at": None}
        names = await self._related("companies", "name", (row["company_id"] for row in rows), not_removed, companies)
        organization = proof["organization_uuid"]
        return [
            _present(row, owners.get(row["owned_by_user_id"]), names.get(row["company_id"]), organization)
            for row in rows
        ]

    async def _related(
        self, path: str, field: str, ids: Iterable[int | None], scope: Mapping[str, Any], known: Mapping[int, Any]
    ) -> Mapping[int, Any]:
        """Return a field of the records with these ids, by id.

        It goes past the hooks, because the owner of a contact may be removed.
        """
        wanted = sorted({id for id in ids if id is not None and id not in known})
        if not wanted:
            return known
        query = Query(where=Compare("id", "$in", wanted), select=("id", field))
        found = await self.app.service(path).service.find(Params({"query": query, "scope": scope, "paginate": False}))
        return {**known, **{row["id"]: row[field] for row in found}}


def _values(data: Row, stored: Row | None, companies: Mapping[str, int]) -> Row:
    """Return the data of a caller as values of ``contacts``. An unknown company has the id None."""
    values = dict(data)
    if "phone" in values:
        values |= phones.replaced(values["phone"], stored or {})
    if "company" in values:
        values["company_id"] = companies.get(values.pop("company"))
    if stored is None:
        values["first_name"] = values.get("first_name") or DEFAULT_NAME
    return values


def _is_change(stored: Row | None, values: Row) -> bool:
    return stored is None or any(stored[name] != value for name, value in values.items())


def _key(values: Row) -> tuple[str, str]:
    return values.get("crm_source") or "", values.get("crm_id") or ""


def inside(params: Params) -> Row:
    """Return the params of a call inside the process on behalf of a caller."""
    return {"scope": params.scope, "user": params.user}


def _present(row: Row, owner: Any, company: str | None, organization: Any) -> Row:
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
    """Return a timestamp without milliseconds, such as ``2023-01-01T00:00:00Z``."""
    return timestamp(moment).partition(".")[0] + "Z"


@describe(sends={ORGANIZATION_HEADER: {"required": True, "schema": _UUID}})
def check_organization_header(context: Context) -> None:
    """Raise NotAuthenticated unless ``x-organization-id`` is the organization of the key.

    Runs before all methods, after ``authenticate``.
    """
    given = (context.params.headers or {}).get(ORGANIZATION_HEADER, "").strip().lower()
    if given != str(context.params.authentication["organization_uuid"]):
        raise NotAuthenticated(f"{ORGANIZATION_HEADER} must be the organization of the API key")


def check_id(context: Context) -> None:
    """Require a UUID in the path for methods about one contact, and no id for others. Runs before all methods.

    Raises MethodNotAllowed, and NotFound for an id that is not a UUID.
    """
    context.event = None  # The service ``contacts`` publishes the change.
    if (context.id is not None) != (context.method in ON_RECORDS):
        raise MethodNotAllowed(f"{context.method} takes {'no id' if context.id is not None else 'the id of a contact'}")
    if context.id is not None:
        try:
            context.id = uuid(context.id)
        except ValueError:
            raise NotFound("Contact not found") from None


def check_query(schema: type[Schema] = Schema) -> Hook:
    """Return a hook that loads the query of a list with a schema. Other methods take no query.

    It runs before all methods, and raises BadRequest.
    """
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
    """Return the hooks of an AgentVoice service, whose callers have an API key.

    ``checks`` run before the method and look only at the data. ``query`` is the schema of a list's query. ``around``
    hooks follow the checks.
    """
    outer = [
        run_before(disallow("server", "socketio"), authenticate("api-key", entity=False), check_organization_header),
        limit_rate,
        # Permissions are checked before IDEMPOTENCY, so nobody gets a stored answer to a call that is not allowed now.
        run_before(check_id, check_query(query), *checks, membership, authorize),
        *around,
        IDEMPOTENCY,
    ]
    return {"around": {"all": outer}, "after": after or {}}


@describe(result=ERROR_SHAPE)
def to_error(error: FeathersError) -> Row:
    """Return an error in the shape of the AgentVoice API."""
    return {"error": _sentence(error)}


def _sentence(error: FeathersError) -> str:
    """Return the text of an error: that of the contract, or the rules of all wrong fields."""
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
