"""The fields that a caller may read: in its query, in answers and in events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from apex.context import Context
from apex.encoding import RawJSON, Stream
from apex.permissions.policy import Part, Policy, narrow, permitted_fields
from apex.query.evaluation import decided
from apex.query.language import Predicate, Query, Syntax, compared, unknown_field
from apex.query.scope import scope_predicate
from apex.types import READS, STANDARD, WRITES, items, map_items

Fields = frozenset[str]

SEARCH = ("$search", "search")
"""The filter and the method that look into all fields of the option ``searchable``."""


def limit_query(context: Context, policy: Policy, readers: Sequence[Part]) -> Fields | None:
    """Let the query of a call use only fields that the caller may read, and select those.

    A field that it may not read at all is unknown, as a field that does not exist. With one that it may read in some
    records, only those are found. Return the fields of the service that the answer may show at most, or None for all.
    Raises BadRequest.
    """
    if not policy.is_adapter or any(part.scope is None and part.fields is None for part in readers):
        return None
    permitted = permitted_fields(readers)
    known = None if permitted is None else permitted | {policy.id}
    query = _parsed(context, policy, known)
    named = {*compared(query.where), *(name for name, _ in query.sort), *_looked_into(context, policy, readers)}
    names = {policy.service.syntax.own_field(name) for name in named} - {policy.id}
    if known is not None:
        for name in sorted({*names, *(query.select or ())} - known):
            raise unknown_field(name, known)
    if names:
        narrow(context, list(readers), names)
    if context.method not in READS:
        return _without_select(context, query, policy.id)
    if known is None and not _differ(readers):
        return None
    return _select(context, query, policy, known, readers)


def _without_select(context: Context, query: Query, id: str) -> Fields | None:
    """Let a write return whole records, as hooks and events need them. Return the fields that the caller selects."""
    if query.select is None:
        return None
    asked = {name: value for name, value in query.asked.items() if name != "$select"}
    context.params.query = replace(query, asked=asked, select=None)
    return frozenset((*query.select, id))


def select_at_end(context: Context, policy: Policy) -> None:
    """Select the fields of a write's answer from whole records, so that events have whole records."""
    if context.method in READS or not policy.is_adapter:
        return
    selected = _without_select(context, _parsed(context, policy, None), policy.id)
    if selected is not None:
        context._visible = _Cut(lambda row: _selected_of(row, selected, policy), context.method)


def _selected_of(row: Mapping[str, Any], selected: Fields, policy: Policy) -> dict[str, Any]:
    """Return the selected fields of a record, and what hooks have added to it."""
    columns = policy.columns or row
    return {name: value for name, value in row.items() if name in selected or name not in columns}


def _select(
    context: Context, query: Query, policy: Policy, known: Fields | None, readers: Sequence[Part]
) -> Fields | None:
    """Read the fields that the caller may see, and those that decide which of them it may see in a record."""
    usual = query.select or policy.service.shown or policy.columns or (known and sorted(known))
    if usual is None:
        return None
    names = [name for name in usual if known is None or name in known]
    decisive: list[str] = []
    if _differ(readers):
        decisive = [name for part in readers if part.scope for name in compared(_predicate(policy, part))]
    context.params.query = replace(query, select=tuple(dict.fromkeys((*names, *decisive, policy.id))))
    return frozenset((*names, policy.id))


def _parsed(context: Context, policy: Policy, known: Fields | None) -> Query:
    query = context.params.query
    if isinstance(query, Query):
        return query
    syntax: Syntax = policy.service.syntax
    if known is not None:
        fields = {name: coerce for name, coerce in (syntax.fields or {}).items() if name in known}
        if syntax.fields is None:
            fields = dict.fromkeys(known, _as_given)
        paths = {name: keys for name, keys in syntax.paths.items() if name in known}
        lists = {name: coerce for name, coerce in syntax.lists.items() if name in known}
        syntax = replace(syntax, fields=fields, paths=paths, lists=lists)
    return syntax.parse(query)


def _as_given(value: Any) -> Any:
    return value


