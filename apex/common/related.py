"""The hook that shows related records of other services in the records of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from apex.common.conditions import Predicate, as_bool
from apex.context import Context
from apex.describe import Related, describe
from apex.hooks import Hook, belongs
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row, items

Fields = Sequence[str] | Callable[[Row], Row]
"""The fields to show of a record, or a function that returns what to show."""


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
    """Add to each record, under ``name``, the record of another service that its ``key`` refers to, or None: after.

    With ``many``, add the list of records whose ``key`` is its id. All are fetched with one query. Records are cut to
    ``fields``, or replaced by the result of a function.

    Records that ``soft_delete`` has removed are left out unless ``removed`` is True. With ``everyone`` they may be
    records that row-level security keeps from the caller's tenant, such as a user who has left it. ``when``, ``def`` or
    ``async def``, returns True if the call asks for them.
    """

    @belongs("after", "around")
    @describe(adds={name: Related(service, fields, many)})
    async def populate(context: Context) -> None:
        if when is not None:
            answer = when(context)
            if not (answer if isinstance(answer, bool) else await as_bool(answer)):
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
    """Return the records of a service by the value of their ``key``, in the order of their ids."""
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
