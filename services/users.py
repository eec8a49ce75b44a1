"""Users: the people who may log in."""

from __future__ import annotations

from typing import Any

from apex import Apex, Context, Schema, SQLService, validate_data
from apex.schema import Email, Password, Text
from hooks.soft_delete import soft_delete
from hooks.timestamps import timestamps
from hooks.transaction import transaction
from services.memberships import end_memberships
from services.tables import users


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
    checked = [validate_data(UserSchema, "Invalid user data"), lower_email, hash_password, timestamps]
    before = {"all": [soft_delete], "create": checked, "patch": checked}
    after = {"remove": [end_memberships("user_id")]}
    app.use("users", Users(), hooks={"around": {"remove": [transaction]}, "before": before, "after": after})
