"""Hooks about references to records of other services: checked before they are stored, and shown in answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from apex.app import Apex
from apex.common.conditions import Predicate, as_bool
from apex.context import Context
from apex.describe import Related, describe
from apex.errors import BadRequest
from apex.hooks import Hook, belongs, keeps_result
from apex.relations.declarations import Fields
from apex.relations.references import CHECKED
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row, items

References = Mapping[str, tuple[str, str]]
"""A field to the service and the key that it refers to: ``{"folder_id": ("folders", "id")}``."""


def check_references(
    references: References,
    *,
    within: Callable[[Context], Awaitable[Row]] | None = None,
    message: str = "Invalid data",
    missing: str = "Does not exist",
) -> Hook:
    """Check that each named field refers to a record of its service: before create, update and patch from outside.

        check_references({"folder_id": ("folders", "id")}, within=team_of_call)

    ``within`` returns conditions that the records must meet, such as the tenant of the call. Fields that a patch leaves
    as they are stored are not checked, as the record that they refer to may have been removed since. This needs
    ``stash_before``. Raises BadRequest with ``message``. It names all wrong fields, with the index of their record if
    there are many.
    """

    @belongs("before", "around")
    async def check_references(context: Context) -> None:
        if not context.params.provider:
            return
        rows = changed_fields(context, *references)
        if all(value is None for row in rows for value in row.values()):
            return
        conditions = {} if within is None else await within(context)
        lost = await missing_references(context.app, references, rows, conditions)
        many = isinstance(context.data, list)
        errors = {f"{place}.{name}" if many else name: missing for place, names in enumerate(lost) for name in names}
        if errors:
            raise BadRequest(message, errors=errors)

    setattr(check_references, CHECKED, tuple(references))
    return check_references


def changed_fields(context: Context, *names: str) -> list[Row]:
    """Return these fields of each row of a create, update or patch, without those that stay as they are stored.

    Without ``stash_before`` an update or patch is taken to change every field in its data.
    """
    before = None if context.method == "create" else context.params.before
    if before is None:
        return [{name: row[name] for name in names if name in row} for row in context.items]
    stored = items(None, before)
    return [
        {name: row[name] for name in names if name in row and any(old[name] != row[name] for old in stored)}
        for row in context.items
    ]


async def missing_references(
    app: Apex, references: References, rows: Sequence[Row], within: Mapping[str, Any]
) -> list[list[str]]:
    """Return for each row the fields that refer to no record with the conditions in ``within``.

    Makes one call for each field, however many rows there are.
    """
    missing = {
        name: await _missing(app, refers, {row[name] for row in rows if row.get(name) is not None}, within)
        for name, refers in references.items()
    }
    return [[name for name in references if row.get(name) in missing[name]] for row in rows]


async def _missing(app: Apex, refers: tuple[str, str], values: set[Any], within: Mapping[str, Any]) -> set[Any]:
    if not values:
        return values
    service, key = refers
    query = {key: {"$in": sorted(values)}, **within, "$select": [key]}
    found = await app.service(service).find({"query": query, "paginate": False})
    return values - {row[key] for row in found}


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

    return populate if when is None else keeps_result(populate, lambda context: when(context) is False)


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
