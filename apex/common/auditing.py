"""An audit: a service with an entry for each record that calls change, stored together with the change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from apex.adapters.companion import Companion
from apex.common.fields import now
from apex.context import Context, Params, external_call
from apex.encoding import RawJSON, encode
from apex.events import Entries
from apex.hooks import Hook, belongs, keeps_result
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

    In an app with a log (``apex.log``) this hook stores no entries of its own. The entries of the log get the fields of
    ``record`` and the values ``before`` and ``after``, for which the table of the log needs columns. The entry of a
    create that is one statement has only its record. Use ``log(table, fields=...)`` in place of ``caller``.
    """
    caller = caller or _caller

    @belongs("after")
    async def audit(context: Context) -> None:
        if context.entries is not None:
            if not context.entries.ids:  # Else the statement of the record has stored its entry.
                _fill(context, context.entries, record)
            return
        done = caller(context) | _call(context)
        id, stashed = context.service.id, _stashed(context)
        entries = []
        for row in items(context.method, context.result):
            before, after = _changes(context.method, stashed.get(row[id]), row)
            about = {"record_id": row[id], "before": without_secrets(before), "after": without_secrets(after)}
            entries.append(done | ({} if record is None else record(context, row)) | about)
        if entries:
            await context.app.service(service).service.create(entries, Params({"query": {"$select": ["id"]}}))

    return keeps_result(audit, _has_whole_result)


def _has_whole_result(context: Context) -> bool:
    """Return True for a create whose result will have all that it was given. Other methods change their entries."""
    return context.method == "create" and not any(any(given.values()) for given in _given(context))


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
            about = {"before": None, "after": without_secrets(row)}
            return done | ({} if record is None else record(context, row)) | about

        companion = Companion(context.app.service(service).service, entry, id="record_id", whole="after")
        context.params.adapter = {**(context.params.adapter or {}), "companion": companion}

    return audit_create


def _fill(context: Context, entries: Entries, record: Callable[[Context, Row], Row] | None) -> None:
    """Set columns of the entries that the log will store for a call."""
    id, stashed = context.service.id, _stashed(context)
    rows: list[Row] = items(context.method, context.result)
    for row, given in zip(rows, _given(context) or [{} for _ in rows], strict=True):
        columns = {} if record is None else record(context, row)
        if context.method != "create":
            before, after = _changes(context.method, stashed.get(row[id]), row)
            columns |= {"before": _stored(before), "after": _stored(after)}
        else:
            columns["after"] = _stored(row | given)
        if columns:
            entries.columns[row[id]] = columns


def _given(context: Context) -> list[Row]:
    """Return, for each record, the fields on demand that a create was given. Its result does not have them."""
    on_demand = getattr(context.service, "on_demand", ())
    if context.method != "create" or not on_demand:
        return []
    data = context.data if isinstance(context.data, list) else [context.data]
    return [{name: row.get(name) for name in on_demand} for row in data]


def _stored(value: Row | None) -> RawJSON | None:
    return None if value is None else RawJSON(encode(without_secrets(value)))


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


def without_secrets(value: Any) -> Any:
    """Return JSON with ``HIDDEN`` in place of the values of fields that have the name of a secret."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if is_secret(name) else without_secrets(inner) if isinstance(inner, dict | list) else inner
            for name, inner in value.items()
        }
    return [without_secrets(inner) for inner in value] if isinstance(value, list) else value
