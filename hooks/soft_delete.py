"""Rows that are removed stay in the table, out of everyone's reach."""

from __future__ import annotations

from apex import Context
from hooks.timestamps import now

FIELD = "deleted_at"


def soft_delete(context: Context) -> None:
    """Before all methods: rows with ``deleted_at`` are out of scope, and remove sets it instead of deleting.

    The filter stands in the scope, where no query reaches it. The event stays ``removed``.
    """
    context.params.scope[FIELD] = None
    if context.method == "remove":
        moment = now()
        marks = {FIELD: moment, "updated_at": moment}
        context.params.adapter = {**(context.params.adapter or {}), "on_remove": marks}
