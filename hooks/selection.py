"""What a caller selects is for the caller: hooks and events see the whole record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apex import Context
from apex.types import Row


def keep_whole(context: Context) -> None:
    """Before create, patch and remove, after ``validate_query``: takes ``$select`` aside."""
    query: Any = context.params.query
    if query.select is not None:
        service = context.service.service
        asked = {name: value for name, value in query.asked.items() if name != "$select"}
        context.params.selected = (*query.select, service.id)
        # What is on demand is read beside the whole record, as nobody asks for it again.
        whole = (*service.shown, *service.on_demand) if {*service.on_demand}.intersection(query.select) else None
        if whole is not None:
            asked["$select"] = whole
        context.params.query = replace(query, asked=asked, select=whole)


def select_for_caller(context: Context) -> None:
    """After create, patch and remove: a caller outside gets what it selected, and nobody else what is on demand."""
    if (fields := context.params.selected) is not None:
        context.dispatch = _each(context.result, fields)
        query: Any = context.params.query
        if query.select is not None:
            context.result = _each(context.result, context.service.service.shown)


def _each(result: Any, fields: tuple[str, ...]) -> Any:
    return [_picked(row, fields) for row in result] if isinstance(result, list) else _picked(result, fields)


def _picked(row: Row, fields: tuple[str, ...]) -> Row:
    return {name: row[name] for name in dict.fromkeys(fields)}
