"""The audit: an entry for each change of a record, with the user who made it. Admins read it, and nobody changes it."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table

from apex import Apex, SQLService, validate_query
from apex.common import default_sort, disallow
from apex.describe import Example
from apex.permissions import authorize, can
from apex.sql import Json, Timestamp
from hooks.tenancy import ORGANIZATION_ID, fill_organization, forbid_foreign, membership, require_organization
from services.shared.audience import to_nobody
from services.shared.examples import DEMO_ORGANIZATION
from services.shared.tenant import CALLER_AND_IDEMPOTENCY, MethodHooks
from services.tables import Identifier, metadata

audit = Table(
    "audit",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("organization_id", Identifier, ForeignKey("organizations.id"), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("user_id", Identifier, ForeignKey("users.id")),
    Column("key_id", Identifier),
    Column("api", String(40)),
    Column("provider", String(20)),
    Column("request_id", String(128)),
    Column("service", String(100), nullable=False),
    Column("method", String(20), nullable=False),
    Column("record_id", Identifier, nullable=False),
    Column("before", Json),
    Column("after", Json),
    sqlite_autoincrement=True,
)
c = audit.c
Index("ix_audit_list", c.organization_id, c.id)
Index("ix_audit_record", c.organization_id, c.service, c.record_id, c.id)


class Audit(SQLService):
    """The audit of an organization."""

    table = audit
    noun = "audit entry"
    methods = ("find", "get")
    multi = ("create",)
    permissions = {"admin": can("find", "get")}
    examples = {
        "find": Example(query={ORGANIZATION_ID: DEMO_ORGANIZATION, "service": "contacts", "$limit": 2}),
        "get": Example(1),
    }


def register(app: Apex) -> None:
    """Register the service ``audit``."""
    before = [fill_organization, validate_query, require_organization, membership, authorize]
    hooks: MethodHooks = {
        "around": {"all": [*CALLER_AND_IDEMPOTENCY, forbid_foreign]},
        "before": {
            "find": [*before, default_sort(id=-1)],
            "get": before,
            "update": [disallow()],
            "patch": [disallow()],
            "remove": [disallow()],
        },
    }
    app.use("audit", Audit(paginate=app.get("paginate")), hooks=hooks)
    app.service("audit").publish(to_nobody)
