"""The adapter for SQL databases. Each operation is one statement, compiled once for each shape of a query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Unpack

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    ColumnElement,
    Dialect,
    Float,
    FromClause,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    column,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    table,
    update,
)  # fmt: skip

from apex.adapters.aggregates import Aggregate
from apex.adapters.base import Adapter
from apex.adapters.companion import EntryOfRow, current_entry
from apex.adapters.cursors import Selection
from apex.adapters.options import AdapterOptions
from apex.app import Apex
from apex.context import Params
from apex.migrations.search import SEARCHABLE, is_complete
from apex.query.across import Related
from apex.query.coercion import Coerce
from apex.query.evaluation import missing
from apex.query.language import (
    EVERYTHING,
    Compare,
    Junction,
    Predicate,
    Query,
    Search,
    compared,
    conjunction,
    every,
    invalid,
)
from apex.relations.binding import BoundRelation, Link
from apex.relations.declarations import Relation
from apex.relations.reading import Owners
from apex.service import Record
from apex.sql.aggregates import Aggregates
from apex.sql.clauses import SERVED, Clauses, merged_json
from apex.sql.database import Database
from apex.sql.defaults import Defaults, has_default, moments_of, require_sqlite, set_by_trigger
from apex.sql.drivers.executor import Plan, Values, ValuesOfRows, Violation
from apex.sql.entries import RowEntries
from apex.sql.inserts import Inserts
from apex.sql.json import is_writable, page_output, row_output
from apex.sql.keys import require_keys
from apex.sql.paths import Paths, Source, is_present
from apex.sql.related import select_related, table_link
from apex.sql.search import declare_searchable, missing_index
from apex.sql.statements import Reader, Statement, StatementCache
from apex.sql.types.registry import coercers, column_type, column_types, shape_of
from apex.types import Id, Row

Fields = tuple[str, ...] | None

TOTAL = "total_"

_oid: ColumnClause[int] = column("oid")
_estimated_rows = column("reltuples", Float())
_PROTECTED = (
    select(_estimated_rows)
    .select_from(table("pg_class"))
    .where(
        _oid == func.to_regclass(bindparam("name", type_=String())),
        func.row_security_active(_oid),
        _estimated_rows > 0,
    )
)
"""The number of rows of a table under row-level security. Other tables give no row."""


class SQLService(Adapter[Record]):
    """A service over a table of SQLAlchemy, on the app's database::

        class Notes(SQLService):
            table = notes

        app.use("notes", Notes())

    Column defaults hold as in SQLAlchemy. Python makes its defaults for each new row and each change, and records
    include the defaults of the database. Columns that only the database writes (Computed, Identity(always=True)) are
    read-only. ``table.info["tenant"]`` names the column with the tenant of a row. Errors of keys do not name it.
    """

    table: Table
    """The table, or a subquery in its place."""
    paths: Mapping[str, Table] = {}
    """For JSON fields the tables with the values of their keys. ``apex.sql.paths`` describes such a table."""
    _sorts_related = True
    json: bool = True
    """True if the database writes the JSON of responses.

    A hook that reads the result decodes the JSON. So a service whose hooks always read it is faster with False.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        table = getattr(cls, "table", None)
        if cls.searchable and isinstance(table, Table):
            table.info.setdefault(SEARCHABLE, tuple(cls.searchable))  # Migrations are written without an app.

    def __init__(self, table: Table | None = None, **options: Unpack[AdapterOptions]) -> None:
        super().__init__(**options)
        if table is not None:
            self.table = table
        if getattr(self, "table", None) is None:
            raise TypeError(f"{type(self).__name__} needs a table")
        renamed = next((column for column in self.table.columns if column.key != column.name), None)
        if renamed is not None:
            raise TypeError(f"Fields have the names of columns: {renamed} must not have the key '{renamed.key}'")
        self.statements: StatementCache = StatementCache()
        self._database: Database | None = None
        self._is_searched = False
        self._defaults = Defaults(self.table, self.id, self.columns or {})
        self._read_only = self._defaults.read_only

    def _registered(self, app: Apex, path: str) -> None:
        """Raise TypeError for a table that the database cannot have, or whose id may belong to several rows."""
        super()._registered(app, path)
        if isinstance(self.table, Table):
            require_keys(self, path)
        if self.searchable:
            declare_searchable(app, path, self)
        dialect = _dialect_of(app.get("database"))
        types = column_types(self.table, dialect)
        for name in self.lists:
            if not types[name].is_json:
                raise TypeError(f"Option lists of service '{path}' names '{name}', which does not hold JSON")
        if dialect is not None and dialect.name == "sqlite":
            require_sqlite(self.table, self.id)

    async def setup(self, app: Apex, path: str) -> None:
        """Take the app's database.

        Raises LookupError if the app has none, and TypeError for a table that the database cannot have.
        """
        await super().setup(app, path)
        self._registered(app, path)
        self._database = app.get("database")
        if self._database is None:
            raise LookupError(f"Service '{path}' needs a database: app.configure(database(url))")
        for name in ("columns", "syntax", "database"):
            vars(self).pop(name, None)  # The values that a column takes may depend on the database.

    async def _link(self, where: str, relation: Relation, app: Apex, other: Adapter[Any]) -> Link:
        if isinstance(relation.through, str):
            return await super()._link(where, relation, app, other)
        return await table_link(self, where, relation, app, other)

    @cached_property
    def database(self) -> Database:
        """The app's database. Raises RuntimeError before the app is set up."""
        if self._database is None:
            raise RuntimeError(
                "The service has no database before the app is set up: an application that it is mounted in takes "
                "app.lifespan as its lifespan"
            )
        return self._database

    async def _require_search_index(self) -> None:
        if self._is_searched:
            return
        found = await self.database.execute(is_complete(self.table, self.database.dialect))
        self._is_searched = bool(found[0]["complete"])
        if not self._is_searched:
            raise missing_index(self.table)

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Return a savepoint of the database."""
        return self.database.savepoint()

    def unit_of_work(self) -> AbstractAsyncContextManager[None]:
        """Return a transaction of the database."""
        return self.database.transaction()

    @property
    def served(self) -> Collection[str]:
        """The query operators that SQL databases can serve."""
        return SERVED

    def fields(self) -> Mapping[str, Coerce]:
        """Return by column name the functions that convert a value from outside. They raise ValueError."""
        return coercers(self.table, _dialect_of(self._database))

    @cached_property
    def clauses(self) -> Clauses:
        """The clauses for predicates on the table."""
        return Clauses(self.table, self.database.dialect, self.lists, self.searchable)

    @cached_property
    def _inserts(self) -> Inserts:
        return Inserts(self)

    @cached_property
    def _paths(self) -> Paths:
        return Paths(self.table, self.id, self.paths)

    async def _select(self, selection: Selection, total: bool = False) -> tuple[list[Row], int | None]:
        sort = selection.query.sort
        if selection.limit is None or not sort or sort[0][0] not in self._paths:
            return await self._select_at_once(selection, total)
        count = await self._count(selection.where) if total else None
        return await self._select_by_path(selection, *sort[0]), count

    async def _select_related(self, selection: Selection, owners: Owners) -> list[tuple[Any, Row]]:
        link = owners.link
        if link is None or (isinstance(link.adapter, SQLService) and link.adapter.database is self.database):
            return await select_related(self, selection, owners)
        return await super()._select_related(selection, owners)

    async def _related_condition(self, related: Related) -> Predicate:
        return related if self._joins(related.relation) else await super()._related_condition(related)

    async def _lookups(self, query: Query, params: Params) -> Mapping[str, Any]:
        found = await super()._lookups(query, params)
        for name, lookup in found.items():
            if not self._joins(lookup.relation):
                raise invalid("$sort", f"cannot be {name}: its records are in another store")
        return found

    def _joins(self, relation: BoundRelation) -> bool:
        """Return True if all records of a relation are in the database of this service."""
        adapters = [relation.adapter, *([relation.link.adapter] if relation.link else ())]
        return all(isinstance(one, SQLService) and one.database is self.database for one in adapters)

    async def _select_by_path(self, selection: Selection, path: str, direction: int) -> list[Row]:
        """Return the rows in the order of a path. Rows without a value come last.

        Two statements are faster than one: rows with a value are read in the order of its index, up to the limit.
        """
        query, limit = selection.query, selection.limit or 0
        present = selection._replace(where=every(Compare(path, "$ne", None), selection.where))
        rows, _ = await self._select_at_once(present)
        if len(rows) == limit:
            return rows
        passed = query.skip if rows else await self._count(present.where)
        rest = replace(query, sort=query.sort[1:] or ((self.id, direction),), skip=max(0, query.skip - passed))
        where = every(Compare(path, "$eq", None), selection.where)
        absent = selection._replace(where=where, query=rest, limit=limit - len(rows))
        return rows + (await self._select_at_once(absent))[0]

    async def _select_at_once(self, selection: Selection, total: bool = False) -> tuple[list[Row], int | None]:
        query = selection.query
        limited = selection.limit is not None
        values: dict[str, Any] = {}
        shape = self.clauses.shape(selection.where, values)
        by_related = [(name, self.clauses.lookup_shape(lookup, values)) for name, lookup in selection.lookups.items()]
        key = ("select", shape, tuple(by_related), selection.fields, query.sort, query.rank and query.rank.field,
               selection.ranked is not None, limited, query.skip > 0, total, selection.lock)  # fmt: skip
        statement = self.statements.get(key, lambda: self._select_statement(selection, total), values)
        values |= self.clauses.rank_values(selection)
        rows = await self._run(statement, values | {"limit": selection.limit, "skip": query.skip})
        if not total:
            return rows, None
        if not rows:
            return rows, await self._count(selection.where) if query.skip else 0
        count: int = rows[0][TOTAL]
        for row in rows:
            del row[TOTAL]
        return rows, count

    def _select_statement(self, selection: Selection, total: bool) -> Statement:
        columns = self._columns(selection.fields)
        sorted = [name for name, _ in selection.query.sort]
        if not total and len(sorted) == 1 and sorted[0] in self._paths and is_present(sorted[0], selection.where):
            alone = self._paths.alone(selection.where)
            if alone is not None:
                return self.database.compile(self._by_index(selection, alone, columns), "anew")
        source = self._paths.source(selection.where, sorted)
        where = self.clauses.clause(selection.where, source)
        order = self.clauses.order(selection, self.id, source.values)
        if selection.ranked is not None:
            ranked, best_first = self.clauses.search_index.ranked(source.rows)
            source, order = replace(source, rows=ranked), [best_first, *order]
        if total and _has_search(selection.where):
            return self.database.compile(self._search(selection, source, where, order, columns))
        if total:
            columns.append(self._counting(selection.where).scalar_subquery().label(TOTAL))
        rows = select(*columns).select_from(source.rows).where(where).order_by(*order)
        if selection.lock:
            rows = rows.with_for_update(**_LOCKS[selection.lock])
        return self.database.compile(_page(rows, selection), "anew" if source.values else "kept")

    def _by_index(self, selection: Selection, source: Source, columns: list[Any]) -> Select[*tuple[Any, ...]]:
        """Return the statement that finds a page in the index of a path, and reads only the rows of the page."""
        path = selection.query.sort[0][0]
        value = source.values[path].c
        found = select(value.record_id, value.number, value.text).select_from(source.rows)
        found = found.where(self.clauses.clause(selection.where, source))
        order = self.clauses.order(selection, self.id, source.values)
        hits = _page(found.order_by(*order), selection).subquery("hits")
        rows = self.table.join(hits, self.table.c[self.id] == hits.c.record_id)
        return select(*columns).select_from(rows).order_by(*self.clauses.order(selection, self.id, {path: hits}))

    def _search(
        self, selection: Selection, source: Source, where: Any, order: list[Any], columns: list[Any]
    ) -> Select[*tuple[Any, ...]]:
        """Return the statement of a search, which counts its matches while it reads them.

        A search reads all its matches in any case. Until the page is known it reads only the columns that it sorts by.
        """
        id = self.table.c[self.id]
        counted = select(id.label("hit"), func.count().over().label(TOTAL)).select_from(source.rows)
        hits = _page(counted.where(where).order_by(*order), selection).subquery("hits")
        rows = source.rows.join(hits, id == hits.c.hit)
        return select(*columns, hits.c[TOTAL]).select_from(rows).order_by(*order)

    def _place(self, field: str, value: Any) -> Any:
        return None if value is None else self.clauses.types[field].restored(value)

    async def _count(self, where: Predicate) -> int:
        def build() -> Statement:
            by_path = any(name in self._paths for name in compared(where))
            return self.database.compile(self._counting(where), "anew" if by_path else "kept")

        values: dict[str, Any] = {}
        shape = self.clauses.shape(where, values)
        statement = self.statements.get(("count", shape), build, values)
        count: int = (await self._run(statement, values))[0][TOTAL]
        return count

    async def _aggregate(self, aggregate: Aggregate, where: Predicate) -> list[Sequence[Any]]:
        def build() -> Statement:
            source = self._paths.source(where)
            statement = self._aggregates.statement(aggregate, source, self.clauses.clause(where, source))
            return self.database.compile(statement, "anew" if source.values else "kept")

        values: dict[str, Any] = {}
        shape = self.clauses.shape(where, values)
        statement = self.statements.get(("aggregate", shape, aggregate), build, values)
        rows = await self._run(statement, values)
        return [self._aggregates.values(aggregate, row) for row in rows]

    def _functions_of(self, field: str) -> Sequence[str]:
        return column_type(self.table.c[field].type, _dialect_of(self._database)).functions

    def _shape(self, field: str) -> Mapping[str, Any]:
        return shape_of(self.table.c[field])

    @cached_property
    def _aggregates(self) -> Aggregates:
        return Aggregates(self.table, self.clauses)

    async def _estimate(self, where: Predicate) -> int | None:
        """Return the number of rows that PostgreSQL's planner expects from its statistics, without reading any.

        SQLite keeps no such statistics. PostgreSQL's cover all tenants. So a tenant only gets an estimate of all its
        rows: from the estimate of a condition it would learn about the rows of others.
        """
        if not self.clauses.postgresql or not self._is_whole_tenant(where):
            return None
        expected = await self._expect(where)
        # The planner takes the policy of row-level security for one more condition, whose share of the rows it can only
        # guess. The same guess is in the estimate of all rows, so it cancels out.
        protected = await self.database.execute(_PROTECTED, {"name": str(self.table)})
        if not protected:
            return expected
        size: float = protected[0]["reltuples"]
        return round(size * expected / await self._expect(EVERYTHING))

    def _is_whole_tenant(self, where: Predicate) -> bool:
        """Return True if a predicate holds for exactly the rows of one tenant that are not removed."""
        if "tenant" not in self._info:
            return isinstance(self.table, Table)  # The tables of a subquery are not known here.
        tenant, live = self._info["tenant"], self._info.get("live", "")
        conditions = [part for part in conjunction(where) if part != Compare(live, "$eq", None)]
        return all(part == conditions[0] and part[:2] == (tenant, "$eq") for part in conditions)

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """The ``info`` of the table. A subquery has none."""
        return getattr(self.table, "info", {})

    async def _expect(self, where: Predicate) -> int:
        def build() -> Statement:
            counted = self.database.compile(self._counting(where).with_only_columns(literal_column("1")))
            return replace(counted, text=f"EXPLAIN (FORMAT JSON) {counted.text}", read=_rows_of_plan, plan="anew")

        values: dict[str, Any] = {}
        shape = self.clauses.shape(where, values)
        statement = self.statements.get(("expected", shape), build, values)
        rows: int = (await self._run(statement, values))[0]
        return rows

    def _counting(self, where: Predicate) -> Select[*tuple[Any, ...]]:
        source = self._paths.alone(where) or self._paths.source(where)
        counted = select(func.count().label(TOTAL)).select_from(source.rows)
        return counted.where(self.clauses.clause(where, source))

    async def _record(self, selection: Selection, id: Id) -> Any:
        if not (selection.json and self._writes_json) or selection.lock:
            return await super()._record(selection, id)
        values: dict[str, Any] = {}
        shape = self.clauses.shape(selection.where, values)
        key = ("record", shape, selection.fields)
        statement = self.statements.get(key, lambda: self._record_statement(selection), values)
        rows = await statement.run(self.database.executor, values)
        if not rows:
            raise missing(id)
        return rows[0]

    async def _page(self, selection: Selection) -> Any:
        query = selection.query
        if not (selection.json and self._writes_json) or query.rank is not None:
            return await super()._page(selection)
        values: dict[str, Any] = {}
        shape = self.clauses.shape(selection.where, values)
        key = ("page", shape, selection.fields, query.sort, query.skip > 0, query.total)
        if key not in self.statements and not self._is_plain(selection):
            return await super()._page(selection)
        statement = self.statements.get(key, lambda: self._page_statement(selection), values)
        values["limit"], values["skip"] = selection.limit, query.skip
        return (await statement.run(self.database.executor, values))[0]

    def _is_plain(self, selection: Selection) -> bool:
        """Return True if one statement can read a list: it is not a search, and not in the order of a path."""
        by_path = any(name in self._paths for name, _ in selection.query.sort)
        return not by_path and not selection.lookups and not _has_search(selection.where)

    def _page_statement(self, selection: Selection) -> Statement:
        source = self._paths.source(selection.where)
        rows = select(*self._columns(selection.fields)).select_from(source.rows)
        rows = rows.where(self.clauses.clause(selection.where, source))
        listed = _page(rows.order_by(*self.clauses.order(selection, self.id, {})), selection).subquery("listed")
        total = None if selection.query.total is False else self._total_of_page(listed, selection)
        columns, read = page_output(listed.c, total, self.database.dialect)
        plan: Plan = "anew" if source.values else "one" if self._has_one_plan(selection.where) else "kept"
        return self.database.compile(select(*columns).select_from(listed), plan, read=read)

    def _total_of_page(self, listed: FromClause, selection: Selection) -> ColumnElement[int]:
        """Return the total. If the page has the last row, the database counts nothing."""
        rows, limit, skip = func.count(), *(bindparam(name, type_=BigInteger()) for name in ("limit", "skip"))
        counted = self._counting(selection.where).scalar_subquery()
        has_last = and_(rows < limit, or_(rows > 0, skip == 0)) if selection.query.skip else rows < limit
        return case((has_last, rows + skip), else_=counted)

    def _has_one_plan(self, where: Predicate) -> bool:
        """Return True if one plan serves all tenants. To plan each time would take as long as the read itself."""
        return "tenant" in self._info and self._is_whole_tenant(where)

    def _record_statement(self, selection: Selection) -> Statement:
        columns, read = self.output(self.table, selection.fields, json=True)
        return self.database.compile(select(*columns).where(self.clauses.clause(selection.where)), read=read)

    async def _insert(self, rows: list[Row], fields: Fields, params: Params) -> list[Any]:
        if (entry := self._entry) is not None:
            return [row.value for row in await self._inserts.run_with_entry(rows, fields, entry)]
        return await self._inserts.run(rows, fields, (params.adapter or {}).get("companion"), False)

    async def _insert_json(self, row: Row, fields: Fields, params: Params) -> Any:
        if (entry := self._entry) is not None:
            return (await self._inserts.run_with_entry([row], fields, entry))[0]
        companion = (params.adapter or {}).get("companion")
        return (await self._inserts.run([row], fields, companion, self._writes_json))[0]

    @property
    def _entry(self) -> EntryOfRow | None:
        """The entry to store with the next rows, if there is one."""
        entry = current_entry.get()
        return entry if entry is not None and not entry.ids else None

    @cached_property
    def _row_entries(self) -> RowEntries:
        return RowEntries(self)

    async def _update(self, where: Predicate, values: Row, fields: Fields, whole: bool) -> list[Row]:
        values = self._defaults.of_update(values)
        if not self._set_by_trigger:
            return await self._change(where, values, fields, whole)
        async with self.database.transaction():
            return await self._read_again(await self._change(where, values, (self.id,), whole), fields)

    async def _change(self, where: Predicate, values: Row, fields: Fields, whole: bool) -> list[Row]:
        names = tuple(values)

        def change() -> Any:
            changes: dict[Any, Any] = {name: null() for name in self._replaceable} if whole else {}
            changes |= {self.table.c[name]: made for name, made in self._made_on_update.items() if name not in names}
            changes |= {self.table.c[name]: self._changed(name, place, whole) for place, name in enumerate(names)}
            return update(self.table).where(self.clauses.clause(where)).values(changes)

        def build() -> Statement:
            return self.database.compile(change().returning(*self._columns(fields)))

        operands: dict[str, Any] = {}
        shape = self.clauses.shape(where, operands)
        key = ("update", shape, names, fields, whole)
        assigned = {f"new_{place}": value for place, value in enumerate(values.values())}
        if (entry := self._entry) is not None:
            return await self._row_entries.update(change, key, operands, assigned, values, fields, entry, where)
        statement = self.statements.get(key, build, operands)
        return self._by_id(await self._run(statement, operands | assigned, [values], where))

    def _changed(self, name: str, place: int, whole: bool) -> Any:
        value = bindparam(f"new_{place}", type_=self.table.c[name].type)
        if name not in self.merge or whole:
            return value
        return merged_json(self.table.c[name], value, self.clauses.postgresql)

    async def _delete(self, where: Predicate, fields: Fields) -> list[Row]:
        def deletion() -> Any:
            return delete(self.table).where(self.clauses.clause(where))

        def build() -> Statement:
            return self.database.compile(deletion().returning(*self._columns(fields)))

        operands: dict[str, Any] = {}
        shape = self.clauses.shape(where, operands)
        key = ("delete", shape, fields)
        if (entry := self._entry) is not None:
            condition = partial(self.clauses.clause, where)
            return await self._row_entries.delete(deletion, key, operands, fields, entry, condition)
        statement = self.statements.get(key, build, operands)
        return self._by_id(await self._run(statement, operands))

    def _columns(self, fields: Fields, source: FromClause | None = None) -> list[Any]:
        columns = self.table.c if source is None else source.c
        return [columns[name] for name in (self.columns or () if fields is None else fields)]

    def output(self, source: FromClause, fields: Fields, json: bool) -> tuple[list[Any], Reader | None]:
        """Return the columns of a statement and the reader of its rows."""
        columns = self._columns(fields, source)
        return row_output(columns, self.database.dialect) if json else (columns, None)

    @cached_property
    def _writes_json(self) -> bool:
        return self.json and is_writable(self._columns(None), self.database.dialect)

    @cached_property
    def stores_entries(self) -> bool:
        """True if the statement that changes a row can store an ``EntryOfRow`` too."""
        is_rowid = isinstance(self.table, Table) and self.table.dialect_options["sqlite"]["with_rowid"]
        return bool(self._writes_json and is_rowid and not self._set_by_trigger)

    @property
    def emptied(self) -> Collection[str]:
        """The columns that an update empties if the data leaves them out."""
        return {column.name for column in self._replaceable}

    @cached_property
    def _replaceable(self) -> tuple[Column[Any], ...]:
        """The columns that can be null, without the id, kept fields, and columns with a default.

        A default is, for example, the moment of the record's creation.
        """
        kept = {self.id, *self.kept}
        return tuple(c for c in self.table.columns if c.nullable and c.name not in kept and not has_default(c))

    @cached_property
    def _made_on_insert(self) -> Mapping[str, Any]:
        return moments_of(self.table, "default", self.database.dialect)

    @cached_property
    def _made_on_update(self) -> Mapping[str, Any]:
        return moments_of(self.table, "onupdate", self.database.dialect)

    @cached_property
    def _set_by_trigger(self) -> bool:
        """True if rows have to be read again after a write because triggers change them."""
        return self.database.dialect.name == "sqlite" and set_by_trigger(self.table)

    async def _read_again(self, written: list[Row], fields: Fields) -> list[Row]:
        """Return the written rows again, in their order, with the values that triggers have set."""
        if not written:
            return []
        ids = [row[self.id] for row in written]
        rows, _ = await self._select_at_once(Selection(Compare(self.id, "$in", ids), Query(), fields))
        found = {row[self.id]: row for row in rows}
        return [found[id] for id in ids if id in found]

    def _by_id(self, rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: row[self.id]) if len(rows) > 1 else rows

    async def _run(
        self, statement: Statement, values: Values, rows: Sequence[Row] = (), where: Predicate = EVERYTHING
    ) -> list[Any]:
        """Run a statement and return its rows.

        Raises BadRequest or Conflict if it breaks a rule of the database. The error names the fields. ``rows`` are the
        values to store, and ``where`` has further values of the records that change.
        """
        try:
            return await statement.run(self.database.executor, values)
        except Violation as violation:
            raise await self._explained(violation, rows, where) from None

    async def _run_together(
        self, statements: Sequence[tuple[Statement, Values | ValuesOfRows]], rows: Sequence[Row]
    ) -> list[list[Any]]:
        """Run statements that write as one transaction, and return the rows of each. Raises as ``_run`` does."""
        try:
            return await self.database.fetch_together(statements)
        except Violation as violation:
            raise await self._explained(violation, rows) from None

    async def _explained(self, violation: Violation, rows: Sequence[Row], where: Predicate = EVERYTHING) -> Exception:
        parts = (part for part in conjunction(where) if isinstance(part, Compare) and part.operator == "$eq")
        known = {part.field: part.value for part in parts}
        return await self.database.explain(violation, self.table, [known | row for row in rows])


def _dialect_of(database: Database | None) -> Dialect | None:
    return None if database is None else database.dialect


_LOCKS: Mapping[Any, Mapping[str, Any]] = {
    True: {"key_share": True},  # Rows with a foreign key to these rows do not wait for it.
    "share": {"read": True},
    "key": {"read": True, "key_share": True},
    "remove": {},
}
"""The options of ``with_for_update`` for the locks of a ``Selection``."""


def _has_search(where: Predicate) -> bool:
    if isinstance(where, Junction):
        return any(map(_has_search, where.parts))
    return isinstance(where, Search) or (
        isinstance(where, Compare) and where.operator == "$contains" and where.value is not None
    )


def _rows_of_plan(values: Sequence[Any]) -> int:
    """Return the number of rows that a plan expects."""
    rows: int = values[0][0]["Plan"]["Plan Rows"]
    return rows


def _page(statement: Select[*tuple[Any, ...]], selection: Selection) -> Select[*tuple[Any, ...]]:
    if selection.limit is not None:
        statement = statement.limit(bindparam("limit", type_=BigInteger()))
    return statement.offset(bindparam("skip", type_=BigInteger())) if selection.query.skip else statement
