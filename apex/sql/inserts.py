"""The inserts of a service. One statement stores any number of rows, and one row together with its companion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    FromClause,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    select,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSONB

from apex.adapters.companion import Companion, EntryOfRow
from apex.encoding import RawJSON, encode
from apex.sql.database import Database
from apex.sql.entries import Write
from apex.sql.statements import Statement
from apex.sql.types.registry import ColumnType
from apex.types import Row

if TYPE_CHECKING:
    from apex.sql.service import SQLService

Names = tuple[str, ...]

T = TypeVar("T")


class Inserts:
    """The inserts of a service."""

    def __init__(self, service: SQLService) -> None:
        self.service: SQLService = service
        self.table: Table = service.table
        self.database: Database = service.database
        self.types: dict[str, ColumnType] = service.clauses.types
        self.postgresql: bool = self.database.dialect.name == "postgresql"

    async def run(self, rows: list[Row], fields: Names | None, companion: Companion | None, json: bool) -> list[Row]:
        """Store rows, together with their ``companion`` or not at all. Return them as they are stored, in their order.

        With ``json`` one row is returned as JSON if that is possible.
        """
        rows = [self.service._defaults.of_insert(row) for row in rows]
        if self.service._set_by_trigger:
            return await self._stored_and_read(rows, fields, companion)
        if companion is None:
            return await self._stored(rows, fields, None, json)
        if self.postgresql and len(rows) == 1 and self._only_id_is_missing(rows[0]):
            return await self._stored(rows, fields, companion, json)
        return await self._stored_and_read(rows, fields, companion)

    async def _stored_and_read(self, rows: list[Row], fields: Names | None, companion: Companion | None) -> list[Row]:
        async with self.database.transaction():
            stored = await self._stored(rows, None, None, False)
            if self.service._set_by_trigger:
                stored = await self.service._read_again(stored, None)
            if companion is not None:
                shown = (self.service.id, *self._shown)
                await companion.store([{name: row[name] for name in shown} for row in stored], self.service.id)
        return [row if fields is None else {name: row[name] for name in fields} for row in stored]

    async def _stored(
        self, rows: list[Row], fields: Names | None, companion: Companion | None, json: bool
    ) -> list[Row]:
        if companion is not None:
            return await self._insert_with_companion(rows[0], fields, companion, json)
        if len(rows) == 1:
            return await self._insert(rows, fields, json)
        return await self._grouped(rows, partial(self._insert, fields=fields, json=json))

    async def run_with_entry(self, rows: list[Row], fields: Names | None, entry: EntryOfRow) -> list[RawJSON]:
        """Store rows, each with an entry, together or not at all. Return them as JSON, in their order."""
        rows = [self.service._defaults.of_insert(row) for row in rows]
        store = partial(self._insert_with_entry, fields=fields, entry=entry)
        stored = await (store(rows) if len(rows) == 1 else self._grouped(rows, store))
        entry.ids = [id for _, id in stored]
        return [row for row, _ in stored]

    async def _grouped(self, rows: list[Row], store: Callable[[list[Row]], Awaitable[list[T]]]) -> list[T]:
        """Store many rows with as few calls of ``store`` as possible. Return what it returns, in the order of the rows.

        ``store`` takes one row, or rows of which the database can tell in one statement which is which.
        """
        defaults, id = self.service._defaults, self.service.id
        is_known = defaults.ids_ascend or all(id in row for row in rows)
        groups: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            filled = tuple(name for name in defaults.filled if name in row)
            groups.setdefault(filled if is_known else place, []).append(place)
        if len(groups) == 1 and any(rows):
            return await store(rows)
        stored: dict[int, T] = {}
        async with self.database.transaction():
            for places in groups.values():
                group = [rows[place] for place in places]
                parts = [group] if any(group) else [[row] for row in group]  # JSON cannot have rows without columns.
                stored.update(zip(places, [one for part in parts for one in await store(part)], strict=True))
        return [stored[place] for place in range(len(rows))]

    async def _insert(self, rows: list[Row], fields: Names | None, json: bool) -> list[Row]:
        write, key, values = self._prepared(rows)

        def build() -> Statement:
            columns, read = self.service.output(self.table, fields, json)
            return self.database.compile(write().returning(*columns), read=read)

        statement = self.service.statements.get((key, fields, json), build)
        stored = await self.service._run(statement, values, rows)
        if len(rows) == 1:
            return stored
        id, places = self.service.id, self._given_places(rows)
        return sorted(stored, key=lambda row: places[row[id]] if places else row[id])

    async def _insert_with_entry(
        self, rows: list[Row], fields: Names | None, entry: EntryOfRow
    ) -> list[tuple[RawJSON, int]]:
        write, key, values = self._prepared(rows)
        stored = await self.service._row_entries.insert(write, (key, fields), values, rows, fields, entry)
        if len(rows) == 1 or self.service.id not in rows[0]:
            return stored
        id, places = self.service.id, self._given_places(rows)
        return sorted(stored, key=lambda pair: places[pair[0].value[id]])

    def _prepared(self, rows: list[Row]) -> tuple[Write, tuple[str, Names], Row]:
        """Return a function that makes the insert of rows, its key, and the values of its parameters.

        The values of one row are parameters. Many rows are one JSON parameter, and a missing value is null.
        """
        if len(rows) == 1:
            row = rows[0]
            names = tuple(name for name in self.service.columns or () if name in row)
            values = {f"new_{place}": row[name] for place, name in enumerate(names)}
            return lambda: insert(self.table).values(self._bound(names)), ("insert one", names), values
        given = set().union(*rows)
        names = tuple(name for name in self.service.columns or () if name in given)
        text = encode([self._jsonable(row) for row in rows]).decode()
        return lambda: self._many(names), ("insert", names), {"rows": text}

    def _given_places(self, rows: list[Row]) -> dict[Any, int]:
        """Return the places of rows by their given ids. Ids that the database makes ascend in the order of the rows."""
        return {row[self.service.id]: place for place, row in enumerate(rows) if self.service.id in row}

    async def _insert_with_companion(
        self, row: Row, fields: Names | None, companion: Companion, json: bool
    ) -> list[Row]:
        """Store one row together with its companion."""
        _, (_, names), values = self._prepared([row])
        entry = companion.service._defaults.of_insert(companion.row(self._as_read(row)))
        others = tuple(entry)
        key = ("insert with companion", names, fields, json, others, companion.service.table, companion.id,
               companion.whole)  # fmt: skip
        statement = self.service.statements.get(
            key, lambda: self._one_with_companion(names, fields, json, companion, others)
        )
        given = {f"companion_{place}": entry[name] for place, name in enumerate(others)}
        return await self.service._run(statement, values | given, [row])

    def _one_with_companion(
        self, names: Names, fields: Names | None, json: bool, companion: Companion, others: Names
    ) -> Statement:
        """Return the statement that stores a row and its companion, which gets the id that the database makes."""
        id = self.service.id
        stored = (
            insert(self.table)
            .values(self._bound(names))
            .returning(*self.service.output(self.table, None, False)[0])
            .cte("stored")
        )
        table: Table = companion.service.table
        bound: dict[str, Any] = {
            name: bindparam(f"companion_{place}", type_=table.c[name].type) for place, name in enumerate(others)
        }
        bound[companion.id] = stored.c[id]
        whole: Any = cast(bound[companion.whole], JSONB)
        bound[companion.whole] = whole.op("||")(func.jsonb_build_object(id, stored.c[id]))
        bound |= {name: made for name, made in companion.service._made_on_insert.items() if name not in bound}
        entry = insert(table).from_select(list(bound), select(*bound.values())).cte("companion")
        columns, read = self.service.output(stored, fields, json)
        return self.database.compile(select(*columns).select_from(stored).add_cte(entry), writes=True, read=read)

    def _bound(self, names: Names) -> dict[str, Any]:
        """Return the values of the columns that a row names. SQLAlchemy adds the SQL defaults of the others."""
        types = self.table.c
        bound: dict[str, Any] = {n: bindparam(f"new_{place}", type_=types[n].type) for place, n in enumerate(names)}
        return {name: made for name, made in self.service._made_on_insert.items() if name not in names} | bound

    def _many(self, names: Names) -> Any:
        """Return the insert of any number of rows, which are one JSON parameter. Ids are made in their order."""
        made = {name: made for name, made in self.service._made_on_insert.items() if name not in names}
        return insert(self.table).from_select([*names, *made], self._each(names).add_columns(*made.values()))

    def _each(self, names: Names) -> Select[*tuple[Any, ...]]:
        each: FromClause
        if self.postgresql:
            rows = cast(bindparam("rows", type_=Text()), JSONB)
            each = func.jsonb_array_elements(rows).table_valued("value", with_ordinality="key", name="each")
            each = each.render_derived()
        else:
            each = func.json_each(bindparam("rows", type_=Text())).table_valued("value", "key", name="each")
        values = [self.types[name].extracted(each.c.value, name) for name in names]
        return select(*values).order_by(each.c.key)

    def _only_id_is_missing(self, row: Row) -> bool:
        """Return True if all shown values except the id are known before the row is stored."""
        return self.service.id not in row and all(name in row for name in self._shown_by_database)

    @cached_property
    def _shown_by_database(self) -> Names:
        by_database = {*self.service._defaults.filled, *self.service._defaults.read_only}
        return tuple(name for name in self._shown if name in by_database)

    @cached_property
    def _shown(self) -> Names:
        """The fields of a row that callers may see, without its id."""
        hidden = {*self.service.private, self.service.id}
        return tuple(name for name in self.service.columns or () if name not in hidden)

    def _as_read(self, row: Row) -> Row:
        """Return the shown values of a row as they will be read."""
        changed = {name: as_read(row.get(name)) for name, as_read in self._readings.items()}
        return {name: row.get(name) for name in self._shown} | changed

    @cached_property
    def _readings(self) -> Mapping[str, Callable[[Any], Any]]:
        """The functions that make values as they will be read, for the columns that need one."""
        return {name: self.types[name].as_read for name in self._shown if self.types[name].changes_values}

    def _jsonable(self, row: Row) -> Row:
        dumps = self._dumps
        return {name: dumps[name](value) if name in dumps else value for name, value in row.items()}

    @cached_property
    def _dumps(self) -> Mapping[str, Callable[[Any], Any]]:
        """The functions that make JSON of values, for the columns that need one."""
        return {name: made.dumped for name, made in self.types.items() if made.dumps_otherwise}
