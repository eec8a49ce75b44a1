"""Aggregates of records: how many there are, and sums, averages, least and greatest values of fields, by groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cmp_to_key
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from apex.context import params_of
from apex.describe import describe
from apex.errors import BadRequest
from apex.query.coercion import (
    SHAPES,
    Coerce,
    clock,
    day,
    decimal,
    integer,
    number,
    small_integer,
    text,
    timestamp,
)
from apex.query.evaluation import three_way
from apex.query.language import invalid, unknown_field
from apex.query.search import SEARCH
from apex.types import Row

if TYPE_CHECKING:
    from apex.adapters.base import Adapter

MOST_GROUPS = 1_000
"""The most groups of one answer."""

FUNCTIONS = ("sum", "avg", "min", "max")
ORDERED = ("min", "max")
"""The functions of fields whose values have an order, but are no numbers."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The values to compute of records: their number and functions of fields, for groups with the same values.

    ::

        Aggregate(count=True, sum=["amount"], group=["stage"])

    Its result is a dict such as ``{"count": 3, "sum": {"amount": Decimal("9.50")}}``. With ``group`` it is a list with
    such a dict for each group of records with the same values, in the order of these values: ``{"stage": "won",
    "count": 3, ...}``. Functions leave out null, and are null if nothing is left. Averages of decimal numbers are
    decimal numbers, others are floats. Raises TypeError for options that make no aggregate.
    """

    count: bool = False
    sum: Sequence[str] = ()
    avg: Sequence[str] = ()
    min: Sequence[str] = ()
    max: Sequence[str] = ()
    group: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in (*FUNCTIONS, "group"):
            listed = getattr(self, name)
            if isinstance(listed, str):
                raise TypeError(f"{name} takes a list of names such as ['{listed}'], not {listed!r}")
            object.__setattr__(self, name, tuple(listed))
        if not self.count and not self.functions:
            raise TypeError("An aggregate needs count=True, or fields for sum, avg, min or max")
        if taken := {"count", *FUNCTIONS}.intersection(self.group):
            raise TypeError(f"A group cannot be made of the field '{taken.pop()}': the result has another value there")

    @property
    def functions(self) -> list[tuple[str, str]]:
        """The functions with their fields."""
        return [(name, field) for name in FUNCTIONS for field in getattr(self, name)]

    def require(self, adapter: Adapter[Any], hidden: Collection[str] = ()) -> None:
        """Raise BadRequest for a field that callers cannot see, or that has no such aggregate."""
        fields = adapter.syntax.fields
        if fields is None:
            return
        shown = [name for name in fields if name not in hidden]
        for function, name in [*(("group", name) for name in self.group), *self.functions]:
            if name not in shown:
                raise unknown_field(name, shown)
            if name not in adapter.syntax.plain or function not in ("group", *adapter._functions_of(name)):
                raise invalid(name, f"has no {function}: it does not hold {_HELD[function]}")

    def answer(self, groups: Iterable[Sequence[Any]]) -> Any:
        """Return the result for the values of each group: those of the group, the number and the functions."""
        rows = [self._row(values) for values in groups]
        if len(rows) > MOST_GROUPS:
            raise BadRequest(f"There are more than {MOST_GROUPS:,} groups: narrow the query")
        return rows if self.group else rows[0]

    def _row(self, values: Sequence[Any]) -> Row:
        left = iter(values)
        row: Row = {name: next(left) for name in self.group}
        if self.count:
            row["count"] = next(left)
        for function, field in self.functions:
            row.setdefault(function, {})[field] = next(left)
        return row

    def shape(self, shapes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the JSON Schema of the result, with the shapes of fields."""
        properties: dict[str, Any] = {name: dict(shapes.get(name, {})) for name in self.group}
        if self.count:
            properties["count"] = {"type": "integer", "minimum": 0}
        for function, field in self.functions:
            shape = _nullable(shapes.get(field, {}), "number" if function == "avg" else None)
            inner = properties.setdefault(function, {"type": "object", "properties": {}, "required": []})
            inner["properties"][field] = shape
            inner["required"].append(field)
        row = {"type": "object", "properties": properties, "required": list(properties)}
        return {"type": "array", "items": row} if self.group else row


