"""Hooks that many services need, named as in feathers-hooks-common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any

from apex.callbacks import is_async, takes
from apex.context import Context, Params
from apex.describe import Related, describe
from apex.errors import BadRequest, Forbidden, MethodNotAllowed
from apex.hooks import AnyHook, Chain, Composed, Hook, Step, around, belongs, run_steps, steps_of
from apex.query.coercion import boolean, timestamp
from apex.query.language import DELETED, Query, invalid
from apex.query.predicates import Compare, narrows
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row, items, map_items

Predicate = Callable[[Context], Any]
Tree = dict[str, "Tree"]

_PAGING = ("$select", "$sort", "$limit", "$skip")


def is_provider(*providers: str) -> Predicate:
    """Whether the call comes from one of these: ``rest``, ``socketio``, ``external`` (any of them), ``server``."""

    def is_provider(context: Context) -> bool:
        provider = context.params.get("provider")
        return provider in providers or ("external" if provider else "server") in providers

    return is_provider


def disallow(*providers: str) -> Hook:
    """Before: refuses calls from these providers, without any all calls. Raises MethodNotAllowed."""
    is_refused = is_provider(*providers or ("external", "server"))

    @belongs("before", "around")
    def disallow(context: Context) -> None:
        if is_refused(context):
            caller = context.params.provider or "server"
            raise MethodNotAllowed(f"Provider '{caller}' can not call '{context.method}'. (disallow)")

    return disallow


class iff(Composed):
    """Runs hooks when a predicate, ``def`` or ``async def``, holds: ``iff(is_provider("external"), keep("a"))``.

    ``.else_(...)`` takes the hooks that run when it does not hold. All of them have the type that this hook is
    registered for. Raises TypeError for a predicate that is neither a function of the context nor a bool.
    """

    def __init__(self, predicate: Predicate | bool, *hooks: AnyHook) -> None:
        if not isinstance(predicate, bool) and not (callable(predicate) and takes(predicate, 1)):
            raise TypeError(f"iff needs a function of the context, or a bool, before its hooks: not {predicate!r}")
        self.predicate = predicate
        self.then = _unplaced(hooks)
        self.otherwise: tuple[Step, ...] = ()

    def else_(self, *hooks: AnyHook) -> iff:
        self.otherwise = _unplaced(hooks)
        return self

    def placed(self, kind: str, place: str) -> iff:
        """Return this hook for a type of hooks. Raises TypeError where a hook inside cannot be there."""
        other = iff(self.predicate)
        other.then, other.otherwise = (
            tuple(steps_of(kind, [hook for hook, _ in steps], f"in iff {place}"))
            for steps in (self.then, self.otherwise)
        )
        return other

    def wrap(self, inner: Chain) -> Chain:
        """Return a chain with the hooks of one of the two branches around ``inner``."""
        then, otherwise = around(self.then, inner), around(self.otherwise, inner)

        async def chosen(context: Context) -> None:
            await (then if await self._holds(context) else otherwise)(context)

        return chosen

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        branches = {"then": self.then, "else": self.otherwise}
        return {branch: [hook for hook, _ in steps] for branch, steps in branches.items() if steps}

    async def __call__(self, context: Context) -> None:
        if steps := self.then if await self._holds(context) else self.otherwise:
            await run_steps(steps, context, context.type)

    async def _holds(self, context: Context) -> bool:
        if not callable(self.predicate):
            return self.predicate
        answer = self.predicate(context)
        return answer if isinstance(answer, bool) else await _awaited(answer)


async def _awaited(answer: Any) -> bool:
    return bool(await answer if isawaitable(answer) else answer)


def _unplaced(hooks: Iterable[AnyHook]) -> tuple[Step, ...]:
    return tuple((hook, is_async(hook)) for hook in hooks)


def keep(*fields: str) -> Hook:
    """Before: the data keeps these fields alone; after: the result.

    Dots lead into objects and lists of them: ``address.city``.
    """
    tree = _tree(fields)
    return _changing(lambda record: _only(record, tree) if _is_nested(record) else record)


def discard(*fields: str) -> Hook:
    """Before: the data loses these fields; after: the result. Dots lead into objects and lists of them."""
    tree = _tree(fields)
    return _changing(lambda record: _without(record, tree))


def prevent_changes(*fields: str, raise_error: bool = True) -> Hook:
    """Before update and patch: these fields stay as they are.

    Raises BadRequest naming those that are given; with ``raise_error=False`` they are left out.
    """
    tree = _tree(fields)

    @belongs("before", "around")
    def prevent_changes(context: Context) -> None:
        if context.method not in ("update", "patch"):
            return
        given = [field for field in fields if _has(context.data, field)]
        if given and raise_error:
            raise BadRequest("Invalid data", errors=dict.fromkeys(given, "May not be changed"))
        context.data = _without(context.data, tree)

    return prevent_changes


def required(*fields: str) -> Hook:
    """Before methods that take data: these fields are given, neither null nor empty text.

    Raises BadRequest naming the others.
    """

    @belongs("before", "around")
    def required(context: Context) -> None:
        if not context.takes_data:
            return
        records = [{}] if context.data is None else items(None, context.data)
        missing = [field for field in fields if any(_at(record, field) in (None, "") for record in records)]
        if missing:
            raise BadRequest("Invalid data", errors=dict.fromkeys(missing, "Is required"))

    return required


def set_field(*, as_: str, from_: str) -> Hook:
    """Copies a value of the context: ``set_field(from_="params.user.id", as_="params.scope.user_id")``.

    Where it is missing, callers from outside get Forbidden, and calls inside go on without. A field that keeps callers
    apart belongs into ``params.scope``, which no query gets around.
    """

    places = ("after", "around") if as_.partition(".")[0] in ("result", "dispatch") else ("before", "after", "around")

    @belongs(*places)
    def set_field(context: Context) -> None:
        value = _at(context, from_)
        if value is not None:
            _put(context, as_.split("."), value)
        elif context.params.provider:
            raise Forbidden(f"Expected field {from_} not available")

    return set_field


def set_now(*fields: str) -> Hook:
    """Before methods that take data: these fields of it become the moment, to the millisecond."""

    @belongs("before", "around")
    def set_now(context: Context) -> None:
        if context.takes_data:
            stamps = dict.fromkeys(fields, now())
            context.data = map_items(None, context.data, lambda record: {**record, **stamps})

    return set_now


def now() -> datetime:
    """The moment, to the millisecond, as records keep it."""
    return timestamp(datetime.now(UTC))


def soft_delete(field: str = "deleted_at", *also: str) -> Hook:
    """Before all methods: records with a ``field`` that is not null are out of reach, and ``remove`` sets it, and
    those in ``also``, to the moment instead of deleting.

    The condition stands in the scope, where no query and no client reaches it. The event stays ``removed``. In a
    service whose ``trash`` names the field, ``find`` with ``$deleted`` gives the removed records instead, and
    ``restore`` brings them back: its event is ``created``, as the record appears to those who follow the service.

    A call inside the process deletes for good with ``params.permanent``. It removes as of ``params.removed_at``, so
    that records which go together have one moment. With ``params.with_removed`` it reads removed records as well.
    """

    @belongs("before", "around")
    def soft_delete(context: Context) -> None:
        params, method = context.params, context.method
        restores = method == "restore" and _trash_of(context) == field
        if not params.get("with_removed"):
            removed = restores or _asks_for_removed(context, field)
            params["scope"][field] = {"$ne": None} if removed else None
        if method == "remove" and not params.permanent:
            marks = dict.fromkeys((field, *also), params.removed_at or now())
            params.adapter = {**(params.adapter or {}), "on_remove": marks}
        elif restores:
            context.event = "created"
            marks = {**dict.fromkeys(also, now()), field: None}
            params.adapter = {**(params.adapter or {}), "on_restore": marks}

    return soft_delete


def _asks_for_removed(context: Context, field: str) -> bool:
    """Return True for ``find`` with ``$deleted``. Raises BadRequest for a call that cannot have it."""
    query = context.params["query"]
    asked = query.asked if isinstance(query, Query) else query
    if DELETED not in asked or _trash_of(context) != field:
        return False
    if context.method != "find":
        raise invalid(DELETED, "is for lists alone")
    try:
        removed = boolean(asked[DELETED])
    except ValueError as error:
        raise invalid(DELETED, str(error)) from None
    if removed and isinstance(query, Query) and query.paths:
        raise invalid(min(query.paths), f"cannot be asked for or sorted by with {DELETED}")
    return removed


def _trash_of(context: Context) -> str | None:
    """Return the ``trash`` of the call's service, if it is an adapter and has one."""
    trash: str | None = getattr(context.service.service, "trash", None)
    return trash


