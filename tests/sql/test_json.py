"""JSON that the database writes: the same bytes as from the encoder, and the same values when it is read back."""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON as SqlJson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Enum,
    Executable,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    Select,
    String,
    Table,
    Text,
    Time,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)  # fmt: skip
from sqlalchemy.types import TypeEngine

from apex.app import Apex
from apex.encoding import decode, encode
from apex.sql import Database, Fixed, Json, SQLService, Timestamp, database
from apex.sql.json import MOST_COLUMNS, Unwritable, json_reader, page_json, row_json, row_reader, rows_json
from apex.sql.statements import DIALECTS
from apex.types import Row
from services.accounts.audit import audit
from services.tables import metadata
from tests.services.crm import running as running_crm

PAGE = {"limit": 25, "skip": 50}


class Colour(enum.Enum):
    RED = "r'{0}%"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(500)),
    Column("Größe %d {0} 'y' :z", Text),
    Column("small", Integer),
    Column("big", BigInteger),
    Column("yes", Boolean),
    Column("moment", Timestamp),
    Column("day", Date),
    Column("key", Uuid),
    Column("money", Fixed(2)),
    Column("share", Fixed(4, trimmed=True)),
    Column("price", Fixed(2, as_float=True)),
    Column("whole", Fixed(0)),
    Column("whole_share", Fixed(0, trimmed=True)),
    Column("whole_price", Fixed(0, as_float=True)),
    Column("tiny", Fixed(5, as_float=True)),
    Column("number", Float),
    Column("double", Double),
    Column("extra", Json),
    Column("naive", DateTime),
    Column("zoned", DateTime(timezone=True)),
    Column("clock", Time),
    Column("text_key", Uuid(as_uuid=False)),
    Column("level", Enum("low", "it's %s {0}", "high", name="level")),
    Column("colour", Enum(Colour)),
    Column("code", Enum(Colour, native_enum=False, length=9)),
    Column("tiny_exact", Fixed(9)),
    Column("twice", Integer, Computed("small / 2", persisted=True)),
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
ODDITIES = st.sampled_from(["0", "-0.004", "100", "1e-9", "10.10"])
DECIMAL = st.decimals(-(10**13) + 1, 10**13 - 1, places=5).map(str) | ODDITIES
LONG = st.decimals(-(10**16) + 1, 10**16 - 1, places=2).map(str)
INTEGER = st.integers(-(1 << 31), (1 << 31) - 1)
LONG_INTEGER = st.integers(-(1 << 63), (1 << 63) - 1)
JSON = st.recursive(
    st.none() | st.booleans() | LONG_INTEGER | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MOMENT = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda moment: moment.replace(tzinfo=UTC))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": TEXT,
    "Größe %d {0} 'y' :z": TEXT,
    "small": INTEGER,
    "big": LONG_INTEGER,
    "yes": st.booleans(),
    "moment": MOMENT,
    "day": st.dates(),
    "key": st.uuids(),
    "money": DECIMAL | LONG,
    "share": DECIMAL,
    "price": DECIMAL | LONG,
    "whole": DECIMAL | LONG,
    "whole_share": DECIMAL | LONG,
    "whole_price": DECIMAL | LONG,
    "tiny": DECIMAL,
    "number": NUMBER,
    "double": NUMBER | st.integers(-(1 << 60), 1 << 60) | st.floats(1e-6, 1e17),
    "extra": JSON | st.just({}),
    "naive": MOMENT,
    "zoned": MOMENT,
    "clock": st.times(),
    "text_key": st.uuids(),
    "level": st.sampled_from(["low", "it's %s {0}", "high"]),
    "colour": st.sampled_from(Colour),
    "code": st.sampled_from(["r'{0}%", "green"]),
    "tiny_exact": st.decimals(-(10**8), 10**8, places=9).map(str),
}
THING = st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in VALUES.items()})


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Apex]:
    app = Apex().configure(database(url))
    app.use("things", SQLService(THINGS, multi=True))
    await app.setup()
    try:
        await app.get("database").create_all(METADATA)
        yield app
    finally:
        await app.teardown()


async def write(opened: Database, statement: Executable, load: Any = None) -> list[bytes]:
    """Return the JSON that the database writes, row by row."""
    rows = await opened.execute(statement, PAGE if isinstance(statement, Select) else None)
    return [json_reader(load)((row["json"], row.get("plain", True))).text for row in rows]


