"""Predicates: conditions as trees of comparisons and junctions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Compare(NamedTuple):
    """The comparison ``field operator value``. ``$eq`` and ``$ne`` also take None.

    Only services can use ``$contains``, and ``$above $from $upto $below``, which compare as a sort does: null comes
    before everything else.
    """

    field: str
    operator: str
    value: Any


class Junction(NamedTuple):
    """A condition that holds if all of its parts hold, or if any of them does."""

    kind: Literal["and", "or"]
    parts: tuple[Predicate, ...]


Predicate = Compare | Junction
EVERYTHING = Junction("and", ())


def every(*parts: Predicate) -> Predicate:
    """Return the predicate that holds if all parts hold. Nested ones are flattened."""
    flat: list[Predicate] = []
    for part in parts:
        if isinstance(part, Junction) and part.kind == "and":
            flat.extend(part.parts)
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Junction("and", tuple(flat))


@dataclass(frozen=True, slots=True)
class Rank:
    """An order by how well a field with lines matches a term: as a whole line, at the start of one, or anywhere."""

    field: str
    term: str


def membership(name: str, operator: str, values: Sequence[Any]) -> Predicate:
    """Return the predicate for ``$in`` or ``$nin`` with a list of values, which may hold None."""
    present = [value for value in values if value is not None]
    listed = Compare(name, operator, present)
    if len(present) == len(values):
        return listed
    if operator == "$in":
        return Junction("or", (listed, Compare(name, "$eq", None)))
    return every(listed, Compare(name, "$ne", None))


def conjunction(where: Predicate) -> tuple[Predicate, ...]:
    """Return the parts of a predicate that all have to hold."""
    return where.parts if isinstance(where, Junction) and where.kind == "and" else (where,)


def compared(where: Predicate) -> Iterator[str]:
    """Yield the fields that a predicate compares."""
    if isinstance(where, Junction):
        for part in where.parts:
            yield from compared(part)
    else:
        yield where.field


def narrows(where: Predicate, except_for: Collection[str]) -> bool:
    """Return True if a row has to meet a condition on another field than these."""
    if isinstance(where, Compare):
        return where.field not in except_for
    parts = [narrows(part, except_for) for part in where.parts]
    return any(parts) if where.kind == "and" else all(parts)
