"""``$populate``: the related records that a caller asks for, in the answers of a service with relations.

The related records are read after all hooks of the call, by calls of their own services with the rights of the caller.
So hooks and events get plain records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from apex.context import Context
from apex.errors import BadRequest
from apex.hooks import Step, Steps
from apex.query.language import compared, invalid, shortened, suggestion
from apex.relations.binding import BoundRelation
from apex.relations.calls import REFUSALS
from apex.relations.reading import MOST_ROWS, Owners, by_owner
from apex.relations.scopes import hooks_of_find, read_params, readable_links
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import READS, WRITES, Row, items, map_items

if TYPE_CHECKING:
    from apex.adapters.base import Adapter

POPULATE = "$populate"
METHODS = (*READS, *WRITES)
MOST_DEEP = 4
MOST_RELATIONS = 20
"""The levels and the relations that one ``$populate`` may name."""

IDS = 1_000
"""The ids that one statement asks for."""

_ALONE = ("$total", "$after", "$before", "$deleted")
_ONE = frozenset({"$select", POPULATE})


class Asked(NamedTuple):
    """A relation in a ``$populate``, with the query for its records and the relations inside of it."""

    relation: BoundRelation
    query: Row
    inside: tuple[Asked, ...]


def with_populate(adapter: Adapter[Any], method: str, steps: Steps) -> Steps:
    """Return the steps of a method of a service with relations, between those that populate its answers."""
    if method not in METHODS:
        return steps
    populate = Populate(adapter)
    return (Step("before", populate.prepare, False, "service"), *steps, Step("after", populate.show, False, "service"))


class Populate:
    """The first and the last step of a service with relations: they add related records to the answer."""

    def __init__(self, adapter: Adapter[Any]) -> None:
        self.adapter = adapter
        self.always = [name for name, relation in adapter.relations.items() if relation.always]

    def prepare(self, context: Context) -> Awaitable[None] | None:
        """Read what the call asks for. Raises BadRequest."""
        asked = self.asked(context) if self.always or POPULATE in context.params.query else []
        if not asked:
            return None
        context._populated = asked, _add_keys(context, asked)
        return _check(context, asked) if context.method in WRITES else None

    def show(self, context: Context) -> Awaitable[None] | None:
        """Add the related records that the call has asked for to its answer."""
        if context._populated is None:
            return None
        if context.event is not None or context.turn is not None:
            context._announced = context.copy()
        asked, added = context._populated
        return _show(context, asked, added)

    def asked(self, context: Context) -> list[Asked]:
        """Return the relations that a call asks for, and take them out of its query. Raises BadRequest."""
        query = context.params.query
        named: Any = query.get(POPULATE)
        if named is not None:
            context.params.query = {name: value for name, value in query.items() if name != POPULATE}
        counter = [MOST_RELATIONS]
        asked = {} if named is None else {one.relation.name: one for one in read_populate(self.adapter, named, counter)}
        if self.always and "$select" not in query and "owners" not in (context.params.adapter or ()):
            for name in self.always:
                asked.setdefault(name, Asked(self.adapter.related[name], {}, ()))
        return list(asked.values())


def read_populate(adapter: Adapter[Any], named: Any, counter: list[int], depth: int = 1) -> Iterator[Asked]:
    """Yield the relations that a ``$populate`` names. ``counter`` has the number that it may still name.

    It is a text with commas, a list of names, or an object with a query for each relation. Raises BadRequest for a
    relation that the service does not have, or a query that the related service does not take.
    """
    if depth > MOST_DEEP:
        raise invalid(POPULATE, f"must not be nested deeper than {MOST_DEEP} levels")
    for name, query in _named(named).items():
        counter[0] -= 1
        if counter[0] < 0:
            raise invalid(POPULATE, f"must not name more than {MOST_RELATIONS} relations")
        relation = adapter.related.get(name)
        if relation is None:
            known = f"The relations are {', '.join(adapter.related)}." if adapter.related else "There are no relations."
            hint = suggestion(name, adapter.related) or f" {known}"
            message = f"Unknown relation '{shortened(name)}'."
            raise BadRequest(message + hint, errors={POPULATE: message + hint})
        inner = query.get(POPULATE)
        inside = () if inner is None else tuple(read_populate(relation.adapter, inner, counter, depth + 1))
        _check_query(relation, {key: value for key, value in query.items() if key != POPULATE})
        yield Asked(relation, query, inside)


def _named(value: Any) -> dict[str, Row]:
    """Return the query for each relation by its name. A name with dots, ``comments.author``, names nested ones."""
    named: dict[str, Row] = {}
    if isinstance(value, Mapping):
        for name, query in value.items():
            if query in ("", True, "true"):
                query = {}
            if not isinstance(query, Mapping):
                raise invalid(f"{POPULATE}[{shortened(name)}]", "takes a query such as {$limit: 3}, or nothing")
            named[name] = dict(query)
        return named
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise invalid(POPULATE, "takes names with commas, a list of names, or an object with a query for each name")
    inner: dict[str, list[str]] = {}
    for path in listed:
        name, _, rest = path.strip().partition(".")
        inner.setdefault(name, []).extend([rest] if rest else [])
    return {name: {POPULATE: paths} if paths else {} for name, paths in inner.items()}


def _check_query(relation: BoundRelation, query: Row) -> None:
    declared, name = relation.declared, f"{POPULATE}[{relation.name}]"
    for key in query:
        if not declared.many and key not in _ONE:
            raise invalid(name, f"takes $select and {POPULATE}, as it is one record, not {shortened(str(key))}")
        if key in _ALONE:
            raise invalid(name, f"does not take {key}: ask '{declared.service}' for it in a list of its own")
    parsed = relation.adapter.syntax.parse(query)
    if declared.fields is None:
        return
    if callable(declared.fields):
        if parsed.select is not None:
            raise invalid(name, "does not take $select: it has a form of its own")
        shown: Sequence[str] = ()
    else:
        shown = declared.fields
    used = list(parsed.select or ())
    if declared.trusted:
        used += [*compared(parsed.where), *(field for field, _ in parsed.sort)]
    for field in used:
        if field not in shown:
            raise invalid(name, f"has no field '{shortened(field)}': there are {', '.join(shown) or 'none to ask for'}")


def _add_keys(context: Context, asked: list[Asked]) -> list[str]:
    """Add the keys of relations to ``$select``, and return those that the caller has not selected."""
    query = context.params.query
    select = query.get("$select")
    names = [select] if isinstance(select, str) else select
    if not isinstance(names, list | tuple):
        return []
    keys = [one.relation.key for one in asked if not one.relation.declared.many]
    added = [key for key in dict.fromkeys(keys) if key not in names]
    if added:
        context.params.query = {**query, "$select": [*names, *added]}
    return added


async def _check(context: Context, asked: list[Asked]) -> None:
    """Run the hooks of the related services before a write, which must not be stored if they refuse the queries."""
    for one in asked:
        with suppress(*REFUSALS):
            await hooks_of_find(one.relation.service, read_params(one.relation, _query(one, []), context.params))


async def _show(context: Context, asked: list[Asked], added: list[str]) -> None:
    """Add the related records to the answer. A caller gets those of the keys that it sees there."""
    is_cut = context.has_dispatch or context._visible is not None
    seen = context.external if context.params.get("provider") else context.result
    records = [record for record in items(context.method, seen) if isinstance(record, Mapping)]
    found: dict[str, dict[Any, list[Any]]] = {}
    for one in asked:
        keys = dict.fromkeys(_values(records, one.relation.own_key))
        related = await _related(context, one, [key for key in keys if key is not None])
        found[one.relation.name] = {key: related.get(key, []) for key in keys}

    def populated(record: Any) -> Any:
        if not isinstance(record, Mapping):
            return record
        made: Any = copy(record)
        for one in asked:
            relation = one.relation
            for key in _values([record], relation.own_key):
                if (related := found[relation.name].get(key)) is not None:
                    made[relation.name] = related if relation.declared.many else next(iter(related), None)
        for name in added:
            made.pop(name, None)
        return made

    if is_cut:
        context.dispatch, context._visible = map_items(context.method, context.external, populated), None
    context.result = map_items(context.method, context.result, populated)


def _values(records: Iterable[Mapping[str, Any]], key: str) -> Iterator[Any]:
    """Yield the values of a key in the records that have it. A list or an object is none."""
    return (record[key] for record in records if key in record and isinstance(record[key], Hashable))


async def _related(context: Context, asked: Asked, ids: list[Any]) -> dict[Any, list[Any]]:
    """Return the related records of the owners with these ids, as they are shown to the caller."""
    found: dict[Any, list[Any]] = {}
    left = MOST_ROWS if context.params.get("provider") is not None else None
    for start in range(0, len(ids), IDS):
        try:
            part = await _read(context, asked, ids[start : start + IDS], left)
        except REFUSALS:
            return {}
        if left is not None:
            left -= sum(map(len, part.values()))
        found |= part
    cut = _cut(asked)
    return {owner: [cut(record) for record in records] for owner, records in found.items()}


async def _read(context: Context, asked: Asked, ids: list[Any], most: int | None) -> dict[Any, list[Any]]:
    relation = asked.relation
    links = await readable_links(relation, context.params)
    owners = Owners(ids, relation.related_key, relation.declared.many, relation.link, links, most=most)
    params = {**read_params(relation, _query(asked, ids), context.params), "adapter": {"owners": owners}}
    with tenant_context(ALL_TENANTS) if relation.declared.trusted else nullcontext():
        inner = await relation.service._run("find", params=params)
    shown = inner.result if params.get("provider") is None else inner.external
    if owners.pairs is None:
        raise TypeError(
            f"'{relation.declared.service}' cannot be populated: its find, or a hook that answers in place of it, "
            "has to call the find of its adapter"
        )
    return by_owner(owners, items("find", shown), relation.adapter.id)


def _query(asked: Asked, ids: list[Any]) -> Row:
    """Return the query for the related records of the owners with these ids."""
    relation, declared, query = asked.relation, asked.relation.declared, dict(asked.query)
    if declared.limit is not None:
        query.setdefault("$limit", declared.limit)
    if declared.sort is not None:
        query.setdefault("$sort", dict(declared.sort))
    names = relation.names or ()
    if names and (declared.trusted or not set(names).isdisjoint(relation.adapter.on_demand)):
        query.setdefault("$select", list(names))
    if relation.link is None:
        key = relation.related_key
        if key in query or "$and" in query:
            query["$and"] = [{key: {"$in": ids}}, {key: query.pop(key)} if key in query else {}, *query.get("$and", ())]
        else:
            query[key] = {"$in": ids}
    return query


def _cut(asked: Asked) -> Any:
    """Return the function that makes of a related record what is shown of it."""
    fields = asked.relation.declared.fields
    if fields is None:
        return lambda record: record
    inside = [one.relation.name for one in asked.inside]
    if callable(fields):
        return lambda record: {**fields(record), **{name: record[name] for name in inside if name in record}}
    names = (*(fields if "$select" not in asked.query else _selected(asked.query["$select"])), *inside)
    return lambda record: {name: record[name] for name in names if name in record}


def _selected(select: Any) -> Sequence[str]:
    return [select] if isinstance(select, str) else select