def stash_before(name: str = "before", most: int | None = None) -> Hook:
    """Store the record as it was, or the list of those that match, in ``params[name]``: before update, patch, remove
    and restore.

    They are read past the hooks, within the scope that the hooks before this one have set. In a transaction nobody
    else changes them before its end, and the method reaches these records alone. Raises NotFound, and BadRequest
    for a call from outside that finds more than ``most`` records.
    """

    @belongs("before", "around")
    async def stash_before(context: Context) -> None:
        restores = context.method == "restore" and _trash_of(context) is not None
        if not restores and context.method not in ("update", "patch", "remove"):
            return
        service, params = context.service.service, context.params
        # What is on demand is part of the record, too.
        adapter = {"private": getattr(service, "private", ()), **(params.adapter or {}), "lock": True}
        inner: dict[str, Any] = {"scope": params.scope, "paginate": False, "adapter": adapter}
        if restores:
            params[name] = await _removed_ones(service, context.data, inner)
        elif context.id is not None:
            params[name] = await service.get(context.id, Params(inner))
        else:
            limit = most if params.get("provider") else None
            found = params[name] = await _all_that_match(service, _unpaged(params.query), inner, limit)
            id = getattr(service, "id", "id")
            params.scope["$and"] = [*params.scope.get("$and", ()), {id: [row[id] for row in found]}]

    return stash_before


