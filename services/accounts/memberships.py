"""Memberships: which users belong to which organizations, and in which role."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import bindparam, delete, select

from apex import Apex, Context, Hook, Params, Schema, SQLService, validate_data, validate_query
from apex.cache import Cache
from apex.common import iff, is_provider, populate, stash_before
from apex.describe import Example
from apex.errors import BadRequest, Conflict, Forbidden
from apex.hooks import ahead
from apex.rates import FailureLimit
from apex.schema import Email, Id, fields, validate
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row, items
from hooks.audit import audit
from hooks.ownership import organization_of
from hooks.selection import keep_whole, select_for_caller
from hooks.tenancy import (
    ORGANIZATION_ID,
    ROLES,
    RUNNING,
    caller,
    fill_organization,
    forbid_foreign,
    forbidden,
    least,
    membership,
    name_organization,
    one_or_many,
    tenancy,
)
from hooks.timestamps import timestamps
from hooks.transaction import transaction
from services.shared.audience import Audience, to_admins
from services.shared.examples import DEMO_ORGANIZATION
from services.shared.tenant import CALLER_HOOKS, IDEMPOTENCY, PERSON_FIELDS
from services.tables import answers, memberships, organizations, users

TOPIC = "user"
"""The topic of messages that tell the other processes whose memberships to read again."""

Roles = Mapping[int, str]

MISSES = {"caller": 10}
"""Unknown e-mail addresses that a caller may try to add in a minute."""

INVALID = "Invalid membership data"


class RoleSchema(Schema):
    role = fields.String(load_default="member", validate=validate.OneOf(ROLES))


class MemberSchema(RoleSchema):
    """A membership as callers create it."""

    create_only = ("organization_id", "email")

    organization_id = Id(required=True)
    email = Email(required=True, max=254, metadata={"example": "member@example.com"})


class MembershipSchema(RoleSchema):
    """A membership as calls inside the process create it."""

    organization_id = fields.Integer(required=True)
    user_id = fields.Integer(required=True)


class Memberships(SQLService):
    """The members of an organization and their roles."""

    table, schema, noun = memberships, MemberSchema, "membership"
    methods = ("find", "get", "create", "patch", "remove")
    # ``enforce_role`` has the rules for each role.
    readers = writers = "viewer"
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
        self.misses = FailureLimit("members", lambda: app.get("rates"), MISSES)
        app.bus.on(TOPIC, self.roles.forget)

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        self._of_user = self.database.compile(
            select(users.c.id, memberships.c.organization_id, memberships.c.role)
            .select_from(users.outerjoin(memberships, memberships.c.user_id == users.c.id))
            .where(users.c.id == bindparam("user_id", type_=users.c.id.type), users.c.deleted_at.is_(None))
        )

    async def of_user(self, user_id: int) -> Roles | None:
        """Return the user's role by organization, or None if there is no such user any more.

        It is remembered for less than a second. A change made here counts at once, and so it does in the other
        processes if there is a bus.
        """
        return await self.roles.get(user_id)

    def forget(self, user_id: int) -> None:
        """Read the user's memberships again, in all processes."""
        self.roles.forget(user_id)
        self.app.bus.send(TOPIC, user_id)

    async def hold(self, organization_id: int) -> None:
        """Let no other call change the members of an organization until the end of the unit of work."""
        locked = select(organizations.c.id).where(organizations.c.id == organization_id)
        await self.database.execute(locked.with_for_update(key_share=True))

    async def stored(self, **equal: Any) -> list[Row]:
        """Return the memberships with these values as they are stored now."""
        found: list[Row] = await self.find(Params({"query": equal, "paginate": False}))
        return found

    async def _read(self, user_id: int) -> Roles | None:
        rows = await self.database.fetch(self._of_user, {"user_id": user_id})
        if not rows:
            return None
        mine = {row["organization_id"]: row["role"] for row in rows if row["organization_id"] is not None}
        return MappingProxyType(mine)


def show_own(context: Context) -> None:
    """Let a list hold all members of the organizations that the caller runs, and elsewhere the caller alone."""
    params = context.params
    if params.provider:
        running = [organization for organization, role in params.memberships.items() if role in RUNNING]
        params.scope["$or"] = [{ORGANIZATION_ID: running}, {"user_id": params.user["id"]}]


def forbid_others(context: Context) -> None:
    """Refuse the membership of another user to a caller that does not run the organization, after get."""
    member, params = context.result, context.params
    if (
        params.provider
        and member["user_id"] != params.user["id"]
        and params.memberships[member[ORGANIZATION_ID]] not in RUNNING
    ):
        raise forbidden(context, member[ORGANIZATION_ID])


async def lock_members(context: Context) -> None:
    """Let no other call change the organization's members: before create, and before patch and remove of one."""
    if context.method == "create" or context.id is not None:
        await context.service.service.hold(await organization_of(context))