async def assert_same(opened: Database, query: Select[Any]) -> list[Row]:
    """The rows of an ordered query, as they are read and as the database writes them, in all forms."""
    rows, dialect = await opened.execute(query, PAGE), opened.dialect
    columns, hits = list(query.selected_columns), query.subquery("hits")
    row, listed = row_json(columns, dialect), rows_json(hits.c, dialect)
    load = row_reader(columns, dialect)

    def load_page(page: Any) -> Any:
        return {**page, "data": list(map(load, page["data"]))}

    texts = await write(opened, query.with_only_columns(*row.columns, maintain_column_froms=True), load)
    assert texts == [encode(row) for row in rows]
    assert await write(opened, select(*listed.columns), lambda read: list(map(load, read))) == [encode(rows)]
    total = select(func.count()).select_from(query.subquery()).scalar_subquery()
    page = {"total": len(rows), **PAGE, "data": rows}
    assert await write(opened, select(*page_json(hits.c, total, dialect).columns), load_page) == [encode(page)]
    read = [load(decode(text)) for text in texts]
    assert read == rows
    assert [[type(value) for value in row.values()] for row in read] == [
        [type(value) for value in row.values()] for row in rows
    ]
    return rows


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(THING, max_size=4), min_size=1, max_size=10))
def test_the_database_writes_what_the_encoder_writes(empty_url: str, lists: list[list[Row]]) -> None:
    async def compare() -> None:
        async with running(empty_url) as app:
            for rows in lists:
                await app.get("database").execute(delete(THINGS))
                await app.service("things").create(rows)
                read = await assert_same(app.get("database"), select(*THINGS.c).order_by(THINGS.c.id.desc()))
                assert len(read) == len(rows)

    asyncio.run(compare())


@pytest.fixture
async def app(empty_url: str) -> AsyncIterator[Apex]:
    async with running(empty_url) as app:
        yield app


@pytest.fixture
def opened(app: Apex) -> Database:
    found: Database = app.get("database")
    return found


async def written(app: Apex, name: str, values: list[Any]) -> list[tuple[bytes, bool]]:
    """Stores a row for each value, and gives what the database writes of it and whether that is plain."""
    await app.service("things").create([{name: value} for value in values])
    database: Database = app.get("database")
    await assert_same(database, select(THINGS.c[name]).order_by(THINGS.c.id))
    row = row_json([THINGS.c[name].label("v")], database.dialect)
    rows = await database.execute(select(*row.columns).order_by(THINGS.c.id))
    return [(row["json"].encode(), row.get("plain", True)) for row in rows]


async def test_every_character_is_escaped_as_by_the_encoder(app: Apex) -> None:
    points = [*range(1, 0x3100), *range(0xD7F0, 0xD800), *range(0xE000, 0xE010), *range(0xFFF0, 0x10010), 0x10FFFF]
    texts = ["".join(map(chr, points[start : start + 400])) for start in range(0, len(points), 400)]
    assert all(plain for _, plain in await written(app, "name", texts))


@pytest.mark.parametrize("name", ["number", "double", "extra"])
async def test_floats_are_spelled_alike(app: Apex, name: str) -> None:
    written_otherwise = [1e-5, 1.5e-6, 1e15, 123456789012345680.0, 1e16, 1e23, 5e-324, 9007199254740993.0, 2.0**-24]
    numbers = [0.0, 1.0, 0.1 + 0.2, 1e-4, 1e14, math.pi, *written_otherwise]
    await written(app, name, [*numbers, *(-number for number in numbers)])


async def test_ordinary_values_are_plain(app: Apex) -> None:
    assert all(plain for _, plain in await written(app, "extra", [None, {}, [], "short", 7, True, ["VIP"]]))


@pytest.mark.parametrize("name", ["double", "price", "tiny"])
async def test_ordinary_numbers_are_plain(app: Apex, name: str) -> None:
    assert await written(app, name, [None, 12.5, -3, 0, 0.1]) == [
        (b'{"v":null}', True), (b'{"v":12.5}', True), (b'{"v":-3.0}', True), (b'{"v":0.0}', True), (b'{"v":0.1}', True),
    ]  # fmt: skip


async def test_json_that_is_not_plain_is_encoded_again(app: Apex) -> None:
    values = [{"a": 1}, [1, 2], 1.1, 1e300, 1e-7, "a b", "1.5", {"a": {"b": [" : ", ' "," ', 1e22]}}, 1 << 62]
    await written(app, "extra", [*values, *({"": value} for value in values)])


@pytest.mark.parametrize("name", ["price", "double"])
async def test_one_value_that_is_not_plain_is_enough(app: Apex, name: str) -> None:
    assert [plain for _, plain in await written(app, name, [1.5, "9007199254740993.11", 2.5])].count(True) >= 2


async def test_floats_that_have_no_json_are_null(opened: Database) -> None:
    for number in (math.inf, -math.inf, math.nan):
        await opened.execute(insert(THINGS).values(double=number).returning(THINGS.c.id))
    row = row_json([THINGS.c.double], opened.dialect)
    texts = await write(opened, select(*row.columns))
    assert texts == [b'{"double":null}'] * 3


