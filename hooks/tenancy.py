"""Tenancy of the CRM: a caller reads and writes the records of its own organizations, as far as its roles allow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from apex import Context, Next, Params
from apex.describe import describe
from apex.errors import BadRequest, Forbidden, NotAuthenticated, NotFound
from apex.permissions import Refused, roles
from apex.query.coercion import integer
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from hooks.roles import ROLES

ORGANIZATION_ID = "organization_id"
"""The field with the organization of a record."""

MISSING = "Does not exist in this organization"
"""The error for a field that refers to no record of the organization."""

ON_RECORDS = ("get", "update", "patch", "remove")
"""The methods that take the id of a record."""

NEEDED = "Required, except with an API key, which belongs to one organization, and with `id` or `id[$in]`."

READS = ("find", "get")
"""The methods that only read, of a service without an attribute ``reads``."""


def caller_of(context: Context) -> str:
    """Return the name of the caller, for ``idempotent``. All tokens of a user are the same caller."""
    proof: Any = context.params.authentication
    return caller(proof["strategy"], proof.get("key_id") or proof["payload"]["sub"])


def caller(strategy: str, subject: Any) -> str:
    """Return the name of a caller: its strategy, and the user or the API key that it has proved."""
    return f"{strategy} {subject}"


async def membership(context: Context) -> None:
    """Set ``params.user`` to the id of the caller, and ``params.memberships`` to its role by organization.

    It comes before all methods, after ``authenticate``. Raises NotAuthenticated if the user no longer exists, and
    Forbidden for a call that the API key was not made for.
    """
    params = context.params
    if not params.get("provider"):
        return
    proof = params["authentication"]
    user_id = _user_id(str(proof["payload"]["sub"]))
    if "memberships" in proof:  # An API key brings its own.
        memberships = proof["memberships"]
        _require_allowed(context, proof)
    else:
        of_user = context.app.services["memberships"].service.of_user
        memberships = None if user_id is None else await of_user(user_id)
    if memberships is None:
        raise NotAuthenticated("The user of this token no longer exists")
    params["user"], params["memberships"] = {"id": user_id}, memberships


@lru_cache(16_384)
def _user_id(subject: str) -> int | None:
    try:
        return integer(subject)
    except ValueError:
        return None


def _require_allowed(context: Context, proof: Mapping[str, Any]) -> None:
    """Raise Forbidden for a call that a key was not made for: a write, or a service that it does not name.

    A ``guarded`` service takes writes only with keys that name it, and not with the former text of a rotated key: that
    text expires soon, so it must not create anything that lasts longer.
    """
    service, services = context.service.service, proof["services"]
    reads = context.method in getattr(service, "reads", READS)
    if proof["read_only"] and not reads:
        raise Forbidden("This API key may only read")
    if services is None:
        if not reads and getattr(service, "guarded", False):
            raise Forbidden(f"This API key was not made for '{context.path}': it takes one that names the service")
    elif not covers(services, context.path):
        raise Forbidden(f"This API key was not made for '{context.path}'")
    elif proof["is_replaced"] and not reads and getattr(service, "guarded", False):
        raise Forbidden(f"This is the text before a rotation: '{context.path}' takes the present text of the API key")


def covers(services: Collection[str], path: str) -> bool:
    """Return True if one of the services is at a path or above it, as ``api`` is above ``api/contacts``."""
    return any(path == name or path.startswith(f"{name}/") for name in services)


def fill_organization(context: Context) -> None:
    """Fill in the organization of the caller's API key, unless the request names one.

    It comes before list, create, custom methods and changes of many records, after ``authenticate``.
    """
    mine = (context.params.get("authentication") or {}).get(ORGANIZATION_ID)
    if mine is None or (context.method in ON_RECORDS and context.id is not None):
        return
    if context.method in ("find", *ON_RECORDS):
        context.params.query = {ORGANIZATION_ID: mine, **context.params.query}
    elif all(isinstance(row, Mapping) for row in context.items):
        context.items = [{ORGANIZATION_ID: mine, **row} for row in context.items]


@describe(methods=("find", "patch", "remove"), requires={ORGANIZATION_ID: NEEDED})
def require_organization(context: Context) -> None:
    """Require that a request names one organization, and set ``params.organization``: before all methods but get.

    A list may name its records by their ids instead, and other calls name one record. Raises BadRequest.
    """
    if context.params.provider and (context.method not in ON_RECORDS or context.id is None):
        context.params["organization"] = _named_organization(context)


def roles_of_call(context: Context) -> Mapping[int, str]:
    """Return the role of the caller by organization, or that in the organization that the call names.

    Raises Forbidden for an organization that the caller does not belong to.
    """
    mine: Mapping[int, str] = context.params["memberships"]
    organization: int | None = context.params.organization
    if organization is None:
        return mine
    if organization not in mine:
        raise Forbidden(f"You are not a member of organization {organization}")
    return {organization: mine[organization]}


crm_roles = roles(ROLES, of=roles_of_call, tenant=ORGANIZATION_ID, inherit=True)
"""The roles of memberships: ``app.configure(crm_roles)``. A caller has one in each of its organizations."""


def forbidden(context: Context, organization: int) -> Forbidden:
    """Return the error for a caller whose role does not allow the method in an organization."""
    role = context.params.memberships[organization]
    return Forbidden(f"Your role in organization {organization} is {role}: it does not allow {context.method} here")


async def forbid_foreign(context: Context, next: Next) -> None:
    """Say why a record is out of reach: around all methods, before ``authorize`` and after ``soft_delete``.

    Raises Forbidden that names the organization of the record: the caller does not belong to it, or its role there does
    not allow the method. Raises NotFound if there is no such record.
    """
    try:
        await next()
    except (NotFound, Refused) as error:
        if not context.params.provider or context.id is None:
            raise
        raise await _reason(context, error) from None


async def _reason(context: Context, error: NotFound | Refused) -> NotFound | Forbidden:
    scope: Row = {name: value for name, value in context.params.scope.items() if name != ORGANIZATION_ID}
    if isinstance(error, Refused):
        scope = {}  # A repeated remove is refused for the role, too.
    asked = Params({"query": {"$select": [ORGANIZATION_ID]}, "scope": scope})
    try:
        with tenant_context(ALL_TENANTS):
            row = await context.service.service.get(context.id, asked)
    except NotFound as missing:
        return error if isinstance(error, NotFound) else missing
    organization = row[ORGANIZATION_ID]
    if organization in context.params.scope.get(ORGANIZATION_ID, ()):
        return error
    if organization in context.params.memberships:
        return forbidden(context, organization)
    return Forbidden(f"Record '{context.id}' belongs to an organization that you are not a member of")


async def organization_of(context: Context) -> int:
    """Return the organization of the record that a create or patch is about."""
    if context.method == "create":
        return int(context.items[0][ORGANIZATION_ID])
    if context.id is None:
        return int(context.params.query[ORGANIZATION_ID])
    if context.params.before:
        return int(context.params.before[ORGANIZATION_ID])
    params = Params({"query": {"$select": [ORGANIZATION_ID]}, "scope": context.params.scope})
    row: Mapping[str, Any] = await context.service.service.get(context.id, params)
    return int(row[ORGANIZATION_ID])


async def within_organization(context: Context) -> Row:
    """Return the condition that a record is in the organization of a create or patch, for ``check_references``."""
    return {ORGANIZATION_ID: await organization_of(context)}


def _named_organization(context: Context) -> int | None:
    """Return the organization that a request names, or None for a list that names its records instead."""
    if context.method in ("find", *ON_RECORDS):
        organizations = [context.params["query"].get(ORGANIZATION_ID)]
    else:
        organizations = [row.get(ORGANIZATION_ID) for row in context.items]
    if None in organizations or not organizations:
        if context.method == "find" and (context.params.is_inner_call or _names_records(context)):
            return None  # An inner call asks for the records that belong to known ones.
        raise _wrong("is required")
    organization = organizations[0]
    if not isinstance(organization, int) or organizations.count(organization) < len(organizations):
        raise _wrong("must be the id of one organization")
    return organization


def _names_records(context: Context) -> bool:
    """Return True if a list asks for ``id=5`` or ``id[$in]=...``, and for no custom field.

    Custom fields need an organization, which has defined them.
    """
    query: Any = context.params.query
    asked = query.get(context.service.id)
    by_ids = isinstance(asked, int) or (isinstance(asked, Mapping) and "$in" in asked)
    return by_ids and ORGANIZATION_ID not in query and not query.paths


def _wrong(rule: str) -> BadRequest:
    return BadRequest(f"{ORGANIZATION_ID} {rule}", errors={ORGANIZATION_ID: rule[:1].upper() + rule[1:]})
