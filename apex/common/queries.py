"""Hooks for queries: their order, their selection, and how many records a call may change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apex.common.fields import _tree, _without
from apex.context import Context
from apex.errors import BadRequest
from apex.hooks import Hook, belongs, keeps_result
from apex.query.language import Query, invalid, narrows
from apex.types import Row


def default_sort(**order: int) -> Hook:
    """Sort a list whose query names no order: before find.

    ``position=1`` is ascending, ``position=-1`` descending.
    """

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


def discard_query(*names: str) -> Hook:
    """Remove these keys from the query: before all methods. Dots lead into operators: ``age.$gt``.

    Keys inside of ``$or`` and ``$and`` stay, unless those are removed too. To hide a field use the option ``private``.
    """
    tree = _tree(names)

    @belongs("before", "around")
    def discard_query(context: Context) -> None:
        query = context.params.query
        left = {name: value for name, value in _without(dict(query), tree).items() if name not in names}
        if left != query:
            context.params.query = left

    return discard_query


def keep_query(*names: str) -> Hook:
    """Remove all keys but these from the query, filters such as ``$limit`` too: before all methods."""
    kept = frozenset(names)

    @belongs("before", "around")
    def keep_query(context: Context) -> None:
        query = context.params.query
        if not kept.issuperset(query):
            context.params.query = {name: value for name, value in query.items() if name in kept}

    return keep_query


@belongs("before", "around")
def disable_pagination(context: Context) -> None:
    """Give callers the whole list, without a page, if they send ``$limit=-1``: before find and ``validate_query``.

    Raises TypeError if it comes after ``validate_query``, which takes -1 for the default.
    """
    query = context.params.query
    if context.method != "find":
        return
    if isinstance(query, Query):
        raise TypeError("disable_pagination has to come before validate_query")
    if query.get("$limit") in (-1, "-1"):
        context.params.paginate = False
        context.params.query = {name: value for name, value in query.items() if name != "$limit"}


@belongs("before", "around")
def check_multi(context: Context) -> None:
    """Refuse a call about many records unless the adapter's ``multi`` allows it: before create, patch and remove.

    The adapter checks the same. As a hook the check comes before hooks that read the database. Raises MethodNotAllowed.
    """
    many = isinstance(context.data, list) if context.method == "create" else context.id is None
    if many and context.method in ("create", "patch", "remove"):
        context.service.require_multi(context.method, context.params)


def require_condition(*ignored: str) -> Hook:
    """Refuse a patch or remove of many records without a condition in its query. It comes after ``validate_query``.

    Conditions on the ``ignored`` fields, such as that of the tenant, do not count, nor does an ``$or`` that has one of
    them among its parts. Raises BadRequest, also for ``$limit``, ``$skip`` and ``$sort``, which would seem to pick some
    of the records.
    """

    @belongs("before", "around")
    def require_condition(context: Context) -> None:
        if context.id is not None or context.method not in ("patch", "remove") or not context.params.get("provider"):
            return
        query = context.service.service.syntax.parse(context.params.query)
        for name in ("$limit", "$skip", "$sort"):
            if name in query.asked:
                raise invalid(name, f"is for lists alone: {context.method} is about all records that the query finds")
        if not narrows(query.where, ignored):
            named = f"; {', '.join(ignored)} alone is not enough" if ignored else ""
            raise BadRequest(f"Without an id, {context.method} needs a condition in the query{named}")

    return require_condition


def defer_select(*, on_demand: bool = True) -> Hook:
    """Let hooks and events see whole records, whatever the caller selects: before any method but find.

    It takes ``$select`` out of the query, for ``apply_select`` to apply at the end. It comes after ``validate_query``.
    With ``on_demand`` the hooks in between also see the adapter's ``on_demand`` fields.
    """

    @belongs("before", "around")
    def defer_select(context: Context) -> None:
        query: Any = context.params.query
        service, selected = context.service.service, query.select
        if selected is not None:
            context.params.selected = (*selected, service.id)
        whole = None
        if service.on_demand and (on_demand or {*service.on_demand}.intersection(selected or ())):
            whole = (*service.shown, *service.on_demand)
        if whole != selected:
            asked = {name: value for name, value in query.asked.items() if name != "$select"}
            if whole is not None:
                asked["$select"] = whole
            context.params.query = replace(query, asked=asked, select=whole)

    return defer_select


@belongs("after")
def apply_select(context: Context) -> None:
    """Reduce the result to the fields that a caller from outside has selected, after ``defer_select``.

    Callers inside the process and listeners get the record without its ``on_demand`` fields.

    It is the last hook after get, create, patch, remove and restore.
    """
    if (fields := context.params.selected) is not None:
        context.dispatch = _picked(context.result, fields)
    query: Any = context.params.query
    if query.select is not None:
        context.result = _picked(context.result, context.service.service.shown)


def _selects_nothing(context: Context) -> bool:
    query: Any = context.params.query
    return context.params.selected is None and query.select is None


keeps_result(apply_select, _selects_nothing)


def _picked(result: Any, fields: tuple[str, ...]) -> Any:
    names = dict.fromkeys(fields)

    def pick(row: Row) -> Row:
        return {name: row[name] for name in names}

    return [pick(row) for row in result] if isinstance(result, list) else pick(result)
