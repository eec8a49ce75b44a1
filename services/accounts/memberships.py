"""Memberships: the organizations of each user, and its role in each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import bindparam, delete, select

from apex import Apex, Context, Hook, Params, Schema, SQLService, validate_data, validate_query
from apex.cache import Cache
from apex.common import apply_select, check_multi, defer_select, iff, is_provider, populate, stash_before, transaction
from apex.describe import Example
from apex.errors import BadRequest, Conflict, Forbidden
from apex.hooks import run_before
from apex.limits import FailureLimit
from apex.permissions import authorize, can
from apex.schema import EmailField, IdField, fields, validate
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row, items
from hooks.audit import audit
from hooks.records import timestamps
from hooks.roles import ROLES, RUNNING, least
from hooks.tenancy import (
    ORGANIZATION_ID,
    caller,
    fill_organization,
    forbid_foreign,
    forbidden,
    membership,
    organization_of,
    require_organization,
)
from services.shared.audience import Audience, to_admins
from services.shared.examples import DEMO_ORGANIZATION
from services.shared.tenant import CALLER_HOOKS, IDEMPOTENCY, PERSON_FIELDS
from services.tables import answers, memberships, organizations, users

Roles = Mapping[int, str]
"""A user's role by the id of the organization."""

UNKNOWN_ADDRESSES = {"caller": 10}
"""Number of unknown e-mail addresses that a caller may try to add in a minute."""

INVALID = "Invalid membership data"


class RoleSchema(Schema):
    """The role of a membership."""

    role = fields.String(load_default="member", validate=validate.OneOf(ROLES))


class MemberSchema(RoleSchema):
    """A membership as callers create it."""

    create_only = ("organization_id", "email")

    organization_id = IdField(required=True)
    email = EmailField(required=True, max=254, metadata={"example": "member@example.com"})


class MembershipSchema(RoleSchema):
    """A membership as calls inside the process create it."""

    organization_id = fields.Integer(required=True)
    user_id = fields.Integer(required=True)


class Memberships(SQLService):
    """The members of an organization and their roles."""

    table, schema, noun = memberships, MemberSchema, "membership"
    methods = ("find", "get", "create", "patch", "remove")
    # ``enforce_role`` has the rules for changes.
    permissions = {"viewer": can("find", "get", "create", "patch", "remove")}
    guarded = True
    summaries = {"create": "Add a member"}
    examples = {
        "create": Example(data={ORGANIZATION_ID: DEMO_ORGANIZATION, "email": "other@example.com", "role": "viewer"}),
        "find": Example(query={ORGANIZATION_ID: DEMO_ORGANIZATION, "$limit": 2}),
        "get": Example(2),
        "patch": Example(2, {"role": "viewer"}),
        "remove": Example(2),
    }

    def __init__(self, app: Apex, **options: Any) -> None:
        super().__init__(json=False, **options)
        self.app = app
        self.roles: Cache[int, Roles] = Cache(self._read)
        self.of_user = self.roles.get
        """Return a user's role by organization, or None if the user does not exist.

        The roles are cached until a membership of the user changes. While the log cannot be read, they are cached for
        less than a second.
        """
        self.unknown_addresses = FailureLimit("members", lambda: app.get("rates"), UNKNOWN_ADDRESSES)

    async def setup(self, app: Apex, path: str) -> None:
        """Prepare the statement that reads the roles of a user."""
        await super().setup(app, path)
        self._of_user = self.database.compile(
            select(users.c.id, memberships.c.organization_id, memberships.c.role)
            .select_from(users.outerjoin(memberships, memberships.c.user_id == users.c.id))
            .where(users.c.id == bindparam("user_id", type_=users.c.id.type), users.c.deleted_at.is_(None))
        )

    async def lock(self, organization_id: int) -> None:
        """Let no other call change the members of an organization until the transaction ends."""
        row = select(organizations.c.id).where(organizations.c.id == organization_id)
        await self.database.execute(row.with_for_update(key_share=True))

    async def find_stored(self, **equal: Any) -> list[Row]:
        """Return the memberships with these values from the database, without a cache."""
        found: list[Row] = await self.find(Params({"query": equal, "paginate": False}))
        return found

    async def _read(self, user_id: int) -> Roles | None:
        rows = await self.database.fetch(self._of_user, {"user_id": user_id})
        if not rows:
            return None
        roles = {row["organization_id"]: row["role"] for row in rows if row["organization_id"] is not None}
        return MappingProxyType(roles)


def limit_to_own(context: Context) -> None:
    """Limit a list to all members of the organizations that the caller runs, and elsewhere to the caller itself.

    Runs before find.
    """
    params = context.params
    if params.provider:
        running = [organization for organization, role in params.memberships.items() if role in RUNNING]
        params.scope["$or"] = [{ORGANIZATION_ID: running}, {"user_id": params.user["id"]}]


def forbid_others(context: Context) -> None:
    """Raise Forbidden for the membership of another user, unless the caller runs the organization. Runs after get."""
    member, params = context.result, context.params
    if (
        params.provider
        and member["user_id"] != params.user["id"]
        and params.memberships[member[ORGANIZATION_ID]] not in RUNNING
    ):
        raise forbidden(context, member[ORGANIZATION_ID])


async def lock_members(context: Context) -> None:
    """Let no other call change the organization's members until the transaction ends.

    Runs before create, and before patch and remove of one membership.
    """
    if context.method == "create" or context.id is not None:
        await context.service.service.lock(await organization_of(context))


