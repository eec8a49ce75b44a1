"""Organizations: the tenants. A caller sees those it belongs to."""

from __future__ import annotations

from apex import Apex, Context, SQLService, authenticate, validate_query
from apex.tenant import confine
from hooks.rate_limit import limit_rate, tell_rate
from hooks.soft_delete import soft_delete
from hooks.tenancy import membership
from hooks.timestamps import timestamps
from hooks.transaction import transaction
from services.tables import organizations
from services.users import end_memberships


class Organizations(SQLService):
    table = organizations
    methods = ("find", "get")
    private = ("uuid", "deleted_at", "rate_limit", "rate_window", "webhook_secret")


def only_mine(context: Context) -> None:
    """Before all methods: the organizations of the caller are the scope."""
    if context.params.provider:
        mine = context.params.scope["id"] = sorted(context.params.memberships)
        confine(mine)


def register(app: Apex) -> None:
    sealed = [
        authenticate("jwt", "api-key", entity=False),
        limit_rate,
        validate_query,
        membership,
        only_mine,
        soft_delete,
    ]
    hooks = {
        "around": {"remove": [transaction]},
        "before": {"all": sealed, "create": [timestamps], "patch": [timestamps]},
        "after": {"remove": [end_memberships("organization_id")]},
        "error": {"all": [tell_rate]},
    }
    app.use("organizations", Organizations(paginate=app.get("paginate")), hooks=hooks)
