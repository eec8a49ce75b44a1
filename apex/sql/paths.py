"""Keys of JSON fields in queries. A table has the values of the keys, and a query joins it once for each key.

That value table has a ``record_id``, the ``name`` of the key, and its value: a ``number`` or a ``text`` (booleans are
the texts ``true`` and ``false``). A record and a name are unique together. Further columns, such as a tenant, repeat
those of the record, so that indexes can begin with them. A key without a value, or with null, has no row. Neither have
records whose column ``info["live"]`` is not null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, String, Table, and_, bindparam, null

from apex.query.language import Compare, Predicate, compared, conjunction, is_number

_VALUE_COLUMNS = frozenset({"record_id", "name", "number", "text"})


@dataclass(frozen=True, slots=True)
class Source:
    """The tables that a statement reads.

    ``columns`` are those of the service's table, ``values`` the alias of the value table for each path. ``condition``
    joins what ``rows`` does not join.
    """

    rows: FromClause
    columns: Any
    values: Mapping[str, FromClause]
    condition: ColumnElement[bool] | None = None


class Paths:
    """The paths of a service: ``field.key`` for each of the fields that have a value table."""

    def __init__(self, table: Table, id: str, value_tables: Mapping[str, Table]) -> None:
        self.table = table
        self.id = id
        self.value_tables = value_tables

    def __contains__(self, name: str) -> bool:
        return name.partition(".")[0] in self.value_tables and name not in self.table.c

    def source(self, where: Predicate, sorted: Iterable[str] = ()) -> Source:
        """Return the table, joined with the values of the paths in a predicate and an order.

        Rows without a value stay, unless the predicate excludes them. Then an index can be read in order.
        """
        values = self._aliases((*compared(where), *sorted))
        rows: FromClause = self.table
        for name, value in values.items():
            belongs = and_(_belongs(value, self.table.c, self.table.c[self.id]), _has_name(value, name))
            rows = rows.join(value, belongs, isouter=not is_present(name, where))
        return Source(rows, self.table.c, values)

    def alone(self, where: Predicate) -> Source | None:
        """Return the value tables without the service's table. None, if they alone cannot decide the predicate."""
        values = self._aliases(compared(where))
        if not values or not all(map(self._is_decided, conjunction(where))):
            return None
        (name, first), *others = values.items()
        rows = first
        for other, value in others:
            rows = rows.join(value, and_(_belongs(value, first.c, first.c.record_id), _has_name(value, other)))
        columns: dict[Any, Any] = {**dict(first.c.items()), self._value_table(name).info.get("live"): null()}
        return Source(rows, columns, values, _has_name(first, name))

    def _is_decided(self, part: Predicate) -> bool:
        """Return True if the value tables decide a condition: on a path with a value, or on a column of both tables."""
        if not isinstance(part, Compare):
            return False
        if part.field in self:
            return part.operator != "$nin" and (part.value is not None or part.operator == "$ne")
        tables = self.value_tables.values()
        if (part.operator, part.value) == ("$eq", None):
            return all(table.info.get("live") == part.field for table in tables)
        return all(part.field in table.c and part.field not in _VALUE_COLUMNS for table in tables)

    def _value_table(self, name: str) -> Table:
        return self.value_tables[name.partition(".")[0]]

    def _aliases(self, names: Iterable[str]) -> dict[str, FromClause]:
        return {name: self._value_table(name).alias() for name in dict.fromkeys(names) if name in self}


def _belongs(value: FromClause, columns: Any, id: Any) -> ColumnElement[bool]:
    """Return the condition that a value belongs to a record."""
    shared = (column for column in value.c if column.name not in _VALUE_COLUMNS)
    return and_(value.c.record_id == id, *(column == columns[column.name] for column in shared))


def _has_name(value: FromClause, path: str) -> ColumnElement[bool]:
    return value.c.name == bindparam(None, path.partition(".")[2], type_=String(), unique=True)


def is_present(name: str, where: Predicate) -> bool:
    """Return True if each row that meets the predicate has a value for the field."""
    return Compare(name, "$ne", None) in conjunction(where)


def is_numeric(compare: Compare) -> bool:
    """Return True if a comparison compares numbers."""
    value = next(iter(compare.value), None) if isinstance(compare.value, list) else compare.value
    return is_number(value)


def stored(value: Any) -> Any:
    """Return a value, or a list of values, as the value table has it."""
    if isinstance(value, list):
        return [stored(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return float(value) if is_number(value) else value
