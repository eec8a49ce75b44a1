"""The base of all adapters: the rules of Feathers' database services, above five operations of a store.

An adapter for another store subclasses ``Adapter`` and writes ``_select``, ``_count``, ``_insert``, ``_update`` and
``_delete``, and ``_estimate`` if it can. The base decides about limits, cursors, scopes, ids and errors, so that all
adapters behave alike. ``apex.testing`` has the tests for that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack, cast

from apex.adapters.aggregates import ALLOWED, Aggregate, add_methods, compute, describe_methods, functions_of
from apex.adapters.cursors import Cursors, Lock, Selection
from apex.adapters.options import AdapterOptions, require_fields, require_options
from apex.adapters.pages import estimated_page, limit_of, page_at_cursor
from apex.adapters.search import SEARCH_DATA, checked_search, search
from apex.adapters.upserts import upsert
from apex.context import Params, params_of
from apex.describe import describe
from apex.errors import BadRequest, MethodNotAllowed
from apex.query.across import Related
from apex.query.coercion import Coerce, boolean, json, shape
from apex.query.evaluation import missing, outside, stamped, staying
from apex.query.language import (
    DELETED,
    EVERYTHING,
    MAX_HINTS,
    OPERATORS,
    Compare,
    Hints,
    Predicate,
    Query,
    Syntax,
    every,
    invalid,
    require_few,
    shortened,
)
from apex.query.scope import AS_GIVEN, FieldTypes, scope_predicate
from apex.query.scope import Typed as ScopeTypes
from apex.query.search import SEARCH
from apex.relations.across import as_comparison, lookups, resolved
from apex.relations.binding import BoundRelation, Link, bind, require_names, service_link
from apex.relations.declarations import Relation, checked_relations
from apex.relations.hooks import hooks_around
from apex.relations.populate import with_populate
from apex.relations.reading import Owners, read_related
from apex.service import Record, Service
from apex.types import STANDARD, Id, Paginate, Row

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.hooks import Around, Steps
    from apex.service import BoundService


ServeMethod = Callable[..., Awaitable[Any]]
"""A method that takes a bool after its params: True if its records go to a caller and may be JSON."""

MOST_RESTORED = 1_000
"""The most records that one call restores."""

_ID: dict[str, Any] = {"type": ["integer", "string"]}
RESTORED: dict[str, Any] = {"anyOf": [_ID, {"type": "array", "items": _ID, "maxItems": MOST_RESTORED}]}
"""The JSON Schema of the ids that ``restore`` takes."""


class Adapter(Service, ABC, Generic[Record]):
    """A service over rows. Class attributes are its options. Keywords of the constructor replace them.

    The type of a record may be declared, as in ``SQLService[Note]``. Then ``get`` and ``update`` return it.

    ``apex.sql.SQLService`` and ``apex.adapters.MemoryService`` are adapters::

        class Notes(MemoryService):
            paginate = {"default": 10, "max": 50}
    """

    id: str = "id"
    """The field with the id."""
    paginate: Paginate = False
    """``{"default": n, "max": n}`` for pages, or False for whole lists."""
    multi: bool | Sequence[str] = False
    """True, or a list of create, patch and remove: the methods that take many records at once."""
    operators: Sequence[str] = ()
    """Operators that queries may use in addition to Feathers' own."""
    filters: Mapping[str, Coerce] = {}
    """Further keys of queries such as ``$within``, with the functions that check their values."""
    private: Sequence[str] = ()
    """Fields that callers can neither see nor query. The schema decides if they may write them."""
    on_demand: Sequence[str] = ()
    """Fields that a record has only if ``$select`` names them."""
    merge: Sequence[str] = ()
    """Fields with an object. A patch merges its keys instead of replacing the object, and null removes a key."""
    paths: Mapping[str, Any] = {}
    """JSON fields whose keys ``find`` can filter and sort by, if the adapter has a way to look them up."""
    lists: Mapping[str, Coerce] = {}
    """JSON fields with a list, with the functions that check an item. A query for an item finds lists that have it."""
    trash: str | None = None
    """The field with the moment of removal, if the hook ``soft_delete`` keeps removed records.

    ``find`` then takes ``$deleted``, and the service has the method ``restore``.
    """
    relations: Mapping[str, Relation] = {}
    """The relations to other services, by name. ``belongs_to``, ``has_many`` and ``many_to_many`` make them."""
    searchable: Sequence[str] = ()
    """Fields with text, the most important first. ``find`` then takes ``$search``, and callers may call ``search``."""
    natural_key: Sequence[str] = ()
    """Fields that together name one record. Callers may then call ``upsert``."""
    aggregates: Mapping[str, Aggregate] = {}
    """Custom methods by name, each with the ``Aggregate`` that it returns. Their data is a query with conditions."""
    _sorts_related: bool = False
    """True if the adapter reads ``selection.lookups``."""
    _read_only: frozenset[str] = frozenset()
    """Fields that only the store writes. Data with one of them is refused."""

    def __init__(self, **options: Unpack[AdapterOptions]) -> None:
        known = AdapterOptions.__annotations__
        for name, value in options.items():
            if name not in known:
                raise TypeError(f"Unknown option '{name}': there are {', '.join(known)}")
            setattr(self, name, value)
        require_options(self)
        if self.trash is not None:
            self._extend({DELETED: boolean}, "restore")
        if self.searchable:
            self._extend({SEARCH: checked_search}, "search")
        if self.natural_key:
            self._extend({}, "upsert")
        for name in self.aggregates:
            self._extend({}, name)
        add_methods(self)
        self.relations = checked_relations(self.relations)
        self.writable: tuple[str, ...] = tuple(name for name, one in self.relations.items() if one.write)
        self.related: Mapping[str, BoundRelation] = {}
        self.cursors: Cursors = Cursors()

    def _extend(self, filters: Mapping[str, Coerce], method: str) -> None:
        """Let callers use further filters and a further method."""
        self.filters = {**self.filters, **filters}
        methods = STANDARD if self.methods is None else self.methods
        self.methods: Sequence[str] | None = tuple(dict.fromkeys((*methods, method)))

    def _registered(self, app: Apex, path: str) -> None:
        """Raise TypeError for an option with the name of a field that the adapter does not have."""
        describe_methods(self)
        if self.columns is None:
            return
        require_names(path, self)
        require_fields(path, self)

    def _hooks_around(self, bound: BoundService, method: str, steps: Steps) -> Sequence[Around]:
        return hooks_around(bound, method, steps)

    async def setup(self, app: Apex, path: str) -> None:
        """Take the app's secret, so that each process of the app can read the cursors of the others.

        Raises TypeError for a relation that the services of the app cannot have.
        """
        self.cursors = Cursors((app.get("authentication") or {}).get("secret"), path)
        if self.relations:
            self.related = await bind(app, path, self)
            vars(self).pop("syntax", None)

    async def _link(self, where: str, relation: Relation, app: Apex, other: Adapter[Any]) -> Link:
        """Return the links of a ``many_to_many``. Raises TypeError, which begins with ``where``."""
        return service_link(where, relation, app)

    # Methods that an adapter implements.

    @property
    def served(self) -> Collection[str] | None:
        """The query operators that the adapter can serve. None, if it checks them only when it runs a query."""
        return None

    def fields(self) -> Mapping[str, Coerce] | None:
        """Return the functions that check the values of each field. None, if any field may be stored."""
        return None

    @abstractmethod
    async def _select(self, selection: Selection, total: bool = False) -> tuple[list[Row], int | None]:
        """Return the rows in order and, with ``total``, the number of rows without limit and skip."""

    async def _page(self, selection: Selection) -> Any:
        """Return a page. An adapter may return JSON if ``selection.json`` is True."""
        counted = selection.query.total is not False
        rows, total = await self._select(selection, counted)
        page = {"limit": selection.limit or 0, "skip": selection.query.skip, "data": rows}
        return {"total": total or 0, **page} if counted else page

    async def _record(self, selection: Selection, id: Id) -> Any:
        """Return the one row. An adapter may return JSON if ``selection.json`` is True. Raises NotFound."""
        return _single((await self._select(selection))[0], id)

    @abstractmethod
    async def _count(self, where: Predicate) -> int:
        """Return the number of rows."""

    async def _estimate(self, where: Predicate) -> int | None:
        """Return about how many rows there are, without reading them. None, if they have to be counted."""
        return None

    @abstractmethod
    async def _insert(self, rows: list[Row], fields: tuple[str, ...] | None, params: Params) -> list[Any]:
        """Store rows, with ``params.adapter["companion"]`` (see ``Companion``), and return them as they are stored."""

    async def _insert_json(self, row: Row, fields: tuple[str, ...] | None, params: Params) -> Any:
        """Store one row and return it for a caller. An adapter may return JSON."""
        return (await self._insert([row], fields, params))[0]

    @abstractmethod
    async def _update(self, where: Predicate, values: Row, fields: tuple[str, ...] | None, whole: bool) -> list[Row]:
        """Change the rows, and return them as they are then. ``whole`` empties the other fields (``emptied``)."""

    @abstractmethod
    async def _delete(self, where: Predicate, fields: tuple[str, ...] | None) -> list[Row]:
        """Delete the rows, and return them as they were."""

    async def _require_search_index(self) -> None:
        """Raise Unavailable if the store cannot search. An adapter without an index searches all the same."""

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """Return a part of the transaction around it that an error undoes by itself."""
        return nullcontext()

    def unit_of_work(self) -> AbstractAsyncContextManager[Any]:
        """Return a transaction in which nobody else changes a record that was read with a lock."""
        return nullcontext()

    # Methods for callers. A subclass may declare the types of data and results, so these leave them open.

    async def find(self, params: Any) -> Any:
        """Return a page, or a list if the service does not paginate.

        Raises BadRequest for a query that cannot be served.
        """
        return await self._find(params_of(params), False)

    async def get(self, id: Id, params: Any) -> Record:
        """Return the one record. Raises NotFound if scope, query or id leave none."""
        return cast("Record", await self._get(id, params_of(params), False))

    async def create(self, data: Any, params: Any) -> Any:
        """Store one record, or a list of records if ``multi`` allows it, and return what was stored.

        Of the query only ``$select`` counts. Raises BadRequest for wrong data, and Conflict if a value is taken.
        """
        return await self._create(data, params_of(params), False)

    def _outgoing(self, method: str) -> ServeMethod | None:
        """Return the method that may return the records of ``find``, ``get`` or ``create`` as JSON, or None.

        It is for the framework, which decodes JSON when something reads it. If a subclass overrides a method, the
        framework calls the override instead. Callers of ``find``, ``get`` and ``create`` always get rows.
        """
        if method not in ("find", "get", "create"):
            return None
        is_overridden = getattr(getattr(self, method), "__func__", None) is not vars(Adapter)[method]
        return None if is_overridden else getattr(self, f"_{method}")

    def _enclose(self, method: str, steps: Steps) -> Steps:
        return with_populate(self, method, steps) if self.relations else steps

    async def _find(self, params: Params, json: bool) -> Any:
        query = self.syntax.parse(params.query)
        page = self.pagination(params)
        limit = limit_of(query.limit, page)
        where, adapter = await self._condition(query, params), params.adapter
        lock = adapter.get("lock", False) if adapter else False
        selection = Selection(where, query, self._fields(query, params), limit, lock, json)
        if query.across:
            selection = selection._replace(lookups=await self._lookups(query, params))
        if adapter and (owners := adapter.get("owners")) is not None:
            rows = await self._find_related(selection, owners)
            return {"limit": limit or 0, "skip": query.skip, "data": rows} if page else rows
        if query.cursor is not None:
            if not page:
                raise invalid(query.cursor[0], "needs pages, and this list has none")
            return await page_at_cursor(self, selection, *query.cursor)
        if not page:
            return [] if limit == 0 else (await self._select(selection))[0]
        if query.total == "estimated":
            return await estimated_page(self, selection)
        if limit == 0 and query.total is not False:
            return {"total": await self._count(where), "limit": 0, "skip": query.skip, "data": []}
        return await self._page(selection)

    async def _condition(self, query: Query, params: Params) -> Predicate:
        """Return the condition of a list: that of the query within the scope. Raises Unavailable."""
        if query.search is not None:
            await self._require_search_index()
        asked = await resolved(self, query.where, params) if query.across else query.where
        where, adapter = every(self._allowed(params), asked), params.adapter
        extra = adapter.get("where") if adapter else None
        return where if extra is None else every(extra, where)

    async def aggregate(self, params: Any, aggregate: Aggregate) -> Any:
        """Return an aggregate of the records of ``params.query``, within ``params.scope``. For methods of your own.

        Raises BadRequest for a field that has none, for an order or a limit in the query, and for over 1,000 groups.
        """
        params = params_of(params)
        aggregate.require(self, (params.adapter or {}).get("private", ()))
        query = self.syntax.parse(params.query)
        for name in query:
            if name.startswith("$") and name not in ALLOWED:
                raise invalid(name, "is for lists alone")
        return aggregate.answer(await self._aggregate(aggregate, await self._condition(query, params)))

    async def _aggregate(self, aggregate: Aggregate, where: Predicate) -> list[Sequence[Any]]:
        """Return the values of each group in their order. An adapter may compute them in its store."""
        fields = tuple(dict.fromkeys((*aggregate.group, *(field for _, field in aggregate.functions), self.id)))
        rows, _ = await self._select(Selection(where, Query(), fields))
        return compute(aggregate, rows)

    def _functions_of(self, field: str) -> Sequence[str]:
        """Return the functions of aggregates that a field has."""
        return functions_of((self.columns or {})[field])

    def _shape(self, field: str) -> Mapping[str, Any]:
        """Return the JSON Schema of a field."""
        return shape((self.columns or {})[field]) or {}

    def _empty_page(self, params: Params) -> Any:
        return {"total": 0, "limit": 0, "skip": 0, "data": []} if self.pagination(params) else []

    async def _related_condition(self, related: Related) -> Predicate:
        """Return a condition on related records for this store. An adapter may join them instead."""
        return await as_comparison(related, Selection(EVERYTHING, Query()))

    async def _lookups(self, query: Query, params: Params) -> Mapping[str, Any]:
        """Return the fields of related records that a query sorts by, as ``_select`` takes them. Raises BadRequest."""
        found = await lookups(self, query, params) if query.across else {}
        if found and not self._sorts_related:
            raise invalid("$sort", f"cannot be {next(iter(found))}: this service sorts by its own fields")
        return found

    async def _find_related(self, selection: Selection, owners: Owners) -> list[Row]:
        """Return the related records of other records, each once."""
        if owners.many:
            owners.limit, owners.skip = selection.limit, selection.query.skip
        found = await self._select_related(selection, owners) if owners.limit != 0 else []
        return owners.taken(found, self.id)

    async def _select_related(self, selection: Selection, owners: Owners) -> list[tuple[Any, Row]]:
        """Return each related record with the id of an owner, in order. An adapter may do it in one statement."""
        return await read_related(self, selection, owners)

    async def _get(self, id: Id, params: Params, json: bool) -> Any:
        query = self.syntax.parse(params.query).plain()
        if query.skip or query.sort:
            query = replace(query, skip=0, sort=())
        adapter = params.get("adapter")
        lock = False if adapter is None else adapter.get("lock", False)
        where = self._one(id, query, params)
        return await self._record(Selection(where, query, self._fields(query, params), 1, lock, json), id)

    async def _create(self, data: Any, params: Params, json: bool) -> Any:
        many = isinstance(data, list)
        if many:
            self.require_multi("create", params)
        select = params.query.get("$select")
        query = self.syntax.parse({} if select is None else {"$select": select})
        allowed = self._allowed(params)
        given = data if many else [data]
        rows = [stamped(self._typed(row, self._read_only), allowed) for row in given]
        fields = self._fields(query, params)
        if json and not many:
            return await self._insert_json(rows[0], fields, params)
        stored = await self._insert(rows, fields, params) if rows else []
        return stored if many else stored[0]

    async def update(self, id: Id | None, data: Any, params: Any) -> Record:
        """Replace a record, and return it. Missing fields become null.

        Private fields, fields on demand and columns with a default keep their values. Raises NotFound.
        """
        if id is None or isinstance(data, list):
            raise BadRequest("You can not replace multiple instances. Did you mean 'patch'?")
        params = params_of(params)
        query = self.syntax.parse(params.query).plain()
        values = stamped(self._typed(data, self._unchanging), self._allowed(params))
        values.pop(self.id, None)
        where = self._one(id, query, params)
        return cast("Record", _single(await self._update(where, values, self._fields(query, params), whole=True), id))

    async def patch(self, id: Id | None, data: Any, params: Any) -> Any:
        """Change the given fields of one record, and return it. Raises NotFound.

        With None for the id it changes all records that match, if ``multi`` allows it, and returns a list.
        """
        params = params_of(params)
        query = self.syntax.parse(params.query).plain()
        values = self._typed(data, self._unchanging)
        values.pop(self.id, None)
        where = self._some("patch", id, query, params)
        fields = self._fields(query, params)
        if values:
            rows = await self._change_inside(id, where, values, fields, self._allowed(params))
        else:
            rows = (await self._select(Selection(where, Query(), fields)))[0]
        return rows if id is None else _single(rows, id)

    async def _change_inside(
        self, id: Id | None, where: Predicate, values: Row, fields: tuple[str, ...] | None, allowed: Predicate
    ) -> list[Row]:
        """Change the rows. Raises Forbidden if one of them would leave the scope."""
        inside = staying(values, allowed)
        if inside is None:
            return await self._update(where, values, fields, whole=False)
        # This statement cannot take a row out of the scope. The counts show whether it would have.
        kept = every(inside, where)
        if id is None and await self._count(where) != await self._count(kept):
            raise outside(values, allowed)
        rows = await self._update(kept, values, fields, whole=False)
        if id is not None and not rows and await self._count(where):
            raise outside(values, allowed)
        return rows

    async def read_for_change(
        self, id: Id | None, params: Params, fields: Collection[str], method: Literal["patch", "remove"] = "patch"
    ) -> list[Row]:
        """Lock the record with an id, or with None all that match, and return these fields of them.

        The lock holds until the end of the transaction. With None the query of the params becomes a query for these
        records, so that the method after this changes no others. Raises NotFound.
        """
        query = self.syntax.parse(params.query).plain()
        known = tuple(name for name in fields if self.columns is None or name in self.columns)
        where = self._some(method, id, query, params)
        lock: Lock = "remove" if method == "remove" else True
        selection = Selection(where, Query(), (*known, self.id), lock=lock)
        rows, _ = await self._select(selection)
        if id is None:
            params.query = query.narrow(Compare(self.id, "$in", [row[self.id] for row in rows]))
        return rows if id is None else [_single(rows, id)]

    async def remove(self, id: Id | None, params: Any) -> Any:
        """Remove one record, and return it. Raises NotFound.

        With None for the id it removes all records that match, if ``multi`` allows it, and returns a list. If a hook
        has set ``params.adapter["on_remove"]``, its values are stored instead of deleting the record.
        """
        params = params_of(params)
        query = self.syntax.parse(params.query).plain()
        where, fields = self._some("remove", id, query, params), self._fields(query, params)
        marks: Row | None = (params.adapter or {}).get("on_remove")
        rows = await (self._update(where, marks, fields, whole=False) if marks else self._delete(where, fields))
        return rows if id is None else _single(rows, id)

    @describe(data={"search": SEARCH_DATA}, result="page", errors=())
    async def search(self, data: Any, params: Any) -> Any:
        """Find records by the words of a text. The data is a query with ``$search``, and the result that of ``find``.

        Each word must be in one of the ``searchable`` fields, and the last one may be the beginning of a word there. If
        the query has no ``$sort``, the best matches come first. It runs ``find`` with its hooks.
        """
        return await search(self, data, params_of(params))

    @describe(data={"upsert": "create"}, result="record", statuses=(200, 201), errors=(404,))
    async def upsert(self, data: Any, params: Any) -> Any:
        """Create a record, or change the one that has the same values in the fields of ``natural_key``.

        It calls ``create`` or ``patch``, with their hooks and events. Calls at the same moment make one record. Raises
        Conflict if the caller may not change the record that has the key.
        """
        return await upsert(self, data, params_of(params))

    @describe(
        data={"restore": {"type": "object", "properties": {"id": RESTORED}, "required": ["id"]}},
        result="record",
        errors=(404,),
    )
    async def restore(self, data: Any, params: Any = None) -> Any:
        """Restore removed records. ``{"id": 5}`` returns the record, ``{"id": [5, 6]}`` a list of both.

        Raises NotFound if one of them is not among the removed records. Then none is restored.
        """
        params = params_of(params)
        query = self.syntax.parse(params.query).plain()
        marks: Row | None = (params.adapter or {}).get("on_restore")
        if marks is None:
            field = self.trash or "deleted_at"
            missing_option = "" if self.trash else f"the option trash='{field}' of the service and "
            raise TypeError(f"restore needs {missing_option}the hook soft_delete('{field}') before it")
        given = data.get("id") if isinstance(data, Mapping) else None
        ids = self.ids_to_restore(given)
        where = every(Compare(self.id, "$in", ids), self._allowed(params), query.where)
        async with self.unit_of_work():
            found, _ = await self._select(Selection(where, Query(), (self.id,), lock=True))
            self.require_all(ids, found)
            rows = await self._update(where, marks, self._fields(query, params), whole=False)
        return rows if isinstance(given, list) else _single(rows, given)

    def ids_to_restore(self, given: Any) -> list[Any]:
        """Return the ids for ``restore``, one or a list, as they are stored. Raises BadRequest or NotFound."""
        listed = given if isinstance(given, list) else [given]
        named = all(isinstance(id, str | int) and not isinstance(id, bool) for id in listed)
        if not named or not 1 <= len(listed) <= MOST_RESTORED:
            rule = f"Must be an id, or a list of 1 to {MOST_RESTORED:,} ids"
            raise BadRequest("Invalid data", errors={"id": rule})
        return list(dict.fromkeys(map(self.typed_id, listed)))

    def require_all(self, ids: Collection[Any], rows: Collection[Row]) -> None:
        """Raise NotFound for the first of the ids that no row has."""
        found = {row[self.id] for row in rows}
        for id in ids:
            if id not in found:
                raise missing(id)

    def _place(self, field: str, value: Any) -> Any:
        """Return a value of a cursor, which has its JSON form, with the type of the field."""
        return value

    # Fields, options and scopes.

    @cached_property
    def syntax(self) -> Syntax:
        """The queries that callers may send: the fields without private ones, the operators and the filters."""
        fields = self.columns
        if fields is not None:
            fields = {name: coerce for name, coerce in fields.items() if name not in self.private}
        lists = {name: coerce for name, coerce in self.lists.items() if name not in self.private}
        operators, paths = OPERATORS | set(self.operators), dict.fromkeys(self.paths)
        relations = {name: relation.syntax() for name, relation in self.related.items()}
        return Syntax(fields, operators, self.filters, paths, lists, tuple(self.searchable), relations)

    @cached_property
    def columns(self) -> Mapping[str, Coerce] | None:
        """The functions of ``fields``, made once."""
        return self.fields()

    @property
    def emptied(self) -> Collection[str] | None:
        """The fields that an update empties if the data leaves them out. None, if any field may be stored."""
        return None if self.columns is None else self.columns.keys() - {self.id, *self.kept}

    @property
    def kept(self) -> tuple[str, ...]:
        """The fields that an update keeps if the data leaves them out, because callers may not have seen them."""
        return (*self.private, *self.on_demand)

    def pagination(self, params: Params) -> Paginate:
        """Return the ``paginate`` of the call, which only internal calls can set, or that of the service."""
        for options in (params.adapter or {}, params):
            paginate: Paginate | None = options.get("paginate")
            if paginate is not None:
                return paginate
        return self.paginate

    def require_multi(self, method: str, params: Params) -> None:
        """Raise MethodNotAllowed if the service does not take many records at once."""
        multi = (params.adapter or {}).get("multi", self.multi)
        if multi is not True and method not in (multi or ()):
            raise MethodNotAllowed(f"Can not {method} multiple entries")

    def typed_id(self, id: Any) -> Any:
        """Return the id as it is stored. Raises NotFound for a value that cannot be an id here."""
        try:
            if self.columns is not None and id is not None:
                return self.columns[self.id](id)
        except ValueError:
            raise missing(id) from None
        return id

    def _fields(self, query: Query, params: Params) -> tuple[str, ...] | None:
        if query.select is not None:
            return tuple(dict.fromkeys((*query.select, self.id)))
        adapter = params.get("adapter")
        if adapter is None or "private" not in adapter:
            return self.shown
        return self._all_but(adapter["private"])

    @cached_property
    def shown(self) -> tuple[str, ...] | None:
        """The fields of a record if nothing is selected. None, if it has all fields."""
        return self._all_but(self.kept)

    def _all_but(self, private: Sequence[str]) -> tuple[str, ...] | None:
        if self.columns is None or not private:
            return None
        return tuple(name for name in self.columns if name not in private)

    def _one(self, id: Id, query: Query, params: Params) -> Predicate:
        return every(Compare(self.id, "$eq", self.typed_id(id)), self._allowed(params), query.where)

    def _some(self, method: str, id: Id | None, query: Query, params: Params) -> Predicate:
        if id is not None:
            return self._one(id, query, params)
        self.require_multi(method, params)
        return every(self._allowed(params), query.where)

    def _allowed(self, params: Params) -> Predicate:
        """Return the condition of the scope. Raises TypeError for an unknown field."""
        return scope_predicate(params.scope, self._scope_types) if params.scope else EVERYTHING

    @cached_property
    def _scope_types(self) -> ScopeTypes:
        return AS_GIVEN if self.columns is None else FieldTypes(self.columns, type(self).__name__)

    @cached_property
    def _unchanging(self) -> frozenset[str]:
        """The fields that the data of a change must not have. It may have the id, which is ignored."""
        return self._read_only - {self.id}

    def _typed(self, data: Any, read_only: frozenset[str]) -> Row:
        """Return the data as a new dict of typed values.

        Raises BadRequest naming every field that is wrong, unknown or read-only.
        """
        if not isinstance(data, Mapping):
            raise BadRequest("The data must be an object")
        if self.columns is not None:
            require_few(data, self.columns, "Invalid data")
        columns, typed, errors, hints = self.columns, {}, {}, Hints()
        for name, value in data.items():
            try:
                if name in read_only:
                    raise ValueError("is read-only: the database fills it in, so leave it out")
                if columns is not None and name not in columns:
                    raise ValueError("is unknown." + hints.suggestion(name, self.syntax.fields or ()))
                value = json(value) if columns is None else columns[name](value)
                if name in self.merge and value is not None and not isinstance(value, Mapping):
                    raise ValueError("must be an object")
                typed[name] = value
            except ValueError as error:
                errors[shortened(name)] = str(error)
        if errors:
            listed = ", ".join(f"{name} {rule}" for name, rule in islice(errors.items(), MAX_HINTS))
            raise BadRequest(f"Invalid data: {listed}", errors=errors)
        return typed


def _single(rows: list[Row], id: Any) -> Row:
    if len(rows) != 1:
        raise missing(id)
    return rows[0]