async def enforce_role(context: Context) -> None:
    """Enforce which memberships a caller may change. Runs before create, patch and remove, after ``lock_members``.

    Only admins and owners change memberships, and only owners those of owners. A user may end its own membership, but
    an API key may not end that of its user, because another user may have created the key. Raises Forbidden. Raises
    Conflict, for calls inside the process too, if an organization would lose its last owner.
    """
    if context.method != "create" and context.id is None:
        return  # The user or the organization itself is removed.
    params, before = context.params, {} if context.method == "create" else context.params.before
    organization = await organization_of(context)
    is_leaving = context.method == "remove" and _is_own_user(params, before["user_id"])
    role = None if context.method == "remove" else context.data.get("role", before.get("role"))
    if params.provider and not is_leaving:
        await _require_rank(context, organization, *filter(None, (before.get("role"), role)))
    if before.get("role") == "owner" != role:
        owners = await context.service.service.find_stored(organization_id=organization, role="owner")
        if len(owners) == 1:
            raise Conflict(f"Organization {organization} keeps an owner: make somebody else an owner first")


def _is_own_user(params: Params, user_id: int) -> bool:
    """Return True if the caller is this user and does not call with an API key."""
    return bool(params.provider) and params.user["id"] == user_id and params.authentication.get("key_id") is None


async def _require_rank(context: Context, organization: int, *roles: str) -> None:
    """Raise Forbidden unless the caller is an admin or owner, and has these roles itself.

    The role is read from the database, because the cached one may be a moment old.
    """
    params = context.params
    stored = await context.service.service.find_stored(organization_id=organization, user_id=params.user["id"])
    role = least(params.memberships[organization], *(row["role"] for row in stored)) if stored else None
    if role not in RUNNING:
        raise forbidden(context, organization)
    if any(least(role, other) != other for other in roles):
        raise Forbidden(f"Your role in organization {organization} is {role}: only owners make and change owners")


async def refuse_members(context: Context) -> None:
    """Raise Conflict for a user who is a member already. Runs before create, after ``replace_email``."""
    organization, user = context.data[ORGANIZATION_ID], context.data["user_id"]
    for existing in await context.service.service.find_stored(organization_id=organization, user_id=user):
        raise Conflict(
            f"The user is a member of organization {organization} already, with the role {existing['role']}:"
            f" change membership {existing['id']} instead",
            errors={"email": "Is a member already"},
        )


async def replace_email(context: Context) -> None:
    """Replace the e-mail address by the id of its user. Runs before create, for calls from outside.

    Raises BadRequest if there is no such user, and TooManyRequests for a caller that tries many unknown addresses.
    """
    if not context.params.provider:
        return
    data = dict(context.data)
    email, caller_key = data.pop("email").lower(), {"caller": str(context.params.user["id"])}
    limit: FailureLimit = context.service.service.unknown_addresses
    await limit.admit(caller_key)
    query = {"email": email, "$select": ["id"], "$limit": 1}
    with tenant_context(ALL_TENANTS):
        found = await context.app.service("users").find({"query": query, "paginate": False})
    if not found:
        await limit.fail(caller_key)
        raise BadRequest(INVALID, errors={"email": "No user has this address"})
    context.data = {**data, "user_id": found[0]["id"]}


def end_memberships(key: str) -> Hook:
    """Return a hook that removes the memberships of a user or an organization after it is removed.

    ``key`` is the column that refers to it.
    """

    async def end_memberships(context: Context) -> None:
        query, adapter = {key: context.result["id"]}, {"multi": ["remove"]}
        await context.app.service("memberships").remove(None, {"query": query, "adapter": adapter})

    return end_memberships


async def forget_answers(context: Context) -> None:
    """Delete the stored answers of a user, which may have data of the organization. Runs after remove."""
    for row in items(context.method, context.result):
        statement = delete(answers).where(answers.c.caller == caller("jwt", row["user_id"]))
        with tenant_context(ALL_TENANTS):
            await context.app.get("database").execute(statement)


def register(app: Apex) -> None:
    """Register the service ``memberships``, and keep caches and connections up to date with it."""
    outside = validate_data({"create": MemberSchema, "patch": RoleSchema}, INVALID)
    inside = validate_data({"create": MembershipSchema, "patch": RoleSchema}, INVALID)
    check_data = iff(is_provider("external"), outside).else_(inside)
    # These look at the request alone, so a call that is refused takes no connection to the database.
    check = run_before(
        fill_organization, check_multi, validate_query, check_data, require_organization, membership, authorize
    )
    add_user = iff(
        is_provider("external"), populate("user", service="users", key="user_id", fields=(*PERSON_FIELDS, "email"))
    )
    app.use(
        "memberships",
        Memberships(app, paginate=app.get("paginate")),
        hooks={
            "around": {
                "all": [*CALLER_HOOKS, forbid_foreign, check, IDEMPOTENCY],
                **dict.fromkeys(("create", "patch", "remove"), transaction),
            },
            "before": {
                "find": [limit_to_own],
                "get": [defer_select()],
                "create": [
                    defer_select(),
                    lock_members,
                    stash_before(),
                    enforce_role,
                    replace_email,
                    refuse_members,
                    timestamps,
                ],
                "patch": [defer_select(), lock_members, stash_before(), enforce_role, timestamps],
                "remove": [defer_select(), lock_members, stash_before(), enforce_role],
            },
            "after": {
                "find": [add_user],
                "get": [forbid_others, add_user, apply_select],
                "create": [audit, add_user, apply_select],
                "patch": [audit, add_user, apply_select],
                "remove": [audit, forget_answers, apply_select],
            },
        },
    )
    bound = app.service("memberships")
    bound.publish(to_admins)
    bound.service.roles.follow(app, "memberships", lambda row: row["user_id"])
    bound.service.roles.follow(app, "users", lambda row: row["id"])
    app.service("authentication").hooks({"after": {"create": [Audience(app).admit]}})
