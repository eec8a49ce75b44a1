"""An adapter that keeps rows in a dict, for tests, prototypes and caches."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cmp_to_key, partial
from itertools import count
from typing import Any, TypeGuard, Unpack
from weakref import WeakKeyDictionary

from apex.adapters.base import Adapter
from apex.adapters.companion import Companion
from apex.adapters.cursors import Selection
from apex.adapters.options import AdapterOptions
from apex.adapters.search import matches, relevance
from apex.app import Apex
from apex.context import Params
from apex.encoding import merge
from apex.errors import BadRequest, Conflict
from apex.query.coercion import Coerce, taking_null
from apex.query.evaluation import TESTS, three_way
from apex.query.language import Compare, Junction, Predicate, Search
from apex.relations.across import values_of
from apex.service import Record
from apex.transaction import Transaction, current_transaction
from apex.types import Row


class _Transactions:
    """The transactions of the memory services of an app. They run one after the other."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.replaced: list[tuple[dict[Any, Row], Any, Row | None]] = []
        """The rows that the running transaction has replaced, the first one first: the store, the id and the row."""

    def undo(self) -> None:
        """Store the rows again that the running transaction has replaced."""
        for store, id, row in reversed(self.replaced):
            store.pop(id, None)
            if row is not None:
                store[id] = row


_SHARED: WeakKeyDictionary[Apex, _Transactions] = WeakKeyDictionary()


