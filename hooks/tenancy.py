"""Tenancy of the CRM: a caller reads and writes the records of its own organizations, as far as its roles allow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from apex import Context, Params
from apex.common import limit_to_tenants
from apex.describe import describe
from apex.errors import BadRequest, Forbidden, NotAuthenticated, NotFound
from apex.query import DELETED, Query
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


@lru_cache(4096)
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
    """Require that a request names one organization: before list, create and custom methods.

    A list may name its records by their ids instead. Raises BadRequest.
    """
    if context.params.provider and context.method not in ON_RECORDS:
        _named_organization(context)


def _organizations_of_call(context: Context) -> list[int]:
    """Return the organization that a call names, or else all where the role of the caller allows the method.

    Raises Forbidden for an organization that the caller does not belong to, or where its role does not suffice.
    """
    mine: Mapping[int, str] = context.params["memberships"]
    sufficient = _sufficient(context)
    allowed = sorted([organization for organization, role in mine.items() if role in sufficient])
    organization = None if context.method in ON_RECORDS and context.id is not None else _named_organization(context)
    if organization is None:
        return allowed
    if organization not in allowed:
        raise forbidden(context, organization)
    return [organization]


def _organization_of_key(context: Context) -> list[int]:
    organization: int = context.params.authentication[ORGANIZATION_ID]
    if context.params.memberships[organization] not in _sufficient(context):
        raise forbidden(context, organization)
    return [organization]


tenancy = describe(errors=(403,))(limit_to_tenants(ORGANIZATION_ID, _organizations_of_call))
"""The hook that limits a call to organizations of its caller: before all methods, after ``membership``."""

tenancy_of_key = describe(errors=(403,))(limit_to_tenants(ORGANIZATION_ID, _organization_of_key))
"""The same hook for services that only API keys can call. The key names the organization."""


def _sufficient(context: Context) -> tuple[str, ...]:
    """Return the roles that allow the method of a call."""
    kind: Any = type(context.service.service)
    return _roles(kind, context.method, context.method in ("find", "restore") and _is_about_removed(context))


@lru_cache(1024)
def _roles(service: type, method: str, is_about_removed: bool) -> tuple[str, ...]:
    """Return the roles that allow a method, by the attributes of the service's class."""
    kind, usual = ("readers", "viewer") if method in getattr(service, "reads", READS) else ("writers", "member")
    if is_about_removed:
        kind, usual = "restorers", "admin"
    least_role = getattr(service, "least_roles", {}).get(method) or getattr(service, kind, usual)
    return ROLES[ROLES.index(least_role) :]


def _is_about_removed(context: Context) -> bool:
    """Return True for ``restore``, and for a list with ``$deleted``."""
    if context.method != "find":
        return context.method == "restore"
    query = context.params["query"]
    return bool((query.asked if isinstance(query, Query) else query).get(DELETED))


def forbidden(context: Context, organization: int) -> Forbidden:
    """Return the error for a caller whose role does not allow the method in an organization."""
    role = context.params.memberships.get(organization)
    if role is None:
        return Forbidden(f"You are not a member of organization {organization}")
    what = DELETED if context.method == "find" and _is_about_removed(context) else context.method
    return Forbidden(f"Your role in organization {organization} is {role}: it does not allow {what} here")


async def forbid_foreign(context: Context) -> None:
    """Raise Forbidden instead of NotFound for a record of another organization: an error hook."""
    allowed = context.params.scope.get(ORGANIZATION_ID)
    if not context.params.provider or not isinstance(context.error, NotFound) or context.id is None or allowed is None:
        return
    scope = {name: value for name, value in context.params.scope.items() if name != ORGANIZATION_ID}
    asked = Params({"query": {"$select": [ORGANIZATION_ID]}, "scope": scope})
    try:
        with tenant_context(ALL_TENANTS):
            row = await context.service.service.get(context.id, asked)
    except NotFound:
        return
    if row[ORGANIZATION_ID] in allowed:
        return
    if row[ORGANIZATION_ID] in context.params.memberships:
        raise forbidden(context, row[ORGANIZATION_ID])
    raise Forbidden(f"Record '{context.id}' belongs to an organization that you are not a member of")


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
        if context.method == "find" and _names_records(context):
            return None
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
