"""The inserts of a service. One statement stores any number of rows, and one row together with its companion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

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
from apex.sql.statements import Statement
from apex.sql.types.registry import ColumnType
from apex.types import Row

if TYPE_CHECKING:
    from apex.sql.service import SQLService

Names = tuple[str, ...]


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
        if len(rows) == 1:
            return await self._insert_one(rows[0], fields, companion, json)
        if not self.service._defaults.ids_ascend and not all(self.service.id in row for row in rows):
            # Only the id would show which stored row belongs to which given row.
            async with self.database.transaction():
                return [(await self._insert_one(row, fields, None, False))[0] for row in rows]
        groups: dict[Names, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(tuple(name for name in self.service._defaults.filled if name in row), []).append(place)
        if len(groups) == 1:
            return await self._insert_alike(rows, fields)
        stored: dict[int, Row] = {}
        async with self.database.transaction():
            for places in groups.values():
                alike = await self._insert_alike([rows[place] for place in places], fields)
                stored.update(zip(places, alike, strict=True))
        return [stored[place] for place in range(len(rows))]

    async def _insert_one(self, row: Row, fields: Names | None, companion: Companion | None, json: bool) -> list[Row]:
        """Store one row, whose values are the parameters of the statement."""
        names = tuple(name for name in self.service.columns or () if name in row)
        values = {f"new_{place}": row[name] for place, name in enumerate(names)}
        if companion is None:
            statement = self.service.statements.get(
                ("insert one", names, fields, json), lambda: self._one(names, fields, json)
            )
            return await self.service._run(statement, values, [row])
        entry = companion.service._defaults.of_insert(companion.row(self._as_read(row)))
        others = tuple(entry)
        statement = self.service.statements.get(
            (
                "insert with companion",
                names,
                fields,
                json,
                others,
                companion.service.table,
                companion.id,
                companion.whole,
            ),
            lambda: self._one_with_companion(names, fields, json, companion, others),
        )
        return await self.service._run(
            statement, values | {f"companion_{place}": entry[name] for place, name in enumerate(others)}, [row]
        )

    def _one(self, names: Names, fields: Names | None, json: bool) -> Statement:
        columns, read = self.service.output(self.table, fields, json)
        statement = insert(self.table).values(self._bound(names)).returning(*columns)
        return self.database.compile(statement, read=read)

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

    async def run_with_entry(self, row: Row, fields: Names | None, entry: EntryOfRow) -> RawJSON:
        """Store one row together with an entry, and return the row as JSON."""
        row = self.service._defaults.of_insert(row)
        names = tuple(name for name in self.service.columns or () if name in row)
        values = {f"new_{place}": row[name] for place, name in enumerate(names)}
        key = ("insert", names, fields)
        stored: RawJSON = await self.service._row_entries.insert(
            lambda: insert(self.table).values(self._bound(names)), key, values, row, fields, entry
        )
        return stored

    def _bound(self, names: Names) -> dict[str, Any]:
        """Return the values of the columns that a row names. SQLAlchemy adds the SQL defaults of the others."""
        types = self.table.c
        bound: dict[str, Any] = {n: bindparam(f"new_{place}", type_=types[n].type) for place, n in enumerate(names)}
        return {name: made for name, made in self.service._made_on_insert.items() if name not in names} | bound

    async def _insert_alike(self, rows: list[Row], fields: Names | None) -> list[Row]:
        """Store rows that leave the same columns to the database. In the other columns a missing value is null."""
        service = self.service
        names = tuple(name for name in service.columns or () if any(name in row for row in rows))
        if not names:
            async with self.database.transaction():
                return [(await self._insert_one({}, fields, None, False))[0] for _ in rows]
        statement = service.statements.get(("insert", names, fields), lambda: self._many(names, fields))
        text = encode([self._jsonable(row) for row in rows]).decode()
        stored = await service._run(statement, {"rows": text}, rows)
        given = {row[service.id]: place for place, row in enumerate(rows) if service.id in row}
        if len(given) == len(rows):
            return sorted(stored, key=lambda row: given[row[service.id]])
        return sorted(stored, key=lambda row: row[service.id])

    def _many(self, names: Names, fields: Names | None) -> Statement:
        """Return the statement for any number of rows, which are one JSON parameter. Ids are made in their order."""
        made = {name: made for name, made in self.service._made_on_insert.items() if name not in names}
        each = self._each(names).add_columns(*made.values())
        statement = insert(self.table).from_select([*names, *made], each)
        return self.database.compile(statement.returning(*self.service.output(self.table, fields, False)[0]))

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
