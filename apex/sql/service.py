"""The adapter for SQL databases: one statement for each operation, compiled once for each shape of a query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any, Unpack

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    FromClause,
    Select,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)  # fmt: skip

from apex.adapters.base import Adapter, AdapterOptions, Selection, missing
from apex.app import Apex
from apex.context import Params
from apex.query.coercion import Coerce
from apex.query.language import Query
from apex.query.predicates import EVERYTHING, Compare, Predicate, compared, conjunction, every
from apex.sql.clauses import SERVED, Clauses, leaves, merged
from apex.sql.database import Database
from apex.sql.defaults import Defaults, has_default, require_sqlite, set_by_trigger, written_out
from apex.sql.drivers.executor import Plan, Values, Violation
from apex.sql.estimates import estimate, plan_of
from apex.sql.inserts import Inserts
from apex.sql.json import is_writable, written_page, written_row
from apex.sql.paths import Paths, Source, is_present
from apex.sql.statements import Reader, Statement, StatementCache
from apex.sql.types import coercers, column_types
from apex.types import Id, Row

Fields = tuple[str, ...] | None

TOTAL = "total_"


class SQLService(Adapter):
    """A service over a SQLAlchemy table, on the app's database.

    Column defaults hold as in SQLAlchemy: those that Python makes are made for each new row and each change, those of
    the database are in the returned record. Columns that the database alone writes (Computed, Identity(always=True))
    are read-only.
    ``table.info["tenant"]`` names the column with whom a row belongs to; errors of keys that hold it leave it out.
    With ``json`` the database writes the JSON of what goes out, and hooks that look at it decode it: better not where
    they always do.
    ``paths`` gives JSON fields the table with the values of their keys; ``apex.sql.paths`` says what it looks like.
    """

    table: Table
    paths: Mapping[str, Table] = {}
    json: bool = True

    def __init__(self, table: Table | None = None, **options: Unpack[AdapterOptions]) -> None:
        super().__init__(**options)
        if table is not None:
            self.table = table
        if getattr(self, "table", None) is None:
            raise TypeError(f"{type(self).__name__} needs a table")
        renamed = next((column for column in self.table.columns if column.key != column.name), None)
        if renamed is not None:
            raise TypeError(f"Fields have the names of columns: {renamed} must not have the key '{renamed.key}'")
        self.statements = StatementCache()
        self._database: Database | None = None
        self._defaults = Defaults(self.table, self.id, self.columns or {})
        self._read_only = self._defaults.read_only

    def _registered(self, app: Apex, path: str) -> None:
        """Raise TypeError for a table that the app's database cannot have, or whose id may be that of several rows."""
        super()._registered(app, path)
        by_id = {"get", "update", "patch", "remove"}
        is_by_id = self.methods is None or bool(by_id.intersection(self.methods))
        if is_by_id and isinstance(self.table, Table) and not _is_unique(self.table, self.id):
            raise TypeError(
                f"The id of service '{path}' does not name one row: {self.table.c[self.id]} is not unique by itself. "
                "Name another column with id=..., declare this one with unique=True, or give methods without an id"
            )
        dialect = _dialect_of(app.get("database"))
        types = column_types(self.table, dialect)
        for name in self.lists:
            if not types[name].is_json:
                raise TypeError(f"Option lists of service '{path}' names '{name}', which does not hold JSON")
        if dialect is not None and dialect.name == "sqlite":
            require_sqlite(self.table, self.id)

    async def setup(self, app: Apex, path: str) -> None:
        """Take the app's database. Raises LookupError when none is configured, and TypeError for a table that the
        database cannot have.
        """
        await super().setup(app, path)
        self._registered(app, path)
        self._database = app.get("database")
        if self._database is None:
            raise LookupError(f"Service '{path}' needs a database: app.configure(database(url))")
        for name in ("columns", "syntax"):
            self.__dict__.pop(name, None)  # The values that a column takes may depend on the database.

    @property
    def database(self) -> Database:
        if self._database is None:
            raise RuntimeError(
                "The service has no database before the app is set up: an application that it is mounted in takes "
                "app.lifespan as its lifespan"
            )
        return self._database

    def unit_of_work(self) -> AbstractAsyncContextManager[None]:
        return self.database.transaction()

    @property
    def served(self) -> Collection[str]:
        return SERVED

    def fields(self) -> Mapping[str, Coerce]:
        return coercers(self.table, _dialect_of(self._database))

    @cached_property
    def clauses(self) -> Clauses:
        return Clauses(self.table, self.database.dialect, self.lists)

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

    async def _select_by_path(self, selection: Selection, path: str, direction: int) -> list[Row]:
        """Rows with a value can be read in the order of its index, up to the limit; those without come last."""
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
        form, values = self.clauses.parted(selection.where)
        key = ("select", form, selection.fields, query.sort, query.rank and query.rank.field,
               limited, query.skip > 0, total, selection.lock)  # fmt: skip
        statement = self.statements.get(key, lambda: self._select_statement(selection, total), values)
        values |= self.clauses.rank_values(query.rank)
        rows = await self._run(statement, values | {"limit": selection.limit, "skip": query.skip})
        if not total:
            return rows, None
        if not rows:
            return rows, await self._count(selection.where) if query.skip else 0
        for row in rows:
            count: int = row.pop(TOTAL)
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
        if total and any(compare.operator == "$contains" for compare in leaves(selection.where)):
            return self.database.compile(self._search(selection, source, where, order, columns))
        if total:
            columns.append(self._counting(selection.where).scalar_subquery().label(TOTAL))
        rows = select(*columns).select_from(source.rows).where(where).order_by(*order)
        # As an update locks them: who only refers to the rows does not wait. SQLite has one writer at a time anyway.
        if selection.lock:
            shared = selection.lock == "share"
            rows = rows.with_for_update(read=shared, key_share=not shared)
        return self.database.compile(_page(rows, selection), "anew" if source.values else "kept")

    def _by_index(self, selection: Selection, source: Source, columns: list[Any]) -> Select[Any]:
        """The page is found in the index of a path's values, so that no more rows are read than there are on it."""
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
    ) -> Select[Any]:
        """A list reads its page in the order of an index and counts apart. A search has to read all its matches: it
        counts them as it does, and carries no more of each than it sorts by.
        """
        id = self.table.c[self.id]
        counted = select(id.label("hit"), func.count().over().label(TOTAL)).select_from(source.rows)
        hits = _page(counted.where(where).order_by(*order), selection).subquery("hits")
        rows = source.rows.join(hits, id == hits.c.hit)
        return select(*columns, hits.c[TOTAL]).select_from(rows).order_by(*order)

    def _placed(self, field: str, value: Any) -> Any:
        return None if value is None else self.clauses.types[field].restored(value)

    async def _count(self, where: Predicate) -> int:
        def build() -> Statement:
            by_path = any(name in self._paths for name in compared(where))
            return self.database.compile(self._counting(where), "anew" if by_path else "kept")

        form, values = self.clauses.parted(where)
        statement = self.statements.get(("count", form), build, values)
        count: int = (await self._run(statement, values))[0][TOTAL]
        return count

    async def _estimate(self, where: Predicate) -> int | None:
        """SQLite keeps no statistics to estimate from. Those of PostgreSQL are of all tenants: one is told what they
        say of itself as a whole, and would learn about the others from what they say of a condition.
        """
        if not self.clauses.postgresql or not self._is_whole(where):
            return None
        return await estimate(self.database, str(self.table), where, self._expected)

    def _is_whole(self, where: Predicate) -> bool:
        """Whether a predicate holds for all rows of one tenant that are not gone, and says no more."""
        if "tenant" not in self._info:
            return isinstance(self.table, Table)  # What a subquery is made of is not known here.
        tenant, live = self._info["tenant"], self._info.get("live", "")
        said = [part for part in conjunction(where) if part != Compare(live, "$eq", None)]
        return all(part == said[0] and part[:2] == (tenant, "$eq") for part in said)

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """What a table says of itself; a subquery in its place says nothing."""
        return getattr(self.table, "info", {})

    async def _expected(self, where: Predicate) -> int:
        def build() -> Statement:
            return plan_of(self.database.compile(self._counting(where).with_only_columns(literal_column("1"))))

        form, values = self.clauses.parted(where)
        statement = self.statements.get(("expected", form), build, values)
        rows: int = (await self._run(statement, values))[0]
        return rows

    def _counting(self, where: Predicate) -> Select[Any]:
        source = self._paths.alone(where) or self._paths.source(where)
        counted = select(func.count().label(TOTAL)).select_from(source.rows)
        return counted.where(self.clauses.clause(where, source))

    async def _record(self, selection: Selection, id: Id) -> Any:
        if not (selection.json and self._writes_json) or selection.lock:
            return await super()._record(selection, id)
        form, values = self.clauses.parted(selection.where)
        key = ("record", form, selection.fields)
        statement = self.statements.get(key, lambda: self._record_statement(selection), values)
        rows = await self.database.run(statement, values)
        if not rows:
            raise missing(id)
        return rows[0]

    async def _page(self, selection: Selection) -> Any:
        if not (selection.json and self._writes_json) or not self._is_plain(selection):
            return await super()._page(selection)
        query = selection.query
        form, values = self.clauses.parted(selection.where)
        key = ("page", form, selection.fields, query.sort, query.skip > 0, query.total)
        statement = self.statements.get(key, lambda: self._page_statement(selection), values)
        return (await self.database.run(statement, values | {"limit": selection.limit, "skip": query.skip}))[0]

    def _is_plain(self, selection: Selection) -> bool:
        """Whether it is a list that is read in one go: no search, and not in the order of a path."""
        query = selection.query
        return (
            query.rank is None
            and not any(name in self._paths for name, _ in query.sort)
            and not any(compare.operator == "$contains" for compare in leaves(selection.where))
        )

    def _page_statement(self, selection: Selection) -> Statement:
        source = self._paths.source(selection.where)
        rows = select(*self._columns(selection.fields)).select_from(source.rows)
        rows = rows.where(self.clauses.clause(selection.where, source))
        listed = _page(rows.order_by(*self.clauses.order(selection, self.id, {})), selection).subquery("listed")
        total = None if selection.query.total is False else self._total_beside(listed, selection)
        columns, read = written_page(listed.c, total, self.database.dialect)
        plan: Plan = "anew" if source.values else "one" if self._is_of_any_tenant(selection.where) else "kept"
        return self.database.compile(select(*columns).select_from(listed), plan, read=read)

    def _total_beside(self, listed: FromClause, selection: Selection) -> ColumnElement[int]:
        """Nothing is counted where the page has the last row: a database works out the branch that it takes alone."""
        rows, limit, skip = func.count(), *(bindparam(name, type_=BigInteger()) for name in ("limit", "skip"))
        counted = self._counting(selection.where).scalar_subquery()
        has_last = and_(rows < limit, or_(rows > 0, skip == 0)) if selection.query.skip else rows < limit
        return case((has_last, rows + skip), else_=counted)

    def _is_of_any_tenant(self, where: Predicate) -> bool:
        """Whether a list is read in the same way whoever's it is; PostgreSQL would plan it anew each time, at the cost
        of reading it.
        """
        return "tenant" in self._info and self._is_whole(where)

    def _record_statement(self, selection: Selection) -> Statement:
        columns, read = self.output(self.table, selection.fields, json=True)
        return self.database.compile(select(*columns).where(self.clauses.clause(selection.where)), read=read)

    async def _insert(self, rows: list[Row], fields: Fields, params: Params) -> list[Any]:
        return await self._inserts.run(rows, fields, (params.adapter or {}).get("beside"), False)

    async def _insert_json(self, row: Row, fields: Fields, params: Params) -> Any:
        beside = (params.adapter or {}).get("beside")
        return (await self._inserts.run([row], fields, beside, self._writes_json))[0]

    async def _update(self, where: Predicate, values: Row, fields: Fields, whole: bool) -> list[Row]:
        values = self._defaults.of_update(values)
        if not self._set_by_trigger:
            return await self._change(where, values, fields, whole)
        async with self.database.transaction():
            return await self._read_again(await self._change(where, values, (self.id,), whole), fields)

    async def _change(self, where: Predicate, values: Row, fields: Fields, whole: bool) -> list[Row]:
        names = tuple(values)

        def build() -> Statement:
            changes: dict[Any, Any] = {name: null() for name in self._replaceable} if whole else {}
            changes |= {self.table.c[name]: made for name, made in self._made_on_update.items() if name not in names}
            changes |= {self.table.c[name]: self._changed(name, place, whole) for place, name in enumerate(names)}
            statement = update(self.table).where(self.clauses.clause(where)).values(changes)
            return self.database.compile(statement.returning(*self._columns(fields)))

        form, operands = self.clauses.parted(where)
        statement = self.statements.get(("update", form, names, fields, whole), build, operands)
        assigned = {f"new_{place}": value for place, value in enumerate(values.values())}
        return self._by_id(await self._run(statement, operands | assigned, [values], where))

    def _changed(self, name: str, place: int, whole: bool) -> Any:
        value = bindparam(f"new_{place}", type_=self.table.c[name].type)
        if name not in self.merge or whole:
            return value
        return merged(self.table.c[name], value, self.clauses.postgresql)

    async def _delete(self, where: Predicate, fields: Fields) -> list[Row]:
        def build() -> Statement:
            statement = delete(self.table).where(self.clauses.clause(where)).returning(*self._columns(fields))
            return self.database.compile(statement)

        form, operands = self.clauses.parted(where)
        statement = self.statements.get(("delete", form, fields), build, operands)
        return self._by_id(await self._run(statement, operands))

    def _columns(self, fields: Fields, source: FromClause | None = None) -> list[Any]:
        columns = self.table.c if source is None else source.c
        return [columns[name] for name in (self.columns or () if fields is None else fields)]

    def output(self, source: FromClause, fields: Fields, json: bool) -> tuple[list[Any], Reader | None]:
        """Return the columns of a statement and the reader of its rows."""
        columns = self._columns(fields, source)
        return written_row(columns, self.database.dialect) if json else (columns, None)

    @cached_property
    def _writes_json(self) -> bool:
        return self.json and is_writable(self._columns(None), self.database.dialect)

    @property
    def emptied(self) -> Collection[str]:
        return {column.name for column in self._replaceable}

    @cached_property
    def _replaceable(self) -> tuple[Column[Any], ...]:
        """The columns that an update empties: those that can be null, without the id, hidden columns, and columns with
        a default such as the moment of the record's creation.
        """
        kept = {self.id, *self.kept}
        return tuple(c for c in self.table.columns if c.nullable and c.name not in kept and not has_default(c))

    @cached_property
    def _made_on_insert(self) -> Mapping[str, Any]:
        return written_out(self.table, "default", self.database.dialect)

    @cached_property
    def _made_on_update(self) -> Mapping[str, Any]:
        return written_out(self.table, "onupdate", self.database.dialect)

    @cached_property
    def _set_by_trigger(self) -> bool:
        """True if rows have to be read again after a write, as triggers change them."""
        return self.database.dialect.name == "sqlite" and set_by_trigger(self.table)

    async def _read_again(self, written: list[Row], fields: Fields) -> list[Row]:
        """Return the rows with the ids of those that were written, in their order, as triggers have left them."""
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

        Raises BadRequest or Conflict where it breaks a rule of the database. The error names the fields: ``rows`` are
        the values to store, and ``where`` tells further values of the records that change.
        """
        try:
            return await self.database.run(statement, values)
        except Violation as violation:
            parts = (part for part in conjunction(where) if isinstance(part, Compare) and part.operator == "$eq")
            known = {part.field: part.value for part in parts}
            raise await self.database.explain(violation, self.table, [known | row for row in rows]) from None


def _is_unique(table: Table, name: str) -> bool:
    """Return True if no two rows of a tenant have the same value in a column, or the table is a view without a key."""
    keys: list[Any] = [table.primary_key, *(each for each in table.constraints if isinstance(each, UniqueConstraint))]
    whole = (index for index in table.indexes if not any(key.endswith("_where") for key in index.dialect_kwargs))
    keys += [index for index in whole if index.unique]
    own = [{str(column.name) for column in key.columns} - {table.info.get("tenant")} for key in keys]
    return not table.primary_key.columns or {name} in own


def _dialect_of(database: Database | None) -> Dialect | None:
    return None if database is None else database.dialect


def _page(statement: Select[Any], selection: Selection) -> Select[Any]:
    if selection.limit is not None:
        statement = statement.limit(bindparam("limit", type_=BigInteger()))
    return statement.offset(bindparam("skip", type_=BigInteger())) if selection.query.skip else statement
