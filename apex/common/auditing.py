"""An audit: a service with an entry for each record that calls change, stored together with the change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from apex.adapters.companion import Companion
from apex.common.fields import now
from apex.context import Context, Params, external_call
from apex.hooks import Hook, belongs
from apex.types import Row, items

HIDDEN = "***"
"""The text that entries hold instead of a secret."""

_SECRET = re.compile(
    r"passw|secrets?(?![a-z])|tokens?(?![a-z])|credential|(api|private).?key|(^|_)hash(_|$)", re.IGNORECASE
)


def audit(
    service: str = "audit",
    *,
    caller: Callable[[Context], Row] | None = None,
    record: Callable[[Context, Row], Row] | None = None,
) -> Hook:
    """Store an entry for each changed record in another service: after create, update, patch, remove and restore.

        around, before, after = [transaction], [stash_before()], [audit()]
        hooks = {"around": {"patch": around}, "before": {"patch": before}, "after": {"patch": after}}

    Use it in a transaction with the change, and after ``stash_before``. An entry has ``created_at``, ``service``,
    ``method``, ``record_id``, and the changed fields ``before`` and ``after``. Of a field with the name of a secret it
    tells only that it was there. ``caller`` returns fields about the caller of a call (by default ``user_id`` and
    ``provider``), ``record`` fields about a record, such as its tenant.

    Entries are stored past the hooks of the service.
    """
    caller = caller or _caller

    @belongs("after")
    async def audit(context: Context) -> None:
        done = caller(context) | _call(context)
        id, stashed = context.service.id, _stashed(context)
        entries = []
        for row in items(context.method, context.result):
            before, after = _changes(context.method, stashed.get(row[id]), row)
            about = {"record_id": row[id], "before": _without_secrets(before), "after": _without_secrets(after)}
            entries.append(done | ({} if record is None else record(context, row)) | about)
        if entries:
            await context.app.service(service).service.create(entries, Params({"query": {"$select": ["id"]}}))

    return audit


def audit_create(
    service: str = "audit",
    *,
    caller: Callable[[Context], Row] | None = None,
    record: Callable[[Context, Row], Row] | None = None,
) -> Hook:
    """Store the entries of ``audit`` in the statement that stores the records: the last hook before create.

    It replaces ``audit`` after create if nothing else is stored by the call, which then needs no transaction.
    """
    caller = caller or _caller

    @belongs("before")
    def audit_create(context: Context) -> None:
        done = caller(context) | _call(context)

        def entry(row: Row) -> Row:
            about = {"before": None, "after": _without_secrets(row)}
            return done | ({} if record is None else record(context, row)) | about

        companion = Companion(context.app.service(service).service, entry, id="record_id", whole="after")
        context.params.adapter = {**(context.params.adapter or {}), "companion": companion}

    return audit_create


def _caller(context: Context) -> Row:
    params: Any = (external_call.get() or context).params
    return {"user_id": (params.user or {}).get("id"), "provider": params.provider}


def _call(context: Context) -> Row:
    return {"created_at": now(), "service": context.path, "method": context.method}


def _stashed(context: Context) -> Mapping[Any, Row]:
    """Return the records as they were before the call, by id."""
    stashed = None if context.method == "create" else context.params.before
    return {row[context.service.id]: row for row in items(context.method, stashed)}


def _changes(method: str, before: Row | None, after: Row) -> tuple[Row | None, Row | None]:
    if before is None or method == "restore":
        return None, after
    if method == "remove":
        return before, None
    changed = [name for name, value in after.items() if name not in before or before[name] != value]
    return {name: before.get(name) for name in changed}, {name: after[name] for name in changed}


@lru_cache(4096)
def is_secret(name: str) -> bool:
    """Return True for the name of a field that looks like that of a secret."""
    return _SECRET.search(name) is not None


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: HIDDEN if is_secret(name) else _without_secrets(inner) if isinstance(inner, dict | list) else inner
            for name, inner in value.items()
        }
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value
