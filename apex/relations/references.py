"""The check of references: a key may only name a record that its caller can read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from apex.context import Context
from apex.errors import BadRequest, FeathersError
from apex.relations.binding import BoundRelation
from apex.relations.calls import REFUSALS, caller_params
from apex.types import Row, items

if TYPE_CHECKING:
    from apex.app import Apex

CHECKED = "__apex_references__"
"""The attribute of a hook with the names of the fields whose references it checks."""

MOST_AT_ONCE = 5_000
"""The ids in one query."""


class Place(NamedTuple):
    """An id in the data: the name of its field in errors, and the tenant of its record, if that is known."""

    name: str
    id: Any
    tenant: Any = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A relation whose ids are checked before they are stored.

    A ``trusted`` reference is checked by the process itself, and not with the rights of the caller. The records of a
    ``guarded`` one cannot be removed until the end of the transaction.
    """

    name: str
    trusted: bool = False
    guarded: bool = False


def is_guarded(app: Apex, path: str, service: str, key: str | None) -> bool:
    """Return True if the removal of records of a service does something to the records at a path that refer to it."""
    parent = app.services.get(service.strip("/"))
    declared: Mapping[str, Any] = getattr(parent and parent.service, "relations", {})
    return any(
        one.kind == "has_many" and one.on_remove and (one.service.strip("/"), one.key) == (path, key)
        for one in declared.values()
    )


async def require_records(context: Context, checks: Iterable[tuple[Reference, Sequence[Place]]]) -> None:
    """Raise BadRequest that names each place with the id of a record that does not exist, or that is hidden.

    A record of another tenant does not exist for the record that refers to it. Makes one call for each reference.
    """
    errors: dict[str, str] = {}
    for reference, places in checks:
        relation: BoundRelation = context.service.service.related[reference.name]
        ids = [(place, id_of(relation, place.id)) for place in places]
        found = await _found(context, reference, relation, {id for _, id in ids if id is not None})
        for place, id in ids:
            if id not in found or (found[id] != place.tenant and None not in (found[id], place.tenant)):
                errors[place.name] = "Does not exist"
    if errors:
        raise BadRequest("Invalid data", errors=errors)


def id_of(relation: BoundRelation, value: Any) -> Any:
    """Return an id as it is stored, or None for a value that cannot be an id of the related service."""
    if isinstance(value, bool | float | list | dict):
        return None
    try:
        return relation.adapter.typed_id(value)
    except FeathersError:
        return None


def tenant_field(adapter: Any) -> str | None:
    """Return the field with the tenant of a record, if the adapter has a table that names it."""
    field: str | None = getattr(getattr(adapter, "table", None), "info", {}).get("tenant")
    return field


async def _found(
    context: Context, reference: Reference, relation: BoundRelation, ids: Collection[Any]
) -> dict[Any, Any]:
    """Return the tenants of records by id, or None for tenants that are not known.

    These are the records that exist, or those that the caller can read if the reference is not trusted.
    """
    name, found = relation.adapter.id, dict[Any, Any]()
    tenant = tenant_field(relation.adapter)
    select = [name] if tenant is None or tenant in relation.adapter.private else [name, tenant]
    params: Row = {} if reference.trusted else caller_params(context)
    if reference.guarded:
        params["adapter"] = {"lock": "key"}
    for some in _parts(sorted(ids, key=str)):
        query = {name: {"$in": some}, "$select": select}
        try:
            answer = await relation.service.find({**params, "query": query, "paginate": False})
        except REFUSALS:
            continue
        found |= {row[name]: row.get(tenant or "") for row in items("find", answer)}
    return found


def _parts(ids: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(ids), MOST_AT_ONCE):
        yield ids[start : start + MOST_AT_ONCE]
