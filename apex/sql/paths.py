"""Keys of JSON fields as columns: their values lie in a table beside the rows, which a query joins once for each key.

The table beside has ``record_id``, the ``name`` of the key, and its value: a ``number`` or a ``text`` (booleans are the
texts ``true`` and ``false``); record and name are unique. What other columns it has are those of the row, as a tenant,
so that an index may begin with them. A key without a value, or with null, has no row there; nor have records whose
column ``info["live"]`` is not null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, String, Table, and_, bindparam, null

from apex.query.language import is_number
from apex.query.predicates import Compare, Junction, Predicate, compared, conjunction

_OWN = frozenset({"record_id", "name", "number", "text"})


@dataclass(frozen=True, slots=True)
class Source:
    """What a statement reads: where the columns of the table are, and for each path the alias with its values."""

    rows: FromClause
    columns: Any
    values: Mapping[str, FromClause]
    condition: ColumnElement[bool] | None = None


class Paths:
    """The paths of a service: ``field.key`` for each of the fields that have a table beside."""

    def __init__(self, table: Table, id: str, beside: Mapping[str, Table]) -> None:
        self.table, self.id, self.beside = table, id, beside

    def __contains__(self, name: str) -> bool:
        return name.partition(".")[0] in self.beside and name not in self.table.c

    def source(self, where: Predicate, sorted: Iterable[str] = ()) -> Source:
        """The table, joined with what a predicate and an order ask for.

        Rows without a value stay, unless the predicate leaves them out: then an index can be read in order.
        """
        values = self._aliases((*compared(where), *sorted))
        rows: FromClause = self.table
        for name, value in values.items():
            belongs = and_(_of(value, self.table.c, self.table.c[self.id]), _named(value, name))
            rows = rows.join(value, belongs, isouter=not is_present(name, where))
        return Source(rows, self.table.c, values)

    def alone(self, where: Predicate) -> Source | None:
        """The tables beside without the table, where they can tell which records a predicate is about."""
        values = self._aliases(compared(where))
        if not values or not all(map(self._tells, conjunction(where))):
            return None
        (name, first), *others = values.items()
        rows = first
        for other, value in others:
            rows = rows.join(value, and_(_of(value, first.c, first.c.record_id), _named(value, other)))
        columns: dict[Any, Any] = {**dict(first.c.items()), self._beside(name).info.get("live"): null()}
        return Source(rows, columns, values, _named(first, name))

    def _tells(self, part: Predicate) -> bool:
        """Values that are there, of live records, in the columns that both tables have."""
        if isinstance(part, Junction):
            return False
        if part.field in self:
            return part.operator != "$nin" and (part.value is not None or part.operator == "$ne")
        tables = self.beside.values()
        if (part.operator, part.value) == ("$eq", None):
            return all(table.info.get("live") == part.field for table in tables)
        return all(part.field in table.c and part.field not in _OWN for table in tables)

    def _beside(self, name: str) -> Table:
        return self.beside[name.partition(".")[0]]

    def _aliases(self, names: Iterable[str]) -> dict[str, FromClause]:
        return {name: self._beside(name).alias() for name in dict.fromkeys(names) if name in self}


def _of(value: FromClause, columns: Any, id: Any) -> ColumnElement[bool]:
    """A value's being one of a record."""
    return and_(value.c.record_id == id, *(c == columns[c.name] for c in value.c if c.name not in _OWN))


def _named(value: FromClause, path: str) -> ColumnElement[bool]:
    return value.c.name == bindparam(None, path.partition(".")[2], type_=String(), unique=True)


def is_present(name: str, where: Predicate) -> bool:
    """Whether the predicate says of a field, before all else, that it is not null."""
    return Compare(name, "$ne", None) in conjunction(where)


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
