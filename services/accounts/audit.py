"""The audit: an entry for each change of a record, with the user who made it. Admins read it, and nobody changes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Column, DefaultClause, ForeignKey, Index, String

from apex import Apex, Context, SQLService, validate_query
from apex.common import default_sort, disallow, without_secrets
from apex.describe import Example
from apex.log import log_table
from apex.permissions import authorize, can
from apex.sql import Json
from apex.types import Row
from hooks.tenancy import ORGANIZATION_ID, fill_organization, forbid_foreign, membership, require_organization
from services.shared.audience import to_nobody
from services.shared.examples import DEMO_ORGANIZATION
from services.shared.tenant import CALLER_AND_IDEMPOTENCY, MethodHooks
from services.tables import Identifier, metadata

audit = log_table(
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("organization_id", Identifier, ForeignKey("organizations.id")),
    Column("user_id", Identifier, ForeignKey("users.id")),
    Column("key_id", Identifier),
    Column("api", String(40)),
    Column("provider", String(20)),
    Column("request_id", String(128)),
    Column("service", String(100)),
    Column("method", String(20)),
    Column("record_id", Identifier),
    Column("before", Json),
    Column("after", Json),
    name="audit",
    tenant=ORGANIZATION_ID,
)
"""The log. Its entries of changes are the audit."""

for name, default in {"xid": "0", "origin": "", "event": ""}.items():
    # The version of the app before the log writes entries without them, while a deployment replaces it.
    audit.c[name].server_default = DefaultClause(default)

c = audit.c
Index("ix_audit_list", c.organization_id, c.id)
Index("ix_audit_record", c.organization_id, c.service, c.record_id, c.id)


class Audit(SQLService):
    """The audit of an organization."""

    table = audit
    noun = "audit entry"
    methods = ("find", "get")
    logged = False
    private = ("xid", "origin", "event", "call", "record")
    permissions = {"admin": can("find", "get")}
    examples = {
        "find": Example(query={ORGANIZATION_ID: DEMO_ORGANIZATION, "service": "contacts", "$limit": 2}),
        "get": Example(1),
    }


def limit_to_calls(context: Context) -> None:
    """Limit a call to the entries of calls. The log also has messages between processes. Runs before find and get."""
    context.params.scope["method"] = {"$ne": None}


def read_records(context: Context) -> None:
    """Read the records of entries too, which ``show_created`` needs: before find and get, after ``validate_query``."""
    params = context.params
    query: Any = params.query
    if query.select is None:
        hidden = [name for name in Audit.private if name != "record"]
        params.adapter = {**(params.adapter or {}), "private": hidden}
    elif "after" in query.select:
        params.selected = (*query.select, "id")
        params.query = replace(query, select=(*query.select, "method", "record"))


def show_created(context: Context) -> None:
    """Show the new record as ``after`` of a create, as the log does not store it twice. Runs after find and get."""
    selected = context.params.selected
    for entry in map(shown_entry, context.items):
        for name in {*entry} - {*(selected or entry)}:
            del entry[name]


def shown_entry(entry: Row) -> Row:
    """Return an entry as the audit shows it: with its record as ``after`` if that is new."""
    record = entry.pop("record", None)
    if record is not None and entry["after"] is None and entry["method"] == "create":
        entry["after"] = without_secrets(record)
    return entry


def register(app: Apex) -> None:
    """Register the service ``audit``."""
    before = [fill_organization, validate_query, require_organization, membership, authorize]
    hooks: MethodHooks = {
        "around": {"all": [*CALLER_AND_IDEMPOTENCY, forbid_foreign]},
        "before": {
            "find": [*before, default_sort(id=-1), limit_to_calls, read_records],
            "get": [*before, limit_to_calls, read_records],
            "update": [disallow()],
            "patch": [disallow()],
            "remove": [disallow()],
        },
        "after": {"find": [show_created], "get": [show_created]},
    }
    app.use("audit", Audit(paginate=app.get("paginate"), json=False), hooks=hooks)
    app.service("audit").publish(to_nobody)
