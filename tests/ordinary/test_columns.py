"""Column types: each works in every call on both databases, or is refused when its service is registered.

The matrix is column type, database, and JSON written by the database or by Python; a row of it takes a service through
create, get, patch, filters, orders, null, cursors, ``$select``, many at once, events and OpenAPI.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    Unicode,
    Uuid,
    func,
    insert,
    text,
)  # fmt: skip
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, UserDefinedType

from apex import Apex, Schema, SQLService, database, rest, validate_data, validate_query
from apex.encoding import decode, encode
from apex.openapi import document_of
from apex.openapi.declarations import declarations
from apex.schema.validation import fields
from apex.sql import ColumnType, Fixed, Json, Timestamp
from tests.support.databases import new_database
from tests.support.serving import calling


class Level(enum.Enum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Shouted(TypeDecorator[str]):
    """A type that stores capitals and reads small letters."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if value == "bad":
            raise ValueError("no bad words")
        return value and value.upper()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value and value.lower()


class Tags(TypeDecorator[set[str]]):
    """A type that stores a set as a JSON list."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else sorted(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else set(value)


class Guid(TypeDecorator[UUID]):
    """The recipe of SQLAlchemy's documentation, with another type on each database."""

    impl = CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(postgresql.UUID() if dialect.name == "postgresql" else CHAR(32))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        given = UUID(value) if isinstance(value, str) else value
        return given if given is None or dialect.name == "postgresql" else given.hex

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return UUID(value) if isinstance(value, str) else value


class Trimmed(TypeDecorator[str]):
    """A type that changes values only when they are stored."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value and value.strip()


class Point(UserDefinedType[tuple[int, int]]):
    """A type of another library: a pair of numbers in a text."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "VARCHAR(40)"

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: value and f"{value[0]:03}:{value[1]:03}"

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return lambda value: value and tuple(map(int, value.split(":")))


class Points(ColumnType, types=[Point]):
    shape = {"type": "string", "pattern": "^[0-9]+,[0-9]+$"}

    def coerce(self, value: Any) -> Any:
        try:
            x, y = value.split(",") if isinstance(value, str) else value
            return int(x), int(y)
        except (TypeError, ValueError):
            raise ValueError("must be two numbers such as 1,2") from None

    def read(self, value: Any) -> Any:
        return f"{value[0]},{value[1]}"


@dataclass(frozen=True)
class Case:
    """A column type with JSON values in their order, and values that are refused."""

    kind: Any
    values: tuple[Any, ...]
    wrong: tuple[Any, ...] = (["x"], {"a": 1})
    given: Any = None
    """A value in Python, as a hook gives it, of the first of the values."""
    read: Any = None
    """The first of the values as a hook sees it."""
    stored: Any = None
    """The first of the values as it comes back, where that differs."""
    shape: dict[str, Any] = field(default_factory=dict)
    is_compared: bool = True
    only: str = ""


STRING = {"type": ["string", "null"]}
KEYS = (str(UUID(int=1)), str(UUID(int=2)))
LEVELS = ("low", "medium", "high")


def array(kind: Any, *values: Any, wrong: tuple[Any, ...] = ("x",), **options: Any) -> Case:
    """Return a case for PostgreSQL only, whose values can be selected."""
    return Case(kind, values, wrong, is_compared=False, only="postgresql", **options)


