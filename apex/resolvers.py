"""Resolvers: functions that give the properties of a record their values, one by one.

Feathers' names: ``resolve_data`` is resolveData, ``resolve_query`` resolveQuery, ``resolve_result`` resolveResult and
``resolve_external`` resolveExternal (resolveDispatch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from apex.context import Context
from apex.errors import BadRequest, FeathersError
from apex.hooks import Hook
from apex.items import items, with_items
from apex.query import Query
from apex.types import Row

OMIT: Any = object()
"""What a function gives to leave its property out."""

Around = Callable[[Context, Callable[[], Awaitable[None]]], Awaitable[None]]


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
        if self.is_virtual:
            return self.function(record, context)
        return self.function(record.get(self.name), record, context)


class Resolver:
    """Functions by property: ``(value, record, context)``, or ``virtual``. Each sees the record as it was."""

    def __init__(self, properties: Mapping[str, Callable[..., Any] | Virtual]) -> None:
        self.properties = tuple(_property(name, function) for name, function in properties.items())
        self.virtuals = {one.name for one in self.properties if one.is_virtual}

    async def resolve(self, record: Row, context: Context, selected: frozenset[str] | None = None) -> Row:
        """A new record. Raises BadRequest whose ``data`` has, by property, every Feathers error and ValueError of its
        functions; any other error is the server's fault and goes up as it is.
        """
        wanted = [one for one in self.properties if selected is None or one.name in selected]
        values = await asyncio.gather(*(_value(one, record, context) for one in wanted if one.is_async))
        late = iter(values)
        found = {one.name: next(late) if one.is_async else _now(one, record, context) for one in wanted}
        _raise_failures(found)
        resolved = {name: value for name, value in record.items() if selected is None or name in selected} | found
        return {name: value for name, value in resolved.items() if value is not OMIT}


def resolve(properties: Mapping[str, Callable[..., Any] | Virtual]) -> Resolver:
    """``resolve({"password": lambda value, record, context: OMIT, "name": virtual(full_name)})``."""
    return Resolver(properties)


def resolve_data(*resolvers: Resolver) -> Hook:
    """A before hook: resolves the data of a call, each record of a list."""

    async def resolve_data(context: Context) -> None:
        if context.data is not None:
            context.data = await _each(context.data, resolvers, context)

    return resolve_data


def resolve_query(*resolvers: Resolver) -> Hook:
    """A before hook: resolves ``params.query``. Raises TypeError after ``validate_query``, which settles the query."""

    async def resolve_query(context: Context) -> None:
        if isinstance(context.params.query, Query):
            raise TypeError("resolve_query has to come before validate_query")
        context.params.query = await _one(dict(context.params.query), resolvers, context)

    return resolve_query


def resolve_result(*resolvers: Resolver) -> Around:
    """An around hook: resolves the result, for callers inside and outside.

    Where ``$select`` names a virtual property, the method gets no ``$select``: the property may need the others.
    """
    virtuals = set().union(*(resolver.virtuals for resolver in resolvers))

    async def resolve_result(context: Context, next: Callable[[], Awaitable[None]]) -> None:
        selected = _selected(context)
        if selected is not None and selected & virtuals:
            query = context.params.query
            context.params.query = {name: value for name, value in query.items() if name != "$select"}
        await next()
        context.result = await _each(context.result, resolvers, context, selected)

    return resolve_result


def resolve_external(*resolvers: Resolver) -> Around:
    """An around hook, the first one of a service: what callers outside and events get instead of the result.

    It sets ``context.dispatch``; callers inside the process keep the whole result.
    """

    async def resolve_external(context: Context, next: Callable[[], Awaitable[None]]) -> None:
        selected = _selected(context)
        await next()
        seen = context.dispatch if context.has_dispatch else context.result
        context.dispatch = await _each(seen, resolvers, context, selected)

    return resolve_external


def _property(name: str, given: Callable[..., Any] | Virtual) -> _Property:
    function = given.function if isinstance(given, Virtual) else given
    if not callable(function):
        raise TypeError(f"The resolver of '{name}' must be a function or virtual(function)")
    return _Property(name, function, isinstance(given, Virtual), iscoroutinefunction(function))


def _now(one: _Property, record: Row, context: Context) -> Any:
    try:
        return one.start(record, context)
    except (FeathersError, ValueError) as error:
        return error


async def _value(one: _Property, record: Row, context: Context) -> Any:
    try:
        return await one.start(record, context)
    except (FeathersError, ValueError) as error:
        return error


def _raise_failures(found: Row) -> None:
    failures = {name: value for name, value in found.items() if isinstance(value, FeathersError | ValueError)}
    if failures:
        raise BadRequest("Error resolving data", {name: _told(error) for name, error in failures.items()})


def _told(error: FeathersError | ValueError) -> Row:
    return error.to_dict() if isinstance(error, FeathersError) else {"message": str(error)}


def _selected(context: Context) -> frozenset[str] | None:
    """What the caller selected, and the id, which is always there."""
    select = context.params.query.get("$select")
    if not isinstance(select, list | tuple):
        return None
    return frozenset((*select, getattr(context.service.service, "id", "id")))


async def _each(
    value: Any, resolvers: tuple[Resolver, ...], context: Context, selected: frozenset[str] | None = None
) -> Any:
    if value is None:
        return None
    resolved = await asyncio.gather(*(_one(record, resolvers, context, selected) for record in items(value)))
    return with_items(value, list(resolved))


async def _one(
    record: Any, resolvers: tuple[Resolver, ...], context: Context, selected: frozenset[str] | None = None
) -> Any:
    """A record through all resolvers, each with what the one before it made. What is no record stays as it is."""
    if not isinstance(record, Mapping):
        return record
    for resolver in resolvers:
        record = await resolver.resolve(dict(record), context, selected)
    return record
