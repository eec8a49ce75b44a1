"""Related records in the data of a record: all of them are stored together, or none is.

These hooks are the innermost of their methods. All other hooks before the method have run, so they see the data of the
caller with its related records, and may refuse or change them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apex.context import Context, Params
from apex.describe import hooks_in
from apex.errors import BadRequest, FeathersError
from apex.hooks import Around, Next, keeps_result
from apex.query.language import Compare, Query, every
from apex.relations.binding import BoundRelation, Link
from apex.relations.calls import caller_params
from apex.relations.data import require_form, spend, take_related
from apex.relations.references import CHECKED, Place, Reference, id_of, is_guarded, require_records, tenant_field
from apex.transaction import transaction
from apex.types import Row, items

if TYPE_CHECKING:
    from apex.hooks import Steps
    from apex.service import BoundService

_PLACE = re.compile(r"(\d+)(?:\.(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Plan:
    """The relations that a method of a service writes.

    ``keys`` are the references in fields of the record itself, by field. ``parents`` are related records that are
    stored before the record, ``children`` those that are stored after it, and ``links`` the lists of ids.
    """

    keys: Mapping[str, Reference]
    parents: tuple[str, ...]
    children: tuple[str, ...]
    links: tuple[Reference, ...]

    @property
    def writable(self) -> tuple[str, ...]:
        """The names of the relations that the data may have."""
        return (*self.parents, *self.children, *(link.name for link in self.links))


def plan_of(bound: BoundService, method: str, steps: Steps) -> Plan:
    """Return the relations that a method writes. ``steps`` are its other hooks."""
    declared, path = bound.service.relations, bound._path
    checked = {name for hook in hooks_in(steps) for name in getattr(hook, CHECKED, ())}
    keys: dict[str, Reference] = {}
    parents, children, links = [], [], []
    for name, relation in declared.items():
        if relation.kind == "belongs_to":
            guarded = is_guarded(bound._app, path, relation.service, relation.key)
            if guarded or relation.key not in checked:
                trusted = relation.trusted or relation.key in checked
                # Several relations may have one key. The caller's rights count if they do for one of them.
                if (known := keys.get(relation.key)) is None or known.trusted:
                    keys[relation.key] = Reference(name, trusted, guarded)
        if relation.write and relation.kind == "belongs_to":
            parents.append(name)
        elif relation.write and relation.kind == "has_many":
            children.append(name)
        elif relation.write:
            links.append(Reference(name, relation.trusted))
    return Plan(keys, tuple(parents), tuple(children), tuple(links))


def write_related(plan: Plan) -> Around:
    """Return the innermost around hook of create, update and patch for the relations of a service.

    It checks the references of callers, and stores the related records that the data has. Only then, and if a record
    must not be removed meanwhile, it begins a transaction.
    """
    guarded = {name: reference for name, reference in plan.keys.items() if reference.guarded}

    async def write_related(context: Context, next: Next) -> None:
        # Data that is no record is refused by the method.
        if context.has_result or not all(isinstance(row, Mapping) for row in context.items):
            await next()
            return
        related = take_related(context, plan.writable)
        if related is not None:
            require_form(context, related)
            spend(context, related)
        keys = plan.keys if context.params.provider else guarded
        rows: list[Row] = context.items
        named = {key: one for key, one in keys.items() if any(row.get(key) is not None for row in rows)}
        if related is None and not named:
            await next()
            return
        opens = related is not None or not guarded.keys().isdisjoint(named)
        async with together(context) if opens else nullcontext():
            write = _Write(context, plan, related or [])
            await write.check(named)
            await write.store_parents()
            await next()
            await write.store_children()
            await write.store_links()

    return keeps_result(write_related)


@asynccontextmanager
async def together(context: Context) -> AsyncIterator[None]:
    """Store what is written inside in one transaction of each store that the relations of the service reach."""
    service = context.service.service
    adapters = [service, *(relation.adapter for relation in service.related.values())]
    # One adapter for each kind of store, always in the same order, so that no two calls wait for each other.
    kinds = {type(adapter).unit_of_work.__qualname__: adapter for adapter in adapters}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(transaction())
        for _, adapter in sorted(kinds.items()):
            await stack.enter_async_context(adapter.unit_of_work())
        yield


class _Write:
    """The related records of one call. ``related`` has them for each record of the data, by relation."""

    def __init__(self, context: Context, plan: Plan, related: list[Row]) -> None:
        self.context, self.plan, self.related = context, plan, related
        self.service: Any = context.service.service
        self.relations: Mapping[str, BoundRelation] = self.service.related
        self.many: bool = isinstance(context.data, list)

    def place(self, number: int, *names: Any) -> str:
        """Return the name of a field in errors. ``number`` is the place of its record in the data."""
        return ".".join(map(str, (number, *names) if self.many else names))

    async def check(self, named: Mapping[str, Reference]) -> None:
        """Require that the caller can read the records that the data refers to."""
        changes = self.context.items
        before: list[Row] | None = None
        if self.context.method != "create":
            stored = self.context.params.before
            before = None if stored is None else items(None, stored)
            # What a lock of a referenced record would wait for may wait for this record, so it is locked first.
            locks = any(reference.guarded for reference in named.values()) or self._has_links
            if before is None and (locks or self._has_several_tenants):
                before = await self._read(named)
        try:
            await require_records(self.context, self._checks(named, changes, before))
        except BadRequest:
            if self.context.method == "create" or before is not None:
                raise
            # A record may keep a reference that its caller cannot read.
            await require_records(self.context, self._checks(named, changes, await self._read(named)))

    async def _read(self, named: Iterable[str]) -> list[Row]:
        fields = (*named, *filter(None, (tenant_field(self.service),)))
        rows: list[Row] = await self.service.read_for_change(self.context.id, self.context.params, fields)
        return rows

    @property
    def _has_several_tenants(self) -> bool:
        """True if the scope does not tell of which tenant the records are."""
        return tenant_field(self.service) is not None and self._tenant({}, None) is None

    def _tenant(self, row: Row, before: list[Row] | None) -> Any:
        """Return the tenant of a record, or None if it is not known."""
        field = tenant_field(self.service)
        if field is None:
            return None
        if row.get(field) is not None:
            return row[field]
        known: Any = {old.get(field) for old in before or ()} or self.context.params.scope.get(field)
        if isinstance(known, list | tuple | set | frozenset):
            return next(iter(known)) if len(known) == 1 else None
        return None if isinstance(known, dict) else known

    @property
    def _has_links(self) -> bool:
        return any(link.name in given for link in self.plan.links for given in self.related)

    def _checks(
        self, named: Mapping[str, Reference], rows: list[Row], before: list[Row] | None
    ) -> list[tuple[Reference, list[Place]]]:
        checks: list[tuple[Reference, list[Place]]] = []
        for key, reference in named.items():
            relation = self.relations[reference.name]
            known = self._created_by_parent(relation)
            if before:
                known |= set.intersection(*({old.get(key)} for old in before))
            places = [
                Place(self.place(number, key), row[key], self._tenant(row, before))
                for number, row in enumerate(rows)
                if row.get(key) is not None and id_of(relation, row[key]) not in known
            ]
            checks.append((reference, places))
        for link in self.plan.links:
            places = [
                Place(self.place(number, link.name, index), id, self._tenant(rows[number], before))
                for number, given in enumerate(self.related)
                for index, id in enumerate(given.get(link.name, ()))
            ]
            checks.append((link, places))
        return [(reference, places) for reference, places in checks if places]

    def _created_by_parent(self, relation: BoundRelation) -> set[Any]:
        """Return the ids of the records that a call has created, and to which it adds the records of this call."""
        parent = self.context.params.get("parent")
        if not isinstance(parent, Context) or parent.method != "create" or parent.service is not relation.service:
            return set()
        return {record[relation.adapter.id] for record in items(None, parent.result)}

    async def store_parents(self) -> None:
        """Create the records that the new ones belong to, and set the keys."""
        for name in self.plan.parents:
            given = [number for number, related in enumerate(self.related) if name in related]
            if given:
                relation = self.relations[name]
                rows = [self.related[number][name] for number in given]
                created = await self._create(relation, rows, [self.place(number, name) for number in given])
                records = self.context.items
                for number, parent in zip(given, created, strict=True):
                    records[number] = {**records[number], relation.key: parent[relation.adapter.id]}
                self.context.items = records

    async def store_children(self) -> None:
        """Create the records that belong to the new ones."""
        for name in self.plan.children:
            ids, rows, places = self._ids, [], []
            for number, given in enumerate(self.related):
                for index, child in enumerate(given.get(name, ())):
                    rows.append({**child, self.relations[name].key: ids[number]})
                    places.append(self.place(number, name, index))
            if rows:
                await self._create(self.relations[name], rows, places)

    @property
    def _ids(self) -> list[Any]:
        return [record[self.service.id] for record in items(None, self.context.result)]

    async def _create(self, relation: BoundRelation, rows: list[Row], places: Sequence[str]) -> list[Row]:
        """Create records by the service's own method, with the rights of the caller. Its errors name their places."""
        service = relation.service
        multi = relation.adapter.multi
        if len(rows) > 1 and (multi is True or (multi and "create" in multi)):
            try:
                created: list[Row] = await service.create(rows, {**caller_params(self.context), "parent": self.context})
            except FeathersError as error:
                raise _renamed(error, places) from error.__cause__
            return created
        created = []
        for row, place in zip(rows, places, strict=True):
            try:
                created.append(await service.create(row, {**caller_params(self.context), "parent": self.context}))
            except FeathersError as error:
                raise _renamed(error, [place], alone=True) from error.__cause__
        return created

    async def store_links(self) -> None:
        """Store the lists of ids."""
        for reference in self.plan.links:
            relation = self.relations[reference.name]
            link = relation.link
            if link is None or not any(reference.name in given for given in self.related):
                continue
            ids, wanted = self._ids, dict[Any, list[Any]]()
            related = self.related if self.context.method == "create" else self.related * len(ids)
            for id, given in zip(ids, related, strict=True):
                if reference.name in given:
                    wanted[id] = list(dict.fromkeys(map(relation.adapter.typed_id, given[reference.name])))
            if not wanted:
                continue
            stored = set() if self.context.method == "create" else await self._replaced(link, wanted)
            pairs = [(id, other) for id, others in wanted.items() for other in others if (id, other) not in stored]
            if pairs:
                tenants = await self._tenants(link, list(wanted))
                rows = [{link.key: id, link.other_key: other, **tenants.get(id, {})} for id, other in pairs]
                await link.adapter.create(rows, Params({"adapter": {"multi": True}}))

    async def _replaced(self, link: Link, wanted: Mapping[Any, list[Any]]) -> set[tuple[Any, Any]]:
        """Remove the links of the records that they shall not have, and return those that they have."""
        of_records = Compare(link.key, "$in", list(wanted))
        query = Query(where=of_records, select=(link.key, link.other_key))
        found = await link.adapter.find(Params({"query": query, "paginate": False}))
        stored = {(row[link.key], row[link.other_key]) for row in found}
        others = next(iter(wanted.values()))  # A patch gives all its records the same links.
        if any(other not in others for _, other in stored):
            gone = Query(where=every(of_records, Compare(link.other_key, "$nin", others)))
            await link.adapter.remove(None, Params({"query": gone, "adapter": {"multi": True}}))
        return stored

    async def _tenants(self, link: Link, ids: list[Any]) -> Mapping[Any, Row]:
        """Return the tenant of each record under the name that it has in the links, if links have a tenant."""
        ours, theirs = tenant_field(self.service), tenant_field(link.adapter)
        if ours is None or theirs is None:
            return {}
        query = Query(where=Compare(self.service.id, "$in", ids), select=(ours,))
        found = await self.service.find(Params({"query": query, "paginate": False}))
        return {row[self.service.id]: {theirs: row[ours]} for row in found}


def _renamed(error: FeathersError, places: Sequence[str], alone: bool = False) -> FeathersError:
    """Return the error of a related record with the places of its fields in the data."""
    if error.code >= 500:
        return error
    renamed: dict[str, Any] = {}
    for name, sentence in (error.errors or {}).items():
        numbered = None if alone else _PLACE.fullmatch(str(name))
        if numbered is not None and int(numbered[1]) < len(places):
            name = ".".join(filter(None, (places[int(numbered[1])], numbered[2])))
        elif alone:
            name = f"{places[0]}.{name}"
        renamed[name] = sentence
    error.errors = renamed or {places[0]: error.message}
    return error
