"""Who made a row and who owns it, and that what a row refers to is in its own organization."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from apex import Context, Params
from apex.errors import BadRequest
from apex.types import Row
from hooks.rows import change_rows, rows

MISSING = "Does not exist in this organization"


def stamp_owner(context: Context) -> None:
    """Before create: the caller made the row, and owns it unless it names another owner."""
    user = context.params.user
    if user:
        change_rows(context, lambda row: _owned(row, user["id"]))


def _owned(row: Row, user_id: int) -> Row:
    owner = row.get("owned_by_user_id")
    return {**row, "created_by_user_id": user_id, "owned_by_user_id": user_id if owner is None else owner}


def refers_within(message: str, **references: tuple[str, str]) -> Callable[[Context], Awaitable[None]]:
    """Before create and patch: each named field must refer to a record of the row's organization.

    ``company_id=("companies", "id")`` says that the field is an id of companies. Raises BadRequest naming all
    the fields that do not.
    """

    async def refers_within(context: Context) -> None:
        given = {(name, row[name]) for row in rows(context) for name in references if row.get(name) is not None}
        if not given or not context.params.provider:
            return
        organization = await organization_of(context)
        errors = {
            name: MISSING for name, value in given if not await _exists(context, *references[name], value, organization)
        }
        if errors:
            raise BadRequest(message, errors=errors)

    return refers_within


async def organization_of(context: Context) -> int:
    """Before create and patch: the organization that the record belongs to."""
    if context.method == "create":
        return int(rows(context)[0]["organization_id"])
    if context.params.before:
        return int(context.params.before["organization_id"])
    params = Params({"query": {"$select": ["organization_id"]}, "scope": context.params.scope})
    row: Mapping[str, Any] = await context.service.service.get(context.id, params)
    return int(row["organization_id"])


async def _exists(context: Context, service: str, key: str, value: int, organization: int) -> bool:
    query = {key: value, "organization_id": organization, "$select": [key], "$limit": 1}
    return bool(await context.app.service(service).find({"query": query, "paginate": False}))
