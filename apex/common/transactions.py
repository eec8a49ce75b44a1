"""Hooks for calls that read, change and store several records as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apex.common.scopes import trash_of
from apex.context import Context, Params
from apex.errors import BadRequest, ConfigError
from apex.hooks import Hook, Next, belongs, keeps_result
from apex.query.language import Compare, Query
from apex.types import Row

_PAGING = ("$select", "$sort", "$limit", "$skip")


@keeps_result
async def transaction(context: Context, next: Next) -> None:
    """Run the hooks that follow and the method in one transaction of the app's database: around any method.

    If one of them raises, nothing is stored. Events follow the commit. A transaction inside another one is part of it.
    Raises ConfigError if the app has no database.
    """
    database = context.app.get("database")
    if database is None or isinstance(database, str):  # The setting is a URL until the database is configured.
        raise ConfigError("transaction needs a database: call app.configure(database(url))")
    async with database.transaction():
        await next()


def stash_before(name: str = "before", most: int | None = None) -> Hook:
    """Read the record as it is before the call, or the list of those that match, into ``params[name]``.

    It comes before update, patch, remove and restore. The records are read past the hooks, within the scope that the
    earlier hooks have set. In a transaction nobody else changes them until its end, and the method changes these
    records alone. Raises NotFound, and BadRequest for a call from outside that finds more than ``most`` records.
    """

    @belongs("before", "around")
    async def stash_before(context: Context) -> None:
        restores = context.method == "restore" and trash_of(context) is not None
        if not restores and context.method not in ("update", "patch", "remove"):
            return
        service, params = context.service.service, context.params
        lock = "remove" if context.method == "remove" else True
        # Fields on demand are part of the record, too.
        adapter = {"private": getattr(service, "private", ()), **(params.adapter or {}), "lock": lock}
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


def _unpaged(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the query without paging and selection, with the conditions that hooks have added."""
    asked = {name: value for name, value in query.items() if name not in _PAGING}
    if isinstance(query, Query):
        return replace(query, asked=asked, limit=None, skip=0, sort=(), select=None)
    return asked
