"""The statements that change a row and store an entry about it in another table, such as a log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sized
from typing import TYPE_CHECKING, Any

from sqlalchemy import FromClause, Text, bindparam, cast, func, insert, literal, literal_column, select, true

from apex.adapters.companion import EntryOfRow, EntryShape
from apex.sql.database import Database
from apex.sql.statements import Statement
from apex.sql.types.registry import column_type
from apex.types import Row

if TYPE_CHECKING:
    from apex.query.language import Predicate
    from apex.sql.service import SQLService

ENTRY_ID = "entry_id_"

Names = tuple[str, ...] | None
Write = Callable[[], Any]
"""A function that returns an insert, an update or a delete of SQLAlchemy."""


class RowEntries:
    """The changes of a service's rows that store an entry as well. One that changes no row stores no entry.

    On PostgreSQL one statement does both, and makes the JSON of the row once. On SQLite two statements are one
    transaction.
    """

    def __init__(self, service: SQLService) -> None:
        self.service: SQLService = service
        self.database: Database = service.database
        self.postgresql: bool = self.database.dialect.name == "postgresql"

    async def insert(self, write: Write, key: Hashable, values: Row, row: Row, fields: Names, entry: EntryOfRow) -> Any:
        """Store a row, and return it as JSON."""
        if self.postgresql:
            statement, given = self._in_one(write, key, fields, True, entry, ())
            [(stored, entry.id)] = await self.service._run(statement, {**values, **given}, [row])
            return stored
        first = self._changing(write, key, fields, True, ())
        pair = [(first, values), self._second(key, fields, entry, _last_inserted, ())]
        [[stored], [entry.id]] = await self.service._run_together(pair, [row])
        return stored

    async def update(
        self, write: Write, key: Hashable, operands: Row, assigned: Row, row: Row, fields: Names, entry: EntryOfRow,
        where: Predicate,
    ) -> list[Row]:  # fmt: skip
        """Change a row, and return it in a list, which is empty if there is none."""
        values = {**operands, **assigned}
        if self.postgresql:
            statement, given = self._in_one(write, key, fields, False, entry, operands)
            return self._without_entry_id(await self.service._run(statement, {**values, **given}, [row], where), entry)
        statement, given = self._second(key, fields, entry, self._changed, operands)
        second = statement, {**given, "changed_id": self.service.typed_id(entry.of)}
        pair = [(self._changing(write, key, fields, False, operands), values), second]
        rows, ids = await self.service._run_together(pair, [row])
        entry.id = ids[0] if ids else None
        return rows

    async def delete(
        self, write: Write, key: Hashable, operands: Row, fields: Names, entry: EntryOfRow, where: Callable[[], Any]
    ) -> list[Row]:
        """Delete a row, and return it in a list, which is empty if there is none."""
        if self.postgresql:
            statement, given = self._in_one(write, key, fields, False, entry, operands)
            return self._without_entry_id(await self.service._run(statement, {**operands, **given}), entry)
        statement, given = self._second(key, fields, entry, lambda: [where()], operands)
        second = self._changing(write, key, fields, False, operands), operands
        pair = [(statement, {**operands, **given}), second]
        ids, rows = await self.service._run_together(pair, [])
        entry.id = ids[0] if ids else None
        return rows

    def _changed(self) -> list[Any]:
        """Return the conditions for the row that the statement before has changed, on SQLite."""
        id = self.service.table.c[self.service.id]
        return [id == bindparam("changed_id", type_=id.type), func.changes() > 0]

    def _without_entry_id(self, rows: list[Row], entry: EntryOfRow) -> list[Row]:
        """Move the id of the entry from the row to the entry."""
        for row in rows:
            entry.id = row.pop(ENTRY_ID)
        return rows

    def _in_one(
        self, write: Write, key: Hashable, fields: Names, json: bool, entry: EntryOfRow, operands: Sized
    ) -> tuple[Statement, Row]:
        """Return the statement that changes a row and stores its entry on PostgreSQL, and the values of the entry."""
        shape = entry.shape
        statement = self.service.statements.get(
            (key, "with entry", json, shape), lambda: self._with_entry(write(), fields, json, shape), operands
        )
        return statement, _values(entry)

    def _with_entry(self, write: Any, fields: Names, json: bool, shape: EntryShape) -> Statement:
        """Return the statement of ``_in_one``. It returns the row, as JSON if that is asked for, with ``ENTRY_ID``."""
        service = self.service
        stored = write.returning(*service._columns(None)).cte("stored")
        output, read = service.output(stored, fields, True)
        copied = dict.fromkeys((service.id, *shape.copied.values()))
        made = select(*output, *(stored.c[name].label(f"row_{name}") for name in copied)).cte("made")
        source = {name: made.c[f"row_{name}"] for name in copied}
        entry = self._entry(shape, source, cast(made.c.json, shape.table.c[shape.row].type), made).cte("entry")
        id = next(iter(entry.c)).label(ENTRY_ID)
        if not json:
            rows = select(*service._columns(fields, stored), id).select_from(stored.join(entry, true()))
            return self.database.compile(rows, writes=True)
        assert read is not None
        rows = select(*(made.c[one.name] for one in output), id).select_from(made.join(entry, true()))
        return self.database.compile(rows, writes=True, read=lambda row: (read(row[:-1]), row[-1]))

    def _changing(self, write: Write, key: Hashable, fields: Names, json: bool, operands: Sized) -> Statement:
        """Return the statement that changes a row on SQLite."""

        def build() -> Statement:
            columns, read = self.service.output(self.service.table, fields, json)
            return self.database.compile(write().returning(*columns), read=read)

        return self.service.statements.get((key, "without entry", json), build, operands)

    def _second(
        self, key: Hashable, fields: Names, entry: EntryOfRow, where: Callable[[], list[Any]], operands: Sized
    ) -> tuple[Statement, Row]:
        """Return the statement that stores the entry of a row on SQLite, and its values."""
        service, shape = self.service, entry.shape

        def build() -> Statement:
            json = service.output(service.table, fields, True)[0][0]
            source = {name: service.table.c[name] for name in (service.id, *shape.copied.values())}
            made = self._entry(shape, source, json, service.table, *where())
            return self.database.compile(made, read=lambda row: row[0])

        return service.statements.get((key, "entry", shape), build, operands), _values(entry)

    def _entry(self, shape: EntryShape, source: Mapping[str, Any], json: Any, rows: FromClause, *where: Any) -> Any:
        """Return the insert of an entry, which returns its id. ``source`` has the fields of the row."""
        types, dialect = shape.table.c, self.database.dialect
        quoted: Any = Text().literal_processor(dialect)  # type: ignore[no-untyped-call]
        entry: dict[str, Any] = {name: literal_column(quoted(text), Text()) for name, text in shape.constants.items()}
        for name in shape.given:
            entry[name] = bindparam(f"entry_{name}", type_=Text() if name == shape.json else types[name].type)
        if self.postgresql:
            entry[shape.json] = cast(entry[shape.json], types[shape.json].type)
        for name, field in shape.copied.items():
            entry[name] = source[field]
        now = func.now() if self.postgresql else literal("now")  # CURRENT_TIMESTAMP of SQLite has no milliseconds.
        entry[shape.moment] = column_type(types[shape.moment].type, dialect).written(now)
        entry[shape.row_id] = cast(source[self.service.id], types[shape.row_id].type)
        entry[shape.row] = json
        values = select(*entry.values()).select_from(rows).where(*where)
        return insert(shape.table).from_select(list(entry), values).returning(*shape.table.primary_key)


def _last_inserted() -> list[Any]:
    return [literal_column("_rowid_") == func.last_insert_rowid()]


def _values(entry: EntryOfRow) -> Row:
    """Return the values of an entry by the names of their parameters."""
    return {f"entry_{name}": value for name, value in entry.values.items()}