CASES = {
    "smallint": Case(SmallInteger, (-32768, 0, 32767), (32768, 1.5, "x", True), shape={"type": ["integer", "null"]}),
    "integer": Case(Integer, (-(2**31), 7, 2**31 - 1), (2**31, "1.5"), shape={"type": ["integer", "null"]}),
    "bigint": Case(BigInteger, (-(2**63), 7, 2**63 - 1), (2**63,), shape={"type": ["integer", "null"]}),
    "float": Case(Float, (-1.5, 0.1, 1e300), ("nan", "inf", "1e999", True), shape={"type": ["number", "null"]}),
    "double": Case(Double, (-1.5, 0.30000000000000004, 2**70), ("x",), Decimal("-1.5")),
    "real": Case(REAL, (-1.5, 0.5, 2.25), (1e300,)),
    "decimal float": Case(Float(asdecimal=True), ("-1.5", "0.5", "2.25"), ("x",), read=Decimal("-1.5")),
    "numeric": Case(
        Numeric, ("-1.5", "0.1", "123456789012.345"), ("x", "nan", True), Decimal("-1.50"), Decimal("-1.5"),
        shape={"type": ["string", "null"], "format": "decimal"},
    ),
    "numeric(10,2)": Case(Numeric(10, 2), ("-1.50", "0.10", "12345678.99"), ("123456789", "x"), -1.5, Decimal("-1.50")),
    "rounded": Case(Numeric(10, 2), (1.555, "2.50"), stored="1.56"),
    "numeric as float": Case(Numeric(10, 2, asdecimal=False), (-1.5, 0.1, 2.25), ("x",), read=-1.5),
    "fixed": Case(Fixed(2), ("-1.50", "0.10", "1234567890123456.78"), (10**16, "x")),
    "fixed(9)": Case(Fixed(9), ("0.000000001", "1.000000000"), (10**9,)),
    "string": Case(String(5), ("Ab", "a", "null"), ("abcdef", 1), shape=STRING),
    "text": Case(Text, ("", "B", "a%_'\\"), (1,), shape=STRING),
    "unicode": Case(Unicode(5), ("a", "é"), ("abcdef",)),
    "boolean": Case(Boolean, (False, True), ("yes", 2), False, False, shape={"type": ["boolean", "null"]}),
    "date": Case(
        Date, ("2023-01-02", "2024-02-29"), ("2023-02-30", 5), date(2023, 1, 2), date(2023, 1, 2),
        shape={"type": ["string", "null"], "format": "date"},
    ),
    "time": Case(
        Time, ("08:30:00", "08:30:00.500000", "23:59:59"), ("24:01", "08:30Z", 5), time(8, 30), time(8, 30),
        shape={"type": ["string", "null"], "format": "time"},
    ),
    "datetime": Case(
        DateTime, ("2023-01-02T03:04:05.678Z", "2023-01-02T03:04:06.000Z"), ("noon", 5),
        datetime(2023, 1, 2, 3, 4, 5, 678_900, UTC), datetime(2023, 1, 2, 3, 4, 5, 678_000),
        shape={"type": ["string", "null"], "format": "date-time"},
    ),
    "datetime with zone": Case(
        DateTime(timezone=True), ("2023-01-02T03:04:05.678Z", "2023-01-02T03:04:06.000Z"), ("noon",),
        "2023-01-02T05:04:05.678+02:00", datetime(2023, 1, 2, 3, 4, 5, 678_000, UTC),
    ),
    "timestamp": Case(
        Timestamp, ("2023-01-02T03:04:05.678Z", "2023-01-02T03:04:06.000Z"), ("noon",),
        datetime(2023, 1, 2, 3, 4, 5, 678_900), datetime(2023, 1, 2, 3, 4, 5, 678_000, UTC),
    ),
    "interval": Case(
        Interval, (-1.5, 0.0, 90061.000001), ("PT1H", 1e12, "nan"), timedelta(seconds=-1.5), timedelta(seconds=-1.5),
        shape={"type": ["number", "null"]},
    ),
    "pg interval": Case(postgresql.INTERVAL, (-1.5, 0.0, 5.0), only="postgresql"),
    "uuid": Case(
        Uuid, (str(UUID(int=1)), str(UUID(int=2**127))), ("x", 5), UUID(int=1), UUID(int=1),
        shape={"type": ["string", "null"], "format": "uuid"},
    ),
    "uuid as text": Case(Uuid(as_uuid=False), KEYS, ("x",), UUID(int=1), KEYS[0]),
    "uuid in characters": Case(Uuid(native_uuid=False), KEYS, ("x",), read=UUID(int=1)),
    "pg uuid": Case(postgresql.UUID(), KEYS, ("x",), only="postgresql"),
    "binary": Case(
        LargeBinary, ("", "AAH/", "YWI="), ("?", 5), b"", b"",
        shape={"type": ["string", "null"], "contentEncoding": "base64"},
    ),
    "bounded binary": Case(LargeBinary(2), ("AAE=", "YWI="), ("AAECAw==",), bytearray(b"\0\1")),
    "enum of texts": Case(
        Enum("low", "medium", "high", name="levels"), LEVELS, ("LOW", "other", 1), "low", "low",
        shape={"type": ["string", "null"], "enum": ["low", "medium", "high", None]},
    ),
    "enum": Case(
        Enum(Level), LEVELS, ("LOW", "other", "", 1)[:2], Level.LOW, Level.LOW,
        shape={"type": ["string", "null"], "enum": ["low", "medium", "high", None]},
    ),
    "enum by values": Case(
        Enum(Level, values_callable=lambda kind: [member.value for member in kind], name="by_values"),
        LEVELS, ("LOW",), Level.LOW, Level.LOW,
    ),
    "enum in characters": Case(Enum(Level, native_enum=False), LEVELS, ("LOW",), Level.LOW, Level.LOW),
    "enum of numbers": Case(
        Enum(Size), (1, 2), (3, "SMALL", True), Size.SMALL, Size.SMALL,
        shape={"type": ["integer", "null"], "enum": [1, 2, None]},
    ),
    "json": Case(JSON, ({"a": [1, 1.5, None]}, [], "x", 5), (2**70,), is_compared=False),
    "apex json": Case(Json, ({"a": [1, 1.5, None]}, [], "x", 5), (2**70,), is_compared=False),
    "jsonb": Case(postgresql.JSONB, ({"a": 1}, []), (2**70,), is_compared=False, only="postgresql"),
    "array": array(
        ARRAY(Integer), [1, None, 3], [], wrong=([1, "x"], 5), given=(1, None, 3), read=[1, None, 3],
        shape={"type": ["array", "null"], "items": {"type": ["integer", "null"]}},
    ),
    "array of texts": array(postgresql.ARRAY(Text), ['a "b", {c}\\', "NULL", ""]),
    "array of numerics": array(ARRAY(Numeric(10, 2)), ["1.50", None]),
    "array of moments": array(ARRAY(DateTime(timezone=True)), ["2023-01-02T03:04:05.678Z"]),
    "array of enums": array(ARRAY(Enum(Level, name="in_array")), ["low", "high"], wrong=(["LOW"],)),
    "array of bytes": array(ARRAY(LargeBinary), ["AAH/", ""]),
    "array of arrays": array(ARRAY(Integer, dimensions=2), [[1, 2], [3, 4]], wrong=([[1], [2, 3]], [1])),
    "array or json": Case(ARRAY(Text).with_variant(JSON(), "sqlite"), (["a", "b"], []), ("x",), is_compared=False),
    "decorated": Case(Shouted, ("abc", "def"), ("bad", 5, "x" * 21), read="abc"),
    "decorated json": Case(Tags, (["a", "b"], []), (5,), {"b", "a"}, {"a", "b"}, is_compared=False),
    "guid": Case(Guid, KEYS, ("x",), UUID(int=1), UUID(int=1)),
    "bound by a decorator": Case(Trimmed, ("a", "b"), (5,), "  a "),
    "of somebody else": Case(Point, ("1,2", "3,4"), ("x", 5), (1, 2), "1,2"),
}  # fmt: skip


