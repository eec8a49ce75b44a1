"""The hooks that write a scope: callers are limited to the records of their tenants, and to those not removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from apex.common.fields import now
from apex.context import Context
from apex.hooks import Hook, belongs
from apex.query.coercion import boolean
from apex.query.language import DELETED, Query, invalid
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


def soft_delete(field: str = "deleted_at", *also: str) -> Hook:
    """Keep removed records in the store, where calls do not see them: before all methods.

    ``remove`` sets ``field``, and the fields in ``also``, to the present moment instead of deleting. Records whose
    ``field`` is not null are outside of ``params.scope``, so no query of a client finds them. The event is ``removed``.

    In a service whose option ``trash`` names the field, ``find`` with ``$deleted`` gives the removed records, and
    ``restore`` brings them back. Its event is ``created``, as the record appears again to clients.

    Calls inside the process have three params: ``permanent`` deletes for good, ``removed_at`` is the moment of removal,
    and ``with_removed`` reads removed records as well.
    """

    @belongs("before", "around")
    def soft_delete(context: Context) -> None:
        params, method = context.params, context.method
        restores = method == "restore" and trash_of(context) == field
        if not params.get("with_removed"):
            query = params["query"]
            asked = query.asked if isinstance(query, Query) else query
            removed = restores or (DELETED in asked and _asks_for_removed(context, field))
            params["scope"][field] = {"$ne": None} if removed else None
        if method == "remove" and not params.permanent:
            marks = dict.fromkeys((field, *also), params.removed_at or now())
            params.adapter = {**(params.adapter or {}), "on_remove": marks}
        elif restores:
            context.event = "created"
            marks = {**dict.fromkeys(also, now()), field: None}
            params.adapter = {**(params.adapter or {}), "on_restore": marks}

    return soft_delete


def _asks_for_removed(context: Context, field: str) -> bool:
    """Return True for ``find`` with ``$deleted``. Raises BadRequest for a call that cannot have it."""
    query = context.params["query"]
    asked = query.asked if isinstance(query, Query) else query
    if trash_of(context) != field:
        return False
    if context.method != "find":
        raise invalid(DELETED, "is for lists alone")
    try:
        removed = boolean(asked[DELETED])
    except ValueError as error:
        raise invalid(DELETED, str(error)) from None
    if removed and isinstance(query, Query) and query.paths:
        raise invalid(min(query.paths), f"cannot be asked for or sorted by with {DELETED}")
    return removed


def trash_of(context: Context) -> str | None:
    """Return the option ``trash`` of the call's service, if it is an adapter and has one."""
    trash: str | None = getattr(context.service.service, "trash", None)
    return trash
