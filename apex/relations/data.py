"""The related records in the data of a call: their form, and the way past the schema of the record itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from apex.context import Context
from apex.errors import BadRequest
from apex.relations.declarations import Relation
from apex.types import Row

MOST_RELATED = 1_000
"""The most related records in the data of one call, and the most ids in a list."""
DEEPEST = 5
"""The levels of records inside of records."""

_IDS = f"Must be a list of at most {MOST_RELATED:,} ids such as [1, 2]"


def take_related(context: Context, names: Collection[str]) -> list[Row] | None:
    """Take the related records out of the data of a call, and return them for each record, by relation.

    Return None if there are none. Raises BadRequest if they have a wrong form.
    """
    rows = context.items
    if not names or not any(name in row for row in rows if isinstance(row, Mapping) for name in names):
        return None
    related = [{name: row[name] for name in names if name in row} for row in rows]
    context.items = [{name: value for name, value in row.items() if name not in names} for row in rows]
    if errors := dict(problems(context, related)):
        raise BadRequest("Invalid data", errors=errors)
    return related


def problems(context: Context, related: list[Row]) -> Iterator[tuple[str, str]]:
    """Yield the name of each field with a wrong form, with a sentence."""
    many, calls = isinstance(context.data, list), _callers(context)
    declared: Mapping[str, Relation] = context.service.service.relations
    for number, given in enumerate(related):
        for name, value in given.items():
            place = f"{number}.{name}" if many else name
            relation = declared[name]
            sentence, count = _problem(relation, value, context.method)
            total = calls[-1].params["related"] = calls[-1].params.get("related", 0) + count
            if sentence is None and count and total > MOST_RELATED:
                sentence = f"Must not bring the related records of one call to more than {MOST_RELATED:,}"
            elif sentence is None and count and len(calls) > DEEPEST:
                sentence = f"Must not be nested deeper than {DEEPEST} levels"
            elif sentence is None and relation.kind == "belongs_to" and context.items[number].get(relation.key or ""):
                sentence = f"Must not be given together with {relation.key}"
            if sentence is not None:
                yield place, sentence


def _problem(relation: Relation, value: Any, method: str) -> tuple[str | None, int]:
    """Return the sentence about a value with a wrong form, or None, and the number of records that are created."""
    if relation.kind == "many_to_many":
        is_list = isinstance(value, list) and len(value) <= MOST_RELATED
        fits = is_list and all(isinstance(id, str | int) and not isinstance(id, bool) for id in value)
        return (None if fits else _IDS), 0
    if method != "create":
        return f"Can only be set on create: use '{relation.service}'", 0
    if relation.kind == "belongs_to":
        return (None, 1) if isinstance(value, dict) else ("Must be an object", 0)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return "Must be a list of objects", 0
    if any(relation.key in row for row in value):
        return f"Must leave out {relation.key}, which is the id of the new record", 0
    return None, len(value)


def _callers(context: Context) -> list[Context]:
    """Return a call, the call of the parent that has made it, and so on."""
    calls = [context]
    while isinstance(parent := calls[-1].params.get("parent"), Context):
        calls.append(parent)
    return calls