@dataclass
class Running:
    """A service over a table with one column of a type, and a client of its REST interface."""

    app: Apex
    http: AsyncClient
    path: str
    seen: list[Any] = field(default_factory=list)

    async def sent(self, method: str, path: str = "", status: int = 0, **options: Any) -> Any:
        answer = await self.http.request(method, f"/{self.path}{path}", **options)
        assert answer.status_code == (status or {"POST": 201}.get(method, 200)), answer.text
        return answer.json()

    async def find(self, **query: Any) -> list[Any]:
        """Return the values that a query finds. It is in the body, because a URL has no null."""
        page = await self.sent("GET", json={"query": {"$limit": 50, **query}})
        return [row["value"] for row in page["data"]]


@asynccontextmanager
async def running_all(url: str, columns: dict[str, Column[Any]], **options: Any) -> AsyncIterator[dict[str, Running]]:
    """Run a service for each column, all named value, by the names of the cases."""
    app, metadata = Apex().configure(database(url)).configure(rest), MetaData()
    page = {"default": 50, "max": 50}
    async with calling(app) as http:
        services: dict[str, Running] = {}
        for place, (name, column) in enumerate(columns.items()):
            table = Table(f"things{place}", metadata, Column("id", Integer, primary_key=True), column)
            things = services[name] = Running(app, http, table.name)
            service = SQLService(table, multi=True, paginate=page, operators=["$like"], **options)
            app.use(table.name, service, hooks={"before": {"all": [validate_query]}})
            app.service(table.name).on("created", lambda record, context, seen=things.seen: seen.append(record))
        await app.setup()
        await app.get("database").create_all(metadata)
        yield services
    await app.teardown()


