"""The CRM: the application with all of its services."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apex import Apex, batch, bus, database, load_config, openapi, rest, sockets
from apex.observability import health, metrics, time_database, tracing
from apex.rates import RateLimiter, rates
from apex.tenant import ROLE
from hooks.audit import remember_caller
from hooks.tenancy import FIELD
from services import (
    activities,
    companies,
    console,
    contacts,
    custom_fields,
    deal_products,
    deals,
    pipelines,
    products,
    support_tickets,
)
from services.accounts import api_keys, audit, authentication, memberships, organizations, users
from services.agentvoice import contacts as agentvoice
from services.agentvoice import webhook
from services.tables import metadata

__all__ = ["CONFIG", "create_app", "metadata"]

CONFIG = Path(__file__).parent.parent / "config"
SERVICES = (
    users, authentication, memberships, organizations, api_keys, custom_fields, companies, contacts, pipelines,
    products, deals, deal_products, activities, support_tickets, audit, agentvoice, webhook,
)  # fmt: skip


def create_app(config: Mapping[str, Any] | None = None) -> Apex:
    """The app for a configuration, by default that of the ``config`` folder and the environment."""
    app = Apex(load_config(CONFIG) if config is None else config)
    app.set("openapi", {"title": "apex CRM", "version": "1"})
    app.configure(database(app.get("database"), role=ROLE))
    app.configure(time_database).configure(tracing)
    app.configure(bus)
    app.configure(rates).configure(limit_users)
    app.configure(lambda app: rest(app, routes=[*health(app), *metrics(app), *openapi.routes(app), *console.routes()]))
    app.set("tenant", FIELD)
    app.configure(sockets)
    app.configure(batch)
    app.hooks({"around": {"all": [remember_caller]}})
    for service in SERVICES:
        service.register(app)
    return app


def limit_users(app: Apex) -> None:
    """Set ``userRates``, the limit of each user with a token, unless the configuration has none."""
    if limit := app.get("userRateLimit"):
        app.set("userRates", RateLimiter(app.get("rates"), "users", limit["requests"], limit["window"]))
