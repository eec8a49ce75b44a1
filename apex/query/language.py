"""The query language of Feathers, parsed into a ``Query``, or refused with a 400 that names the mistake.

It has the filters ``$limit $skip $sort $select $total $after $before $or $and``, the operators
``$in $nin $lt $lte $gt $gte $ne``, and those that a service adds. Predicates are its conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, NoReturn

from apex.errors import BadRequest
from apex.query.across import Across, Related, RelatedSyntax, together
from apex.query.coercion import Coerce, anything, held, scalar
from apex.query.search import SEARCH, words_of

MAX_DEPTH = 10
MAX_VALUES = 10_000
MAX_CONDITIONS = 200
MAX_PATTERN = 1_000
MAX_PATHS = 8
MAX_ROWS = 2**63 - 1
MAX_HINTS = 20
MAX_UNKNOWN = 1_000
LONGEST_NAME = 100
"""Limits on errors: names of a request that get a suggestion, unknown names, characters of a name that is repeated."""

OPERATORS = frozenset({"$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$ne"})
PATTERNS = frozenset({"$like", "$notlike", "$ilike"})
CURSORS = ("$after", "$before")
_CURSORS = frozenset(CURSORS)
IN_LISTS = frozenset({"$in", "$nin", "$ne"})
"""The operators for fields that hold a list."""
CONTAINS = "$contains"
"""A further operator for these fields: a list has an item, or all of several."""

MAX_RELATED = 4
MAX_ACROSS = 10
"""The most relations in the name of a field, and the most fields of related records in a query."""

DELETED = "$deleted"
"""The filter of ``find`` for removed records, in a service with ``trash``."""
FILTERS = ("$limit", "$skip", "$sort", "$select", "$total", *CURSORS, "$or", "$and")

Total = Literal["exact", "estimated", False]
_TOTALS: Mapping[str, Total] = {"exact": "exact", "true": "exact", "estimated": "estimated", "false": False}

_LEADING_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,19})")


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


class Search(NamedTuple):
    """A condition that holds if each of the words is in one of the fields, and the last one begins a word there."""

    fields: tuple[str, ...]
    words: tuple[str, ...]


Predicate = Compare | Junction | Search | Across | Related
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
    """Yield the fields that a predicate compares or searches."""
    if isinstance(where, Junction):
        for part in where.parts:
            yield from compared(part)
    elif isinstance(where, Search):
        yield from where.fields
    else:
        yield where.field


def narrows(where: Predicate, except_for: Collection[str]) -> bool:
    """Return True if a row has to meet a condition on another field than these."""
    if isinstance(where, Compare):
        return where.field not in except_for
    if not isinstance(where, Junction):
        return True
    parts = [narrows(part, except_for) for part in where.parts]
    return any(parts) if where.kind == "and" else all(parts)


@dataclass(frozen=True, slots=True)
class Query(Mapping[str, Any]):
    """A parsed query. It is also a mapping with the keys that the caller sent, and cannot be changed in place.

    ``asked`` is that mapping, with typed values. ``where`` is the condition. ``limit``, ``skip``, ``sort`` and
    ``select`` are the filters, where None stands for the default. ``search`` is the condition of ``$search``. ``rank``
    sorts a search in fields with lines. ``paths`` are the keys of JSON fields that it uses, and ``across`` the
    fields of related records. ``cursor`` is ``$after`` or ``$before`` with its text, which is empty at the beginning of
    a list.
    """

    asked: Mapping[str, Any] = field(default_factory=dict)
    where: Predicate = EVERYTHING
    limit: int | None = None
    skip: int = 0
    sort: tuple[tuple[str, int], ...] = ()
    select: tuple[str, ...] | None = None
    rank: Rank | None = None
    paths: frozenset[str] = frozenset()
    total: Total | None = None
    cursor: tuple[str, str] | None = None
    search: Search | None = None
    across: frozenset[str] = frozenset()

    def __getitem__(self, key: str) -> Any:
        return self.asked[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key as the caller sent it, with its type, or the default."""
        return self.asked.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.asked)

    def __len__(self) -> int:
        return len(self.asked)

    def __or__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **values}

    def __ror__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **self}

    def copy(self) -> dict[str, Any]:
        """Return a dict, which can be changed and is parsed anew where it is assigned to ``params.query``."""
        return dict(self)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError, as a parsed query cannot be changed in place."""
        raise TypeError(
            "params.query was parsed by validate_query and cannot be changed in place: assign another one, as in "
            "context.params.query = {**context.params.query, 'name': 'value'}, which is parsed anew"
        )

    __setitem__ = __delitem__ = update = pop = popitem = setdefault = clear = _refuse

    def narrow(self, *parts: Predicate) -> Query:
        """Return the same query with more conditions."""
        return replace(self, where=every(*parts, self.where))

    def plain(self) -> Query:
        """Return this query. Raises BadRequest for parts that only ``find`` takes, such as totals and cursors."""
        if not self.asked:
            return self
        for name in sorted(self.paths | self.across):
            raise invalid(name, "can be asked for and sorted by in a list alone")
        for name in ("$total", SEARCH, *CURSORS):
            if name in self.asked:
                raise invalid(name, "is for lists alone")
        return self


NOTHING = Query(MappingProxyType({}))
"""The default query."""


@dataclass(frozen=True)
class Syntax:
    """The queries that a service takes: its fields with their types (None for any field), operators, and filters.

    ``paths`` names the JSON fields whose keys a query can use, as ``field.key``. Each has the types of its keys, where
    None stands for all other keys, or None if it takes any key. ``lists`` names the fields that hold a list, with the
    type of its items. ``relations`` are those whose fields a query can use, as ``relation.field``.
    """

    fields: Mapping[str, Coerce] | None = None
    operators: frozenset[str] = OPERATORS
    filters: Mapping[str, Coerce] = field(default_factory=dict)
    paths: Mapping[str, Mapping[Any, Coerce] | None] = field(default_factory=dict)
    lists: Mapping[str, Coerce] = field(default_factory=dict)
    searchable: tuple[str, ...] = ()
    relations: Mapping[str, RelatedSyntax] = field(default_factory=dict)

    def own_field(self, name: str) -> str:
        """Return the own field that a name in a query is about: that of a relation for ``relation.field``."""
        outer = name.partition(".")[0]
        return self.relations[outer].field if outer in self.relations else outer

    @cached_property
    def plain(self) -> Mapping[str, Coerce]:
        """The fields that hold one value which can be compared, with their types."""
        fields = self.fields or {}
        return {
            name: coerce
            for name, coerce in fields.items()
            if held(coerce) is None and name not in self.lists and name.partition(".")[0] not in self.paths
        }

    def parse(self, query: Mapping[str, Any]) -> Query:
        """Return the parsed query. Raises BadRequest that names an unknown or wrong filter, operator or field."""
        # Dicts are recognized first, as a check for abstract classes costs as much as a small query.
        if type(query) is not dict:
            if isinstance(query, Query):
                return query
            if not isinstance(query, Mapping):
                raise BadRequest("The query must be an object")
        return _Parser(self).parse(query) if query else NOTHING


class _Parser:
    def __init__(self, syntax: Syntax) -> None:
        self.syntax = syntax
        self.values_left, self.conditions_left = MAX_VALUES, MAX_CONDITIONS
        self.paths: set[str] = set()
        self.across: set[str] = set()

    def parse(self, query: Mapping[str, Any]) -> Query:
        asked: dict[str, Any] = {}
        parts: list[Predicate] = []
        for name, value in query.items():
            if name in FILTERS or name in self.syntax.filters:
                asked[name] = self.filter(name, value, parts)
            elif name.startswith("$"):
                raise _unknown(f"Invalid filter value {shortened(name)}", name, (*FILTERS, *self.syntax.filters))
            else:
                predicate, asked[name] = self.property(name, value)
                parts.append(predicate)
        search = self.search(asked, parts) if self.syntax.searchable and SEARCH in asked else None
        return Query(
            asked, every(*together(parts)), asked.get("$limit"), asked.get("$skip", 0),
            tuple(asked.get("$sort", {}).items()), asked.get("$select"), paths=frozenset(self.paths),
            total=asked.get("$total"), cursor=None if _CURSORS.isdisjoint(asked) else _cursor_of(asked),
            search=search, across=frozenset(self.across),
        )  # fmt: skip

    def filter(self, name: str, value: Any, parts: list[Predicate]) -> Any:
        if name in ("$or", "$and"):
            parts.append(self.junction(name, value, 1))
            return value
        if name in self.syntax.filters:
            return self.coerced(name, self.syntax.filters[name], value)
        read = _READERS.get(name)
        if read is not None:
            return read(value)
        if name in CURSORS:
            return _cursor_text(name, value)
        return self.sort(value) if name == "$sort" else self.select(value)

    def search(self, asked: Mapping[str, Any], parts: list[Predicate]) -> Search | None:
        """Add the condition of ``$search``, which is none for a blank text."""
        words = tuple(words_of(asked[SEARCH]))
        if not words:
            return None
        if not asked.get("$sort") and (cursor := next((name for name in CURSORS if name in asked), None)):
            raise invalid(cursor, f"does not go with the order of {SEARCH}: use $skip, or name another order in $sort")
        found = Search(self.syntax.searchable, words)
        parts.append(found)
        return found

    def junction(self, name: str, value: Any, depth: int) -> Predicate:
        if not isinstance(value, list | tuple) or not value:
            raise invalid(name, "must be a list of queries with at least one entry")
        if depth > MAX_DEPTH:
            raise invalid(name, f"must not be nested deeper than {MAX_DEPTH} levels")
        parts = tuple(self.group(name, part, depth) for part in value)
        joined = every(*parts) if name == "$and" else Junction("or", parts)
        # A condition of another object may be about another related record.
        return Junction("and", (joined,)) if isinstance(joined, Across) else joined

    def group(self, name: str, query: Any, depth: int) -> Predicate:
        if not isinstance(query, Mapping):
            raise invalid(name, "must be a list of queries, each an object")
        if not query:
            self.count_condition()
        return every(*together([self.condition(key, value, query, depth) for key, value in query.items()]))

    def condition(self, name: str, value: Any, query: Mapping[str, Any], depth: int) -> Predicate:
        if name in ("$or", "$and"):
            return self.junction(name, value, depth + 1)
        if name.startswith("$"):
            raise _unknown(
                f"Invalid query parameter {shortened(name)}", name, (*self.syntax.operators, "$or", "$and"), query
            )
        return self.property(name, value)[0]

    def property(self, name: str, value: Any) -> tuple[Predicate, Any]:
        if self.syntax.relations and name.partition(".")[0] in self.syntax.relations:
            return self.related(name, value), value
        coerce = self.syntax.plain.get(name) or self.syntax.lists.get(name) or self.comparable(name)
        if not isinstance(value, str):
            if isinstance(value, Mapping) and value:
                parts, typed = [], {}
                for operator, operand in value.items():
                    predicate, typed[operator] = self.operation(name, operator, operand, coerce, value)
                    parts.append(predicate)
                return every(*parts), typed
            if isinstance(value, Mapping | list) and self.syntax.fields is not None:
                raise invalid(name, "must be one value; to ask for several use $in")
        self.count_condition()
        typed = self.coerced(name, coerce, value)
        return Compare(name, "$eq", typed), typed

    def operation(
        self, name: str, operator: str, operand: Any, coerce: Coerce, parent: Mapping[str, Any]
    ) -> tuple[Predicate, Any]:
        if operator == CONTAINS and name in self.syntax.lists:
            items = operand if isinstance(operand, list | tuple) else [operand]
            typed = [self.coerced(name, coerce, item) for item in items]
            self.count_condition()
            return every(*(Compare(name, "$eq", item) for item in typed)), typed
        if operator not in self.syntax.operators:
            error = _unknown(f"Invalid query parameter {shortened(operator)}", operator, self.syntax.operators, parent)
            known = ", ".join(sorted(self.syntax.operators))
            error.errors = {name: f"Has no operator {shortened(operator)}: there are {known}"}
            raise error
        self.count_condition()
        if name in self.syntax.lists and operator not in IN_LISTS:
            known = ", ".join(sorted((CONTAINS, *IN_LISTS)))
            raise invalid(name, f"holds a list, for which there are {known} and the value alone")
        if operator in ("$in", "$nin"):
            listed = operand if isinstance(operand, list | tuple) else [operand]
            typed = [self.coerced(name, coerce, item) for item in listed]
            if name in self.paths and len({is_number(item) for item in typed if item is not None}) > 1:
                raise invalid(name, f"{operator} needs numbers alone, or none")
            return membership(name, operator, typed), typed
        value = self.coerced(name, coerce, operand)
        if value is None and operator != "$ne":
            raise invalid(name, f"{operator} needs a value that is not null")
        if operator in PATTERNS and not _is_pattern(value):
            raise invalid(name, f"{operator} needs a text of at most {MAX_PATTERN} characters without an open escape")
        return Compare(name, operator, value), value

    def field(self, name: str) -> Coerce:
        fields = self.syntax.fields
        if fields is None:
            return anything
        if name not in fields:
            filter = f"${name}"
            is_filter = filter in FILTERS or filter in self.syntax.filters
            raise unknown_field(name, [filter] if is_filter else fields)
        return fields[name]

    def comparable(self, name: str) -> Coerce:
        outer, dot, key = name.partition(".")
        if dot and key and outer in self.syntax.paths:
            return self.path(name, outer, key)
        coerce = self.field(name)
        if (holds := held(coerce)) is not None:
            hint = f"; ask for one of its keys, as in {name}.key" if name in self.syntax.paths else ""
            hint = "; ask for its items, without an order" if name in self.syntax.lists else hint
            raise invalid(name, f"cannot be asked for or sorted by: it holds {holds}{hint}")
        return coerce

    def related(self, name: str, value: Any) -> Predicate:
        """Return the condition on a field of related records."""
        outer, inner, relation = self.relation(name)
        self.parse_related(name, relation, {inner: value})
        return relation.condition(outer, inner, value)

    def relation(self, name: str) -> tuple[str, str, RelatedSyntax]:
        outer, _, inner = name.partition(".")
        relation = self.syntax.relations[outer]
        if not inner:
            raise invalid(name, f"is a relation: ask for one of its fields, as in {shortened(name)}.id")
        if name.count(".") > MAX_RELATED:
            raise invalid(name, f"must not go across more than {MAX_RELATED} relations")
        if relation.names is not None and inner not in relation.names:
            raise unknown_field(name, [f"{outer}.{known}" for known in relation.names])
        self.across.add(name)
        if len(self.across) > MAX_ACROSS:
            raise BadRequest(f"The query asks for more than {MAX_ACROSS} fields of related records")
        self.count_condition()
        return outer, inner, relation

    def parse_related(self, name: str, relation: RelatedSyntax, query: Mapping[str, Any]) -> None:
        """Raise BadRequest for a query that the related service does not take."""
        try:
            parsed = relation.syntax().parse(query)
        except BadRequest as error:
            short = shortened(name)
            raise BadRequest(f"{error.message} ({short})", errors=dict.fromkeys([short], str(error))) from None
        if parsed.paths:
            raise invalid(name, "is a key of a JSON field, which cannot be asked for across a relation")

    def path(self, name: str, outer: str, key: str) -> Coerce:
        keys = self.syntax.paths[outer]
        coerce = scalar if keys is None else keys.get(key) or keys.get(None)
        if coerce is None:
            raise unknown_field(name, [f"{outer}.{known}" for known in keys or ()])
        self.paths.add(name)
        if len(self.paths) > MAX_PATHS:
            raise BadRequest(f"The query asks for more than {MAX_PATHS} keys of JSON fields")
        return coerce

    def count_condition(self) -> None:
        self.conditions_left -= 1
        if self.conditions_left < 0:
            raise BadRequest(f"The query has more than {MAX_CONDITIONS} conditions: to ask for many values use $in")

    def coerced(self, name: str, coerce: Coerce, value: Any) -> Any:
        self.values_left -= 1
        if self.values_left < 0:
            raise BadRequest(f"The query has more than {MAX_VALUES} values")
        try:
            return coerce(value)
        except ValueError as error:
            raise invalid(name, str(error)) from None

    def sort(self, value: Any) -> dict[str, int]:
        if not isinstance(value, dict | Mapping):
            raise invalid("$sort", "must be an object such as {field: 1} or {field: -1}")
        if len(value) > MAX_CONDITIONS:
            raise invalid("$sort", f"must not have more than {MAX_CONDITIONS} fields")
        order = {}
        for name, direction in value.items():
            if self.syntax.relations and name.partition(".")[0] in self.syntax.relations:
                outer, inner, relation = self.relation(name)
                if relation.many:
                    raise invalid(f"$sort[{name}]", f"has no order: '{outer}' are many records")
                self.parse_related(name, relation, {"$sort": {inner: direction}})
            elif name not in self.syntax.plain:
                self.comparable(name)
            if isinstance(direction, bool) or str(direction) not in ("1", "-1"):
                raise invalid(f"$sort[{name}]", "must be 1 (ascending) or -1 (descending)")
            order[name] = int(direction)
        return order

    def select(self, value: Any) -> tuple[str, ...]:
        names = value if isinstance(value, list | tuple) else [value]
        if len(names) > MAX_VALUES:
            raise invalid("$select", f"must not have more than {MAX_VALUES} fields")
        for name in names:
            if not isinstance(name, str):
                raise invalid("$select", "must be a list of field names")
            self.field(name)
        return tuple(dict.fromkeys(names))


def unknown_field(name: str, known: Iterable[str]) -> BadRequest:
    """Return the error for a field that the service does not have."""
    return _unknown(f"Unknown field '{shortened(name)}'", name, known, always=True)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'email'?`` if a known name is similar, else an empty text."""
    if len(name) > LONGEST_NAME:
        return ""
    near = get_close_matches(name, list(islice(known, MAX_UNKNOWN)), n=1, cutoff=0.7)
    return f" Did you mean '{near[0]}'?" if near else ""


