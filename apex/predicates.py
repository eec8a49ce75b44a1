"""Conditions as a tree: comparisons, and junctions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Compare(NamedTuple):
    """``field operator value``. ``$eq`` and ``$ne`` also take None.

    For services, not for callers: ``$contains``; and ``$above $from $upto $below``, which compare as a sort does, where
    null comes before everything.
    """

    field: str
    operator: str
    value: Any


class Junction(NamedTuple):
    """All of the parts, or any of them."""

    kind: Literal["and", "or"]
    parts: tuple[Predicate, ...]


Predicate = Compare | Junction
EVERYTHING = Junction("and", ())


def every(*parts: Predicate) -> Predicate:
    """All of the parts, flattened."""
    flat: list[Predicate] = []
    for part in parts:
        if isinstance(part, Junction) and part.kind == "and":
            flat.extend(part.parts)
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Junction("and", tuple(flat))


@dataclass(frozen=True, slots=True)
class Rank:
    """Sorts by how well a form of lines (newline, line, newline ...) holds the term: whole line, start, anywhere."""

    field: str
    term: str


def scope_values(allowed: Any) -> list[Any]:
    """The values that one entry of a scope allows."""
    if isinstance(allowed, set | frozenset):
        return sorted(allowed, key=repr)  # In one order in all processes: cursors are told by what they belong to.
    return list(allowed) if isinstance(allowed, list | tuple) else [allowed]


def scope_predicate(scope: Mapping[str, Any]) -> Predicate:
    """What a scope allows: a field equals a value, or one of a list of values."""
    return every(*[_allowed(name, values) for name, values in scope.items()])


def _allowed(name: str, allowed: Any) -> Predicate:
    values = scope_values(allowed)
    return Compare(name, "$eq", values[0]) if len(values) == 1 else membership(name, "$in", values)


def membership(name: str, operator: str, values: Sequence[Any]) -> Predicate:
    present = [value for value in values if value is not None]
    listed = Compare(name, operator, present)
    if len(present) == len(values):
        return listed
    if operator == "$in":
        return Junction("or", (listed, Compare(name, "$eq", None)))
    return every(listed, Compare(name, "$ne", None))
