"""The related records in the data of a call: their form, their number, and the way past the schema of the record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from apex.context import Context
from apex.errors import BadRequest
from apex.relations.declarations import Relation
from apex.types import Row

MOST_RELATED = 1_000
"""The most related records that one call creates, with those inside of them, and the most ids in a list."""
DEEPEST = 5
"""The levels of records inside of records."""

_IDS = f"Must be a list of at most {MOST_RELATED:,} ids such as [1, 2]"
_TOO_MANY = f"Must not bring the related records of one call to more than {MOST_RELATED:,}"


def take_related(context: Context, names: Collection[str]) -> list[Row] | None:
    """Take the related records out of the data of a call, and return them for each record, by relation.

    Return None if there are none.
    """
    rows = context.items
    if not names or not any(name in row for row in rows if isinstance(row, Mapping) for name in names):
        return None
    # Something that is no record has no related ones. The method refuses it.
    related = [{name: row[name] for name in names if name in row} if isinstance(row, Mapping) else {} for row in rows]
    context.items = [
        {name: value for name, value in row.items() if name not in names} if isinstance(row, Mapping) else row
        for row in rows
    ]
    return related


def put_back(context: Context, related: list[Row]) -> None:
    """Put the related records into the data again, for the hooks that follow."""
    context.items = [{**row, **given} for row, given in zip(context.items, related, strict=True)]


def require_form(context: Context, related: list[Row], message: str = "Invalid data") -> None:
    """Raise BadRequest for related records of a wrong form."""
    if errors := dict(problems(context, related)):
        raise BadRequest(message, errors=errors)


def problems(context: Context, related: list[Row]) -> Iterator[tuple[str, str]]:
    """Yield the name of each field with a wrong form, with a sentence."""
    many = isinstance(context.data, list)
    declared: Mapping[str, Relation] = context.service.service.relations
    for number, (row, given) in enumerate(zip(context.items, related, strict=True)):
        for name, value in given.items():
            if (sentence := _problem(declared[name], value, row, context.method)) is not None:
                yield f"{number}.{name}" if many else name, sentence


def _problem(relation: Relation, value: Any, row: Row, method: str) -> str | None:
    """Return the sentence about a value with a wrong form, or None. ``row`` is the record without it."""
    if relation.kind == "many_to_many":
        is_list = isinstance(value, list) and len(value) <= MOST_RELATED
        fits = is_list and all(isinstance(id, str | int) and not isinstance(id, bool) for id in value)
        return None if fits else _IDS
    if method != "create":
        return f"Can only be set on create: use '{relation.service}'"
    if relation.kind == "belongs_to":
        if row.get(relation.key or "") is not None:
            return f"Must not be given together with {relation.key}"
        return None if isinstance(value, dict) else "Must be an object"
    if not isinstance(value, list) or not all(isinstance(child, dict) for child in value):
        return "Must be a list of objects"
    if any(relation.key in child for child in value):
        return f"Must leave out {relation.key}, which is the id of the new record"
    return _TOO_MANY if len(value) > MOST_RELATED else None


def spend(context: Context, related: list[Row]) -> None:
    """Count the related records of a call. Raises BadRequest if the outermost call creates too many, or too deep."""
    calls = [context]
    while isinstance(parent := calls[-1].params.get("parent"), Context):
        calls.append(parent)
    counts = {
        name: sum(1 if isinstance(given[name], dict) else len(given[name]) for given in related if name in given)
        for name, relation in context.service.service.relations.items()
        if relation.write and relation.kind != "many_to_many"
    }
    for name, count in counts.items():
        total = calls[-1].params["related"] = calls[-1].params.get("related", 0) + count
        if count and total > MOST_RELATED:
            raise BadRequest("Invalid data", errors={name: _TOO_MANY})
        if count and len(calls) > DEEPEST:
            raise BadRequest("Invalid data", errors={name: f"Must not be nested deeper than {DEEPEST} levels"})