class Hints:
    """The suggestions for the wrong names of one request. Each takes time, so only the first names get one."""

    def __init__(self) -> None:
        self.left = MAX_HINTS

    def suggestion(self, name: str, known: Iterable[str]) -> str:
        """Return the suggestion for a name, or an empty text after the first 20 names."""
        self.left -= 1
        return suggestion(name, known) if self.left >= 0 else ""


def require_few(data: Mapping[str, Any], known: Collection[str], message: str) -> None:
    """Raise BadRequest for data with thousands of unknown fields, before each of them is checked."""
    if len(data) > len(known) + MAX_UNKNOWN:
        raise BadRequest(f"{message}: there are {len(data)} fields, and {len(known)} are known")


def shortened(name: str) -> str:
    """Return a name of a caller for an error text, cut if it is long."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def is_number(value: Any) -> bool:
    """Return True for an int or a float, but not for a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _limit(value: Any) -> int | None:
    """Return a limit, or None for the default. As in Feathers, ``12abc`` is 12, and ``abc`` and ``-1`` are ignored."""
    match = _LEADING_INTEGER.match(str(value)) if isinstance(value, str | int | float) else None
    limit = int(match[1]) if match and not isinstance(value, bool) else -1
    return min(limit, MAX_ROWS) if limit >= 0 else None


