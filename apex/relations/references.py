"""The check of references: a key may only name a record that its caller can read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apex.context import Context
from apex.errors import BadRequest, FeathersError, Forbidden, MethodNotAllowed, NotAuthenticated, NotFound
from apex.relations.binding import BoundRelation
from apex.relations.calls import caller_params
from apex.types import Row, items

if TYPE_CHECKING:
    from apex.app import Apex

CHECKED = "__apex_references__"
"""The attribute of a hook with the names of the fields whose references it checks."""

MOST_AT_ONCE = 5_000
"""The ids in one query."""

_REFUSALS = (Forbidden, MethodNotAllowed, NotAuthenticated, NotFound)

Place = tuple[str, Any]
"""The name of a field in errors, and its value."""


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

    Makes one call for each reference.
    """
    errors: dict[str, str] = {}
    for reference, places in checks:
        relation: BoundRelation = context.service.service.related[reference.name]
        ids = {place: id_of(relation, value) for place, value in places}
        found = await _found(context, reference, relation, {id for id in ids.values() if id is not None})
        errors |= {place: "Does not exist" for place, id in ids.items() if id is None or id not in found}
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


async def _found(context: Context, reference: Reference, relation: BoundRelation, ids: Collection[Any]) -> set[Any]:
    """Return those of the ids whose records exist, or that the caller can read if the reference is not trusted."""
    name, found = relation.adapter.id, set[Any]()
    params: Row = {} if reference.trusted else caller_params(context)
    if reference.guarded:
        params["adapter"] = {"lock": "key"}
    for some in _parts(sorted(ids, key=str)):
        query = {name: {"$in": some}, "$select": [name]}
        try:
            answer = await relation.service.find({**params, "query": query, "paginate": False})
        except _REFUSALS:
            continue
        found.update(row[name] for row in items("find", answer))
    return found


def _parts(ids: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(ids), MOST_AT_ONCE):
        yield ids[start : start + MOST_AT_ONCE]
