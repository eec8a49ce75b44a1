"""The evaluation of predicates in Python, for rows in memory and for values that a scope allows or prescribes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from apex.errors import BadRequest, Forbidden, NotFound
from apex.query.language import EVERYTHING, Compare, Junction, Predicate, compared, conjunction, every
from apex.types import Row


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


def decided(where: Predicate, row: Mapping[str, Any]) -> Predicate | bool:
    """Return a bool if these fields decide a predicate, else the part that depends on other fields."""
    if isinstance(where, Compare):
        return holds(where, row[where.field]) if where.field in row else where
    if not isinstance(where, Junction):
        return where
    decisive = where.kind == "or"
    left: list[Predicate] = []
    for part in where.parts:
        outcome = decided(part, row)
        if outcome is decisive:
            return decisive
        if not isinstance(outcome, bool):
            left.append(outcome)
    if not left:
        return not decisive
    return left[0] if len(left) == 1 else Junction(where.kind, tuple(left))


def prescribed(allowed: Predicate) -> Row:
    """Return the fields for which a scope leaves exactly one value, with that value."""
    parts = (part for part in conjunction(allowed) if isinstance(part, Compare) and part.operator == "$eq")
    values: Row = {}
    for part in parts:
        values.setdefault(part.field, part.value)
    return values


def stamped(row: Row, allowed: Predicate) -> Row:
    """Return a new row with the values that the scope prescribes. The row is changed in place.

    Raises Forbidden for a row outside of the scope, and BadRequest if a field that decides it is missing.
    """
    if allowed is EVERYTHING:
        return row
    for name, value in prescribed(allowed).items():
        row.setdefault(name, value)
    left = decided(allowed, row)
    if left is False:
        raise outside(row, allowed)
    if left is not True:
        errors = {name: "Is required" for part in conjunction(left) for name in compared(part)}
        raise BadRequest(f"{' or '.join(errors)} is required", errors=errors)
    return row


def staying(values: Row, allowed: Predicate) -> Predicate | None:
    """Return the condition on the other fields of a row under which these values keep it inside the scope.

    None if there is no condition. Raises Forbidden where these values are outside in any case.
    """
    left = decided(allowed, values)
    if left is False and decided(allowed, {}) is not False:
        raise outside(values, allowed)
    before = conjunction(allowed)
    changed = [] if isinstance(left, bool) else [part for part in conjunction(left) if part not in before]
    return every(*changed) if changed else None


def outside(values: Row, allowed: Predicate) -> Forbidden:
    """Return the error for values outside of a scope. It names the fields that are outside by themselves, if any."""
    parts = [part for part in conjunction(allowed) if decided(part, values) is False] or [allowed]
    names = list(dict.fromkeys(name for part in parts for name in compared(part) if name in values))
    subject = ", ".join(names) or "The record"
    sentence = f"{'are' if len(names) > 1 else 'is'} outside of what you may touch"
    return Forbidden(f"{subject} {sentence}", errors=dict.fromkeys(names, "Is outside of what you may touch"))


def missing(id: Any) -> NotFound:
    """Return the error for an id without a record."""
    return NotFound(f"No record found for id '{id}'")
