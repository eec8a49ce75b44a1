"""Resolvers: functions that compute the properties of a record.

Feathers' names: ``resolve_data`` is resolveData, ``resolve_query`` resolveQuery, ``resolve_result`` resolveResult and
``resolve_external`` resolveExternal (resolveDispatch).
"""

from __future__ import annotations

from asyncio import gather
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from typing import Any, Protocol

from apex.common.conditions import combine, iff
from apex.context import Context
from apex.describe import describe
from apex.errors import BadRequest, FeathersError
from apex.hooks import AnyHook, Around, Hook, Next, belongs
from apex.query.language import Query
from apex.signatures import is_async
from apex.types import Row, items, map_items, with_items

OMIT: Any = object()
"""The value with which a function leaves its property out."""


class AroundOrAfter(Protocol):
    """A hook that can be registered as an around hook and as an after hook."""

    def __call__(self, context: Context, next: Next | None = None, /) -> Awaitable[None]: ...


Errors = tuple[type[Exception], ...]

# A ValueError about data of a caller is the caller's mistake, so its text is sent.
_OF_CALLERS: Errors = (FeathersError, ValueError)
_OF_SERVER: Errors = (FeathersError,)


@dataclass(frozen=True, slots=True)
class Virtual:
    """A property that is computed and not stored. ``virtual`` makes it."""

    function: Callable[[Row, Context], Any]


def virtual(function: Callable[[Row, Context], Any]) -> Virtual:
    """Return a computed property. The function of ``(record, context)`` is ``def`` or ``async def``."""
    return Virtual(function)


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    function: Callable[..., Any]
    is_virtual: bool
    is_async: bool

    def start(self, record: Row, context: Context) -> Any:
        """Return the value, an awaitable for it, or the error that the function raises."""
        try:
            given = (record,) if self.is_virtual else (record.get(self.name), record)
            return self.function(*given, context)
        except Exception as error:
            return error

    def settled(self, value: Any, record: Row) -> Any:
        """Return OMIT for None if the record has no such property, so that a patch of others does not add it."""
        return OMIT if value is None and not self.is_virtual and self.name not in record else value


class Resolver:
    """The functions of ``resolve``, by property. Each sees the record as it was."""

    def __init__(self, properties: Mapping[str, Callable[..., Any] | Virtual]) -> None:
        self.properties: tuple[_Property, ...] = tuple(
            _property(name, function) for name, function in properties.items()
        )
        self.virtuals: set[str] = {one.name for one in self.properties if one.is_virtual}
        self.is_async: bool = any(one.is_async for one in self.properties)

    async def resolve(
        self, record: Row, context: Context, wanted: Collection[str] | None = None, shown: Errors = _OF_CALLERS
    ) -> Row:
        """Return a new record with the computed properties, or those of them that are ``wanted``.

        Raises BadRequest with the errors in ``shown``, by property, in its ``data``. Any other error is raised as it
        is, once all functions have ended.
        """
        asked = [one for one in self.properties if wanted is None or one.name in wanted]
        values = [one.start(record, context) for one in asked]
        if late := [place for place, value in enumerate(values) if isawaitable(value)]:
            for place, value in zip(late, await _all(values[place] for place in late), strict=True):
                values[place] = value
        found = {one.name: one.settled(value, record) for one, value in zip(asked, values, strict=True)}
        _raise_failures({name: value for name, value in found.items() if isinstance(value, BaseException)}, shown)
        return {name: value for name, value in (record | found).items() if value is not OMIT}