async def _removed_ones(service: Any, data: Any, inner: dict[str, Any]) -> Any:
    """Return the record that ``restore`` is about, or the list of them. Raises NotFound."""
    given = data.get("id") if isinstance(data, Mapping) else None
    ids = service.ids_to_restore(given)
    rows = await service.find(Params({**inner, "query": Query(where=Compare(service.id, "$in", ids))}))
    service.require_all(ids, rows)
    return rows if isinstance(given, list) else rows[0]


async def _all_that_match(service: Any, query: Mapping[str, Any], inner: dict[str, Any], most: int | None) -> list[Row]:
    """Return all that match. Raises BadRequest if there are more than ``most``, with their number."""
    if most is None:
        found: list[Row] = await service.find(Params({**inner, "query": query}))
        return found
    parsed: Query = service.syntax.parse(query)
    rows: list[Row] = await service.find(Params({**inner, "query": replace(parsed, limit=most + 1)}))
    if len(rows) > most:
        counted = {**inner, "adapter": None, "paginate": {"default": 0}, "query": parsed}
        total = (await service.find(Params(counted)))["total"]
        raise BadRequest(f"The query finds {total:,} records, and one call changes at most {most:,}: narrow it")
    return rows


def require_condition(*beside: str) -> Hook:
    """Refuse a patch or remove of many records without a condition in its query. It comes after ``validate_query``.

    Conditions on the fields in ``beside``, such as that of the tenant, do not count, nor does an ``$or`` that has one
    of those among its parts. Raises BadRequest, also for ``$limit``, ``$skip`` and ``$sort``, which would seem to pick
    some of the records.
    """

    @belongs("before", "around")
    def require_condition(context: Context) -> None:
        if context.id is not None or context.method not in ("patch", "remove") or not context.params.get("provider"):
            return
        query = context.service.service.syntax.parse(context.params.query)
        for name in ("$limit", "$skip", "$sort"):
            if name in query.asked:
                raise invalid(name, f"is for lists alone: {context.method} is about all records that the query finds")
        if not narrows(query.where, beside):
            named = f"; {', '.join(beside)} alone is not enough" if beside else ""
            raise BadRequest(f"Without an id, {context.method} needs a condition in the query{named}")

    return require_condition


def default_sort(**order: int) -> Hook:
    """Order a list whose query names no order, before find. ``position=1`` is ascending, ``position=-1`` descending."""

    @belongs("before", "around")
    def default_sort(context: Context) -> None:
        query = context.params.query
        if context.method != "find":
            return
        if not isinstance(query, Query):
            context.params.query = {"$sort": order, **query}
        elif not query.sort:
            context.params.query = replace(query, sort=tuple(order.items()))

    return default_sort


Fields = Sequence[str] | Callable[[Row], Row]


