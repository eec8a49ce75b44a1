"""The CRM: an application with all of its services."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apex import Apex, Connection, batch, bus, database, load_config, rest, sockets
from apex.describe import Example
from apex.limits import RateLimiter, rates
from apex.log import log
from apex.observability import health, metrics, time_database, tracing
from apex.openapi import openapi
from apex.tenant import ROLE
from apex.transports import page
from hooks.audit import caller_fields
from hooks.tenancy import ORGANIZATION_ID, crm_roles
from services import (
    activities,
    companies,
    contacts,
    custom_fields,
    support_tickets,
)
from services.accounts import (
    api_keys,
    audit,
    authentication,
    events,
    memberships,
    organizations,
    users,
    webhooks,
)
from services.agentvoice import contacts as agentvoice
from services.agentvoice import webhook
from services.sales import deal_products, deals, pipelines, products
from services.tables import metadata

__all__ = ["CONFIG", "create_app", "metadata"]

ROOT = Path(__file__).parent.parent
CONFIG, CONSOLE = ROOT / "config", ROOT / "console"
SERVICES = (
    users, authentication, memberships, organizations, api_keys, custom_fields, companies, contacts, pipelines,
    products, deals, deal_products, activities, support_tickets, audit, events, webhooks, agentvoice, webhook,
)  # fmt: skip
EXAMPLE_CALLS = [["get", "contacts", 123], ["get", "companies", 101]]
"""The calls in the documentation of ``batch``."""


def create_app(config: Mapping[str, Any] | None = None) -> Apex:
    """Return the CRM for a configuration, by default that of the ``config`` folder and the environment."""
    app = Apex(load_config(CONFIG) if config is None else config)
    app.set("openapi", {"title": "apex CRM", "version": "1", "license": {"name": "MIT", "identifier": "MIT"}})
    app.configure(database(app.get("database"), role=ROLE))
    app.configure(time_database).configure(tracing)
    app.configure(log(audit.audit, fields=caller_fields, tenants=organizations_of, rights={"memberships": is_member}))
    app.configure(bus).configure(crm_roles)
    app.configure(rates).configure(limit_users)
    app.configure(rest).configure(sockets).configure(batch)
    app.configure(openapi).configure(health).configure(metrics)
    app.routes += page("/console", CONSOLE)
    app.set("tenant", ORGANIZATION_ID)
    app.service("batch").service.examples = {"create": Example(data={"calls": EXAMPLE_CALLS})}
    for service in SERVICES:
        service.register(app)
    return app


def limit_users(app: Apex) -> None:
    """Set ``userRates``: the rate limit of each user who calls with a token, if the configuration has one."""
    if limit := app.get("userRateLimit"):
        app.set("userRates", RateLimiter(app.get("rates"), "users", limit["requests"], limit["window"]))


def is_member(membership: Mapping[str, Any], connection: Connection) -> bool:
    """Return True if a membership is that of the user of a connection, or of the maker of its API key."""
    return membership["user_id"] in ((connection.user or {}).get("id"), connection.maker_id)


def organizations_of(connection: Connection) -> list[int]:
    """Return the organizations of the user of a connection."""
    return list(connection.memberships or ())