@asynccontextmanager
async def running(url: str, column: Column[Any], **options: Any) -> AsyncIterator[Running]:
    async with running_all(url, {"one": column}, **options) as services:
        yield services["one"]


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[(name, fast) for name in ("sqlite", "postgresql") for fast in (True, False)],
    ids=lambda param: f"{param[0]}, {'json of the database' if param[1] else 'rows'}",
)
async def matrix(
    request: pytest.FixtureRequest, postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Running]]:
    """Run the services of all cases of a database, by the names of the cases."""
    name, fast = request.param
    columns = {key: Column("value", case.kind) for key, case in CASES.items() if case.only in ("", name)}
    if name == "sqlite":
        async with running_all(f"sqlite:///{tmp_path_factory.mktemp('matrix')}/test.db", columns, json=fast) as made:
            yield made
    else:
        with new_database(postgres_server) as url:
            async with running_all(url, columns, json=fast) as made:
                yield made


@pytest.mark.parametrize("name", CASES)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_type_works_in_every_call(matrix: dict[str, Running], name: str) -> None:
    case = CASES[name]
    if name in matrix:
        things = matrix[name]
        first, *others = case.values
        stored = case.stored or first
        created = await things.sent("POST", json={"value": first})
        assert created == {"id": 1, "value": stored} == await things.sent("GET", "/1")
        seen = things.seen[0]["value"]
        assert decode(encode(seen)) == stored
        assert case.read is None or (seen, type(seen)) == (case.read, type(case.read))
        inside = await things.app.service(things.path).get(1)
        assert (inside["value"], type(inside["value"])) == (seen, type(seen))
        given = first if case.given is None else case.given
        assert (await things.app.service(things.path).create({"value": given}))["value"] == inside["value"]
        await things.sent("DELETE", "/2")
        many = [{"value": value} for value in (*others, None, given if case.given is None else first)]
        rows = await things.sent("POST", json=many)
        assert [row["value"] for row in rows] == [*others, None, stored]
        assert (await things.sent("PATCH", "/1", json={"value": None}))["value"] is None
        assert (await things.sent("PATCH", "/1", json={"value": first}))["value"] == stored
        assert (await things.sent("PUT", "/1", json={"value": first}))["value"] == stored
        assert await things.sent("GET", "/1?$select=value") == {"id": 1, "value": stored}
        for wrong in case.wrong:
            error = await things.sent("POST", json={"value": wrong}, status=400)
            assert list(error["errors"]) == ["value"], error
        await is_compared(things, case, stored)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_documents_describe_every_type(matrix: dict[str, Running]) -> None:
    app = next(iter(matrix.values())).app
    schemas = document_of(app)["components"]["schemas"]
    for name, things in matrix.items():
        shape = schemas[things.path.capitalize()]["properties"]["value"]
        assert shape == (CASES[name].shape or shape)
    assert declarations(app).count("value: ") >= len(matrix)


