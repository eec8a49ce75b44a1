"""Rows that are removed stay in the table, out of everyone's reach."""

from __future__ import annotations

from apex import Context, Params
from apex.query import Compare
from hooks.timestamps import now

FIELD = "deleted_at"
NOT_DELETED = Compare(FIELD, "$eq", None)


async def soft_delete(context: Context) -> None:
    """Before all methods: rows with ``deleted_at`` are out of scope, and remove sets it instead of deleting.

    The filter stands in the scope, where no query reaches it. The event stays ``removed``.
    """
    if context.method == "remove":
        context.result = await _remove(context)
    else:
        context.params.scope[FIELD] = None


async def _remove(context: Context) -> object:
    adapter, moment = context.service.service, now()
    query = adapter.syntax.parse(context.params.query).narrow(NOT_DELETED)
    params = Params({**context.params, "query": query, "adapter": {"multi": True}})
    if context.id is None:
        adapter.require_multi("remove", context.params)
    return await adapter.patch(context.id, {FIELD: moment, "updated_at": moment}, params)
