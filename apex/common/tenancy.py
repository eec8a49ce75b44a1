"""The hook that limits callers to the records of their tenants."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from apex.context import Context
from apex.hooks import Hook, belongs
from apex.tenant import set_tenants, tenant_hook


def limit_to_tenants(field: str, tenants_of: Callable[[Context], int | Iterable[int]]) -> Hook:
    """Limit calls from outside to records whose ``field`` is the id of a tenant of the caller: before all methods.

        limit_to_tenants("team_id", lambda context: context.params.user["team_ids"])

    ``tenants_of`` returns the id of one tenant or several ids, and may raise Forbidden. The ids become the scope of the
    call. On PostgreSQL row-level security enforces them too (see ``apex.migrations``). ``apex check`` names the
    services with rows of tenants that have no such hook.
    """

    @tenant_hook
    @belongs("before", "around")
    def limit_to_tenants(context: Context) -> None:
        params = context.params
        if params.get("provider"):
            tenants = tenants_of(context)
            allowed = tenants if isinstance(tenants, int) else list(tenants)
            params["scope"][field] = allowed
            set_tenants([allowed] if isinstance(allowed, int) else allowed)

    return limit_to_tenants