def populate(
    name: str,
    *,
    service: str,
    key: str,
    fields: Fields,
    many: bool = False,
    removed: bool = False,
    everyone: bool = False,
    when: Predicate | None = None,
) -> Hook:
    """After: each record gets under ``name`` the record of another service that its ``key`` refers to, or None; with
    ``many`` the list of those whose ``key`` is its id.

    Records that ``soft_delete`` has removed are left out unless ``removed`` is True. With ``everyone`` they may be
    records that calls of the tenant do not reach by themselves, under row-level security: a user who has left the
    organization. They are cut to ``fields``, or replaced by the result of a function. All are fetched at once.
    ``when``, ``def`` or ``async def``, returns True if the call asks for it.
    """

    @belongs("after", "around")
    @describe(adds={name: Related(service, fields, many)})
    async def populate(context: Context) -> None:
        if when is not None and not await _awaited(when(context)):
            return
        own, other = ("id", key) if many else (key, "id")
        records = [record for record in items(context.method, context.result) if own in record]
        ids = list(dict.fromkeys(record[own] for record in records if record[own] is not None))
        with tenant_context(ALL_TENANTS) if everyone else nullcontext():
            found = await _related(context, service, other, ids, fields, removed) if ids else {}
        for record in records:
            related = found.get(record[own], [])
            record[name] = related if many else next(iter(related), None)

    return populate


async def _related(
    context: Context, path: str, key: str, values: list[Any], fields: Fields, removed: bool
) -> dict[Any, list[Row]]:
    """The records of a service by the value of their ``key``, in the order of their ids."""
    query: Row = {key: {"$in": values}}
    if not callable(fields):
        query["$select"] = [key, *fields]
    related: dict[Any, list[Row]] = {}
    params = {"query": query, "paginate": False, "with_removed": removed}
    for record in await context.app.service(path).find(params):
        related.setdefault(record[key], []).append(_shown(record, fields))
    return related


def _shown(record: Row, fields: Fields) -> Row:
    return fields(record) if callable(fields) else {name: record[name] for name in fields if name in record}


def _unpaged(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """The query without what picks a page and its fields, with the conditions that hooks have added."""
    asked = {name: value for name, value in query.items() if name not in _PAGING}
    if isinstance(query, Query):
        return replace(query, asked=asked, limit=None, skip=0, sort=(), select=None)
    return asked


def _changing(change: Callable[[Any], Any]) -> Hook:
    """A hook that changes the records of the data before a method; after it those of the result, and of what goes out
    where a hook has set that apart.
    """

    @belongs("before", "after")
    def changing(context: Context) -> None:
        if context.type == "before":
            context.data = map_items(None, context.data, change)
            return
        context.result = map_items(context.method, context.result, change)
        if context.has_dispatch:
            context.dispatch = map_items(context.method, context.dispatch, change)

    return changing


def _tree(fields: Sequence[str]) -> Tree:
    """``("a", "b.c")`` as ``{"a": {}, "b": {"c": {}}}``: what ends in nothing is meant as a whole."""
    tree: Tree = {}
    for field in sorted(fields, key=len, reverse=True):
        *path, last = field.split(".")
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
        branch[last] = {}
    return tree


def _without(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_without(item, tree) for item in value]
    if not tree or not isinstance(value, Mapping):
        return value
    return {name: _without(inner, tree.get(name, {})) for name, inner in value.items() if tree.get(name) != {}}


def _only(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_only(item, tree) for item in value if _is_nested(item)]
    kept = (name for name, inner in value.items() if name in tree and (not tree[name] or _is_nested(inner)))
    return {name: _only(value[name], tree[name]) if tree[name] else value[name] for name in kept}


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _at(value: Any, path: str) -> Any:
    """What a dotted path leads to, None where it leads nowhere."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value


def _has(record: Any, path: str) -> bool:
    *outer, last = path.split(".")
    inner = _at(record, ".".join(outer)) if outer else record
    return isinstance(inner, Mapping) and last in inner


def _put(target: Any, path: list[str], value: Any) -> Any:
    """Sets what a path leads to, without changing what callers have handed over."""
    if not path:
        return value
    if isinstance(target, Query):
        raise TypeError("set_field has to come before validate_query, or set params.scope")
    name, *rest = path
    if isinstance(target, list):
        return [_put(one, path, value) for one in target]
    if isinstance(target, Params):
        target[name] = _put(target.get(name), rest, value)
        return target
    if isinstance(target, Context):
        setattr(target, name, _put(getattr(target, name), rest, value))
        return target
    return {**(target or {}), name: _put((target or {}).get(name), rest, value)}
