"""Webhooks: the events of an organization are posted to URLs that its admins register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey

from apex import Apex, Context, validate_query
from apex import webhooks as framework
from apex.common import default_sort, disallow
from apex.describe import Example
from apex.errors import Forbidden
from apex.permissions import authorize, can
from apex.relations import belongs_to
from apex.schema import IdField, Schema, TextField, fields
from apex.types import Row
from hooks.roles import least
from hooks.tenancy import (
    ORGANIZATION_ID,
    covers,
    fill_organization,
    forbid_foreign,
    membership,
    require_organization,
)
from services.accounts.events import may_read_member, whole_record
from services.shared.audience import to_admins, to_nobody
from services.shared.examples import DEMO_ORGANIZATION, examples_of
from services.shared.tenant import (
    CALLER_AND_IDEMPOTENCY,
    PERSON_FIELDS,
    WRITES,
    MethodHooks,
    TenantSchema,
    TenantService,
    serve,
)
from services.tables import Identifier, index_lists, metadata, tenant_parts

webhooks = framework.webhooks_table(
    metadata,
    *tenant_parts(Column("user_id", Identifier, ForeignKey("users.id"))),
    tenant=ORGANIZATION_ID,
    live="deleted_at",
)
index_lists(webhooks)

ADMINS = can("find", "get", "create", "patch", "remove", "rotate", "replay", "test")


class WebhookSchema(framework.WebhookSchema, TenantSchema):
    """A webhook as callers write it."""

    class Meta(Schema.Meta):
        exclude = ("owned_by_user_id",)

    user_id = fields.Integer(dump_only=True)


class WebhookIdSchema(Schema):
    """The data of ``rotate`` and ``test``."""

    id = IdField(required=True)
    organization_id = IdField(required=True)


class ReplaySchema(WebhookIdSchema):
    """The data of ``replay``: a moment, or a position in the log."""

    since = fields.DateTime(metadata={"example": "2026-01-01T00:00:00.000Z"})
    position = TextField(max=16_384)


class Webhooks(framework.Webhooks, TenantService):
    """The webhooks of an organization, for its admins."""

    table, schema, noun = webhooks, WebhookSchema, "webhook"
    transactions = WRITES
    custom = {"rotate": WebhookIdSchema, "replay": ReplaySchema, "test": WebhookIdSchema}
    permissions = {"admin": ADMINS}
    guarded = True
    trash = None  # A webhook that is removed does not come back with events that are long gone.
    relations = {"user": belongs_to("users", fields=PERSON_FIELDS, trusted=True)}
    may_read = {"memberships": may_read_member}
    methods: Sequence[str] = ("find", "get", "create", "patch", "remove", "rotate", "replay", "test")
    private = ("uuid", "owned_by_user_id", *framework.Webhooks.private)
    examples = examples_of(
        1,
        {"url": "https://webhooks.example/crm", "events": ["contacts created", "deals *"]},
        {"description": "For the warehouse"},
        {"rotate": {"id": 1}, "replay": {"id": 1, "since": "2026-01-01T00:00:00.000Z"}, "test": {"id": 1}},
        restores=False,
    )

    def data(self, context: Context) -> Any:
        return whole_record(context)

    async def caller(self, webhook: Row) -> Mapping[str, Any] | None:
        """Return the params of a call by the maker, with its role in the organization of the webhook.

        As with API keys, it is the lower role of the user and the creator, and both have to be members.
        """
        organization, of_user = webhook[ORGANIZATION_ID], self.app.services["memberships"].service.of_user
        users = {webhook["user_id"], webhook["created_by_user_id"] or webhook["user_id"]}
        roles: list[str] = []
        for user in users:
            role = (await of_user(user) or {}).get(organization)
            if role is None:
                return None
            roles.append(role)
        proved = {"user": {"id": webhook["user_id"]}, "authenticated": True}
        return {**proved, "memberships": {organization: least(*roles)}}


class Deliveries(framework.Deliveries):
    """The last deliveries of the webhooks of an organization."""

    table = framework.deliveries_table(webhooks)
    noun = "delivery"
    methods = ("find",)
    permissions = {"admin": can("find")}
    examples = {"find": Example(query={ORGANIZATION_ID: DEMO_ORGANIZATION, "webhook_id": 1, "$limit": 2})}


def check_key(context: Context) -> None:
    """Let an API key subscribe to events of its own services alone, with the rights of its creator.

    Runs before create and patch. Raises Forbidden.
    """
    _require_services(context, context.data.get("events") or (context.params.before or {}).get("events") or ())
    proof: Any = context.params.authentication or {}
    if context.method == "create" and proof.get("maker_id") is not None:
        context.data = {**context.data, "created_by_user_id": proof["maker_id"]}


async def check_key_of_webhook(context: Context) -> None:
    """Let an API key get the secret and the events again of a webhook that it might have made. Raises Forbidden."""
    if (context.params.authentication or {}).get("services") is not None:
        query = {name: context.data[name] for name in ("id", ORGANIZATION_ID)}
        for webhook in await context.app.service(context.path).find({"query": query, "paginate": False}):
            _require_services(context, webhook["events"])


def _require_services(context: Context, events: Sequence[str]) -> None:
    services: Any = (context.params.authentication or {}).get("services")
    for event in events if services is not None else ():
        if not covers(services, event.rpartition(" ")[0]):
            raise Forbidden(f"This API key was not made for '{event}': it takes events of {', '.join(services)}")


def register(app: Apex) -> None:
    """Register the services ``webhooks`` and ``webhook-deliveries``."""
    again = [check_key_of_webhook]
    hooks: MethodHooks = {"before": {"create": [check_key], "patch": [check_key], "rotate": again, "replay": again}}
    serve(app, "webhooks", Webhooks, hooks=hooks)
    app.service("webhooks").publish(to_admins)
    before = [fill_organization, validate_query, require_organization, membership, authorize]
    refused = {method: [disallow()] for method in ("get", "update", "patch", "remove")}
    reads: MethodHooks = {
        "around": {"all": [*CALLER_AND_IDEMPOTENCY, forbid_foreign]},
        "before": {"find": [*before, default_sort(id=-1)], **refused},
    }
    app.use("webhook-deliveries", Deliveries(paginate=app.get("paginate")), hooks=reads)
    app.service("webhook-deliveries").publish(to_nobody)
