"""Changes of the record that another one is part of, such as the deal of a product."""

from __future__ import annotations

from apex import Context, Params
from apex.errors import BadRequest, Conflict, NotFound
from apex.types import Row
from hooks.tenancy import MISSING


async def change_parent(context: Context, service: str, key: str, id: int, changes: Row) -> Row:
    """Change a parent record past its hooks, and return it.

    Calls that would remove it wait until the call of ``context`` is stored. If it is removed already, raises BadRequest
    naming ``key``, or Conflict for ``restore``.
    """
    there, parents = Params({"scope": {"deleted_at": None}}), context.app.service(service)
    try:
        parent: Row = await parents.service.patch(id, changes, there)
    except NotFound:
        if context.method == "restore":
            rule = f"The {parents.noun} {id} is removed: restore that first"
            raise Conflict(rule, errors={key: "Is removed"}) from None
        raise BadRequest(f"Invalid {context.service.noun} data", errors={key: MISSING}) from None
    return parent
