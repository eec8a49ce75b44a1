"""Resolvers: functions that give the properties of a record their values, one by one.

Feathers' names: ``resolve_data`` is resolveData, ``resolve_query`` resolveQuery, ``resolve_result`` resolveResult and
``resolve_external`` resolveExternal (resolveDispatch).
"""

from __future__ import annotations

from asyncio import gather
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, Protocol

from apex.callbacks import is_async
from apex.context import Context
from apex.describe import describe
from apex.errors import BadRequest, FeathersError
from apex.hooks import Around, Hook, Next, belongs
from apex.query.language import Query
from apex.types import Row, items, map_items, with_items

OMIT: Any = object()
"""What a function gives to leave its property out."""


class AroundOrAfter(Protocol):
    """A hook that can be registered as an around hook and as an after hook."""

    def __call__(self, context: Context, next: Next | None = None, /) -> Awaitable[None]: ...


Errors = tuple[type[Exception], ...]

# What a caller sent is the caller's fault, so a ValueError about it is told; one about what is stored is the server's.
_OF_CALLERS: Errors = (FeathersError, ValueError)
_OF_SERVER: Errors = (FeathersError,)


@dataclass(frozen=True, slots=True)
class Virtual:
    """A property that is computed, not stored."""

    function: Callable[[Row, Context], Any]


def virtual(function: Callable[[Row, Context], Any]) -> Virtual:
    """Marks a function of ``(record, context)``, ``def`` or ``async def``, as the maker of a computed property."""
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
        """OMIT for None where there was no such property, so that a patch of others leaves it alone."""
        return OMIT if value is None and not self.is_virtual and self.name not in record else value


class Resolver:
    """Functions by property: ``(value, record, context)``, or ``virtual``. Each sees the record as it was."""

    def __init__(self, properties: Mapping[str, Callable[..., Any] | Virtual]) -> None:
        self.properties = tuple(_property(name, function) for name, function in properties.items())
        self.virtuals = {one.name for one in self.properties if one.is_virtual}
        self.is_async = any(one.is_async for one in self.properties)

    async def resolve(
        self, record: Row, context: Context, wanted: Collection[str] | None = None, told: Errors = _OF_CALLERS
    ) -> Row:
        """A new record, of whose properties ``wanted`` are computed. Raises BadRequest whose ``data`` has, by property,
        the errors ``told``; any other error is the server's fault and goes up as it is, once all functions have ended.
        """
        asked = [one for one in self.properties if wanted is None or one.name in wanted]
        values = [one.start(record, context) for one in asked]
        if late := [place for place, value in enumerate(values) if isawaitable(value)]:
            for place, value in zip(late, await _all(values[place] for place in late), strict=True):
                values[place] = value
        found = {one.name: one.settled(value, record) for one, value in zip(asked, values, strict=True)}
        _raise_failures({name: value for name, value in found.items() if isinstance(value, BaseException)}, told)
        return {name: value for name, value in (record | found).items() if value is not OMIT}


async def _all(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Values and errors, once all have ended."""
    return await gather(*awaitables, return_exceptions=True)


def resolve(properties: Mapping[str, Callable[..., Any] | Virtual]) -> Resolver:
    """``resolve({"password": lambda value, record, context: OMIT, "name": virtual(full_name)})``."""
    return Resolver(properties)


def resolve_data(*resolvers: Resolver) -> Hook:
    """A before hook: resolves the data of a call, each record of a list."""

    @belongs("before", "around")
    async def resolve_data(context: Context) -> None:
        if context.takes_data:
            context.data = await _each(context, None, context.data, _Pass(resolvers, told=_OF_CALLERS))

    return resolve_data


def resolve_query(*resolvers: Resolver) -> Hook:
    """A before hook: resolves ``params.query``. Raises TypeError after ``validate_query``, which settles the query."""
    run = _Pass(resolvers, told=_OF_CALLERS)

    @belongs("before", "around")
    async def resolve_query(context: Context) -> None:
        if isinstance(context.params.query, Query):
            raise TypeError("resolve_query has to come before validate_query")
        context.params.query = await run.record(dict(context.params.query), context)

    return resolve_query


def resolve_result(*resolvers: Resolver) -> Around:
    """An around hook: resolves the result, for callers inside and outside.

    Where ``$select`` names a virtual property, the method gets no ``$select``: the property may need the others.
    """

    @describe(adds=_virtuals(resolvers))
    async def resolve_result(context: Context, next: Next) -> None:
        run = _Pass(resolvers, _selection(context, resolvers))
        await next()
        context.result = await _each(context, context.method, context.result, run)

    return resolve_result


def resolve_external(*resolvers: Resolver) -> AroundOrAfter:
    """Make the result for external callers and events: the first around hook of a service, or an after hook.

    As an after hook it cannot compute a virtual property that ``$select`` names: the method refuses the query.

    It sets ``context.dispatch``; callers inside the process keep the whole result. Records of other services with this
    hook, wherever they stand in a result, go out as those services show them, even with no resolver here.
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


def _virtuals(resolvers: Iterable[Resolver]) -> dict[str, Any]:
    return {name: {} for resolver in resolvers for name in resolver.virtuals}


class Shown(dict[str, Any]):
    """A record that knows what callers outside may see of it."""

    __slots__ = ("dispatch",)

    def __init__(self, record: Mapping[str, Any], dispatch: Any) -> None:
        super().__init__(record)
        self.dispatch = dispatch


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


def _raise_failures(failures: Mapping[str, BaseException], told: Errors) -> None:
    for failure in failures.values():
        if not isinstance(failure, told):
            raise failure
    if failures:
        error = BadRequest("Error resolving data")
        # Set apart: a property's name may mean something to an error's constructor.
        error.data = {name: _told(failure) for name, failure in failures.items()}
        raise error


def _told(error: BaseException) -> Row:
    return error.to_dict() if isinstance(error, FeathersError) else {"message": str(error)}


@dataclass(frozen=True, slots=True)
class _Selection:
    """What ``$select`` names, and the id. ``withheld`` from the method, which then gives whole records."""

    names: tuple[str, ...]
    withheld: bool

    def wanted(self, record: Row) -> Collection[str]:
        """Where the method cut its records, what it and hooks have left in them was wanted as well."""
        return self.names if self.withheld else {*self.names, *record}

    def cut(self, record: Row) -> Row:
        return {name: record[name] for name in self.names if name in record} if self.withheld else record


def _selection(context: Context, resolvers: Iterable[Resolver]) -> _Selection | None:
    """None where nothing is selected, or in a form that the method has to refuse. Raises BadRequest for an unknown name
    beside a virtual one, which the method does not see.
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
    """Records through all resolvers, each with what the one before it made."""

    resolvers: tuple[Resolver, ...]
    selection: _Selection | None = None
    told: Errors = _OF_SERVER

    async def record(self, record: Any, context: Context) -> Any:
        """What is no record stays as it is."""
        if not isinstance(record, Mapping):
            return record
        made, chosen = dict(record), self.selection
        for resolver in self.resolvers:
            made = await resolver.resolve(made, context, chosen.wanted(made) if chosen else None, self.told)
        return chosen.cut(made) if chosen else made


async def _each(context: Context, method: str | None, value: Any, run: _Pass) -> Any:
    """The value with its records resolved, at the same time where that means waiting. Raises the first failure."""
    calls = (run.record(record, context) for record in items(method, value))
    waits = any(resolver.is_async for resolver in run.resolvers)
    made = await _all(calls) if waits else [await call for call in calls]
    for one in made:
        if isinstance(one, BaseException):
            raise one
    return with_items(method, value, made)
