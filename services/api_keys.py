"""API keys: how programs prove who they are. Each belongs to one organization and one user."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ForeignKey, String, bindparam, select, update

from apex import Apex, AuthenticationService, Context, Params
from apex.common import now
from apex.describe import describe
from apex.errors import FeathersError
from apex.keys import Holder, KeyStrategy, new_key
from apex.schema import Id, Schema, Text, fields
from apex.sql import Timestamp
from apex.tenant import EVERYONE, reaching
from apex.types import Row
from services.examples import examples_of
from services.tables import Identifier, memberships, organizations, tenant_table, users
from services.tenant import MethodHooks, TenantSchema, TenantService, serve

api_keys = tenant_table(
    "api_keys",
    Column("user_id", Identifier, ForeignKey("users.id"), nullable=False),
    Column("name", String(100)),
    Column("prefix", String(20), nullable=False, unique=True),
    Column("hash", String(64), nullable=False),
    Column("last_used_at", Timestamp),
)

NOTED = timedelta(minutes=1)
"""Between two notes of a key's last use."""

log = logging.getLogger("apex")


class APIKeySchema(TenantSchema):
    create_only = ("organization_id", "user_id")

    class Meta(Schema.Meta):
        exclude = ("owned_by_user_id",)

    user_id = Id()
    name = Text(max=100, allow_none=True)
    prefix = fields.String(dump_only=True)
    last_used_at = fields.DateTime(dump_only=True)


class APIKeyRecord(APIKeySchema):
    prefix = fields.String()
    hash = fields.String()


class RotationSchema(Schema):
    id = Id(required=True)
    organization_id = Id(required=True)


class APIKeys(TenantService):
    table, schema, record, noun = api_keys, APIKeySchema, APIKeyRecord, "API key"
    custom = {"rotate": RotationSchema}
    readers = writers = "admin"
    repeatable = False  # A key is in its answer, and is stored nowhere.
    methods = ("find", "get", "create", "patch", "remove", "rotate")
    private = ("uuid", "hash", "owned_by_user_id")
    summaries = {"rotate": "Rotate an API key"}
    # The first key is that of the demo, with which the examples of others are called.
    examples = examples_of(2, {"name": "Nightly report"}, {"name": "Weekly report"}, {"rotate": {"id": 2}})

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        self.app = app
        self.notes: set[asyncio.Task[None]] = set()
        self._holder = self.database.compile(
            select(
                api_keys.c.hash, api_keys.c.id.label("key_id"), api_keys.c.user_id, api_keys.c.organization_id,
                api_keys.c.last_used_at, memberships.c.role, users.c.uuid.label("user_uuid"),
                organizations.c.uuid.label("organization_uuid"), organizations.c.rate_limit,
                organizations.c.rate_window,
            )
            .join(users, users.c.id == api_keys.c.user_id)
            .join(organizations, organizations.c.id == api_keys.c.organization_id)
            .join(
                memberships,
                (memberships.c.organization_id == api_keys.c.organization_id)
                & (memberships.c.user_id == api_keys.c.user_id),
            )
            .where(api_keys.c.prefix == bindparam("prefix"), api_keys.c.deleted_at.is_(None))
            .where(users.c.deleted_at.is_(None), organizations.c.deleted_at.is_(None))
        )  # fmt: skip

    @describe(result="record")
    async def rotate(self, data: Row, params: Params) -> Row:
        """Gives a key another text; the one before is worthless from then on. Raises NotFound."""
        key = new_key()
        changed = {"prefix": key.prefix, "hash": key.hash}
        inner = {"scope": params.scope, "user": params.user}
        row: Row = await self.app.service("api-keys").patch(data["id"], changed, inner)
        return {**row, "key": key.text}

    async def holder(self, prefix: str) -> Holder | None:
        """What a key of this prefix proves; None where there is none, or its user is no longer a member."""
        with reaching(EVERYONE):
            rows = await self.database.fetch(self._holder, {"prefix": prefix})
            if not rows:
                return None
            self._note_use(rows[0])
        return self._proof(rows[0])

    def _proof(self, row: Row) -> Row:
        limit: dict[str, int] = self.app.get("rateLimit")
        role = row.pop("role")
        return {
            **row,
            "payload": {"sub": str(row["user_id"])},
            "memberships": {row["organization_id"]: role},
            "rate_limit": row["rate_limit"] or limit["requests"],
            "rate_window": row["rate_window"] or limit["window"],
        }

    def _note_use(self, row: Row) -> None:
        """Beside the call: whoever uses a key does not wait for that."""
        used, moment = row.pop("last_used_at"), now()
        if used is None or moment - used >= NOTED:
            task = asyncio.create_task(self._note(row["key_id"], moment))
            self.notes.add(task)
            task.add_done_callback(self.notes.discard)

    async def _note(self, id: int, moment: Any) -> None:
        try:
            statement = update(api_keys).where(api_keys.c.id == id).values(last_used_at=moment)
            await self.database.execute(statement)
        except FeathersError as error:
            log.warning("The last use of API key %s was not noted: %s", id, error)


def make_key(context: Context) -> None:
    """Before create: the key, of which prefix and hash are stored; its user is the caller unless another is named."""
    key = new_key()
    context.params.key = key.text
    user: Any = context.params.user or {}
    context.data = {"user_id": user.get("id"), **context.data, "prefix": key.prefix, "hash": key.hash}


@describe(adds={"key": {"type": "string", "description": "The key itself, shown when it is made and never again."}})
def show_key(context: Context) -> None:
    """After create: who made the key, and nobody else, is told what it is. It is shown this once."""
    shown = context.dispatch if context.has_dispatch else context.result
    context.dispatch = {**shown, "key": context.params.key}


def end_key(context: Context) -> None:
    """After patch and remove: whoever is connected with the key is no longer, and all processes look again."""
    authentication: AuthenticationService = context.app.get("defaultAuthentication")
    strategy: Any = authentication.strategies["api-key"]
    strategy.forget()
    if context.method == "remove" or "hash" in context.data:
        authentication.sessions.end_key(context.result["id"])


def register(app: Apex) -> None:
    hooks: MethodHooks = {
        "before": {"create": [make_key]},
        "after": {"create": [show_key], "patch": [end_key], "remove": [end_key]},
    }
    serve(app, "api-keys", APIKeys, hooks=hooks)
    authentication: AuthenticationService = app.get("defaultAuthentication")
    strategy = KeyStrategy(lambda prefix: app.service("api-keys").holder(prefix), authentication.user_of)
    authentication.register("api-key", strategy)
