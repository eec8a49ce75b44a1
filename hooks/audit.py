"""Who changed what: an entry for each record that is written, stored together with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from apex import Context, Next, Params
from apex.adapters import Companion
from apex.common import now
from apex.types import Row, items
from hooks.tenancy import ORGANIZATION_ID

API = "achieveapex"
"""The API of a service that names no other with a class attribute ``api``."""

HIDDEN = "***"
"""What stands for a secret: that it was there, and not what it was."""

_SECRET = re.compile(
    r"passw|secrets?(?![a-z])|tokens?(?![a-z])|credential|(api|private).?key|(^|_)hash(_|$)", re.IGNORECASE
)


@dataclass(slots=True)
class _Outside:
    """A call from outside, for those that it leads to. What it has left running is still its caller's."""

    context: Context
    open: bool = True


_outside: ContextVar[_Outside | None] = ContextVar("outside", default=None)


async def remember_caller(context: Context, next: Next) -> None:
    """Around all methods of all services: the calls that hooks make inside of one from outside are its caller's."""
    outer = _outside.get()
    if not context.params.get("provider") or (outer is not None and outer.open):
        await next()
        return
    outside = _Outside(context)
    token = _outside.set(outside)
    try:
        await next()
    finally:
        outside.open = False
        _outside.reset(token)


def audit_beside(context: Context) -> None:
    """Before create, last: what ``audit`` does, in the statement that stores the records."""
    done = _caller(context) | {"created_at": now(), "service": context.path, "method": context.method}

    def entry(row: Row) -> Row:
        return done | {ORGANIZATION_ID: row[ORGANIZATION_ID], "before": None, "after": _harmless(row)}

    companion = Companion(context.app.service("audit").service, entry, id="record_id", whole="after")
    context.params.adapter = {**(context.params.adapter or {}), "companion": companion}


async def audit(context: Context) -> None:
    """Store an entry for each record in the service ``audit``: after create, patch, remove and restore.

    It comes after ``stash_before``, in the transaction of the write. What a patch leaves as it was is not in its entry,
    and of what has the name of a secret only that it was there. A record without an organization is one.
    """
    done = _caller(context) | {"created_at": now(), "service": context.path, "method": context.method}
    id, stashed = context.service.id, _stashed(context)
    entries = []
    for row in items(context.method, context.result):
        before, after = _changes(context.method, stashed.get(row[id]), row)
        own = {
            ORGANIZATION_ID: row.get(ORGANIZATION_ID, row[id]),
            "record_id": row[id],
            "before": _harmless(before),
            "after": _harmless(after),
        }
        entries.append(done | own)
    if entries:
        # Past its hooks, as entries that are stored beside their records: nothing keeps one from being stored.
        await context.app.service("audit").service.create(entries, Params({"query": {"$select": ["id"]}}))


def _caller(inside: Context) -> Row:
    """Who is behind a call; where the process itself is, as for a command, whom it says that it works for."""
    outside = _outside.get()
    if outside is None:
        user = inside.params.user
        return {"user_id": user["id"]} if user else {}
    context = outside.context
    params: Any = context.params
    return {
        "user_id": (params.user or {}).get("id"),
        "key_id": (params.authentication or {}).get("key_id"),
        "api": getattr(context.service, "api", API),
        "provider": params.provider,
        "request_id": (params.headers or {}).get("x-request-id"),
    }


def _stashed(context: Context) -> Mapping[Any, Row]:
    """The records as they were, by id."""
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
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _harmless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: HIDDEN if _is_secret(name) else _harmless(inner) if isinstance(inner, dict | list) else inner
            for name, inner in value.items()
        }
    return [_harmless(inner) for inner in value] if isinstance(value, list) else value
