"""Users and their memberships: who may log in, and to which organizations they belong. Internal services."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import bindparam, delete, select

from apex import Apex, Context, Schema, SQLService, validate_data
from apex.common import stash_before
from apex.fresh import Fresh
from apex.hooks import Hook
from apex.items import items
from apex.schema import Email, Password, Text, fields, validate
from hooks.audit import audit
from hooks.soft_delete import soft_delete
from hooks.tenancy import ROLES, caller
from hooks.timestamps import timestamps
from hooks.transaction import transaction
from services.tables import answers, memberships, users

TOPIC = "user"
"""Of the messages that tell the other processes whose memberships to read again."""

Roles = Mapping[int, str]


class UserSchema(Schema):
    email = Email(required=True, max=254)
    password = Password()
    first_name = Text(required=True, max=100)
    last_name = Text(max=100, allow_none=True)
    avatar_url = Text(max=2048, allow_none=True)


class Users(SQLService):
    table = users
    methods = ()
    private = ("password", "uuid")


class MembershipSchema(Schema):
    organization_id = fields.Integer(required=True)
    user_id = fields.Integer(required=True)
    role = fields.String(load_default="member", validate=validate.OneOf(ROLES))


class Memberships(SQLService):
    table = memberships
    methods = ()
    multi = ("remove",)

    def __init__(self, app: Apex) -> None:
        super().__init__()
        self.app = app
        self.roles: Fresh[int, Roles] = Fresh(self._read)
        app.bus.on(TOPIC, self.roles.forget)

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        self._of_user = self.database.compile(
            select(users.c.id, memberships.c.organization_id, memberships.c.role)
            .select_from(users.outerjoin(memberships, memberships.c.user_id == users.c.id))
            .where(users.c.id == bindparam("user_id", type_=users.c.id.type), users.c.deleted_at.is_(None))
        )

    async def of_user(self, user_id: int) -> Roles | None:
        """The user's role by organization; None when there is no such user any more.

        Remembered for less than a second; what is written here counts at once, and so it does in the other processes
        where there is a bus.
        """
        return await self.roles.get(user_id)

    def forget(self, user_id: int) -> None:
        """Reads the user's memberships again, in all processes."""
        self.roles.forget(user_id)
        self.app.bus.send(TOPIC, user_id)

    async def _read(self, user_id: int) -> Roles | None:
        rows = await self.database.fetch(self._of_user, {"user_id": user_id})
        if not rows:
            return None
        mine = {row["organization_id"]: row["role"] for row in rows if row["organization_id"] is not None}
        return MappingProxyType(mine)


async def hash_password(context: Context) -> None:
    """Before create and patch: a password is stored as its hash."""
    password: Any = context.data.get("password")
    if password is not None:
        hashed = await context.app.get("defaultAuthentication").passwords.hash(password)
        context.data = {**context.data, "password": hashed}


def lower_email(context: Context) -> None:
    if "email" in context.data:
        context.data = {**context.data, "email": context.data["email"].lower()}


def end_memberships(key: str) -> Hook:
    """After remove: the memberships of the user or organization that is gone end with it."""

    async def end_memberships(context: Context) -> None:
        await context.app.service("memberships").remove(None, {"query": {key: context.result["id"]}})

    return end_memberships


async def forget_answers(context: Context) -> None:
    """After remove: what was answered to the user's writes is not answered again, as it may be the organization's."""
    for row in items(context.method, context.result):
        given = delete(answers).where(answers.c.caller == caller("jwt", row["user_id"]))
        await context.app.get("database").execute(given)


def register(app: Apex) -> None:
    checked = [validate_data(UserSchema, "Invalid user data"), lower_email, hash_password, timestamps]
    before = {"all": [soft_delete], "create": checked, "patch": checked}
    after = {"remove": [end_memberships("user_id")]}
    app.use("users", Users(), hooks={"around": {"remove": [transaction]}, "before": before, "after": after})
    written = ("create", "patch", "remove")
    service = Memberships(app)
    app.use(
        "memberships",
        service,
        hooks={
            "around": dict.fromkeys(written, transaction),
            "before": {
                "create": [validate_data(MembershipSchema, "Invalid membership data"), timestamps],
                "patch": [stash_before()],
                "remove": [stash_before()],
            },
            "after": {"create": [audit], "patch": [audit], "remove": [audit, forget_answers]},
        },
    )
    for event in ("created", "patched", "removed"):
        app.service("memberships").on(event, lambda row, context: service.forget(row["user_id"]))
        app.service("users").on(event, lambda row, context: service.forget(row["id"]))
