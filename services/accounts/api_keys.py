"""API keys, with which programs authenticate. Each key belongs to one organization and one user."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, bindparam, false, select, update

from apex import Apex, AuthenticationService, Context, Params
from apex.auth import APIKeyStrategy, Holder, new_key
from apex.common import now
from apex.describe import describe
from apex.errors import BadRequest, FeathersError, Forbidden
from apex.permissions import can
from apex.query import suggestion
from apex.relations import belongs_to
from apex.schema import BooleanField, IdField, Schema, TextField, fields, validate
from apex.sql import Json, Timestamp
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from hooks.roles import least
from hooks.tenancy import covers
from services.shared.audience import to_nobody
from services.shared.examples import examples_of
from services.shared.tenant import PERSON_FIELDS, WRITES, MethodHooks, TenantSchema, TenantService, serve
from services.tables import Identifier, memberships, organizations, tenant_table, users

api_keys = tenant_table(
    "api_keys",
    Column("user_id", Identifier, ForeignKey("users.id"), nullable=False),
    Column("name", String(100)),
    Column("prefix", String(20), nullable=False, unique=True),
    Column("hash", String(64), nullable=False),
    Column("last_used_at", Timestamp),
    Column("read_only", Boolean, nullable=False, default=False, server_default=false()),
    Column("services", Json),
    Column("previous_prefix", String(20)),
    Column("previous_hash", String(64)),
    Column("previous_expires_at", Timestamp),
)
Index("uq_api_keys_previous_prefix", api_keys.c.previous_prefix, unique=True)

USE_INTERVAL = timedelta(minutes=1)
"""Shortest time between two updates of a key's ``last_used_at``."""

LONGEST_GRACE = 7 * 86_400
"""Most seconds for which the old text of a key may work after a rotation."""

INVALID = "Invalid API key data"

log = logging.getLogger("apex")

creators = memberships.alias("creators")


class APIKeySchema(TenantSchema):
    """An API key as callers write it."""

    create_only = ("organization_id", "user_id", "read_only", "services")

    class Meta(Schema.Meta):
        exclude = ("owned_by_user_id",)

    user_id = IdField()
    name = TextField(max=100, allow_none=True)
    read_only = BooleanField()
    services = fields.List(TextField(max=100), allow_none=True, validate=validate.Length(1, 50))
    prefix = fields.String(dump_only=True)
    last_used_at = fields.DateTime(dump_only=True)
    previous_expires_at = fields.DateTime(dump_only=True)


class RotationSchema(Schema):
    """The data of ``rotate``. ``grace`` is in seconds."""

    id = IdField(required=True)
    organization_id = IdField(required=True)
    grace = fields.Integer(
        strict=True,
        load_default=0,
        validate=validate.Range(0, LONGEST_GRACE, error=f"Must be from 0 to {LONGEST_GRACE} seconds"),
    )


