"""Organizations, which are the tenants, and their users. A caller sees the organizations of which it is a member."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Table, select

from apex import Apex, Context, SQLService, validate_query
from apex.common import limit_to_tenants, stash_before, transaction
from apex.describe import Example, describe
from apex.errors import Forbidden
from apex.permissions import authorize, can
from apex.query.coercion import text
from hooks.audit import audit
from hooks.records import soft_delete, timestamps
from hooks.search_forms import normalise
from hooks.tenancy import ORGANIZATION_ID, membership
from services.accounts.memberships import end_memberships
from services.shared.examples import DEMO_ORGANIZATION
from services.shared.tenant import CALLER_AND_IDEMPOTENCY, MethodHooks
from services.tables import memberships, organizations, users

SHORTEST_TERM, LONGEST_TERM = 2, 200

u, m = users.c, memberships.c
members = (
    select(u.id, u.first_name, u.last_name, u.email, m.role, m.organization_id)
    .join_from(memberships, users, m.user_id == u.id)
    .where(u.deleted_at.is_(None))
    .subquery("members")
)


@describe(result={"type": "string", "minLength": SHORTEST_TERM, "maxLength": LONGEST_TERM})
def term(value: Any) -> str:
    """Return a search term in the normalised form of names. Raises ValueError if it is too short or too long."""
    normalised = normalise(text(value))
    if not SHORTEST_TERM <= len(normalised) <= LONGEST_TERM:
        raise ValueError(f"must have {SHORTEST_TERM} to {LONGEST_TERM} characters")
    return normalised


class Organizations(SQLService):
    """The organizations of the caller."""

    table = organizations
    noun = "organization"
    methods = ("find", "get")
    permissions = {"user": can("find", "get")}
    private = ("uuid", "deleted_at", "rate_limit", "rate_window", "webhook_secret", "strict_custom_fields")
    filters = {"searchTerm": term}
    examples = {"find": Example(query={"searchTerm": "example"}), "get": Example(DEMO_ORGANIZATION)}


class Members(SQLService):
    """The users of an organization. Its table is a query, so it can only be read."""

    table = cast(Table, members)
    noun = "member"
    methods = ("find",)
    permissions = {"user": can("find")}
    private = (ORGANIZATION_ID,)
    examples = {"find": Example(query={"$sort": {"first_name": 1}}, route={ORGANIZATION_ID: DEMO_ORGANIZATION})}


limit_to_members = limit_to_tenants("id", lambda context: sorted(context.params.memberships))
"""The hook that limits a call to the organizations of which the caller is a member. It runs before all methods."""


async def search_names(context: Context) -> None:
    """Limit a list to the organizations with ``searchTerm`` in their name. Runs before find.

    All names are compared in Python, because a caller has few organizations.
    """
    term = context.params.query.get("searchTerm")
    if term is not None:
        params = {"query": {"$select": ["name"]}, "scope": context.params.scope, "paginate": False}
        found = await context.service.find(params)
        context.params.scope["id"] = [row["id"] for row in found if term in normalise(row["name"])]


def _organization_in_path(context: Context) -> int:
    """Return the organization in the path.

    Raises NotFound if the path has no id, and Forbidden if the caller is not a member.
    """
    organization: int = context.app.service("organizations").typed_id(context.params.route[ORGANIZATION_ID])
    _require_member(context, organization)
    return organization


limit_to_route = describe(errors=(403,))(limit_to_tenants(ORGANIZATION_ID, _organization_in_path))
"""The hook that limits a list to the organization in the path. It runs before find."""


@describe(errors=(403,))
def require_membership(context: Context) -> None:
    """Raise Forbidden if the caller is not a member, whether the organization exists or not. Runs before get."""
    _require_member(context, context.id)


def _require_member(context: Context, organization: Any) -> None:
    if context.params.provider and organization not in context.params.memberships:
        raise Forbidden(f"You are not a member of organization {organization}")


def register(app: Apex) -> None:
    """Register the services ``organizations`` and ``organizations/:organization_id/users``."""
    hooks: MethodHooks = {
        "around": {
            "all": CALLER_AND_IDEMPOTENCY,
            "create": [transaction],
            "patch": [transaction],
            "remove": [transaction],
        },
        "before": {
            "all": [validate_query, membership, authorize, limit_to_members, soft_delete],
            "find": [search_names],
            "get": [require_membership],
            "create": [timestamps],
            "patch": [stash_before(), timestamps],
        },
        "after": {"create": [audit], "patch": [audit], "remove": [audit, end_memberships("organization_id")]},
    }
    app.use("organizations", Organizations(paginate=app.get("paginate")), hooks=hooks)
    hooks = {
        "around": {"all": CALLER_AND_IDEMPOTENCY},
        "before": {"find": [validate_query, membership, authorize, limit_to_route]},
    }
    app.use(f"organizations/:{ORGANIZATION_ID}/users", Members(paginate=app.get("paginate")), hooks=hooks)
