"""Users, who may log in. A user sees and changes only its own profile and password."""

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
from apex.common import iff, is_provider, transaction
from apex.describe import Example, describe
from apex.errors import BadRequest, Forbidden, MethodNotAllowed, NotAuthenticated
from apex.hooks import AnyHook, run_before
from apex.permissions import authorize, can, mine
from apex.schema import EmailField, PasswordField, TextField, fields, validate
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from hooks.rate_limit import limit_rate
from hooks.records import soft_delete, timestamps
from hooks.tenancy import membership
from services.accounts.memberships import end_memberships
from services.shared.examples import DEMO_PASSWORD
from services.tables import users

ME = "me"
"""The id with which callers name themselves."""

PASSWORD_CHANGED = {
    "title": "PasswordChanged",
    "type": "object",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}


IMAGE = validate.Regexp(r"(https?:/)?/\S+\Z", error="Must be an http(s) URL or a path")


class ProfileSchema(Schema):
    """The fields that a user may change itself."""

    empty_is_null = True

    first_name = TextField(required=True, max=100)
    last_name = TextField(max=100, allow_none=True)
    avatar_url = TextField(max=2048, allow_none=True, validate=IMAGE)


class UserSchema(ProfileSchema):
    """A user as commands and other calls inside the process create it."""

    email = EmailField(required=True, max=254)
    password = PasswordField()


class PasswordSchema(Schema):
    """The data of ``change_password``."""

    old_password = fields.String(required=True)
    password = PasswordField(required=True)


class Users(SQLService):
    """The profile and the password of the caller."""

    table, schema, noun = users, ProfileSchema, "user"
    methods = ("get", "patch", "change_password")
    summaries = {"get": "Get your profile", "patch": "Change your profile", "change_password": "Change your password"}
    permissions = {"user": can("get", "patch", "change_password", where=mine("id"))}
    private = ("password", "uuid")
    examples = {
        "get": Example(ME),
        "patch": Example(ME, {"avatar_url": "https://example.com/me.png"}),
        "change_password": Example(data={"old_password": DEMO_PASSWORD, "password": "correct horse battery"}),
    }

    async def setup(self, app: Apex, path: str) -> None:
        """Keep the app, for ``change_password``."""
        await super().setup(app, path)
        self.app = app

    @describe(result=PASSWORD_CHANGED, errors=(429,))
    async def change_password(self, data: Row, params: Params) -> Row:
        """Change the caller's password. All its logins end, including the one of this call.

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
def mark_login(context: Context) -> None:
    """Set ``params.is_login`` in the call that reads the user of a login. Runs before ``authenticate``.

    Such a call does not count as a request, and any API key may make it.
    """
    context.params.is_login = bool(context.params.authenticated)


def is_request(context: Context) -> bool:
    """Return True unless the call reads the user of a login."""
    return not context.params.is_login


def limit_to_self(context: Context) -> None:
    """Let a caller from outside name its own user, by id or as ``me``. Runs around all methods, after ``authorize``.

    Raises Forbidden for all other ids, whether there is such a user or not.
    """
    params = context.params
    if not params.provider:
        return
    me = params.user["id"]
    if context.method == "change_password":
        return
    if context.id is None:
        raise MethodNotAllowed(f"Can not {context.method} multiple entries")
    if str(context.id) not in (ME, str(me)):
        raise Forbidden("Other users are out of your reach")
    context.id = me


async def ignore_tenants(context: Context, next: Next) -> None:
    """Let statements read the user whatever its organizations are. Runs around all methods, after ``limit_to_self``."""
    with tenant_context(ALL_TENANTS):
        await next()


async def hash_password(context: Context) -> None:
    """Replace a password by its hash. Runs before create and patch."""
    password: Any = context.data.get("password")
    if password is not None:
        hashed = await context.app.get("defaultAuthentication").passwords.hash(password)
        context.data = {**context.data, "password": hashed}


def lower_email(context: Context) -> None:
    """Store the e-mail address in lower case. Runs before create and patch."""
    if "email" in context.data:
        context.data = {**context.data, "email": context.data["email"].lower()}


def register(app: Apex) -> None:
    """Register the service ``users``."""
    message = "Invalid user data"
    outside = validate_data({"patch": ProfileSchema, "change_password": PasswordSchema}, message)
    check_data = iff(is_provider("external"), outside).else_(validate_data(UserSchema, message))
    # A login with an API key reads the user of the key, even if the key is for other services.
    require_member = iff(lambda context: "memberships" not in (context.params.authentication or {}), membership)
    check = run_before(
        mark_login,
        authenticate("jwt", entity=False),
        require_member,
        authorize,
        limit_to_self,
        validate_query,
        check_data,
    )
    around: list[AnyHook] = [check, iff(is_request, limit_rate), ignore_tenants]
    app.use(
        "users",
        Users(),
        hooks={
            "around": {"get": around, "patch": around, "change_password": around, "remove": [transaction]},
            "before": {
                "all": [soft_delete],
                "create": [check_data, lower_email, hash_password, timestamps],
                "patch": [lower_email, hash_password, timestamps],
            },
            "after": {"remove": [end_memberships("user_id")]},
        },
    )