async def is_compared(things: Running, case: Case, stored: Any) -> None:
    """Check filters, orders and cursors over the values, with the first one twice, and null."""
    first, *others = case.values
    if not case.is_compared:
        queries: list[Any] = [{"value": "x"}, {"$sort": {"value": 1}}, {"value": {"$in": ["x"]}}]
        for query in queries:
            error = await things.sent("GET", json={"query": query}, status=400)
            assert "cannot be asked for or sorted by" in error["message"]
        return
    ordered = [stored, stored, *others]
    assert await things.find(**{"value": first}) == [stored, stored]
    assert await things.find(**{"value": None}) == [None]
    assert await things.find(**{"value": {"$ne": first}}) == others
    assert await things.find(value={"$in": [first, *others]}, **{"$sort": {"value": 1, "id": 1}}) == ordered
    assert await things.find(value={"$in": [first, None]}, **{"$sort": {"id": -1}}) == [stored, None, stored]
    assert await things.find(value={"$nin": [first]}) == others
    assert await things.find(**{"$sort": {"value": 1}}) == [None, *ordered]
    assert await things.find(**{"$sort": {"value": -1}}) == [*ordered[::-1], None]
    for place, value in enumerate(case.values):
        assert await things.find(value={"$gt": value}, **{"$sort": {"value": 1}}) == others[place:]
        assert await things.find(value={"$lte": value}, **{"$sort": {"value": 1}}) == ordered[: place + 2]
    walked, query = [], {"$sort[value]": 1, "$limit": 1, "$after": ""}
    while query["$after"] is not None:
        page = await things.sent("GET", params=query)
        walked += [row["value"] for row in page["data"]]
        query = {**query, "$after": page["next"]}
    assert walked == [None, *ordered]
    for wrong in case.wrong:
        for asked in ({"value": {"$in": [wrong]}}, {"value": {"$gt": wrong}}):
            error = await things.sent("GET", json={"query": asked}, status=400)
            assert list(error["errors"]) == ["value"], error
    last = case.values[-1]
    page = await things.sent("GET", params={"value": str(last).lower() if isinstance(last, bool) else str(last)})
    assert [row["value"] for row in page["data"]] == [last]
    if not isinstance(stored, str) or case.shape != STRING:
        return
    assert stored in await things.find(value={"$like": f"{stored[:1]}%"})


class Odd(enum.Enum):
    PAIR = (1, 2)


class Unknown(UserDefinedType[Any]):
    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "geometry"


class Lowered(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return func.lower(bindvalue)


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown": (Unknown(), "is not known: register it with a subclass of apex.sql.ColumnType"),
    "pickled": (PickleType(), "pickled objects"),
    "inet": (postgresql.INET(), "is not known"),
    "time with zone": (Time(timezone=True), "has a time zone"),
    "array of json": (ARRAY(JSON), "is an array of JSON"),
    "sql of its own": (Lowered(), "has SQL around its values"),
    "enum of objects": (Enum(Odd), "neither texts nor numbers"),
}


async def test_a_decorator_may_have_a_default(empty_url: str) -> None:
    async with running(empty_url, Column("value", Guid, default=lambda: UUID(int=5))) as things:
        assert (await things.sent("POST", json={}))["value"] == str(UUID(int=5))


async def test_a_time_that_the_database_fills_in_is_found(empty_url: str) -> None:
    async with running(empty_url, Column("value", Time, server_default=func.current_time())) as things:
        filled = (await things.sent("POST", json={}))["value"]
        assert await things.find(value=filled) == await things.find(value={"$in": [filled]}) == [filled]


@pytest.mark.parametrize("name", REFUSED)
def test_a_type_that_cannot_be_served_is_refused_when_it_is_registered(sqlite_url: str, name: str) -> None:
    kind, reason = REFUSED[name]
    table = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("value", kind))
    app = Apex().configure(database(sqlite_url))
    with pytest.raises(TypeError, match=rf"Column 'things.value': the type \w+\(.*\) .*{reason}"):
        app.use("things", SQLService(table))
    assert "things" not in app.services


@pytest.mark.parametrize("kind", [ARRAY(Text), postgresql.INTERVAL(), postgresql.UUID()])
def test_a_type_of_postgresql_is_refused_on_sqlite(sqlite_url: str, postgres_url: str, kind: Any) -> None:
    table = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("value", kind))
    Apex().configure(database(postgres_url)).use("things", SQLService(table))
    with pytest.raises(TypeError, match=r"Column 'things.value': the type \w+\(.*\) is of PostgreSQL alone"):
        Apex().configure(database(sqlite_url)).use("things", SQLService(table))


def test_an_enum_needs_a_name_on_postgresql(postgres_url: str) -> None:
    table = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("value", Enum("a", "b")))
    with pytest.raises(TypeError, match="needs a name on PostgreSQL"):
        Apex().configure(database(postgres_url)).use("things", SQLService(table))


async def test_values_that_other_programs_have_stored_can_be_read(empty_url: str) -> None:
    async with running(empty_url, Column("value", Enum(Level, native_enum=False, length=10))) as things:
        await things.app.get("database").execute(text("INSERT INTO things0 (value) VALUES ('OLD')"))
        assert await things.sent("GET", "/1") == {"id": 1, "value": "OLD"}
        assert (await things.sent("GET"))["data"] == [{"id": 1, "value": "OLD"}]


