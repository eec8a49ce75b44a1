"""Records that are part of another record, such as the products of a deal: they are removed and restored with it.

The hooks of the parts find the call that removes or restores their parent in ``params.with_parent``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from apex import Context, Params
from apex.adapters import MOST_RESTORED
from apex.errors import BadRequest, Conflict, NotFound
from apex.query import Compare, Query
from apex.types import Row, items
from hooks.tenancy import MISSING

REMOVED_AT = "deleted_at"
REMOVED = {REMOVED_AT: {"$ne": None}}


async def remove_children(context: Context) -> None:
    """Remove the parts of records that are removed, by their services, with their events and their audit.

    It comes before remove, after ``stash_before``, in a transaction. ``parts`` of the service names the services of the
    parts, each with the key that refers to the parent. All of these records get the same moment of removal. It differs
    from that of every part that was removed on its own before.
    """
    ids = [row[context.service.id] for row in items(None, context.params.before)]
    marks: Row = (context.params.adapter or {}).get("on_remove") or {}
    parts = [(service, _where_in(key, ids)) for service, key in getattr(context.service.service, "parts", ())]
    for service, query in parts:
        if REMOVED_AT in marks and (latest := await _last_removal(context, service, query, marks[REMOVED_AT])):
            moments = [name for name, value in marks.items() if value == marks[REMOVED_AT]]
            marks.update(dict.fromkeys(moments, latest + timedelta(milliseconds=1)))
    for service, query in parts:
        params = {"query": query, "adapter": {"multi": ["remove"]}, "permanent": context.params.permanent}
        together = {"with_parent": context, "removed_at": marks.get(REMOVED_AT)}
        await context.app.service(service).remove(None, params | together)


async def _last_removal(context: Context, service: str, children: Query, moment: datetime) -> datetime | None:
    """Return the last moment at or after this one at which a child was removed on its own."""
    query = replace(
        children.narrow(Compare(REMOVED_AT, "$gte", moment)), sort=((REMOVED_AT, -1),), limit=1, select=(REMOVED_AT,)
    )
    asked = Params({"query": query, "paginate": False, "scope": REMOVED})
    found = await context.app.service(service).service.find(asked)
    return found[0][REMOVED_AT] if found else None


async def restore_children(context: Context) -> None:
    """Restore the parts that were removed together with the records, by their services.

    It comes after restore, and needs ``stash_before``. The services send events and store the audit.
    """
    moments = {row[context.service.id]: row[REMOVED_AT] for row in items(None, context.params.before)}
    for service, key in getattr(context.service.service, "parts", ()):
        children = context.app.service(service)
        query = replace(_where_in(key, list(moments)), select=(key, REMOVED_AT))
        found = await children.service.find(Params({"query": query, "paginate": False, "scope": REMOVED}))
        together = [row["id"] for row in found if row[REMOVED_AT] == moments[row[key]]]
        for start in range(0, len(together), MOST_RESTORED):
            ids = together[start : start + MOST_RESTORED]
            await children.restore({"id": ids}, {"with_parent": context, "loaded": True})


def require_parent(service: str, key: str) -> Callable[[Context], Awaitable[None]]:
    """Refuse to restore parts of a removed record: before restore, after ``stash_before``.

    The record is locked until this call is stored. Raises Conflict naming ``key``.
    """

    async def require_parent(context: Context) -> None:
        if context.params.with_parent:
            return
        ids = {row[key] for row in items(None, context.params.before)}
        parents = context.app.service(service)
        query = replace(_where_in("id", ids), select=("id",))
        living = {"query": query, "scope": {REMOVED_AT: None}, "paginate": False, "adapter": {"lock": True}}
        found = await parents.service.find(Params(living))
        gone = sorted(ids - {row["id"] for row in found})
        if gone:
            rule = f"The {parents.noun} {gone[0]} is removed: restore that first"
            raise Conflict(rule, errors={key: "Is removed"})

    return require_parent


def _where_in(key: str, values: Any) -> Query:
    return Query(where=Compare(key, "$in", sorted(values)))


async def change_parent(context: Context, service: str, key: str, id: int, changes: Row) -> Row:
    """Change a parent record past its hooks, and return it.

    Calls that would remove it wait until the call of ``context`` is stored. Raises BadRequest naming ``key`` if it is
    removed already.
    """
    there = Params({"scope": {"deleted_at": None}})
    try:
        parent: Row = await context.app.service(service).service.patch(id, changes, there)
    except NotFound:
        raise BadRequest(f"Invalid {context.service.noun} data", errors={key: MISSING}) from None
    return parent
