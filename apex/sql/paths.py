"""Keys of JSON fields as columns: their values lie in a table beside the rows, which a query joins once for each key.

The table beside has ``record_id``, the ``name`` of the key, and its value: a ``number`` or a ``text`` (booleans are the
texts ``true`` and ``false``); record and name are unique. What other columns it has are those of the row, as a tenant,
so that an index may begin with them. A key without a value, or with null, has no row there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, String, Table, and_, bindparam

from apex.query import Compare, Junction, Predicate, is_number

_OWN = frozenset({"record_id", "name", "number", "text"})


@dataclass(frozen=True, slots=True)
class Source:
    """What a statement reads: the table, with the values of each path beside it; a count needs no order's."""

    rows: FromClause
    counted: FromClause
    values: Mapping[str, FromClause]


class Paths:
    """The paths of a service: ``field.key`` for each of the fields that have a table beside."""

    def __init__(self, table: Table, id: str, beside: Mapping[str, Table]) -> None:
        self.table, self.id, self.beside = table, id, beside

    def __contains__(self, name: str) -> bool:
        return name.partition(".")[0] in self.beside and name not in self.table.c

    def source(self, where: Predicate, sorted: Iterable[str] = ()) -> Source:
        """Reads the table with what a predicate and an order ask for."""
        names = dict.fromkeys(name for name in (*compared(where), *sorted) if name in self)
        values: dict[str, FromClause] = {name: self.beside[name.partition(".")[0]].alias() for name in names}
        asked = set(compared(where))
        counted = {name: value for name, value in values.items() if name in asked}
        return Source(self.joined(where, values), self.joined(where, counted), values)

    def joined(self, where: Predicate, values: Mapping[str, FromClause]) -> FromClause:
        """Rows without a value stay, unless the predicate leaves them out: then its index can be read in order."""
        rows: FromClause = self.table
        for name, value in values.items():
            rows = rows.join(value, self._belongs(name, value), isouter=not is_present(name, where))
        return rows

    def _belongs(self, name: str, value: FromClause) -> ColumnElement[bool]:
        shared = [value.c[c.name] == self.table.c[c.name] for c in value.c if c.name not in _OWN]
        key = bindparam(None, name.partition(".")[2], type_=String(), unique=True)
        return and_(*shared, value.c.record_id == self.table.c[self.id], value.c.name == key)


def compared(where: Predicate) -> Iterator[str]:
    """The fields that a predicate compares."""
    if isinstance(where, Junction):
        for part in where.parts:
            yield from compared(part)
    else:
        yield where.field


def is_present(name: str, where: Predicate) -> bool:
    """Whether the predicate says of a field, before all else, that it is not null."""
    parts = where.parts if isinstance(where, Junction) and where.kind == "and" else (where,)
    return Compare(name, "$ne", None) in parts


def is_numeric(compare: Compare) -> bool:
    """Whether a comparison is one of numbers."""
    value = next(iter(compare.value), None) if isinstance(compare.value, list) else compare.value
    return is_number(value)


def stored(value: Any) -> Any:
    """A value as the table beside has it; a list of them too."""
    if isinstance(value, list):
        return [stored(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return float(value) if is_number(value) else value
