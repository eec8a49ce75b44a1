"""Aggregates in SQL: one statement computes all functions of all groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select

from apex.adapters.aggregates import MOST_GROUPS, Aggregate, average
from apex.sql.clauses import Clauses
from apex.sql.paths import Source
from apex.sql.types.registry import ColumnType
from apex.types import Row


class Aggregates:
    """The aggregates of a table."""

    def __init__(self, table: Table, clauses: Clauses) -> None:
        self.table = table
        self.clauses = clauses

    def statement(self, aggregate: Aggregate, source: Source, where: ColumnElement[bool]) -> Select[Any]:
        """Return the statement for the rows that meet a condition. It reads one group more than an answer may have."""
        computed: list[ColumnElement[Any]] = [func.count()]
        for function, field in aggregate.functions:
            computed += self._computed(function, field)
        groups = [self.table.c[name] for name in aggregate.group]
        named = [one.label(f"value_{place}") for place, one in enumerate((*groups, *computed))]
        rows = select(*named).select_from(source.rows).where(where)
        if not groups:
            return rows
        ordered = (self.clauses.direction(column, 1) for column in groups)
        # The order of an enum is an expression, so it has to be grouped too.
        spelled = (self._type(name).ordered(self.table.c[name]) for name in aggregate.group)
        return rows.group_by(*groups, *spelled).order_by(*ordered).limit(MOST_GROUPS + 1)

    def values(self, aggregate: Aggregate, row: Row) -> Sequence[Any]:
        """Return the values of a group from a row of the statement."""
        left = iter(row.values())
        found = [next(left) for _ in aggregate.group]
        count = next(left)
        found += [count] if aggregate.count else []
        for function, field in aggregate.functions:
            value = next(left)
            if function in ("sum", "avg") and value is not None:
                value = self._type(field).total(value)
            found.append(average(value, next(left)) if function == "avg" else value)
        return found

    def _computed(self, function: str, field: str) -> list[ColumnElement[Any]]:
        column, made = self.table.c[field], self._type(field)
        if function in ("min", "max"):
            return [getattr(func, function)(made.ordered(column), type_=column.type)]
        total = func.sum(made.summed(column), type_=column.type)
        return [total] if function == "sum" else [total, func.count(column)]

    def _type(self, field: str) -> ColumnType:
        return self.clauses.types[field]