class MemoryService(Adapter[Record]):
    """A service that keeps its rows in ``store``, by id::

        app.use("notes", MemoryService(fields={"id": integer, "text": text}))

    ``fields`` names the functions that check values. Without it any field may be stored. A field with a function of
    ``apex.query.coercion`` also takes null, except for the id. Your own functions decide about null themselves. New ids
    count up from ``start_id``. As in SQL, nothing compares with null.
    """

    _sorts_related = True

    def __init__(
        self,
        *,
        fields: Mapping[str, Coerce] | None = None,
        store: dict[Any, Row] | None = None,
        start_id: int = 0,
        **options: Unpack[AdapterOptions],
    ) -> None:
        super().__init__(**options)
        self._reserved: set[Any] = set()
        self._shared = _Transactions()
        if fields is None and self.kept:
            raise TypeError("Hidden fields need 'fields': without it there is nothing else to show")
        self._field_types = fields and {
            name: coerce if name == self.id else taking_null(coerce) for name, coerce in fields.items()
        }
        self.store: dict[Any, Row] = {} if store is None else store
        self._ids = count(start_id)

    def _registered(self, app: Apex, path: str) -> None:
        super()._registered(app, path)
        self._shared = _SHARED.setdefault(app, self._shared)

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncIterator[None]:
        """Return a transaction. If it fails, the rows that it has written become what they were.

        The memory services of an app share their transactions, which run one after the other. One inside another is
        part of it.
        """
        shared = self._shared
        if current_transaction(shared) is not None:
            yield
            return
        async with shared.turn:
            try:
                with Transaction(shared):
                    yield
            except BaseException:
                shared.undo()
                raise
            finally:
                shared.replaced.clear()

    def _keep(self, rows: Mapping[Any, Row | None]) -> None:
        """Keep rows by id as they are before a write, for the end of a transaction that fails. None is no row."""
        if current_transaction(self._shared) is not None:
            self._shared.replaced += [(self.store, id, copy.deepcopy(row)) for id, row in rows.items()]

    def fields(self) -> Mapping[str, Coerce] | None:
        """Return the functions that check the values of each field, if the service knows its fields."""
        return self._field_types

    @property
    def served(self) -> Collection[str]:
        """The query operators that the adapter can serve."""
        return TESTS.keys()

    async def _select(self, selection: Selection, total: bool = False) -> tuple[list[Row], int | None]:
        rows = self._matching(selection.where)
        query = selection.query
        for name, direction in reversed(selection.order(self.id)):
            if (lookup := selection.lookups.get(name)) is None:
                rows.sort(key=_sort_key(name), reverse=direction < 0)
            else:
                values = await values_of(lookup, selection)
                rows.sort(key=_sort_key(lookup.relation.own_key, values), reverse=direction < 0)
        if query.rank is not None:
            rank = query.rank
            rows.sort(key=lambda row: _rank(row.get(rank.field) or "", rank.term))
        if (search := selection.ranked) is not None:
            rows.sort(key=lambda row: relevance(search, row), reverse=True)
        end = None if selection.limit is None else query.skip + selection.limit
        return _out(rows[query.skip : end], selection.fields), len(rows)

    async def _count(self, where: Predicate) -> int:
        return len(self._matching(where))

    async def _insert(self, rows: list[Row], fields: tuple[str, ...] | None, params: Params) -> list[Row]:
        stored: dict[Any, Row] = {}
        for row in rows:
            row = copy.deepcopy(row)
            if not isinstance(row.get(self.id), Hashable):
                raise BadRequest(
                    f"{self.id} must be a number or a text", errors={self.id: "must be a number or a text"}
                )
            if row.get(self.id) is None:
                row[self.id] = next(id for id in self._ids if id not in self.store and id not in self._reserved)
            if any(row[self.id] in ids for ids in (self.store, self._reserved, stored)):
                raise Conflict(f"A record with this {self.id} already exists", errors={self.id: "Is taken"})
            stored[row[self.id]] = self._filled(row)
        companion: Companion | None = (params.adapter or {}).get("companion")
        if companion is not None:
            self._reserved.update(stored)
            try:
                await companion.store(copy.deepcopy(list(stored.values())), self.id)
            finally:
                self._reserved.difference_update(stored)
        self._keep(dict.fromkeys(stored))
        self.store.update(stored)
        return _out(list(stored.values()), fields)

    async def _update(self, where: Predicate, values: Row, fields: tuple[str, ...] | None, whole: bool) -> list[Row]:
        rows = self._matching(where)
        self._keep({row[self.id]: row for row in rows})
        for row in rows:
            changes = copy.deepcopy(values if whole else self._merged(row, values))
            if whole:
                kept = {name: row[name] for name in (*self.kept, self.id) if name not in changes}
                row.clear()
                changes = self._filled({}) | changes | kept
            row.update(changes)
        return _out(rows, fields)

    async def _delete(self, where: Predicate, fields: tuple[str, ...] | None) -> list[Row]:
        rows = self._matching(where)
        self._keep({row[self.id]: row for row in rows})
        for row in rows:
            del self.store[row[self.id]]
        return _out(rows, fields)

    def _merged(self, row: Row, values: Row) -> Row:
        merged = [name for name in self.merge if values.get(name) is not None]
        return values | {name: merge(row.get(name), values[name]) for name in merged}

    def _matching(self, where: Predicate) -> list[Row]:
        matches = self._matcher(where)
        return [row for row in self._candidates(where) if matches(row)]

    def _candidates(self, where: Predicate) -> Iterable[Row]:
        """Return the one row if the predicate asks for an id, else all rows."""
        for part in where.parts if isinstance(where, Junction) and where.kind == "and" else (where,):
            if _asks_for(part, self.id) and part.value in self.store:
                return [self.store[part.value]]
        return self.store.values()

    def _filled(self, row: Row) -> Row:
        """Return a row with all known fields, as a table has them. Missing values are null."""
        return row if self.columns is None else {name: row.get(name) for name in self.columns}

    def _matcher(self, where: Predicate) -> Callable[[Row], bool]:
        if isinstance(where, Compare):
            return self._comparison(where)
        if isinstance(where, Search):
            return partial(matches, where)
        if not isinstance(where, Junction):
            raise TypeError(f"A MemoryService cannot join {where!r:.80}")
        parts = [self._matcher(part) for part in where.parts]
        if where.kind == "or":
            return lambda row: any(part(row) for part in parts)
        return lambda row: all(part(row) for part in parts)

    def _comparison(self, compare: Compare) -> Callable[[Row], bool]:
        name, value = compare.field, compare.value
        if name == self.id and self.columns is None and compare.operator == "$eq":
            return lambda row: _same_id(row.get(name), value)
        test = TESTS.get(compare.operator)
        if test is None:
            raise BadRequest(f"Invalid query parameter {compare.operator}")
        return lambda row: test(row.get(name), value)


def _asks_for(part: Predicate, id: str) -> TypeGuard[Compare]:
    by_id = isinstance(part, Compare) and (part.field, part.operator) == (id, "$eq")
    return by_id and isinstance(part, Compare) and isinstance(part.value, Hashable)


_DIGITS = re.compile(r"-?[0-9]+")


def _sort_key(name: str, values: Mapping[Any, Any] | None = None) -> Callable[[Row], Any]:
    key = cmp_to_key(three_way)
    if values is None:
        return lambda row: key(row.get(name))
    return lambda row: key(values.get(row.get(name)))


def _rank(lines: str, term: str) -> int:
    return 0 if f"\n{term}\n" in lines else 1 if f"\n{term}" in lines else 2


def _out(rows: list[Row], fields: tuple[str, ...] | None) -> list[Row]:
    cut = rows if fields is None else [{name: row[name] for name in fields if name in row} for row in rows]
    return copy.deepcopy(cut)


def _same_id(one: Any, other: Any) -> bool:
    """Return True if two ids name one record. Over REST 0 is ``"0"``."""
    return one == other or (isinstance(one, int) and isinstance(other, str) and _is_number(other) and one == int(other))


def _is_number(text: str) -> bool:
    return len(text) < 20 and _DIGITS.fullmatch(text) is not None