def _looked_into(context: Context, policy: Policy, readers: Sequence[Part]) -> Iterator[str]:
    """Yield the fields that a search or an aggregate looks into. A role with an aggregate alone gets it as declared."""
    service, (filter, method) = policy.service, SEARCH
    if context.method == method or filter in context.params.query:
        yield from getattr(service, "searchable", ())
    aggregate = getattr(service, "aggregates", {}).get(context.method)
    if aggregate is not None:
        if readers:
            yield from (*aggregate.group, *(field for _, field in aggregate.functions))
        if isinstance(context.data, Mapping):
            yield from compared(service.syntax.parse(context.data).where)


def _differ(readers: Sequence[Part]) -> bool:
    return any(part.fields != readers[0].fields for part in readers)


def _predicate(policy: Policy, part: Part) -> Predicate:
    return scope_predicate(part.scope or {}, policy.types)


def show_permitted(context: Context, policy: Policy, readers: Sequence[Part], selected: Fields | None) -> None:
    """Cut the answer of a call to what its caller may read, and to the ``selected`` fields of the service."""
    method = context.method
    if any(part.scope is None and part.fields is None for part in readers):
        return
    if method in READS and all(part.fields is None for part in readers):
        return
    if method not in STANDARD and not readers:
        return
    if method in getattr(policy.service, "aggregates", {}):
        return  # Its groups are no records, and limit_query has limited the fields that they are made of.
    if method in READS and not _differ(readers) and policy.is_adapter:
        fields = (permitted_fields(readers) or frozenset()) | {policy.id}
        context._visible = _CutDecoded(lambda row: _only(row, fields), method)
        return
    visible = Visible(policy, readers)
    given = _given(context) if method in WRITES else frozenset[str]()

    def cut(row: Mapping[str, Any]) -> Mapping[str, Any]:
        if method not in STANDARD:
            return visible.without_hidden(row, row)
        fields = visible.fields_of(row)
        if fields is not None:
            row = _only(row, fields if visible.holds(row) else fields | given)
        return row if selected is None else _selected_of(row, selected, policy)

    context._visible = _Cut(cut, method)


def _given(context: Context) -> Fields:
    return frozenset(str(name) for row in items(None, context.data) if isinstance(row, Mapping) for name in row)


def _only(row: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in fields}


class _Cut:
    """A function that cuts the records of an outgoing value."""

    def __init__(self, cut: Callable[[Mapping[str, Any]], Any], method: str) -> None:
        self.cut, self.method = cut, method

    def __call__(self, value: Any) -> Any:
        if isinstance(value, RawJSON):
            value = value.value
        if value is None or isinstance(value, Stream):
            return value
        return map_items(self.method, value, lambda row: self.cut(row) if isinstance(row, Mapping) else row)


class _CutDecoded(_Cut):
    """A cut for records of which the database has read no other fields. If nothing has read them, nothing was added."""

    def __call__(self, value: Any) -> Any:
        return value if isinstance(value, RawJSON) else super().__call__(value)


class Visible:
    """The fields that a caller may read in each record, by the parts that hold for it."""

    def __init__(self, policy: Policy, readers: Iterable[Part]) -> None:
        self.policy = policy
        self.parts = [(part, None if part.scope is None else _predicate(policy, part)) for part in readers]

    def holding(self, row: Mapping[str, Any]) -> list[Part]:
        """Return the parts that hold for a record. One that depends on a field which is missing does not."""
        return [part for part, where in self.parts if where is None or self._is_met(where, row)]

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return True if the caller may read a record."""
        return bool(self.holding(row))

    def fields_of(self, row: Mapping[str, Any]) -> Fields | None:
        """Return the fields of a record that the caller may read, or None for all."""
        fields = permitted_fields(self.holding(row))
        return None if fields is None else fields | {self.policy.id}

    def only(self, shown: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is shown of a record without what the caller may not read."""
        fields = self.fields_of(row)
        return shown if fields is None else _only(shown, fields)

    def without_hidden(self, shown: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is shown of a record without fields that the caller may not read. Other keys stay."""
        fields = self.fields_of(row)
        if fields is None:
            return shown
        known = self.policy.columns
        if known is None:
            known = {name: None for grant in self.policy.grants for name in grant.rule.fields or ()}
        return {name: value for name, value in shown.items() if name in fields or name not in known}

    def _is_met(self, where: Predicate, row: Mapping[str, Any]) -> bool:
        columns, values = self.policy.columns, {}
        for name in compared(where):
            if name in row:
                value = row[name]
                try:
                    values[name] = value if columns is None or value is None else columns[name](value)
                except ValueError:
                    return False
        return decided(where, values) is True
