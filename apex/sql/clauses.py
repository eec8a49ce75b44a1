"""Clauses of SQLAlchemy for predicates and orders, and the values of their parameters.

``Clauses.shape`` and ``Clauses.clause`` go through a predicate in the same order. ``shape`` returns the key of the
compiled statement, and the values of the parameters ``p0, p1, ...`` in the SQL of ``clause``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Dialect,
    FromClause,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import operators

from apex.adapters.cursors import Selection
from apex.encoding import encode
from apex.errors import BadRequest
from apex.query.across import Related
from apex.query.language import PATTERNS, Compare, Junction, Predicate, Rank, Search
from apex.relations.across import Lookup
from apex.sql.paths import Source, is_numeric, is_present, stored
from apex.sql.search import RANKED, SearchIndex
from apex.sql.statements import Fragment
from apex.sql.types.registry import ColumnType, Processor, column_type, column_types, value_binder

TRIGRAM = 3
"""The search indexes find terms of at least three characters."""

_OPERAND = "apex_operand"
"""The name of the parameter in the SQL of a comparison that waits for a value."""

_WILD = re.compile(r"([\\%_])")


class Clauses:
    """The clauses of one table and dialect. ``lists`` are the JSON columns that hold a list.

    ``searchable`` are the columns of its search index.
    """

    def __init__(
        self, table: Table, dialect: Dialect, lists: Collection[str] = (), searchable: Sequence[str] = ()
    ) -> None:
        self.table: Table = table
        self.dialect: Dialect = dialect
        self.lists: frozenset[str] = frozenset(lists)
        self.postgresql: bool = dialect.name == "postgresql"
        self.search_index: SearchIndex = SearchIndex(table, searchable, dialect)
        self._templates: dict[Hashable, tuple[str | None, Processor | None]] = {}
        empty = {"and": and_(true()), "or": or_(false())}
        self._empty = {kind: str(clause.compile(dialect=dialect)) for kind, clause in empty.items()}
        self.types: dict[str, ColumnType] = column_types(table, dialect)
        self._plain = frozenset(table.c.keys()) - self.lists
        """The columns whose values are their own parameters."""

    def shape(self, where: Predicate, values: dict[str, Any]) -> Hashable:
        """Return the shape of a predicate, and add its values to ``values``. The same shape means the same SQL."""
        if isinstance(where, Junction):
            shapes: list[Hashable] = [where.kind]
            for part in where.parts:
                shapes.append(self.shape(part, values))
            return tuple(shapes)
        if isinstance(where, Search):
            values[f"p{len(values)}"] = self.search_index.operand(where)
            return "search"
        if isinstance(where, Related):
            inner = where.relation.adapter.clauses.shape(where.where, values)
            link = where.relation.link
            links = None if link is None else link.adapter.clauses.shape(where.links, values)
            return ("related", where.relation.name, inner, links, where.none)
        assert isinstance(where, Compare)
        field, sign, value = where
        if value is not None:
            is_plain = sign == "$eq" and field in self._plain
            values[f"p{len(values)}"] = value if is_plain else self._operand(where)
        long = sign == "$contains" and value is not None and len(value) >= TRIGRAM
        return (field, sign, value is None, long, "." in field and is_numeric(where))

    def clause(self, where: Predicate, source: Source | None = None, start: int = 0) -> ColumnElement[bool]:
        """Return the condition for a statement that reads from a source, by default from the table.

        The parameters are counted from ``start``.
        """
        if isinstance(self.table, Table) and not (source and source.values):
            binders: dict[str, Processor] = {}
            text = self._written(where, (f"p{number}" for number in count(start)), binders)
            if text is not None:
                return Fragment(text, binders)
        source = source or Source(self.table, self.table.c, {})
        clause = self._clause(where, (f"p{number}" for number in count(start)), source)
        return clause if source.condition is None else and_(source.condition, clause)

    def _written(self, where: Predicate, names: Iterator[str], binders: dict[str, Processor]) -> str | None:
        """Return SQL made of compiled comparisons. None, if a comparison needs more parameters than its value.

        SQLAlchemy would take 60 microseconds to compile one comparison.
        """
        if isinstance(where, Junction):
            parts = [self._written(part, names, binders) for part in where.parts]
            if None in parts:
                return None
            return f"({f' {where.kind.upper()} '.join(map(str, parts))})" if parts else self._empty[where.kind]
        if not isinstance(where, Compare):
            return None
        text, process = self._template(where)
        if where.value is None or text is None:
            return text
        name = next(names)
        if process is not None:
            binders[name] = process
        return text.replace(_OPERAND, name)

    def _template(self, compare: Compare) -> tuple[str | None, Processor | None]:
        """Return the SQL of a comparison with any value, and the function that prepares the value for the driver."""
        shape = self.shape(compare, {})
        found = self._templates.get(shape)
        if found is None:
            target = self.table.c[compare.field]
            absent = compare.value is None
            clause = _null(compare.operator, target) if absent else self._comparison(compare, target, _OPERAND)
            grouped: Any = clause.self_group(against=operators.and_)
            compiled = grouped.compile(dialect=self.dialect)
            binds = list(compiled.bind_names)
            process = value_binder(binds[0].type, self.dialect) if binds else None
            is_whole = all(bind.key == _OPERAND for bind in binds) and _OPERAND not in self.table.c
            found = self._templates[shape] = compiled.string if is_whole else None, process
        return found

    def order(self, selection: Selection, id: str, values: Mapping[str, FromClause]) -> list[ColumnElement[Any]]:
        """Return the order of a selection.

        Null comes first, and last in a descending order. A path without a value comes last in both.
        """
        rank, sort, where = selection.query.rank, selection.order(id), selection.where
        first = sort[0][0]
        in_index = first in values and is_present(first, where)
        ids: Any = values[first].c.record_id if in_index else self.table.c[id]
        ordered: list[ColumnElement[Any]] = []
        # Their parameters follow those of the condition, in the order of the lookups.
        taken: dict[str, Any] = {}
        if selection.lookups:
            self.shape(where, taken)
        names = (f"p{number}" for number in count(len(taken)))
        looked_up = {name: self._lookup(one, names, self.table.c) for name, one in selection.lookups.items()}
        for name, direction in sort:
            if name in looked_up:
                value = looked_up[name].asc() if direction > 0 else looked_up[name].desc()
                ordered.append(_with_nulls(value, direction) if self.postgresql else value)
            elif name in values:
                ordered += _by_value(values[name], direction, is_present(name, where))
            else:
                ordered.append(self.direction(ids if name == id else self.table.c[name], direction))
        return ordered if rank is None else [self._rank(rank), *ordered]

    def rank_values(self, selection: Selection) -> dict[str, str]:
        """Return the values of the parameters in the order by rank."""
        if selection.ranked is not None:
            return {RANKED: self.search_index.operand(selection.ranked)}
        rank = selection.query.rank
        return {} if rank is None else {"whole": f"\n{rank.term}\n", "start": f"\n{rank.term}"}

    def _clause(self, where: Predicate, names: Iterator[str], source: Source) -> ColumnElement[bool]:
        if isinstance(where, Junction):
            parts = [self._clause(part, names, source) for part in where.parts]
            return or_(false(), *parts) if where.kind == "or" else and_(true(), *parts)
        if isinstance(where, Search):
            return self.search_index.condition(next(names))
        if isinstance(where, Related):
            return self._related(where, names, source)
        assert isinstance(where, Compare)
        if where.field in source.values:
            return self._of_path(where, source.values[where.field], names)
        target = source.columns[where.field]
        if where.value is None:
            return _null(where.operator, target)
        return self._comparison(where, target, next(names))

    def _related(self, where: Related, names: Iterator[str], source: Source) -> ColumnElement[bool]:
        """Return the condition that there is, or is not, a related record that meets the condition."""
        relation, own = where.relation, source.columns[where.field]
        rows = relation.adapter.table.alias()
        joined: Any = rows
        condition = relation.adapter.clauses._clause(where.where, names, Source(rows, rows.c, {}))
        if relation.link is None:
            condition = and_(rows.c[relation.related_key] == own, condition)
        else:
            clauses, links = relation.link.adapter.clauses, relation.link.adapter.table.alias()
            joined = links.join(rows, rows.c[relation.adapter.id] == links.c[relation.link.other_key])
            linked = clauses._clause(where.links, names, Source(links, links.c, {}))
            condition = and_(links.c[relation.link.key] == own, condition, linked)
        found: Any = select(literal_column("1")).select_from(joined).where(condition).correlate_except(joined)
        exists: ColumnElement[bool] = found.exists()
        return not_(exists) if where.none else exists

    def lookup_shape(self, lookup: Lookup, values: dict[str, Any]) -> Hashable:
        """Return the shape of a field of related records, and add the values of its condition."""
        adapter: Any = lookup.relation.adapter
        clauses: Clauses = adapter.clauses
        inside = lookup.inside.get(lookup.name)
        shape = clauses.shape(lookup.where, values)
        return (lookup.name, shape, None if inside is None else clauses.lookup_shape(inside, values))

    def _lookup(self, lookup: Lookup, names: Iterator[str], columns: Any) -> Any:
        """Return the value of a field of the related record, for an order."""
        adapter: Any = lookup.relation.adapter
        inside = lookup.inside.get(lookup.name)
        rows = adapter.table.alias()
        condition = adapter.clauses._clause(lookup.where, names, Source(rows, rows.c, {}))
        belongs = rows.c[adapter.id] == columns[lookup.relation.own_key]
        if inside is not None:
            value = adapter.clauses._lookup(inside, names, rows.c)
        else:
            value = adapter.clauses._type(rows.c[lookup.name]).ordered(rows.c[lookup.name])
        return select(value).select_from(rows).where(belongs, condition).correlate_except(rows).scalar_subquery()

    def _of_path(self, where: Compare, value: Any, names: Iterator[str]) -> ColumnElement[bool]:
        """Return the condition on the value of a path. Texts have no number, which comes first in the index."""
        if where.value is None:
            return _null(where.operator, value.c.record_id)
        if is_numeric(where):
            return self._comparison(where, value.c.number, next(names))
        found = self._comparison(where, value.c.text, next(names))
        return found if where.operator in _NEGATED else and_(value.c.number.is_(None), found)

    def _comparison(self, compare: Compare, target: Column[Any], name: str) -> ColumnElement[bool]:
        sign = compare.operator
        if sign == "$contains":
            return self._contains(compare, target, bindparam(name, type_=Text()))
        if target.name in self.lists:
            return self._of_list(sign, target, name)
        if sign in ("$in", "$nin"):
            return self._membership(sign, target, name)
        if sign in PATTERNS:
            if not self._type(target).is_text:
                raise BadRequest(f"Invalid query: {target.name} does not hold text, which {sign} is for")
            return _like(sign, target, bindparam(name, type_=Text()))
        if sign not in _COMPARISONS:
            raise BadRequest(f"Invalid query parameter {sign}")
        made = self._type(target)
        left, right = target, bindparam(name, type_=made.parameter)
        if sign not in ("$eq", "$ne"):
            left, right = made.ordered(left), made.ordered(right)
        result: ColumnElement[bool] = _COMPARISONS[sign](left, right)
        return or_(result, target.is_(None)) if sign in ("$below", "$upto") and target.nullable else result

    def _type(self, target: Column[Any]) -> ColumnType:
        """Return the type of a column, which may be one of another table."""
        own = self.types.get(str(target.name))
        return own if own is not None and own.type is target.type else column_type(target.type, self.dialect)

    def _membership(self, sign: str, target: Column[Any], name: str) -> ColumnElement[bool]:
        """Return the condition that a value is, or is not, in a list.

        The list is one parameter, so that lists of all lengths share one statement.
        """
        listed: ColumnElement[bool]
        made = self._type(target)
        if self.postgresql:
            values = bindparam(name, type_=ARRAY(made.parameter, dimensions=1))
            listed, empty = target == any_(values), func.cardinality(values) == _ZERO
        else:
            text = bindparam(name, type_=Text())
            listed = made.listed(target, select(func.json_each(text).table_valued("value").c.value))
            empty = func.json_array_length(text) == _ZERO
        return listed if sign == "$in" else or_(not_(listed), empty)

    def _of_list(self, sign: str, target: Column[Any], name: str) -> ColumnElement[bool]:
        """Return the condition that a JSON list has one of the values. The values are one parameter."""
        text = bindparam(name, type_=ARRAY(Text(), dimensions=1) if self.postgresql else Text())
        has_one: Any
        if self.postgresql:
            values = cast(text, ARRAY(JSONB(), dimensions=1))
            index = self.table.info.get("list_index", {}).get(target.name)
            if index is not None and sign in ("$eq", "$in"):
                return _is_among(target, select(getattr(func, index)(values)))
            has_one, empty = target.bool_op("@>")(any_(values)), func.cardinality(text) == _ZERO
        else:
            item = func.json_each(target).table_valued("value", name="item").c.value
            asked = select(func.json_each(text).table_valued("value", name="asked").c.value)
            has_one, empty = select(item).where(item.in_(asked)).exists(), func.json_array_length(text) == _ZERO
        if sign in ("$eq", "$in"):
            return has_one  # type: ignore[no-any-return]
        return or_(and_(target.is_not(None), not_(has_one)), empty)

    def _contains(self, compare: Compare, target: Column[Any], term: Any) -> ColumnElement[bool]:
        if not self._is_indexed(compare):
            return target.like(term, escape="\\") if self.postgresql else func.instr(target, term) > _ZERO
        index = self.table.info["search_index"]
        hits: Any
        if self.postgresql:
            hits = select(getattr(func, index)(compare.field, term))
        else:
            hits = select(column("rowid")).select_from(table(index)).where(literal_column(index).op("MATCH")(term))
        return _is_among(target, hits)

    def _is_indexed(self, compare: Compare) -> bool:
        """Return True if a search index finds the term.

        On PostgreSQL the index is a function of the column and the pattern, on SQLite a table of trigrams.
        """
        return "search_index" in self.table.info and len(compare.value) >= TRIGRAM

    def _operand(self, compare: Compare) -> Any:
        made = self.types.get(compare.field)
        value = compare.value if compare.field in self.table.c else stored(compare.value)
        if compare.field in self.lists:
            items = value if isinstance(value, list) else [value]
            return [encode(item).decode() for item in items] if self.postgresql else encode(items).decode()
        if compare.operator == "$eq":
            return value
        if compare.operator == "$contains":
            return self._term(compare)
        if compare.operator in ("$in", "$nin") and not self.postgresql:
            return encode(value if made is None else [made.dumped(item) for item in value]).decode()
        return value

    def _term(self, compare: Compare) -> str:
        if self.postgresql:
            return "%" + _WILD.sub(r"\\\1", compare.value) + "%"
        if self._is_indexed(compare):
            quoted = compare.value.replace('"', '""')
            return f'{compare.field} : "{quoted}"'
        return str(compare.value)

    def direction(self, target: Column[Any], direction: int) -> ColumnElement[Any]:
        """Return the order by a column, ascending for 1 and descending for -1. Null counts as the least value."""
        spelled = self._type(target).ordered(target)
        ordered: ColumnElement[Any] = spelled.asc() if direction > 0 else spelled.desc()
        return _with_nulls(ordered, direction) if self.postgresql and target.nullable else ordered

    def _rank(self, rank: Rank) -> ColumnElement[int]:
        place = func.strpos if self.postgresql else func.instr
        target = self.table.c[rank.field]
        whole, start = (place(target, bindparam(name, type_=Text())) > 0 for name in ("whole", "start"))
        return case((whole, 0), (start, 1), else_=2)


def _is_among(target: Column[Any], hits: Any) -> ColumnElement[bool]:
    """Return the condition that the row of a column, in the table or an alias of it, has one of these ids."""
    among: ColumnElement[bool] = target.table.c.id.in_(hits)
    return among


def _with_nulls(ordered: Any, direction: int) -> ColumnElement[Any]:
    found: ColumnElement[Any] = ordered.nulls_first() if direction > 0 else ordered.nulls_last()
    return found


def _null(sign: str, target: Column[Any]) -> ColumnElement[bool]:
    if sign in ("$below", "$from"):
        return false() if sign == "$below" else true()
    return target.is_not(None) if sign in ("$ne", "$above") else target.is_(None)


def _by_value(value: Any, direction: int, present: bool) -> list[ColumnElement[Any]]:
    """Return the order by the value of a path: numbers before texts.

    If each row has a value (``present``), this is the order of the index.
    """
    number, text = value.c.number, value.c.text
    ascending, descending = (number.asc().nulls_last(), text.asc()), (number.desc().nulls_first(), text.desc())
    ordered = ascending if direction > 0 else descending
    return [*ordered] if present else [value.c.record_id.is_(None), *ordered]


def _like(sign: str, target: Column[Any], pattern: Any) -> ColumnElement[bool]:
    if sign == "$notlike":
        return target.not_like(pattern, escape="\\")
    if sign == "$like":
        return target.like(pattern, escape="\\")
    return func.lower(target).like(func.lower(pattern), escape="\\")


def merged_json(target: Column[Any], value: Any, postgresql: bool) -> ColumnElement[Any]:
    """Return the SQL of ``apex.encoding.merge``. ``json_merge`` is a function of the SQLite executor."""
    if not postgresql:
        return func.json_merge(target, value)
    key, new = column("key", Text()), column("value", JSONB())
    nulls = select(func.array_agg(key)).select_from(func.jsonb_each(value)).where(func.jsonb_typeof(new) == "null")
    gone = func.coalesce(nulls.scalar_subquery(), literal_column("'{}'::text[]"))
    return func.coalesce(target, literal_column("'{}'::jsonb")).op("||")(value).op("-")(gone)


_ZERO: Any = literal_column("0")
_NEGATED = frozenset({"$ne", "$nin", "$notlike"})
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$above": operator.gt,
    "$from": operator.ge,
    "$upto": operator.le,
    "$below": operator.lt,
}
SERVED = frozenset({*_COMPARISONS, *PATTERNS, "$in", "$nin", "$contains"})
"""The operators of queries that SQL databases can serve."""