async def _all(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Return values and errors, once all awaitables have ended."""
    return await gather(*awaitables, return_exceptions=True)


def resolve(properties: Mapping[str, Callable[..., Any] | Virtual]) -> Resolver:
    """Return a resolver with a function of ``(value, record, context)`` for each property.

        resolve({"password": lambda value, record, context: OMIT, "name": virtual(full_name)})

    Functions are ``def`` or ``async def``.
    """
    return Resolver(properties)


def resolve_data(*resolvers: Resolver) -> Hook:
    """Resolve the data of a call, each record of a list: before or around."""

    @belongs("before", "around")
    async def resolve_data(context: Context) -> None:
        if context.takes_data:
            context.data = await _each(context, None, context.data, _Pass(resolvers, shown=_OF_CALLERS))

    return resolve_data


def resolve_query(*resolvers: Resolver) -> Hook:
    """Resolve ``params.query``: before or around. Raises TypeError if it comes after ``validate_query``."""
    run = _Pass(resolvers, shown=_OF_CALLERS)

    @belongs("before", "around")
    async def resolve_query(context: Context) -> None:
        if isinstance(context.params.query, Query):
            raise TypeError("resolve_query has to come before validate_query")
        context.params.query = await run.record(dict(context.params.query), context)

    return resolve_query


def resolve_result(*resolvers: Resolver) -> Around:
    """Resolve the result, for callers inside and outside: around.

    If ``$select`` names a virtual property, the method gets no ``$select``, as the property may need other properties.
    """

    @describe(adds=_virtuals(resolvers))
    async def resolve_result(context: Context, next: Next) -> None:
        run = _Pass(resolvers, _selection(context, resolvers))
        await next()
        context.result = await _each(context, context.method, context.result, run)

    return resolve_result


def resolve_external(*resolvers: Resolver) -> AroundOrAfter:
    """Resolve the result for external callers and events: the first around hook of a service, or an after hook.

    As an after hook it cannot compute a virtual property that ``$select`` names, as the method refuses the query.

    It sets ``context.dispatch``, so callers inside the process keep the whole result. Records of other services with
    this hook, wherever they are in a result, go out as those services show them. No resolver is needed for that.
    """

    @describe(adds=_virtuals(resolvers))
    async def resolve_external(context: Context, next: Next | None = None) -> None:
        run = _Pass(resolvers, _selection(context, resolvers))
        if next is not None:
            await next()
        seen = context.dispatch if context.has_dispatch else context.result
        shown = map_items(context.method, seen, lambda record: getattr(record, "dispatch", record))
        context.dispatch = _safe(await _each(context, context.method, shown, run))
        context.result = _marked(context)

    return resolve_external


def resolve_all(
    *,
    data: Resolver | Mapping[str, Resolver] | None = None,
    query: Resolver | None = None,
    result: Resolver | None = None,
    external: Resolver | None = None,
) -> Around:
    """Return the hooks ``resolve_external``, ``resolve_result``, ``resolve_query`` and ``resolve_data`` as one: around.

        resolve_all(data={"create": new_note, "patch": changes}, result=note, external=shown)

    ``data`` is one resolver, or one for each of the methods create, update and patch. Raises TypeError for anything
    else.
    """
    by_method = data if isinstance(data, Mapping) else {} if data is None else {None: data}
    for name, given in (*by_method.items(), ("query", query), ("result", result), ("external", external)):
        if not isinstance(given, Resolver | None):
            raise TypeError(f"resolve_all takes for {name or 'data'} what resolve(...) returns, not {given!r}")
    if wrong := by_method.keys() - {None, "create", "update", "patch"}:
        raise TypeError(f"resolve_all takes data for create, update and patch, not for '{wrong.pop()}'")
    hooks: list[AnyHook] = [resolve_external() if external is None else resolve_external(external)]
    if result is not None:
        hooks.append(resolve_result(result))
    if query is not None:
        hooks.append(resolve_query(query))
    for method, resolver in by_method.items():
        run = resolve_data(resolver)
        hooks.append(run if method is None else iff(partial(_is_method, method), run))
    return combine(*hooks)


def _is_method(method: str, context: Context) -> bool:
    return context.method == method


def _virtuals(resolvers: Iterable[Resolver]) -> dict[str, Any]:
    return {name: {} for resolver in resolvers for name in resolver.virtuals}


class Shown(dict[str, Any]):
    """A record with the form of it that callers outside may see."""

    __slots__ = ("dispatch",)

    def __init__(self, record: Mapping[str, Any], dispatch: Any) -> None:
        super().__init__(record)
        self.dispatch: Any = dispatch


def _marked(context: Context) -> Any:
    records, shown = (items(context.method, value) for value in (context.result, context.dispatch))
    if len(records) != len(shown):
        return context.result
    pairs = zip(records, shown, strict=True)
    marked = [Shown(record, outside) if isinstance(record, dict) else record for record, outside in pairs]
    return with_items(context.method, context.result, marked)


def _safe(value: Any) -> Any:
    if isinstance(value, Shown):
        return value.dispatch
    if isinstance(value, dict):
        return {name: _safe(inner) for name, inner in value.items()}
    return [_safe(item) for item in value] if isinstance(value, list) else value


def _property(name: str, given: Callable[..., Any] | Virtual) -> _Property:
    function = given.function if isinstance(given, Virtual) else given
    if not callable(function):
        raise TypeError(f"The resolver of '{name}' must be a function or virtual(function)")
    return _Property(name, function, isinstance(given, Virtual), is_async(function))


def _raise_failures(failures: Mapping[str, BaseException], shown: Errors) -> None:
    for failure in failures.values():
        if not isinstance(failure, shown):
            raise failure
    if failures:
        error = BadRequest("Error resolving data")
        # Assigned afterwards, as a property's name may mean something to the constructor of the error.
        error.data = {name: _to_dict(failure) for name, failure in failures.items()}
        raise error


def _to_dict(error: BaseException) -> Row:
    return error.to_dict() if isinstance(error, FeathersError) else {"message": str(error)}


@dataclass(frozen=True, slots=True)
class _Selection:
    """The fields in ``$select``, and the id. If ``withheld`` from the method, it returns whole records."""

    names: tuple[str, ...]
    withheld: bool

    def wanted(self, record: Row) -> Collection[str]:
        """Return the wanted properties. If the method has cut its records, they include those that are left."""
        return self.names if self.withheld else {*self.names, *record}

    def cut(self, record: Row) -> Row:
        return {name: record[name] for name in self.names if name in record} if self.withheld else record


def _selection(context: Context, resolvers: Iterable[Resolver]) -> _Selection | None:
    """Return the selection of a call, or None if it has none, or one in a form that the method refuses.

    Raises BadRequest for an unknown name that comes with a virtual one, as the method does not see it.
    """
    query = context.params.query
    select = query.get("$select") if isinstance(query, Mapping) else None
    names = [select] if isinstance(select, str) else select
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    virtuals = {name for resolver in resolvers for name in resolver.virtuals}
    service = context.service.service
    withheld = not virtuals.isdisjoint(names)
    if withheld:
        stored = [name for name in names if name not in virtuals]
        context.params.query = _unselected(query)
        if hasattr(service, "syntax"):
            service.syntax.parse({"$select": stored})
    return _Selection((*names, getattr(service, "id", "id")), withheld)


def _unselected(query: Mapping[str, Any]) -> Mapping[str, Any]:
    asked = {name: value for name, value in query.items() if name != "$select"}
    return replace(query, asked=asked, select=None) if isinstance(query, Query) else asked


@dataclass(frozen=True, slots=True)
class _Pass:
    """A pass of records through all resolvers. Each resolver gets the record of the one before it."""

    resolvers: tuple[Resolver, ...]
    selection: _Selection | None = None
    shown: Errors = _OF_SERVER

    async def record(self, record: Any, context: Context) -> Any:
        """Return the resolved record. A value that is not a record stays as it is."""
        if not isinstance(record, Mapping):
            return record
        made, chosen = dict(record), self.selection
        for resolver in self.resolvers:
            made = await resolver.resolve(made, context, chosen.wanted(made) if chosen else None, self.shown)
        return chosen.cut(made) if chosen else made


async def _each(context: Context, method: str | None, value: Any, run: _Pass) -> Any:
    """Return the value with its records resolved, concurrently if a function is ``async``. Raises the first failure."""
    calls = (run.record(record, context) for record in items(method, value))
    waits = any(resolver.is_async for resolver in run.resolvers)
    made = await _all(calls) if waits else [await call for call in calls]
    for one in made:
        if isinstance(one, BaseException):
            raise one
    return with_items(method, value, made)