def _skip(value: Any) -> int:
    match = _LEADING_INTEGER.fullmatch(str(value)) if isinstance(value, str | int) else None
    skip = int(match[1]) if match and not isinstance(value, bool) else -1
    if not 0 <= skip <= MAX_ROWS:
        raise invalid("$skip", "must be an integer of 0 or more")
    return skip


def _total(value: Any) -> Total:
    word = str(value).lower() if isinstance(value, bool) else value
    if not isinstance(word, str) or word not in _TOTALS:
        raise invalid("$total", "must be exact (or true), estimated or false")
    return _TOTALS[word]


def _cursor_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(name, "must be a cursor that a page has given, or empty to begin")
    return value


def _cursor_of(asked: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the cursor of a query. Raises BadRequest if a second filter says where the page begins.

    Forms send all of their fields. So an empty cursor counts only if no other filter says where the page begins.
    """
    first, *others = [name for name in (*CURSORS, "$skip") if asked.get(name)] or [*filter(asked.__contains__, CURSORS)]
    if others and asked[first]:
        raise invalid(first, f"does not go with {others[0]}: leave one of them out")
    return None if first == "$skip" else (first, asked[first])


_READERS: Mapping[str, Callable[[Any], Any]] = {"$limit": _limit, "$skip": _skip, "$total": _total}


def _is_pattern(value: Any) -> bool:
    """Return True for a pattern on which all databases agree: its last backslash must escape something."""
    if not isinstance(value, str) or len(value) > MAX_PATTERN:
        return False
    return (len(value) - len(value.rstrip("\\"))) % 2 == 0


def invalid(name: str, sentence: str) -> BadRequest:
    """Return the error for a part of a query, with a sentence about its name."""
    name = shortened(name)
    return BadRequest(f"Invalid query: {name} {sentence}", errors={name: sentence})


def _unknown(
    message: str, name: str, known: Iterable[str], parent: Mapping[str, Any] | None = None, always: bool = False
) -> BadRequest:
    hint, name = suggestion(name, known), shortened(name)
    errors = {name: f"Unknown.{hint}"} if hint or always else None
    error = BadRequest(message + ("." + hint if hint else ""), errors=errors)
    # Not by the constructor, for which keys of the caller such as "message" have a meaning.
    error.data = parent
    return error
