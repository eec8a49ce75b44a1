"""The statements that change a row and store an entry about it in another table, such as a log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Sized
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Text,
    bindparam,
    cast,
    func,
    insert,
    literal,
    literal_column,
    select,
    true,
)  # fmt: skip

from apex.adapters.companion import EntryOfRow, EntryShape
from apex.encoding import RawJSON, encode
from apex.sql.database import Database
from apex.sql.drivers.executor import Tuples
from apex.sql.statements import Reader, Statement
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

    async def insert(
        self, write: Write, key: Hashable, values: Row, rows: Sequence[Row], fields: Names, entry: EntryOfRow
    ) -> list[tuple[RawJSON, int]]:
        """Store rows, and return each as JSON with the id of its entry. They come in the order of their ids."""
        many = len(rows) > 1
        if self.postgresql:
            statement, given = self._in_one(write, key, fields, True, entry, (), many)
            return await self.service._run(statement, {**values, **given}, rows)
        second, given = self._second(key, fields, entry, _stored_together if many else _stored, ())
        first, after = self._inserting(write, key, fields), partial(_with_places, given, many)
        stored, ids = await self.service._run_together([(first, values), (second, after)], rows)
        stored.sort(key=itemgetter(1))
        return list(zip((row for row, _ in stored), sorted(ids), strict=True))

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
        pair = [(self._changing(write, key, fields, operands), values), second]
        rows, ids = await self.service._run_together(pair, [row])
        entry.ids = ids
        return rows

    async def delete(
        self, write: Write, key: Hashable, operands: Row, fields: Names, entry: EntryOfRow, where: Callable[[], Any]
    ) -> list[Row]:
        """Delete a row, and return it in a list, which is empty if there is none."""
        if self.postgresql:
            statement, given = self._in_one(write, key, fields, False, entry, operands)
            return self._without_entry_id(await self.service._run(statement, {**operands, **given}), entry)
        statement, given = self._second(key, fields, entry, lambda: [where()], operands)
        second = self._changing(write, key, fields, operands), operands
        pair = [(statement, {**operands, **given}), second]
        ids, rows = await self.service._run_together(pair, [])
        entry.ids = ids
        return rows

    def _changed(self) -> list[Any]:
        """Return the conditions for the row that the statement before has changed, on SQLite."""
        id = self.service.table.c[self.service.id]
        return [id == bindparam("changed_id", type_=id.type), func.changes() > 0]

    def _without_entry_id(self, rows: list[Row], entry: EntryOfRow) -> list[Row]:
        """Move the id of the entry from the row to the entry."""
        entry.ids = [row.pop(ENTRY_ID) for row in rows]
        return rows

    def _in_one(
        self, write: Write, key: Hashable, fields: Names, json: bool, entry: EntryOfRow, operands: Sized,
        many: bool = False,
    ) -> tuple[Statement, Row]:  # fmt: skip
        """Return the statement that changes a row and stores its entry on PostgreSQL, and the values of the entry.

        With ``many`` it stores many rows, as JSON.
        """
        shape = entry.shape
        statement = self.service.statements.get(
            (key, "with entry", json, shape), lambda: self._with_entry(write(), fields, json, shape, many), operands
        )
        return statement, _values(entry)

    def _with_entry(self, write: Any, fields: Names, json: bool, shape: EntryShape, many: bool) -> Statement:
        """Return the statement of ``_in_one``. It returns rows, as JSON if that is asked for, with ``ENTRY_ID``."""
        service = self.service
        stored = write.returning(*service._columns(None)).cte("stored")
        output, read = service.output(stored, fields, True)
        copied = dict.fromkeys((service.id, *shape.copied.values()))
        columns = [*output, *(stored.c[name].label(f"row_{name}") for name in copied)]
        if many:
            columns.append(_place(stored.c[service.id]))
        made = select(*columns).cte("made")
        source = {name: made.c[f"row_{name}"] for name in copied}
        json_type = shape.table.c[shape.row].type
        order = made.c.place if many else None
        entry = self._entry(shape, source, cast(made.c.json, json_type), made, order=order).cte("entry")
        id = next(iter(entry.c)).label(ENTRY_ID)
        if not json:
            rows = select(*service._columns(fields, stored), id).select_from(stored.join(entry, true()))
            return self.database.compile(rows, writes=True)
        columns = [made.c[one.name] for one in output]
        rows = select(*columns, id).select_from(made.join(entry, true()))
        if many:  # The ids of the entries ascend as the places of the rows do.
            numbered = select(id, _place(id.element)).subquery("numbered")
            found = made.join(numbered, made.c.place == numbered.c.place)
            rows = select(*columns, numbered.c[ENTRY_ID]).select_from(found).order_by(made.c.place)
        return self.database.compile(rows, writes=True, read=_with_last(read))

    def _inserting(self, write: Write, key: Hashable, fields: Names) -> Statement:
        """Return the statement that stores rows on SQLite. It returns each as JSON with its place in the table."""

        def build() -> Statement:
            columns, read = self.service.output(self.service.table, fields, True)
            return self.database.compile(write().returning(*columns, _PLACE), read=_with_last(read))

        return self.service.statements.get((key, "without entry"), build)

    def _changing(self, write: Write, key: Hashable, fields: Names, operands: Sized) -> Statement:
        """Return the statement that changes a row on SQLite."""

        def build() -> Statement:
            return self.database.compile(write().returning(*self.service._columns(fields)))

        return self.service.statements.get((key, "without entry"), build, operands)

    def _second(
        self, key: Hashable, fields: Names, entry: EntryOfRow, where: Callable[[], list[Any]], operands: Sized
    ) -> tuple[Statement, Row]:
        """Return the statement that stores the entry of a row on SQLite, and its values."""
        service, shape = self.service, entry.shape

        def build() -> Statement:
            json = service.output(service.table, fields, True)[0][0]
            source = {name: service.table.c[name] for name in (service.id, *shape.copied.values())}
            made = self._entry(shape, source, json, service.table, *where(), order=_PLACE)
            return self.database.compile(made, read=lambda row: row[0])

        return service.statements.get((key, "entry", shape), build, operands), _values(entry)

    def _entry(
        self, shape: EntryShape, source: Mapping[str, Any], json: Any, rows: FromClause, *where: Any, order: Any = None
    ) -> Any:
        """Return the insert of an entry for each row, which returns its id. ``source`` has the fields of the row."""
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
        values = select(*entry.values()).select_from(rows).where(*where).order_by(order)
        return insert(shape.table).from_select(list(entry), values).returning(*shape.table.primary_key)


_PLACE: ColumnElement[int] = literal_column("_rowid_", BigInteger())
"""The place of a row in its table on SQLite. Where the database chooses the ids, it is the id."""


def _stored() -> list[Any]:
    return [bindparam("place", type_=BigInteger()) == _PLACE]


def _stored_together() -> list[Any]:
    places = func.json_each(bindparam("places", type_=Text())).table_valued("value")
    return [_PLACE.in_(select(places.c.value))]


def _with_places(values: Row, many: bool, stored: Tuples) -> Row:
    """Return the values of entries for the rows that ``_inserting`` has returned."""
    if many:
        return {**values, "places": encode([row[-1] for row in stored]).decode()}
    return {**values, "place": stored[0][-1]}


def _place(id: Any) -> Any:
    """Return the place of a row in the order of an id, on PostgreSQL."""
    return func.row_number().over(order_by=id).label("place")


def _with_last(read: Reader | None) -> Reader:
    """Return the reader of rows that are read by ``read``, but for their last value."""
    assert read is not None
    return lambda row: (read(row[:-1]), row[-1])


def _values(entry: EntryOfRow) -> Row:
    """Return the values of an entry by the names of their parameters."""
    return {f"entry_{name}": value for name, value in entry.values.items()}
