"""Users: the people who may log in. Each sees and changes its own profile and password alone."""

from __future__ import annotations

from typing import Any

from apex import (
    Apex,
    AuthenticationService,
    Context,
    Next,
    Params,
    Schema,
    SQLService,
    authenticate,
    validate_data,
    validate_query,
)
from apex.common import iff, is_provider
from apex.describe import Example, describe
from apex.errors import BadRequest, Forbidden, MethodNotAllowed, NotAuthenticated
from apex.hooks import AnyHook, ahead
from apex.schema import Email, Password, Text, fields, validate
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from hooks.rate_limit import limit_rate
from hooks.soft_delete import soft_delete
from hooks.tenancy import membership
from hooks.timestamps import timestamps
from hooks.transaction import transaction
from services.accounts.memberships import end_memberships
from services.shared.examples import DEMO_PASSWORD
from services.tables import users

ME = "me"
"""The id by which callers name themselves."""

CHANGED = {
    "title": "PasswordChanged",
    "type": "object",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}


IMAGE = validate.Regexp(r"(https?:/)?/\S+\Z", error="Must be an http(s) URL or a path")


class ProfileSchema(Schema):
    """The part of a user that the user changes."""

    empty_is_null = True

    first_name = Text(required=True, max=100)
    last_name = Text(max=100, allow_none=True)
    avatar_url = Text(
        max=2048,
        allow_none=True,
        validate=IMAGE,
    )


class UserSchema(ProfileSchema):
    email = Email(required=True, max=254)
    password = Password()


class PasswordSchema(Schema):
    old_password = fields.String(required=True)
    password = Password(required=True)


class Users(SQLService):
    """The profile and the password of the caller."""

    table, schema, noun = users, ProfileSchema, "user"
    methods = ("get", "patch", "change_password")
    summaries = {"get": "Get your profile", "patch": "Change your profile", "change_password": "Change your password"}
    private = ("password", "uuid")
    examples = {
        "get": Example(ME),
        "patch": Example(ME, {"avatar_url": "https://example.com/me.png"}),
        "change_password": Example(data={"old_password": DEMO_PASSWORD, "password": "correct horse battery"}),
    }

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        self.app = app

    @describe(result=CHANGED, errors=(429,))
    async def change_password(self, data: Row, params: Params) -> Row:
        """Change the caller's password. All its logins end, this one too.

        Raises BadRequest for a wrong old password, which counts as a failed login, and TooManyRequests after several.
        """
        me, old = params.user["id"], data["old_password"]
        user = await self.get(me, Params({"scope": params.scope, "adapter": {"private": ()}}))
        if user["password"] is None:
            raise _wrong(old_password="You have no password yet: an administrator has to set the first one")
        authentication: AuthenticationService = self.app.get("defaultAuthentication")
        try:
            async with authentication.attempt(user["email"], params) as attempt:
                if not await authentication.passwords.verify(user["password"], old, attempt.parties, attempt.admit):
                    raise NotAuthenticated("Invalid login")
        except NotAuthenticated:
            raise _wrong(old_password="Is not your password") from None
        if data["password"] == old:
            raise _wrong(password="Must differ from the old one")
        await self.app.service("users").patch(me, {"password": data["password"]})
        return {"message": "Your password is changed. All your logins have ended, this one too: log in again"}


def _wrong(**errors: str) -> BadRequest:
    return BadRequest("Invalid password data", errors=errors)


@describe(methods=("get", "patch"), errors=(403,))
def note_login(context: Context) -> None:
    """Note in ``params.is_login`` the call by which a login shows its user, before ``authenticate``.

    It is no request of its own, and an API key may make it whatever services it is for.
    """
    context.params.is_login = bool(context.params.authenticated)


def is_request(context: Context) -> bool:
    return not context.params.is_login


def only_oneself(context: Context) -> None:
    """Let callers from outside reach themselves alone, by id or as ``me``: around all methods, after ``membership``.

    Raises Forbidden for all other ids, whether there is such a user or not.
    """
    params = context.params
    if not params.provider:
        return
    me = params.scope["id"] = params.user["id"]
    if context.method == "change_password":
        return
    if context.id is None:
        raise MethodNotAllowed(f"Can not {context.method} multiple entries")
    if str(context.id) not in (ME, str(me)):
        raise Forbidden("Other users are out of your reach")
    context.id = me


async def reach_oneself(context: Context, next: Next) -> None:
    """Reach the user whatever its organizations: around all methods, after ``only_oneself``."""
    with tenant_context(ALL_TENANTS):
        await next()


async def hash_password(context: Context) -> None:
    """Before create and patch: a password is stored as its hash."""
    password: Any = context.data.get("password")
    if password is not None:
        hashed = await context.app.get("defaultAuthentication").passwords.hash(password)
        context.data = {**context.data, "password": hashed}


def lower_email(context: Context) -> None:
    if "email" in context.data:
        context.data = {**context.data, "email": context.data["email"].lower()}


def register(app: Apex) -> None:
    message = "Invalid user data"
    outside = validate_data({"patch": ProfileSchema, "change_password": PasswordSchema}, message)
    checked = iff(is_provider("external"), outside).else_(validate_data(UserSchema, message))
    known = iff(lambda context: "memberships" not in (context.params.authentication or {}), membership)
    sealed = ahead(note_login, authenticate("jwt", entity=False), known, only_oneself, validate_query, checked)
    own: list[AnyHook] = [sealed, iff(is_request, limit_rate), reach_oneself]
    stored = [lower_email, hash_password, timestamps]
    app.use(
        "users",
        Users(),
        hooks={
            "around": {"get": own, "patch": own, "change_password": own, "remove": [transaction]},
            "before": {"all": [soft_delete], "create": [checked, *stored], "patch": stored},
            "after": {"remove": [end_memberships("user_id")]},
        },
    )
