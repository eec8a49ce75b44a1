"""Users, who sign up themselves, and their logins: with a password, or with a token of their own for scripts."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from apex import (
    Apex,
    AuthenticationService,
    JWTStrategy,
    LocalStrategy,
    Params,
    SQLService,
    TableSchema,
    authenticate,
    validate_data,
    validate_query,
)
from apex.auth import hash_password
from apex.common import idempotent, limit_rate, lower_case
from apex.errors import NotAuthenticated
from apex.hooks import AnyHook, Hook
from apex.permissions import authorize, can, mine
from apex.schema import EmailField, PasswordField
from services.tables import answers, revoked_tokens, users

LOGGED_IN: list[AnyHook] = [authenticate("jwt", "token"), limit_rate(), authorize, idempotent(answers)]
"""Around hooks: they ask for a login, limit its rate, ask the permissions, and make a repeated write once."""


class ScriptTokens:
    """The login strategy of scripts: the header ``X-Token`` with the id of a user and a signature of it."""

    scheme = {"type": "apiKey", "in": "header", "name": "x-token"}

    def __init__(self, app: Apex) -> None:
        self.app = app

    def token(self, user_id: int) -> str:
        """Return the token of a user."""
        secret = str(self.app.get("authentication")["secret"]).encode()
        return f"{user_id}.{hmac.new(secret, f'token {user_id}'.encode(), hashlib.sha256).hexdigest()}"

    def parse(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the proof in the headers of a request, or None."""
        return {"strategy": "token", "token": headers["x-token"]} if "x-token" in headers else None

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        """Return the user of a proof. Raises NotAuthenticated."""
        token = str(authentication.get("token"))
        user_id = token.partition(".")[0]
        if not user_id.isdecimal() or not hmac.compare_digest(token.encode(), self.token(int(user_id)).encode()):
            raise NotAuthenticated("Wrong token")
        user = await self.app.service("users").find({"query": {"id": int(user_id)}, "paginate": False})
        if not user:
            raise NotAuthenticated("The user of this token no longer exists")
        return {"authentication": {"strategy": "token"}, "user": user[0]}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        """Return the user of a proof that is sent as a login."""
        return await self.verify(authentication)


class Users(SQLService):
    """The users. Each sees and changes only itself."""

    table, private = users, ("password",)
    methods = ("get", "create", "patch", "remove", "token")
    permissions = {
        "anyone": can("create"),
        "user": can("token"),
        "self": can("get", "patch", "remove", where=mine("id")),
    }

    async def token(self, data: Any, params: Params) -> dict[str, str]:
        """Return the token of the caller for scripts."""
        return {"token": self.tokens.token(params.user["id"])}

    def __init__(self, app: Apex) -> None:
        super().__init__()
        self.tokens = ScriptTokens(app)


def register(app: Apex) -> None:
    """Register the services of users, and the logins."""
    authentication = AuthenticationService(app, revocations=revoked_tokens)
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    authentication.register("token", ScriptTokens(app))
    app.use("authentication", authentication)
    schema = TableSchema.of(
        users, email=EmailField(required=True, max=254), password=PasswordField(required=True)
    )  # fmt: skip
    open_to_all: list[AnyHook] = [limit_rate(), authorize]
    checked: list[Hook] = [validate_data(schema, "Invalid user"), lower_case("email"), hash_password()]
    app.use("users", Users(app), hooks={
        "around": {
            "create": open_to_all,
            "get": LOGGED_IN, "patch": LOGGED_IN, "remove": LOGGED_IN, "token": LOGGED_IN,
        },
        "before": {"all": [validate_query], "create": checked, "patch": checked},
    })  # fmt: skip
    app.service("users").publish(lambda data, context: None)
