"""The fate of related records when a record is removed or restored: ``on_remove`` of a relation, and the links.

These hooks are the innermost of their methods, in one transaction with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from apex.context import Context, Params
from apex.errors import Conflict, FeathersError
from apex.hooks import Next
from apex.query.language import Compare, Query, every
from apex.relations.binding import BoundRelation
from apex.relations.calls import caller_params
from apex.relations.references import is_guarded
from apex.relations.writing import together
from apex.types import Row, items

if TYPE_CHECKING:
    from apex.adapters.base import Adapter
    from apex.service import BoundService

MOST_AT_ONCE = 1_000
"""The records that one call of ``restore`` takes."""


def removes_related(bound: BoundService) -> bool:
    """Return True if the removal of a record does something to related records or links."""
    declared = bound.service.relations.values()
    return any(one.on_remove or one.through is not None for one in declared) or any(True for _ in _linking(bound))


def restores_related(bound: BoundService) -> bool:
    """Return True if records are removed and restored together with others."""
    declared = bound.service.relations.values()
    return any(one.on_remove == "cascade" for one in declared) or any(True for _ in _guarding(bound))


async def remove_related(context: Context, next: Next) -> None:
    """Do what ``on_remove`` says to the related records, and remove the links of records that are deleted for good.

    Raises Conflict if a related record prevents the removal. The calls for related records are made by the process
    itself, and have the call of the parent in ``params.parent``.
    """
    if context.has_result:
        await next()
        return
    service: Any = context.service.service
    async with together(context):
        ids = [row[service.id] for row in await _records(context)]
        if ids:
            removal = _Removal(context, ids)
            await removal.require_none()
            await removal.cascade()
            await removal.remove_links()
        await next()


async def _records(context: Context) -> list[Row]:
    """Lock the records of the call. Nobody can refer to them until the end of the transaction."""
    service, stored = context.service.service, context.params.before
    if stored is not None:
        return items(None, stored)
    rows: list[Row] = await service.read_for_change(context.id, context.params, (), "remove")
    return rows


class _Removal:
    """The removal of records. If the service keeps them in its ``trash``, it has the marks that it stores in them."""

    def __init__(self, context: Context, ids: Sequence[Any]) -> None:
        self.context, self.ids = context, ids
        self.service: Any = context.service.service
        self.marks: Row = (context.params.adapter or {}).get("on_remove") or {}

    def related(self, on_remove: str) -> Iterator[BoundRelation]:
        """Yield the relations that say this."""
        return (one for one in self.service.related.values() if one.declared.on_remove == on_remove)

    def where(self, relation: BoundRelation) -> Compare:
        """Return the condition for the related records."""
        return Compare(relation.key, "$in", self.ids)

    def params(self, relation: BoundRelation, method: str) -> Row:
        """Return the params of a call for the related records. What is deleted for good leaves nothing behind."""
        own: Row = {"query": Query(where=self.where(relation)), "adapter": {"multi": [method]}, "parent": self.context}
        return own if self.marks else {**own, "with_removed": True, "permanent": True}

    async def require_none(self) -> None:
        """Raise Conflict for the first relation whose records prevent the removal."""
        for relation in self.related("restrict"):
            query = Query(where=self.where(relation), limit=1, select=(relation.adapter.id,))
            if await relation.service.find({"query": query, "paginate": False, "with_removed": not self.marks}):
                await self._refuse(relation)

    async def _refuse(self, relation: BoundRelation) -> None:
        """Raise Conflict with the number of those related records that the caller can read."""
        query = {relation.key: {"$in": self.ids}, "$limit": 0}
        try:
            asked = {**caller_params(self.context), "query": query, "paginate": {"default": 0}}
            number = (await relation.service.find(asked))["total"]
        except FeathersError:  # The caller cannot read them.
            number = 0
        what = f"{number:,} {relation.name}" if number else relation.name
        rule = f"There are still {what.replace('_', ' ')}: remove them first"
        raise Conflict(rule, errors={relation.name: "Must be removed first"})

    async def cascade(self) -> None:
        """Remove the related records by their service, or empty their keys."""
        relations = list(self.related("cascade"))
        moment = await self._moment(relations)
        for relation in self.related("set_null"):
            await relation.service.patch(None, {relation.key: None}, self.params(relation, "patch"))
        for relation in relations:
            await relation.service.remove(None, {**self.params(relation, "remove"), "removed_at": moment})

    async def _moment(self, relations: Sequence[BoundRelation]) -> datetime | None:
        """Return the moment of the removal. It differs from that of all related records that were removed before."""
        moment: datetime | None = self.marks.get(self.service.trash or "")
        for relation in relations:
            trash = relation.adapter.trash
            if moment is None or trash is None:
                continue
            where = every(self.where(relation), Compare(trash, "$gte", moment))
            query = Query(where=where, sort=((trash, -1),), limit=1, select=(trash,))
            if found := await relation.adapter.find(Params({"query": query, "paginate": False})):
                later = found[0][trash] + timedelta(milliseconds=1)
                self.marks.update({name: later for name, value in self.marks.items() if value == moment})
                moment = later
        return moment

    async def remove_links(self) -> None:
        """Remove the links of the records, unless they may be restored."""
        if self.marks:
            return
        own = [(one.link, one.link.key) for one in self.service.related.values() if one.link is not None]
        linking = [owner.related[name].link for owner, name in _linking(self.context.service)]
        others = [(link, link.other_key) for link in linking if link is not None]
        for link, key in dict.fromkeys([*own, *others]):
            query = Query(where=Compare(key, "$in", self.ids))
            await link.adapter.remove(None, Params({"query": query, "adapter": {"multi": True}}))


async def restore_related(context: Context, next: Next) -> None:
    """Restore the records that were removed together with the restored ones.

    Raises Conflict for a record that was removed together with another one, which is still removed.
    """
    service: Any = context.service.service
    if context.has_result:
        await next()
        return
    async with together(context):
        rows = await _removed(context)
        if not isinstance(context.params.get("parent"), Context):
            for name in _guarding(context.service):
                await _require_parents(context, service.related[name], rows)
        await next()
        moments = {row[service.id]: row[service.trash] for row in rows}
        for relation in service.related.values():
            if relation.declared.on_remove == "cascade" and relation.adapter.trash is not None and moments:
                await _restore(context, relation, moments)


async def _removed(context: Context) -> list[Row]:
    """Lock the removed records of the call, and return them."""
    service, stored = context.service.service, context.params.before
    if stored is not None:
        return items(None, stored)
    data: Any = context.data
    ids = service.ids_to_restore(data.get("id") if isinstance(data, Mapping) else None)
    query, adapter = Query(where=Compare(service.id, "$in", ids)), {"private": (), "lock": True}
    asked = {"query": query, "scope": context.params.scope, "paginate": False, "adapter": adapter}
    rows: list[Row] = await service.find(Params(asked))
    return rows


async def _require_parents(context: Context, relation: BoundRelation, rows: list[Row]) -> None:
    """Raise Conflict if a record belongs to one that is removed."""
    ids = {row[relation.key] for row in rows} - {None}
    if not ids:
        return
    query = Query(where=Compare(relation.adapter.id, "$in", list(ids)), select=(relation.adapter.id,))
    found = await relation.service.find({"query": query, "paginate": False, "adapter": {"lock": "key"}})
    gone = sorted(ids - {row[relation.adapter.id] for row in found}, key=str)
    if gone:
        rule = f"The {relation.name.replace('_', ' ')} {gone[0]} is removed: restore that first"
        raise Conflict(rule, errors={relation.key: "Is removed"})


async def _restore(context: Context, relation: BoundRelation, moments: Mapping[Any, datetime]) -> None:
    children, trash = relation.adapter, relation.adapter.trash or ""
    together = every(
        Compare(relation.key, "$in", list(moments)), Compare(trash, "$in", list(dict.fromkeys(moments.values())))
    )
    query = Query(where=together, select=(children.id, relation.key, trash))
    found = await children.find(Params({"query": query, "paginate": False}))
    ids = [row[children.id] for row in found if row[trash] == moments[row[relation.key]]]
    for start in range(0, len(ids), MOST_AT_ONCE):
        await relation.service.restore({"id": ids[start : start + MOST_AT_ONCE]}, {"parent": context})


def _linking(bound: BoundService) -> Iterator[tuple[Adapter[Any], str]]:
    """Yield the relations that link records of any service to those of this one: adapter and name."""
    for other in bound._app.services.values():
        for name, relation in getattr(other.service, "relations", {}).items():
            if relation.through is not None and relation.service.strip("/") == bound._path:
                yield other.service, name


def _guarding(bound: BoundService) -> Iterator[str]:
    """Yield the relations of a service to records whose removal does something to its own records."""
    for name, relation in bound.service.relations.items():
        if relation.kind == "belongs_to" and is_guarded(bound._app, bound._path, relation.service, relation.key):
            yield name
