"""The events of an organization, for programs that follow its changes over HTTP."""

from __future__ import annotations

from typing import Any

from apex import Apex, Context, Params, validate_query
from apex.describe import Example
from apex.log import EventsService
from apex.permissions import authorize, can
from apex.types import Row
from hooks.roles import RUNNING
from hooks.tenancy import ORGANIZATION_ID, covers, fill_organization, membership, require_organization
from services.shared.examples import DEMO_ORGANIZATION
from services.shared.tenant import CALLER_HOOKS


class Events(EventsService):
    """The events of an organization. Callers get those of the records that they may read."""

    permissions = {"viewer": can("find")}
    examples = {"find": Example(query={ORGANIZATION_ID: DEMO_ORGANIZATION, "service": "contacts", "$limit": 2})}


def limit_to_services(context: Context) -> None:
    """Limit an API key to the events of the services that it was made for. Runs before find."""
    services = (context.params.authentication or {}).get("services")
    if services is not None:
        context.params.scope["service"] = [path for path in context.app.services if covers(services, path)]


def may_read_member(member: Row, params: Params) -> bool:
    """Return True for the membership of the caller, and for all of them if it runs the organization."""
    is_running = params.memberships.get(member[ORGANIZATION_ID]) in RUNNING
    return is_running or member["user_id"] == params.user["id"]


def whole_record(context: Context) -> Any:
    """Return the whole record, whatever the caller who has changed it has selected."""
    return context.result


def register(app: Apex) -> None:
    """Register the service ``events``."""
    events = Events(may_read={"memberships": may_read_member}, data=whole_record)
    before = [fill_organization, validate_query, require_organization, membership, authorize, limit_to_services]
    app.use("events", events, hooks={"around": {"all": CALLER_HOOKS}, "before": {"find": before}})
