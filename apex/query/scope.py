"""Scopes: the records that a caller may touch. Hooks write them into ``params.scope``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Self
from uuid import UUID

from apex.errors import BadRequest
from apex.query.coercion import Coerce, held
from apex.query.language import Compare, Junction, Predicate, every, membership

Typed = Mapping[str, Callable[[Any], Any] | None]
"""The function that gives the values of a field their type, by field. None leaves the values as they are."""

OPERATORS = ("$in", "$nin", "$ne", "$lt", "$lte", "$gt", "$gte")

_VALUES = (str, int, float, type(None), date, time, timedelta, Decimal, UUID, bytes, Enum)
_PLAIN = frozenset({str, int, float, bool, type(None)})
_LISTS = (list, tuple, set, frozenset)
_SHAPES = f"a value, None, a list of values, or a dict of the operators {', '.join(OPERATORS)}"


class CheckedDict(dict[str, Any]):
    """A dict whose changes all go through ``__setitem__``, and whose copies and unions have the same class."""

    def update(self, *values: Any, **more: Any) -> None:
        """Set the keys of a mapping or of pairs, as a dict does."""
        for name, value in dict(*values, **more).items():
            self[name] = value

    def setdefault(self, name: str, value: Any = None) -> Any:
        """Return the value of a key, which is set before if it is missing."""
        if name not in self:
            self[name] = value
        return self[name]

    def __ior__(self, values: Any) -> Self:  # type: ignore[override]
        self.update(values)
        return self

    def __or__(self, values: Any) -> Self:  # type: ignore[override]
        return type(self)({**self, **values}) if isinstance(values, Mapping) else NotImplemented  # pyright: ignore[reportReturnType] - Python tries the other operand

    def __ror__(self, values: Any) -> Self:  # type: ignore[override]
        return type(self)({**values, **self}) if isinstance(values, Mapping) else NotImplemented  # pyright: ignore[reportReturnType] - as above

    def copy(self) -> Self:
        """Return a copy of the same class."""
        return type(self)(self)


class _AsGiven(dict[str, None]):
    def __missing__(self, name: str) -> None:
        return None


AS_GIVEN: Typed = _AsGiven()
"""The types that leave the values of all fields as they are."""


class Scope(CheckedDict):
    """The records that a caller may touch: for each field a value, None, a list of values, or a dict of operators.

    ``$or`` takes a list of scopes, of which one has to hold. ``$and`` takes a list of which all have to hold::

        params.scope["$or"] = [{"owner_id": 5}, {"public": True}]

    Any other shape raises TypeError where it is set.
    """

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__()
        if type(values) is Scope:
            dict.update(self, values)
        elif values:
            self.update(values)

    def __setitem__(self, name: str, allowed: Any) -> None:
        kind = type(allowed)
        # Nearly all scopes are a value or a list of values, which need no further check.
        plain = kind in _PLAIN or (kind is list and _PLAIN.issuperset(map(type, allowed)))
        if not plain or type(name) is not str or name[:1] == "$":
            _allowed(name, allowed, AS_GIVEN)
        dict.__setitem__(self, name, allowed)


def scope_of(values: Any) -> Scope:
    """Return a copy as a scope, empty for None. Raises TypeError for a shape that scopes do not take."""
    if values is None or type(values) is Scope:
        return Scope(values or ())
    if not isinstance(values, Mapping):
        raise TypeError(f"params.scope must be a dict with what is allowed for each field, not {_shown(values)}")
    return Scope(values)


def scope_predicate(scope: Mapping[str, Any], typed: Typed) -> Predicate:
    """Return the condition for the records that a scope allows. Raises TypeError for a shape that is refused."""
    parts: list[Predicate] = []
    for name, allowed in scope.items():
        value = allowed[0] if type(allowed) is list and len(allowed) == 1 else allowed
        # Nearly all scopes are plain, and this takes half of the time.
        if type(value) in _PLAIN and type(name) is str and name[:1] != "$":
            coerce = typed[name]
            parts.append(Compare(name, "$eq", value if coerce is None else coerce(value)))
        else:
            parts.append(_allowed(name, allowed, typed))
    return every(*parts)


class FieldTypes(dict[str, Coerce]):
    """The functions that give the values of a scope their types, by field. Each is made when it is first used."""

    def __init__(self, columns: Mapping[str, Coerce], service: str) -> None:
        super().__init__()
        self.columns, self.service = columns, service

    def __missing__(self, name: str) -> Coerce:
        """Return the function of a field. Raises TypeError if the service has no such field, or cannot compare it."""
        coerce = self.columns.get(name)
        if coerce is None or held(coerce) is not None:
            raise TypeError(f"params.scope cannot hold '{name}': {self.service} has no such field to compare")

        def typed(value: Any) -> Any:
            try:
                return None if value is None else coerce(value)
            except ValueError as error:
                raise BadRequest(f"{name} {error}", errors={name: str(error)}) from None

        self[name] = typed
        return typed


def _allowed(name: str, allowed: Any, typed: Typed) -> Predicate:
    if not isinstance(name, str) or name.startswith("$"):
        return _junction(name, allowed, typed)
    if isinstance(allowed, Mapping):
        if not allowed:
            raise _refused(name, allowed)
        return every(*[_operation(name, sign, operand, typed) for sign, operand in allowed.items()])
    if not isinstance(allowed, _LISTS):
        return Compare(name, "$eq", _listed(name, (allowed,), typed)[0])
    values = _listed(name, allowed, typed)
    return Compare(name, "$eq", values[0]) if len(values) == 1 else membership(name, "$in", values)


def _junction(name: Any, parts: Any, typed: Typed) -> Predicate:
    if name not in ("$or", "$and"):
        raise TypeError(f"params.scope takes names of fields, $or and $and, not {_shown(name)}")
    # An alternative without conditions would allow everything.
    if not isinstance(parts, list | tuple) or not all(isinstance(part, Mapping) and part for part in parts):
        raise TypeError(f"params.scope takes for {name} a list of scopes that are not empty, not {_shown(parts)}")
    predicates = tuple(scope_predicate(part, typed) for part in parts)
    return every(*predicates) if name == "$and" or len(predicates) == 1 else Junction("or", predicates)


def _operation(name: str, sign: Any, operand: Any, typed: Typed) -> Predicate:
    if sign not in OPERATORS:
        raise TypeError(f"params.scope has no operator {_shown(sign)} for {name}: it takes {_SHAPES}")
    if sign in ("$in", "$nin"):
        if not isinstance(operand, _LISTS):
            raise TypeError(f"params.scope takes for {sign} of {name} a list of values, not {_shown(operand)}")
        return membership(name, sign, _listed(name, operand, typed))
    if operand is None and sign != "$ne":
        raise TypeError(f"params.scope needs a value other than None for {sign} of {name}")
    return Compare(name, sign, _listed(name, (operand,), typed)[0])


def _listed(name: str, values: Collection[Any], typed: Typed) -> list[Any]:
    if isinstance(values, set | frozenset):
        values = sorted(values, key=repr)  # In one order in all processes: a cursor is bound to the text of its scope.
    if not _PLAIN.issuperset(map(type, values)):
        for value in values:
            if not isinstance(value, _VALUES):
                raise _refused(name, value)
    coerce = typed[name]
    return list(values) if coerce is None else [coerce(value) for value in values]


def _refused(name: str, value: Any) -> TypeError:
    return TypeError(f"params.scope takes for {name} {_SHAPES}, not {_shown(value)}")


def _shown(value: Any) -> str:
    """Return a text as it is. Of another value, which may be a secret, return only the type."""
    return f"'{value[:50]}'" if isinstance(value, str) else f"a {type(value).__name__}"