async def enforce_role(context: Context) -> None:
    """Before create, patch and remove, after ``lock_members`` and ``stash_before``: admins change whom they may change.

    They neither make owners nor change or remove them. Everybody may leave, and no API key leaves for its user: another
    one may have made it. Raises Forbidden, and Conflict where an organization would lose its last owner, also for calls
    inside the process.
    """
    if context.method != "create" and context.id is None:
        return  # The user or the organization is removed.
    params, before = context.params, {} if context.method == "create" else context.params.before
    organization = await organization_of(context)
    leaves = context.method == "remove" and _is_oneself(params, before["user_id"])
    role = None if context.method == "remove" else context.data.get("role", before.get("role"))
    if params.provider and not leaves:
        await _require_rank(context, organization, *filter(None, (before.get("role"), role)))
    if before.get("role") == "owner" != role:
        owners = await context.service.service.stored(organization_id=organization, role="owner")
        if len(owners) == 1:
            raise Conflict(f"Organization {organization} keeps an owner: make somebody else an owner first")


def _is_oneself(params: Params, user_id: int) -> bool:
    """Return True if a user calls itself, and not with an API key."""
    return bool(params.provider) and params.user["id"] == user_id and params.authentication.get("key_id") is None


async def _require_rank(context: Context, organization: int, *roles: str) -> None:
    """Raise Forbidden unless the caller is an admin, and has these roles itself, by what is stored at this moment."""
    params = context.params
    mine = await context.service.service.stored(organization_id=organization, user_id=params.user["id"])
    role = least(params.memberships[organization], *(row["role"] for row in mine)) if mine else None
    if role not in RUNNING:
        raise forbidden(context, organization)
    if any(least(role, other) != other for other in roles):
        raise Forbidden(f"Your role in organization {organization} is {role}: only owners make and change owners")


async def refuse_members(context: Context) -> None:
    """Before create, after ``name_user``: raises Conflict for a user who is a member already."""
    organization, user = context.data[ORGANIZATION_ID], context.data["user_id"]
    for mine in await context.service.service.stored(organization_id=organization, user_id=user):
        raise Conflict(
            f"The user is a member of organization {organization} already, with the role {mine['role']}:"
            f" change membership {mine['id']} instead",
            errors={"email": "Is a member already"},
        )


async def name_user(context: Context) -> None:
    """Find the user with the e-mail address, before create from outside.

    Raises BadRequest where there is none, and TooManyRequests for a caller who tries many addresses.
    """
    if not context.params.provider:
        return
    data = dict(context.data)
    email, who = data.pop("email").lower(), {"caller": str(context.params.user["id"])}
    misses: FailureLimit = context.service.service.misses
    await misses.admit(who)
    query = {"email": email, "$select": ["id"], "$limit": 1}
    with tenant_context(ALL_TENANTS):
        found = await context.app.service("users").find({"query": query, "paginate": False})
    if not found:
        await misses.fail(who)
        raise BadRequest(INVALID, errors={"email": "No user has this address"})
    context.data = {**data, "user_id": found[0]["id"]}


def end_memberships(key: str) -> Hook:
    """Remove the memberships of a user or organization, after it is removed."""

    async def end_memberships(context: Context) -> None:
        query, adapter = {key: context.result["id"]}, {"multi": ["remove"]}
        await context.app.service("memberships").remove(None, {"query": query, "adapter": adapter})

    return end_memberships


async def forget_answers(context: Context) -> None:
    """Delete the stored answers of a user after remove, as they may hold data of the organization."""
    for row in items(context.method, context.result):
        given = delete(answers).where(answers.c.caller == caller("jwt", row["user_id"]))
        with tenant_context(ALL_TENANTS):
            await context.app.get("database").execute(given)


def register(app: Apex) -> None:
    outside = validate_data({"create": MemberSchema, "patch": RoleSchema}, INVALID)
    inside = validate_data({"create": MembershipSchema, "patch": RoleSchema}, INVALID)
    checked = iff(is_provider("external"), outside).else_(inside)
    sealed: list[Hook] = [
        fill_organization,
        one_or_many,
        validate_query,
        checked,
        name_organization,
        membership,
        tenancy,
    ]
    named = iff(
        is_provider("external"), populate("user", service="users", key="user_id", fields=(*PERSON_FIELDS, "email"))
    )
    held = [lock_members, stash_before(), enforce_role]
    app.use(
        "memberships",
        Memberships(app, paginate=app.get("paginate")),
        hooks={
            "around": {
                "all": [*CALLER_HOOKS, ahead(*sealed), IDEMPOTENCY],
                **dict.fromkeys(("create", "patch", "remove"), transaction),
            },
            "before": {
                "find": [show_own],
                "get": [keep_whole()],
                "create": [keep_whole(), *held, name_user, refuse_members, timestamps],
                "patch": [keep_whole(), *held, timestamps],
                "remove": [keep_whole(), *held],
            },
            "after": {
                "find": [named],
                "get": [forbid_others, named, select_for_caller],
                "create": [audit, named, select_for_caller],
                "patch": [audit, named, select_for_caller],
                "remove": [audit, forget_answers, select_for_caller],
            },
            "error": {"all": [forbid_foreign]},
        },
    )
    bound = app.service("memberships")
    bound.publish(to_admins)
    for event in ("created", "patched", "removed"):
        bound.on(event, lambda row, context: bound.forget(row["user_id"]))
        app.service("users").on(event, lambda row, context: bound.forget(row["id"]))
    app.service("authentication").hooks({"after": {"create": [Audience(app).admit]}})
