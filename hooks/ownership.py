"""Who made a row and who owns it, and that what a row refers to is in its own organization."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from apex import Apex, Context, Params
from apex.errors import BadRequest
from apex.types import Row, items

MISSING = "Does not exist in this organization"


def stamp_owner(context: Context) -> None:
    """Before create: the caller made the row, and owns it unless it names another owner."""
    user = context.params.user
    if user:
        context.items = [_owned(row, user["id"]) for row in context.items]


def _owned(row: Row, user_id: int) -> Row:
    owner = row.get("owned_by_user_id")
    return {**row, "created_by_user_id": user_id, "owned_by_user_id": user_id if owner is None else owner}


References = Mapping[str, tuple[str, str]]
"""A field to the service and the key that it refers to: ``company_id`` to ``("companies", "id")``."""


def refers_within(message: str, **references: tuple[str, str]) -> Callable[[Context], Awaitable[None]]:
    """Before create and patch: each named field must refer to a record of the row's organization.

    ``company_id=("companies", "id")`` says that the field is an id of companies. A patch that leaves a field as it is
    stored is not asked: the record that it refers to may have been removed since. Raises BadRequest naming all
    the fields that do not, with the place of their row where there are many.
    """

    async def refers_within(context: Context) -> None:
        if not context.params.provider:
            return
        rows = changed(context, *references)
        if all(value is None for row in rows for value in row.values()):
            return
        lost = await strays(context.app, references, rows, await organization_of(context))
        many = isinstance(context.data, list)
        errors = {f"{place}.{name}" if many else name: MISSING for place, names in enumerate(lost) for name in names}
        if errors:
            raise BadRequest(message, errors=errors)

    return refers_within


def changed(context: Context, *names: str) -> list[Row]:
    """Return these fields of each row that a create or patch stores, without those that it leaves as they are.

    Without ``stash_before`` a patch is taken to change all that it names.
    """
    before = None if context.method == "create" else context.params.before
    if before is None:
        return [{name: row[name] for name in names if name in row} for row in context.items]
    stored = items(None, before)
    return [
        {name: row[name] for name in names if name in row and any(old[name] != row[name] for old in stored)}
        for row in context.items
    ]


async def strays(app: Apex, references: References, rows: Sequence[Row], organization: int) -> list[list[str]]:
    """For each row the fields that refer to nothing in the organization. Asks once for each field, not for each row."""
    missing = {
        name: await _missing(app, refers, {row[name] for row in rows if row.get(name) is not None}, organization)
        for name, refers in references.items()
    }
    return [[name for name in references if row.get(name) in missing[name]] for row in rows]


async def _missing(app: Apex, refers: tuple[str, str], values: set[int], organization: int) -> set[int]:
    if not values:
        return values
    service, key = refers
    query = {key: {"$in": sorted(values)}, "organization_id": organization, "$select": [key]}
    found = await app.service(service).find({"query": query, "paginate": False})
    return values - {row[key] for row in found}


async def organization_of(context: Context) -> int:
    """Before create and patch: the organization that the record belongs to."""
    if context.method == "create":
        return int(context.items[0]["organization_id"])
    if context.id is None:
        return int(context.params.query["organization_id"])
    if context.params.before:
        return int(context.params.before["organization_id"])
    params = Params({"query": {"$select": ["organization_id"]}, "scope": context.params.scope})
    row: Mapping[str, Any] = await context.service.service.get(context.id, params)
    return int(row["organization_id"])