async def test_moments_of_the_database_keep_their_microseconds(empty_url: str) -> None:
    async with running(empty_url, Column("value", DateTime)) as things:
        moment = datetime(2023, 1, 2, 3, 4, 5, 678_901)
        table = things.app.service(things.path).table
        await things.app.get("database").execute(insert(table).values(value=moment).returning(table.c.id))
        assert (await things.sent("GET", "/1"))["value"] == "2023-01-02T03:04:05.678Z"
        assert (await things.sent("GET"))["data"][0]["value"] == "2023-01-02T03:04:05.678Z"
        assert (await things.app.service(things.path).get(1))["value"] == moment


async def test_sqlite_refuses_digits_that_it_would_lose(sqlite_url: str) -> None:
    async with running(sqlite_url, Column("value", Numeric(30, 2))) as things:
        error = await things.sent("POST", json={"value": "12345678901234.567"}, status=400)
        assert error["errors"]["value"].startswith("must have at most 15 digits on SQLite")
        for odd in ("0", "1e20"):
            assert (await things.sent("POST", json={"value": odd}))["value"] == f"{Decimal(odd):.2f}"
        assert (await things.sent("POST", json={"value": "1234567890123.45"}))["value"] == "1234567890123.45"


async def test_a_wrong_value_of_an_enum_names_the_allowed_values(empty_url: str) -> None:
    async with running(empty_url, Column("value", Enum(Level))) as things:
        sent = await things.sent("POST", status=400, json={"value": "LOW"})
        asked = await things.sent("GET", status=400, params={"value": "LOW"})
        assert sent["errors"] == asked["errors"] == {"value": "must be one of: low, medium, high"}
        error = await things.sent("GET", params={"value[$like]": "low"}, status=400)
        assert list(error["errors"]) == ["value"]


class ThingSchema(Schema):
    day = fields.Date(allow_none=True)
    clock = fields.Time(allow_none=True)
    moment = fields.DateTime(allow_none=True)
    naive = fields.DateTime(allow_none=True)
    span = fields.TimeDelta(allow_none=True)
    price = fields.Decimal(allow_none=True)
    key = fields.UUID(allow_none=True)
    level = fields.Enum(Level, by_value=True, allow_none=True)
    photo = fields.String(allow_none=True)
    yes = fields.Boolean(allow_none=True)


async def test_a_schema_in_front_leaves_the_form_as_it_is(empty_url: str) -> None:
    record = {
        "day": "2023-01-02", "clock": "08:30:00", "moment": "2023-01-02T03:04:05.678Z",
        "naive": "2023-01-02T03:04:05.678Z", "span": 1.5, "price": "1.50", "key": str(UUID(int=1)), "level": "low",
        "photo": "AAH/", "yes": True,
    }  # fmt: skip
    kinds: list[Any] = [
        Date, Time, DateTime(timezone=True), DateTime, Interval, Numeric(10, 2), Uuid, Enum(Level), LargeBinary, Boolean
    ]  # fmt: skip
    columns = [Column(name, kind) for name, kind in zip(record, kinds, strict=True)]
    table = Table("things", MetaData(), Column("id", Integer, primary_key=True), *columns)
    app = Apex().configure(database(empty_url)).configure(rest)
    app.use("things", SQLService(table, multi=True), hooks={"before": {"all": [validate_data(ThingSchema)]}})
    await app.setup()
    await app.get("database").create_all(table.metadata)
    async with calling(app) as http:
        assert (await http.post("/things", json=record)).json() == {"id": 1, **record}
        assert (await http.patch("/things/1", json=record)).json() == {"id": 1, **record}
        assert (await http.post("/things", json=[record, {}])).json()[0] == {"id": 2, **record}
        emptied = await http.patch("/things/1", json=dict.fromkeys(record))
        assert emptied.json() == {"id": 1, **dict.fromkeys(record)}
    await app.teardown()


async def test_a_computed_column_is_of_its_type(empty_url: str) -> None:
    async with running(empty_url, Column("value", Integer, Computed("id * 2", persisted=True))) as things:
        assert await things.sent("POST", json={}) == {"id": 1, "value": 2}
        assert await things.find(value={"$in": [2]}) == [2]