class APIKeys(TenantService):
    """The API keys of an organization, for its admins."""

    table, schema, noun = api_keys, APIKeySchema, "API key"
    transactions = WRITES
    custom = {"rotate": RotationSchema}
    permissions = {"admin": can("find", "get", "create", "patch", "remove", "rotate")}
    guarded = True
    trash = None  # A revoked key cannot be restored.
    repeatable = False  # An answer has the text of a key, which must not be stored.
    methods = ("find", "get", "create", "patch", "remove", "rotate")
    relations = {"user": belongs_to("users", fields=PERSON_FIELDS, trusted=True)}
    volatile = ("last_used_at",)
    answer_only = ("key",)
    private = ("uuid", "hash", "owned_by_user_id", "previous_prefix", "previous_hash")
    summaries = {"rotate": "Rotate an API key"}
    # The demo data have key 1, with which other examples are called.
    examples = examples_of(
        2,
        {"name": "Nightly report", "read_only": True, "services": ["contacts", "deals"]},
        {"name": "Weekly report"},
        {"rotate": {"id": 2, "grace": 3600}},
        restores=False,
    )

    async def setup(self, app: Apex, path: str) -> None:
        """Prepare the statement that finds a key by its prefix."""
        await super().setup(app, path)
        self.app = app
        self.updates: set[asyncio.Task[None]] = set()
        prefix = bindparam("prefix", type_=String())
        self._holder = self.database.compile(
            select(
                api_keys.c.prefix, api_keys.c.hash, api_keys.c.previous_hash, api_keys.c.previous_expires_at,
                api_keys.c.id.label("key_id"), api_keys.c.user_id, api_keys.c.organization_id,
                api_keys.c.created_by_user_id.label("maker_id"), api_keys.c.read_only, api_keys.c.services,
                api_keys.c.last_used_at, memberships.c.role, creators.c.role.label("maker_role"),
                users.c.uuid.label("user_uuid"),
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
            .outerjoin(
                creators,
                (creators.c.organization_id == api_keys.c.organization_id)
                & (creators.c.user_id == api_keys.c.created_by_user_id),
            )
            .where((api_keys.c.prefix == prefix) | (api_keys.c.previous_prefix == prefix))
            .where(api_keys.c.deleted_at.is_(None))
            .where(users.c.deleted_at.is_(None), organizations.c.deleted_at.is_(None))
        )  # fmt: skip

    @describe(result="record")
    async def rotate(self, data: Row, params: Params) -> Row:
        """Replace the text of a key. The old text works for `grace` more seconds, by default for none.

        Raises NotFound, and Forbidden for a key that may do more than the caller.
        """
        key = new_key()
        inside = {"scope": params.scope, "user": params.user}
        async with self.database.transaction():
            row = await self.get(data["id"], Params({**inside, "adapter": {"private": (), "lock": True}}))
            await self._require_no_more_rights(row, params)
            changes: Row = {"prefix": key.prefix, "hash": key.hash}
            changes |= dict.fromkeys(("previous_prefix", "previous_hash", "previous_expires_at"))
            if data["grace"]:
                changes["previous_prefix"], changes["previous_hash"] = row["prefix"], row["hash"]
                changes["previous_expires_at"] = now() + timedelta(seconds=data["grace"])
            shown: Row = await self.app.service("api-keys").patch(row["id"], changes, {**inside, "loaded": True})
        return {**shown, "key": key.text}

    async def _require_no_more_rights(self, row: Row, params: Params) -> None:
        """Raise Forbidden if a key may do more than a caller from outside, which gets the new text."""
        if not params.provider:
            return
        organization, proof = row["organization_id"], params.authentication
        users = sorted({row["user_id"], row["created_by_user_id"] or row["user_id"]})
        query = {"organization_id": organization, "user_id": {"$in": users}}
        found = await self.app.service("memberships").find({"query": query, "paginate": False})
        role = least("owner", *(member["role"] for member in found))
        if least(role, params.memberships[organization]) != role:
            raise Forbidden(f"This key acts as {role}: it takes that role to rotate it")
        if proof.get("key_id") not in (None, row["id"]) and not _has_no_more_rights(row, proof):
            raise Forbidden("An API key rotates itself, and keys that may do no more than it may")

    async def holder(self, prefix: str) -> Holder | None:
        """Return the proof of a key with this prefix.

        It is None if no key has the prefix, if the period of grace is over, or if the user or the creator of the key is
        no longer a member.
        """
        with tenant_context(ALL_TENANTS):
            rows = await self.database.fetch(self._holder, {"prefix": prefix})
            if not rows or not _is_valid(rows[0], prefix):
                return None
            self._record_use(rows[0])
        return self._proof(rows[0], prefix)

    def _proof(self, row: Row, prefix: str) -> Row:
        """Return the proof of a stored key. A key has the lower role of its user and its creator."""
        limit: dict[str, int] = self.app.get("rateLimit")
        role, maker_role = row.pop("role"), row.pop("maker_role")
        current, previous_hash = row.pop("prefix"), row.pop("previous_hash")
        expires_at = row.pop("previous_expires_at")
        is_replaced = current != prefix
        if is_replaced:
            row["hash"] = previous_hash
        return {
            **row,
            "expires_at": expires_at if is_replaced else None,
            "is_replaced": is_replaced,
            "payload": {"sub": str(row["user_id"])},
            "memberships": {row["organization_id"]: role if maker_role is None else least(role, maker_role)},
            "rate_limit": row["rate_limit"] or limit["requests"],
            "rate_window": row["rate_window"] or limit["window"],
        }

    def _record_use(self, row: Row) -> None:
        """Update ``last_used_at`` in a task of its own, so that the call does not wait for it."""
        used, moment = row.pop("last_used_at"), now()
        if used is None or moment - used >= USE_INTERVAL:
            task = asyncio.create_task(self._update_use(row["key_id"], moment))
            self.updates.add(task)
            task.add_done_callback(self.updates.discard)

    async def _update_use(self, id: int, moment: datetime) -> None:
        try:
            statement = update(api_keys).where(api_keys.c.id == id).values(last_used_at=moment)
            await self.database.execute(statement)
        except FeathersError as error:
            log.warning("Could not store the last use of API key %s: %s", id, error)


def _is_valid(row: Row, prefix: str) -> bool:
    """Return True if the key's creator is a member, and the prefix is current or in its period of grace."""
    if row["maker_id"] is not None and row["maker_role"] is None:
        return False
    return bool(row["prefix"] == prefix or row["previous_expires_at"] > now())


def _has_no_more_rights(row: Row, proof: Row) -> bool:
    """Return True if a key acts as the caller's key, and may call no other services."""
    is_same = (row["user_id"], row["created_by_user_id"]) == (proof["user_id"], _creator(proof))
    return is_same and not _has_more_services(row["services"], proof)


def _creator(proof: Row) -> Any:
    return proof["maker_id"] or proof["user_id"]


def _has_more_services(services: Sequence[str] | None, proof: Row) -> bool:
    """Return True if a key for these services may call one that the caller's key may not."""
    allowed = proof["services"]
    return allowed is not None and (services is None or not all(covers(allowed, name) for name in services))


def check_services(context: Context) -> None:
    """Raise BadRequest for a name in ``services`` that covers no service. Runs before create."""
    known = [path for path, bound in context.app.services.items() if bound.service.methods != ()]
    for name in context.data.get("services") or ():
        if not any(covers([name], path) for path in known):
            hint = suggestion(name, known)
            raise BadRequest(INVALID, errors={"services": f"There is no service '{name}'.{hint}"})


def generate_key(context: Context) -> None:
    """Generate a key, of which the prefix and the hash are stored. Its user is the caller unless another is named.

    Runs before create. A key that is created with another key acts for the same user, and may call no other services
    than that one. Raises Forbidden.
    """
    key = new_key()
    context.params.key = key.text
    user: Any = context.params.user or {}
    data = {"user_id": user.get("id"), **context.data, "prefix": key.prefix, "hash": key.hash}
    proof: Any = context.params.authentication or {}
    if proof.get("key_id") is not None:
        data = {"services": proof["services"], **data, "created_by_user_id": _creator(proof)}
        if data["user_id"] != proof["user_id"] or _has_more_services(data["services"], proof):
            raise Forbidden("An API key makes keys for its own user and its own services alone")
    context.data = data


@describe(adds={"key": {"type": "string", "description": "The key. It is shown only in this answer."}})
def show_key(context: Context) -> None:
    """Add the key to the answer of the call that created it, and to no event. Runs after create."""
    shown = context.dispatch if context.has_dispatch else context.result
    context.dispatch = {**shown, "key": context.params.key}


def end_sessions(context: Context) -> None:
    """End the sessions of a key that is revoked, or rotated without a period of grace. Runs after patch and remove."""
    authentication: AuthenticationService = context.app.get("defaultAuthentication")
    if context.method == "remove" or ("hash" in context.data and context.data.get("previous_hash") is None):
        authentication.sessions.end_key(context.result["id"])


def register(app: Apex) -> None:
    """Register the service ``api-keys`` and the strategy ``api-key``."""
    hooks: MethodHooks = {
        "before": {"create": [check_services, generate_key]},
        "after": {"create": [show_key], "patch": [end_sessions], "remove": [end_sessions]},
    }
    serve(app, "api-keys", APIKeys, hooks=hooks)
    app.service("api-keys").publish(to_nobody)
    authentication: AuthenticationService = app.get("defaultAuthentication")
    strategy = APIKeyStrategy(lambda prefix: app.service("api-keys").holder(prefix), authentication.user_of)
    authentication.register("api-key", strategy)
    strategy.follow(app, "api-keys", lambda row, holder: bool(row["id"] == holder["key_id"]))
    strategy.follow(app, "memberships", _is_in_organization("organization_id"))
    strategy.follow(app, "organizations", _is_in_organization("id"))


def _is_in_organization(name: str) -> Callable[[Row, Holder], bool]:
    """Return a function that returns True for a holder in the organization that is in this field of a record."""
    return lambda row, holder: bool(row[name] == holder["organization_id"])