ALLOWED = ("$or", "$and", SEARCH)
"""The filters that a query for aggregates takes."""

_NUMBERS, _VALUES = "numbers", "numbers, texts, dates or times"
_HELD = {"group": "one value", "sum": _NUMBERS, "avg": _NUMBERS, "min": _VALUES, "max": _VALUES}


def functions_of(coerce: Coerce) -> Sequence[str]:
    """Return the functions that a field with values of this function has."""
    kind = unwrap(coerce)
    if kind in (integer, small_integer, number, decimal) or kind not in SHAPES:
        return FUNCTIONS
    return ORDERED if kind in (text, timestamp, day, clock) else ()


def _nullable(shape: Mapping[str, Any], of_integers: str | None) -> dict[str, Any]:
    """Return a shape that takes null. ``of_integers`` is the type of the result where the shape is of integers."""
    types = shape.get("type")
    if types is None:
        return {}
    listed = [kind for kind in (types if isinstance(types, list) else [types]) if kind != "null"]
    return {**shape, "type": [*(of_integers if of_integers and kind == "integer" else kind for kind in listed), "null"]}


def average(total: Any, count: int) -> Any:
    """Return the average, a float or a Decimal. None, if there are no values."""
    if not count:
        return None
    return total / count


def compute(aggregate: Aggregate, rows: Iterable[Row]) -> list[Sequence[Any]]:
    """Return the values of each group of rows, in the order of the groups. Raises BadRequest for a wrong value."""
    groups: dict[tuple[Any, ...], list[Row]] = {} if aggregate.group else {(): []}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in aggregate.group), []).append(row)
    found: list[Sequence[Any]] = []
    for key in sorted(groups, key=cmp_to_key(_in_order)):
        counted = [len(groups[key])] if aggregate.count else []
        found.append([*key, *counted, *(_value(*one, groups[key]) for one in aggregate.functions)])
    return found


def _in_order(one: Sequence[Any], other: Sequence[Any]) -> int:
    orders = (three_way(left, right) for left, right in zip(one, other, strict=True))
    return next((order for order in orders if order), 0)


def _value(function: str, field: str, rows: Iterable[Row]) -> Any:
    values = [value for row in rows if (value := row.get(field)) is not None]
    if not values:
        return None
    if function in ("min", "max"):
        return (min if function == "min" else max)(values, key=cmp_to_key(three_way))
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise invalid(field, f"has no {function}: it does not hold numbers alone")
    total = sum(values[1:], values[0])
    return total if function == "sum" else average(total, len(values))


def add_methods(adapter: Adapter[Any]) -> None:
    """Give an adapter a custom method for each of its ``aggregates``, whose data is a query."""
    for name, aggregate in adapter.aggregates.items():
        setattr(adapter, name, _method(adapter, name, aggregate))


def _method(adapter: Adapter[Any], name: str, aggregate: Aggregate) -> Callable[..., Any]:
    async def method(data: Any, params: Any) -> Any:
        """Return aggregates of the records. The data is a query with conditions, ``{}`` for all records."""
        if data is not None and not isinstance(data, Mapping):
            raise BadRequest("The data must be an object")
        params = params_of(params)
        return await adapter.aggregate({**params, "query": {**params.query, **(data or {})}}, aggregate)

    method.__name__ = method.__qualname__ = name
    return method


def describe_methods(adapter: Adapter[Any]) -> None:
    """Declare the shapes of the methods of ``aggregates``, once the fields of the adapter are known."""
    if not adapter.aggregates:
        return
    shapes = {field: adapter._shape(field) for field in adapter.columns or ()}
    for name, aggregate in adapter.aggregates.items():
        describe(data={name: {"type": "object"}}, result=aggregate.shape(shapes))(getattr(adapter, name))
