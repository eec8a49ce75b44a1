"""The tracker: projects with members, and their issues."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apex import Apex, Context, batch, bus, database, load_config, rest, sockets
from apex.limits import rates
from apex.observability import health, metrics
from apex.openapi import openapi, start_page
from apex.permissions import roles
from apex.tenant import ROLE
from services import issues, projects, users
from services.tables import ROLES

CONFIG = Path(__file__).parent.parent / "config"
SERVICES = (users, projects, issues)


def create_app(config: Mapping[str, Any] | None = None) -> Apex:
    """Return the app. Its configuration comes from the folder config and the environment, unless one is given."""
    app = Apex(load_config(CONFIG) if config is None else config)
    app.set("openapi", {"title": "Tracker", "version": "1.0.0"})
    app.configure(database(app.get("database"), role=ROLE)).configure(bus).configure(rates)
    app.configure(rest).configure(sockets).configure(batch)
    app.configure(start_page).configure(openapi).configure(health).configure(metrics)
    app.configure(roles(ROLES, of=projects.roles_of_caller, tenant="project_id", inherit=True))
    for service in SERVICES:
        service.register(app)

    def join(result: Any, params: Any, context: Context) -> None:
        app.channel("users").join(params.connection)

    app.on("login", join)
    return app.publish(lambda data, context: app.channel("users"))
