"""Who belongs where: a caller reaches the rows of its own organizations, and no others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from apex import Context, Params
from apex.describe import describe
from apex.errors import BadRequest, Forbidden, NotAuthenticated, NotFound
from apex.query import DELETED, Query
from apex.query.coercion import integer
from apex.tenant import ALL_TENANTS, set_tenants, tenant_context, tenant_hook

ORGANIZATION_ID = "organization_id"
ON_RECORDS = ("get", "update", "patch", "remove")
NEEDED = "It may be left out with an API key, whose organization it is then, and where `id` or `id[$in]` is given."
READS = ("find", "get")
"""The methods that only read, of a service that names no others in ``reads``."""
ROLES = ("viewer", "member", "admin", "owner")
"""What a membership allows: each role all that the ones before it may."""

RUNNING = ("admin", "owner")
"""The roles that run an organization."""


def least(*roles: str) -> str:
    """Return the lowest of these roles."""
    return min(roles, key=ROLES.index)


async def membership(context: Context) -> None:
    """Before all methods: ``params.user`` has the caller's id, ``params.memberships`` its role by organization.

    Raises NotAuthenticated when the user is gone, or never was, and Forbidden for what an API key was not made for.
    """
    params = context.params
    if not params.get("provider"):
        return
    proof = params["authentication"]
    user_id = _user_id(proof["payload"]["sub"])
    if "memberships" in proof:  # An API key knows its own.
        memberships = proof["memberships"]
        _require_allowed(context, proof)
    else:
        memberships = None if user_id is None else await context.app.service("memberships").of_user(user_id)
    if memberships is None:
        raise NotAuthenticated("The user of this token no longer exists")
    params["user"], params["memberships"] = {"id": user_id}, memberships


def _require_allowed(context: Context, proof: Mapping[str, Any]) -> None:
    """Raise Forbidden for a call that a key was not made for: a write, or a service that it does not name.

    A service that is ``guarded`` takes writes only with keys that name it, and not with the text before a rotation:
    its worth ends with the grace, so it makes nothing that lasts longer.
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


def caller_of(context: Context) -> str:
    """After ``authenticate``: who calls, by the proof: another token of the same user is the same caller."""
    proof: Any = context.params.authentication
    return caller(proof["strategy"], proof.get("key_id") or proof["payload"]["sub"])


def caller(strategy: str, subject: Any) -> str:
    """How answers name who asked: by the strategy, and the user or the key that it proves."""
    return f"{strategy} {subject}"


def _user_id(subject: Any) -> int | None:
    try:
        return integer(subject)
    except ValueError:
        return None


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
def name_organization(context: Context) -> None:
    """Require the one organization that a request is about: before list, create and custom methods.

    A list may name its records by their ids instead.
    """
    if context.params.provider and context.method not in ON_RECORDS:
        _named(context)


def one_or_many(context: Context) -> None:
    """Before all methods: raises MethodNotAllowed for many rows at once where the service takes one."""
    many = isinstance(context.data, list) if context.method == "create" else context.id is None
    if many and context.method in ("create", "patch", "remove"):
        context.service.require_multi(context.method, context.params)


@tenant_hook
@describe(errors=(403,))
def tenancy(context: Context) -> None:
    """Before all methods, after ``membership``: puts the organizations that count for this call into the scope: those
    where the caller's role allows the method.

    Raises Forbidden for an organization that the caller does not belong to, or where its role does not suffice.
    """
    params = context.params
    if not params.get("provider"):
        return
    mine: Mapping[int, str] = params["memberships"]
    enough = _sufficient(context)
    allowed = sorted([organization for organization, role in mine.items() if role in enough])
    organization = None if context.method in ON_RECORDS and context.id is not None else _named(context)
    if organization is not None:
        _hold(context, organization, allowed)
        return
    params["scope"][ORGANIZATION_ID] = allowed
    set_tenants(allowed)


@tenant_hook
@describe(errors=(403,))
def tenancy_of_key(context: Context) -> None:
    """Before all methods, after ``membership``: what ``tenancy`` does, where all callers have an API key. Nothing names
    the organization but the key.
    """
    if context.params.provider:
        organization: int = context.params.authentication[ORGANIZATION_ID]
        role = context.params.memberships[organization]
        _hold(context, organization, [organization] if role in _sufficient(context) else [])


def _hold(context: Context, organization: int, allowed: Collection[int]) -> None:
    if organization not in allowed:
        raise forbidden(context, organization)
    context.params.scope[ORGANIZATION_ID] = [organization]
    set_tenants([organization])


def _sufficient(context: Context) -> tuple[str, ...]:
    """Return the roles that allow the method."""
    kind: Any = type(context.service.service)
    return _roles(kind, context.method, _is_about_removed(context))


@lru_cache(1024)
def _roles(service: type, method: str, is_about_removed: bool) -> tuple[str, ...]:
    """Return the roles that allow a method. The class of the service says which."""
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
    """On error: a record that is there, but in an organization of others, is forbidden instead of not found."""
    allowed = context.params.scope.get(ORGANIZATION_ID)
    if not context.params.provider or not isinstance(context.error, NotFound) or context.id is None or allowed is None:
        return
    scope = {name: value for name, value in context.params.scope.items() if name != ORGANIZATION_ID}
    try:
        with tenant_context(ALL_TENANTS):
            row = await context.service.service.get(
                context.id, Params({"query": {"$select": [ORGANIZATION_ID]}, "scope": scope})
            )
    except NotFound:
        return
    if row[ORGANIZATION_ID] in allowed:
        return
    if row[ORGANIZATION_ID] in context.params.memberships:
        raise forbidden(context, row[ORGANIZATION_ID])
    raise Forbidden(f"Record '{context.id}' belongs to an organization that you are not a member of")


def _named(context: Context) -> int | None:
    """Return the organization that a request names, or None for a list that names its records instead."""
    sources: Any = [context.params.query] if context.method in ("find", *ON_RECORDS) else context.items
    organizations = [source.get(ORGANIZATION_ID) for source in sources]
    if None in organizations or not organizations:
        if context.method == "find" and _is_by_ids(context):
            return None
        raise _wrong("is required")
    organization = organizations[0]
    if not isinstance(organization, int) or any(other != organization for other in organizations):
        raise _wrong("must be the id of one organization")
    return organization


def _is_by_ids(context: Context) -> bool:
    """Return True if a list asks for ``id=5`` or ``id[$in]=...``, and for no custom field.

    Custom fields need an organization, which has defined them.
    """
    query: Any = context.params.query
    asked = query.get(context.service.id)
    by_ids = isinstance(asked, int) or (isinstance(asked, Mapping) and "$in" in asked)
    return by_ids and ORGANIZATION_ID not in query and not query.paths


def _wrong(rule: str) -> BadRequest:
    return BadRequest(f"{ORGANIZATION_ID} {rule}", errors={ORGANIZATION_ID: rule[:1].upper() + rule[1:]})