async def test_the_order_of_the_subquery_is_kept(app: Apex, opened: Database) -> None:
    await app.service("things").create([{"small": number * 7919 % 500} for number in range(500)])
    ordered = select(THINGS.c.id, THINGS.c.small).order_by(THINGS.c.small.desc())
    rows = await assert_same(opened, ordered)
    assert [row["small"] for row in rows] == list(range(499, -1, -1))
    limit, skip = (bindparam(name, type_=BigInteger()) for name in PAGE)
    rows = await assert_same(opened, ordered.limit(limit).offset(skip))
    assert [row["small"] for row in rows] == list(range(449, 424, -1))


async def test_no_rows_are_an_empty_list(opened: Database) -> None:
    assert await assert_same(opened, select(*THINGS.c).order_by(THINGS.c.id)) == []


async def test_a_row_can_be_returned_by_what_writes_it(opened: Database) -> None:
    row = row_json(THINGS.c, opened.dialect)
    moment = datetime(2023, 1, 1, tzinfo=UTC)
    first = await write(opened, insert(THINGS).values(name="a", moment=moment).returning(*row.columns))
    changed = await write(opened, update(THINGS).values(extra={"a": 1}).returning(*row.columns))
    last = await write(opened, delete(THINGS).returning(*row.columns))
    loaded = row_reader(THINGS.c, opened.dialect)(decode(last[0]))
    assert (decode(first[0])["moment"], loaded["moment"]) == ("2023-01-01T00:00:00.000Z", moment)
    assert changed == last
    assert b'"extra":{"a":1}' in last[0]


async def test_a_moment_is_in_utc_whatever_the_session_says(postgres_url: str) -> None:
    async with running(postgres_url) as app:
        opened = app.get("database")
        await app.service("things").create({"moment": "2023-07-01T12:00:00.120Z", "day": "2023-07-01"})
        row = row_json([THINGS.c.moment, THINGS.c.day], opened.dialect)
        async with opened.transaction():
            await opened.execute(select(func.set_config("timezone", "Asia/Tokyo", True)))
            await opened.execute(select(func.set_config("datestyle", "German", True)))
            texts = await write(opened, select(*row.columns))
    assert texts == [b'{"moment":"2023-07-01T12:00:00.120Z","day":"2023-07-01"}']


def test_the_values_that_are_loaded_have_their_types() -> None:
    columns = [THINGS.c[name] for name in ("id", "moment", "day", "money", "price")]
    row = {"id": 1, "moment": "2023-01-01T00:00:00.000Z", "day": "2023-01-01", "money": "1.50", "price": 1.5}
    moment, day = datetime(2023, 1, 1, tzinfo=UTC), date(2023, 1, 1)
    loaded = row_reader(columns, DIALECTS["sqlite"])(row)
    assert loaded == {"id": 1, "moment": moment, "day": day, "money": Decimal("1.50"), "price": 1.5}


ODD: dict[str, list[TypeEngine[Any]]] = {
    "postgresql": [Interval(), Float(asdecimal=True), SqlJson(), Enum(Level), PickleType()],
    "sqlite": [Interval(), Float(asdecimal=True), Numeric(), LargeBinary(), Enum(Level), PickleType()],
}


@pytest.mark.parametrize(("dialect", "kind"), [(dialect, kind) for dialect, kinds in ODD.items() for kind in kinds])
def test_columns_that_the_database_cannot_write_are_refused_at_once(dialect: str, kind: TypeEngine[Any]) -> None:
    columns = [Column("id", Integer), Column("odd", kind)]
    for build in (row_json, rows_json, row_reader):
        with pytest.raises(Unwritable, match="'odd'"):
            build(columns, DIALECTS[dialect])


async def test_as_many_columns_as_sqlite_can_take(sqlite_url: str) -> None:
    table = Table("wide", MetaData(), *(Column(f"c{place}", Integer, primary_key=place == 0) for place in range(64)))
    opened = Database(sqlite_url)
    await opened.open()
    await opened.create_all(table.metadata)
    await opened.execute(insert(table).values(c0=1))
    await assert_same(opened, select(*list(table.c)[:MOST_COLUMNS]))
    await opened.close()
    with pytest.raises(Unwritable, match="63 properties"):
        row_json(table.c, opened.dialect)


async def test_all_tables_of_the_crm(migrated_url: str) -> None:
    async with running_crm(migrated_url) as crm:
        opened = crm.app.get("database")
        for table in metadata.sorted_tables:
            if table is audit:
                continue  # The log holds the JSON of events as text, which PostgreSQL would not write as the encoder.
            await assert_same(opened, select(*table.c).order_by(*table.primary_key))
