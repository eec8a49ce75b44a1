"""Records that are part of another one, as the products of a deal are: they go with it."""

from __future__ import annotations

from apex import Context, Params
from apex.errors import BadRequest, NotFound
from apex.hooks import Hook
from apex.items import items
from apex.types import Row
from hooks.ownership import MISSING


def remove_children(service: str, key: str) -> Hook:
    """Before remove, after ``stash_before``, in a transaction: the records of another service whose ``key`` is the id
    of what is removed are removed by that service, with their events and their audit.
    """

    async def remove_children(context: Context) -> None:
        ids = [row[context.service.id] for row in items(context.method, context.params.before)]
        params = {"query": {key: {"$in": ids}}, "adapter": {"multi": ["remove"]}}
        await context.app.service(service).remove(None, params)

    return remove_children


async def change_parent(context: Context, service: str, key: str, id: int, changes: Row) -> Row:
    """The parent as it is with these changes, made past its hooks: whoever would remove it waits until the call that
    ``context`` is of is stored. Raises BadRequest naming ``key`` when it is removed already.
    """
    there = Params({"scope": {"deleted_at": None}})
    try:
        parent: Row = await context.app.service(service).service.patch(id, changes, there)
    except NotFound:
        raise BadRequest(f"Invalid {context.service.noun} data", errors={key: MISSING}) from None
    return parent
