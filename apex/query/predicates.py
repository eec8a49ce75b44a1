"""Predicates: conditions as trees of comparisons and junctions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
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


def holds(compare: Compare, value: Any) -> bool:
    """Return True if a comparison holds for a value. As in SQL, only ``$eq`` and ``$ne`` hold for null."""
    return TESTS[compare.operator](value, compare.value)


def three_way(one: Any, other: Any) -> int:
    """Compare two values of any types: null, numbers, strings, booleans, then the rest by their own order."""
    ranks = _type_rank(one), _type_rank(other)
    if ranks[0] != ranks[1]:
        return -1 if ranks[0] < ranks[1] else 1
    try:
        return int(one > other) - int(one < other)
    except TypeError:
        return 0


def _type_rank(value: Any) -> int:
    if isinstance(value, bool):
        return 3
    return next((rank for rank, kind in enumerate(_TYPES) if isinstance(value, kind)), 4)


_TYPES = (type(None), int | float, str, bool)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        if one is None or _type_rank(one) != _type_rank(other):
            return False
        return test(three_way(one, other), 0)

    return compare


def _equal(one: Any, other: Any) -> bool:
    """Return True if two values are equal. A list is equal to each of its items."""
    return (other in one) if isinstance(one, list) and not isinstance(other, list) else one == other


def _different(one: Any, other: Any) -> bool:
    return one is not None and not (other is not None and _equal(one, other))


def _none_of(one: Any, others: Sequence[Any]) -> bool:
    return not others or (one is not None and not any(_equal(one, other) for other in others))


def _like(one: Any, pattern: str) -> bool:
    return one is not None and _like_match(str(one), pattern)


def _like_match(text: str, pattern: str) -> bool:
    """Match SQL's LIKE: ``%`` any run, ``_`` one character, a backslash takes the next one as it is."""
    return re.fullmatch(_expression(pattern), text, re.S) is not None


@lru_cache(1_024)
def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern, which takes linear time.

    The text between two ``%`` is matched only at its first place, without backtracking: if the rest does not match
    after that place, it does not match after a later one.
    """
    runs = [""]
    for part in re.findall(r"\\.|[%_]|[^%_\\]+|\\$", pattern, re.S):
        if part == "%":
            runs.append("")
        else:
            runs[-1] += "." if part == "_" else re.escape(part.removeprefix("\\"))
    first, *others = runs
    between = "".join(f"(?>.*?{run})" for run in others[:-1])
    return f"{first}{between}.*{others[-1]}" if others else first


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": _different,
    "$in": lambda one, others: any(_equal(one, other) for other in others),
    "$nin": _none_of,
    "$lt": _ordered(lambda order, zero: order < zero),
    "$lte": _ordered(lambda order, zero: order <= zero),
    "$gt": _ordered(lambda order, zero: order > zero),
    "$gte": _ordered(lambda order, zero: order >= zero),
    "$like": _like,
    "$notlike": lambda one, pattern: one is not None and not _like(one, pattern),
    "$ilike": lambda one, pattern: one is not None and _like_match(str(one).lower(), pattern.lower()),
    "$contains": lambda one, term: one is not None and term in one,
    "$above": lambda one, other: three_way(one, other) > 0,
    "$from": lambda one, other: three_way(one, other) >= 0,
    "$upto": lambda one, other: three_way(one, other) <= 0,
    "$below": lambda one, other: three_way(one, other) < 0,
}
