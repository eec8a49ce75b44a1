"""Login and logout."""

from __future__ import annotations

from typing import Any

from apex import Apex, AuthenticationService, Context, JWTStrategy, LocalStrategy, SQLService
from apex.describe import Example, describe
from services.shared.examples import DEMO_EMAIL, DEMO_PASSWORD
from services.tables import revoked_tokens


class RevokedTokens(SQLService):
    """The tokens that were logged out and have not expired. They stay revoked after a restart."""

    table = revoked_tokens
    id = "jti"
    multi = ("remove",)
    methods = ()
    logged = False


class Authentication(AuthenticationService):
    """Login and logout."""

    examples = {
        "create": Example(data={"strategy": "local", "email": DEMO_EMAIL, "password": DEMO_PASSWORD}),
        "remove": Example(),
    }


USER = {
    "title": "LoginUser",
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "email": {"type": "string"},
        "name": {"type": "string"},
        "avatar": {"type": ["string", "null"]},
        "createdAt": {"type": "string", "format": "date-time"},
        "updatedAt": {"type": "string", "format": "date-time"},
    },
    "required": ["id", "email", "name", "avatar", "createdAt", "updatedAt"],
    "additionalProperties": False,
}
LOGIN = {
    "title": "LoginResult",
    "type": "object",
    "properties": {
        "accessToken": {"type": "string"},
        "authentication": {
            "type": "object",
            "properties": {
                "strategy": {"type": "string"},
                "payload": {"type": "object"},
                "accessToken": {"type": "string"},
            },
            "required": ["strategy"],
            "additionalProperties": False,
        },
        "user": USER,
    },
    "required": ["authentication", "user"],
    "additionalProperties": False,
}
"""The result of a login or logout, for the OpenAPI document."""


@describe(result=LOGIN)
def show_profile(context: Context) -> None:
    """Show the caller its profile, and only the public fields of its proof. Runs after create and remove."""
    proof = context.result["authentication"]
    shown = {name: proof[name] for name in ("strategy", "payload", "accessToken") if name in proof}
    context.dispatch = {**context.result, "authentication": shown, "user": _profile(context.params["user"])}


def _profile(user: dict[str, Any]) -> dict[str, Any]:
    name = " ".join(part for part in (user["first_name"], user["last_name"]) if part)
    return {
        "id": user["id"],
        "email": user["email"],
        "name": name,
        "avatar": user["avatar_url"],
        "createdAt": user["created_at"],
        "updatedAt": user["updated_at"],
    }


def register(app: Apex) -> None:
    """Register the services ``authentication`` and ``revoked-tokens``, and the strategies ``jwt`` and ``local``."""
    app.use("revoked-tokens", RevokedTokens())
    authentication = Authentication(app, revocations="revoked-tokens")
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    app.use("authentication", authentication, hooks={"after": {"create": [show_profile], "remove": [show_profile]}})
