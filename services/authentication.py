"""Logging in and out."""

from __future__ import annotations

from typing import Any

from apex import Apex, AuthenticationService, Context, JWTStrategy, LocalStrategy, SQLService
from services.audience import Audience
from services.tables import revoked_tokens


class RevokedTokens(SQLService):
    """The tokens that were logged out and have not expired; kept, so that a restart does not revive them."""

    table = revoked_tokens
    id = "jti"
    multi = ("remove",)
    methods = ()


def profile(context: Context) -> None:
    """After create and remove: the user as callers see it, and of the proof no more than what it proves."""
    proof = context.result["authentication"]
    shown = {name: proof[name] for name in ("strategy", "payload", "accessToken") if name in proof}
    context.dispatch = {**context.result, "authentication": shown, "user": _profile(context.result["user"])}


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
    app.use("revoked-tokens", RevokedTokens())
    authentication = AuthenticationService(app, revocations="revoked-tokens")
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    admit = Audience(app).admit
    app.use("authentication", authentication, hooks={"after": {"create": [admit, profile], "remove": [profile]}})
