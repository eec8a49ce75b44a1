"""Conditions and orders across relations, within what the caller may read of the related service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from apex.context import Params
from apex.errors import BadRequest
from apex.query.across import Across, Related
from apex.query.language import Compare, Junction, Predicate, Query, every
from apex.relations.binding import BoundRelation
from apex.relations.scopes import Found, hooks_of_find, read_params, readable_links

if TYPE_CHECKING:
    from apex.adapters.base import Adapter
    from apex.adapters.cursors import Selection

MOST_FOUND = 10_000
"""The most related records that a condition may find where the store cannot join them."""


class Lookup(NamedTuple):
    """A field of the one related record, to sort by. It is null for a record that the caller may not read.

    ``name`` is the field, or the name of a lookup ``inside`` of the related service.
    """

    relation: BoundRelation
    where: Predicate
    name: str
    inside: Mapping[str, Lookup]


async def resolved(adapter: Adapter[Any], where: Predicate, params: Params) -> Predicate:
    """Return a condition with what the caller may read of the related services.

    Raises the error with which a related service refuses to be asked.
    """
    if isinstance(where, Junction):
        parts = [await resolved(adapter, part, params) for part in where.parts]
        return Junction(where.kind, tuple(parts)) if where.kind == "or" else every(*parts)
    if not isinstance(where, Across):
        return where
    relation = adapter.related[where.relation]
    links = await readable_links(relation, params)
    conditions: list[Predicate] = []
    for query, none in [(where.some, False), *((query, True) for query in where.none)]:
        if query is not None:
            found = await _found(relation, query, params)
            conditions.append(
                await adapter._related_condition(Related(relation, where.field, found.where, links, none))
            )
    return every(*conditions)


async def lookups(adapter: Adapter[Any], query: Query, params: Params) -> dict[str, Lookup]:
    """Return the fields of related records that a query sorts by, by their names."""
    found: dict[str, Lookup] = {}
    for name, _ in query.sort:
        outer, _, inner = name.partition(".")
        if name in query.across and (relation := adapter.related.get(outer)) is not None:
            read = await _found(relation, {"$sort": {inner: 1}}, params)
            found[name] = Lookup(relation, read.where, inner, read.lookups)
    return found


async def _found(relation: BoundRelation, query: Mapping[str, Any], params: Params) -> Found:
    found = await hooks_of_find(relation.service, read_params(relation, query, params))
    if found.query.paths or found.query.search is not None:
        raise BadRequest(
            f"Nobody can filter or sort by fields of '{relation.name}': a hook of its service adds a search, or a "
            "condition on keys of JSON, to each list"
        )
    return found


async def as_comparison(related: Related, selection: Selection) -> Compare:
    """Return a condition on related records as one on the own field. Any adapter can do it.

    Raises BadRequest if more than 10,000 related records meet the condition.
    """
    relation: BoundRelation = related.relation
    key = relation.related_key if relation.link is None else relation.adapter.id
    values = await _values(relation.adapter, selection, related.where, key)
    if (link := relation.link) is not None:
        where = every(Compare(link.other_key, "$in", values), related.links)
        values = await _values(link.adapter, selection, where, link.key)
    return Compare(related.field, "$nin" if related.none else "$in", values)


async def values_of(lookup: Lookup, selection: Selection) -> dict[Any, Any]:
    """Return the values to sort by, by the id of the related record. Any adapter can do it."""
    adapter, inside = lookup.relation.adapter, lookup.inside.get(lookup.name)
    field = lookup.name if inside is None else inside.relation.own_key
    asked = selection._replace(where=lookup.where, query=Query(), fields=(adapter.id, field), limit=None, lookups={})
    rows, _ = await adapter._select(asked)
    deeper = None if inside is None else await values_of(inside, selection)
    return {row[adapter.id]: row.get(field) if deeper is None else deeper.get(row[field]) for row in rows}


async def _values(adapter: Adapter[Any], selection: Selection, where: Predicate, field: str) -> list[Any]:
    asked = selection._replace(where=where, fields=(field,), limit=MOST_FOUND + 1)
    rows, _ = await adapter._select(asked)
    if len(rows) > MOST_FOUND:
        raise BadRequest(f"The query finds more than {MOST_FOUND:,} related records: narrow it")
    return list(dict.fromkeys(row[field] for row in rows if row.get(field) is not None))
