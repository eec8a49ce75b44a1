"""What a caller selects is for the caller: hooks and events see the whole record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apex import Context, Hook
from apex.types import Row


def keep_whole(on_demand: bool = True) -> Hook:
    """Take ``$select`` aside, before any method but find, after ``validate_query``. With ``on_demand``
    the hooks that follow see the fields on demand, too, also if nobody selects them.
    """

    def keep_whole(context: Context) -> None:
        query: Any = context.params.query
        service, chosen = context.service.service, query.select
        if chosen is not None:
            context.params.selected = (*chosen, service.id)
        whole = None
        if service.on_demand and (on_demand or {*service.on_demand}.intersection(chosen or ())):
            whole = (*service.shown, *service.on_demand)
        if whole != chosen:
            asked = {name: value for name, value in query.asked.items() if name != "$select"}
            if whole is not None:
                asked["$select"] = whole
            context.params.query = replace(query, asked=asked, select=whole)

    return keep_whole


def select_for_caller(context: Context) -> None:
    """Give a caller outside what it selected, and nobody else fields on demand.

    It comes after get, create, patch, remove and restore.
    """
    if (fields := context.params.selected) is not None:
        context.dispatch = _each(context.result, fields)
    query: Any = context.params.query
    if query.select is not None:
        context.result = _each(context.result, context.service.service.shown)


def _each(result: Any, fields: tuple[str, ...]) -> Any:
    return [_picked(row, fields) for row in result] if isinstance(result, list) else _picked(result, fields)


def _picked(row: Row, fields: tuple[str, ...]) -> Row:
    return {name: row[name] for name in dict.fromkeys(fields)}
