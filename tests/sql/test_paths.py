"""Keys of JSON fields: asked for and sorted by in the table that has their values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Double, Index, Integer, MetaData, String, Table

from apex.app import Apex
from apex.errors import BadRequest
from apex.sql import Json, SQLService, database
from tests.conftest import BACKENDS
from tests.support.databases import new_database

METADATA = MetaData()
THINGS = Table(
    "things", METADATA, Column("id", Integer, primary_key=True), Column("tenant", Integer), Column("name", String(20)),
    Column("extra", Json),
)  # fmt: skip
CODE_POINTS = String(500).with_variant(String(500, collation="C"), "postgresql")
VALUES = Table(
    "values_of_things",
    METADATA,
    Column("tenant", Integer),
    Column("record_id", Integer, primary_key=True),
    Column("name", CODE_POINTS, primary_key=True),
    Column("number", Double),
    Column("text", CODE_POINTS),
)
v = VALUES.c
Index("ix_values_of_things", v.tenant, v.name, v.number, v.text, v.record_id)


def values_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the value table for a row."""
    found = []
    for name, value in row["extra"].items():
        kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else "text"
        written = str(value).lower() if isinstance(value, bool) else value
        found.append({"tenant": row["tenant"], "record_id": row["id"], "name": name, kind: written})
    return [one for one in found if one.get("number") is not None or one.get("text") is not None]


class Things:
    """A service of things on a database."""

    def __init__(self, app: Apex) -> None:
        self.app, self.service = app, app.service("things")

    async def fill(self, *extras: dict[str, Any]) -> None:
        for table in (THINGS, VALUES):
            await self.app.get("database").execute(table.delete())
        rows = [{"id": n, "tenant": n % 2, "name": f"{n % 3}", "extra": extra} for n, extra in enumerate(extras, 1)]
        await self.service.create(rows)
        await self.app.service("values").create([value for row in rows for value in values_of(row)])

    async def ids(self, **query: Any) -> list[int]:
        return [row["id"] for row in await self.service.find({"query": query, "paginate": False})]


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Things]:
    app = Apex().configure(database(url))
    app.use(
        "things", SQLService(THINGS, paths={"extra": VALUES}, multi=True, operators=["$like"], paginate={"default": 2})
    )
    app.use("values", SQLService(VALUES, id="record_id", multi=True, methods=["create"]))
    await app.setup()
    try:
        await app.get("database").create_all(METADATA)
        yield Things(app)
    finally:
        await app.teardown()


async def test_a_key_is_compared_with_values_of_its_type(empty_url: str) -> None:
    async with running(empty_url) as things:
        await things.fill({"a": 1}, {"a": 2.5}, {"a": "x", "b": True}, {}, {"b": False, "a": "1"})
        for asked, found in (
            ({"extra.a": {"$gt": 1}}, [2]),
            ({"extra.a": {"$ne": 1}}, [2]),
            ({"extra.a": {"$nin": [1]}}, [2]),
            ({"extra.a": {"$nin": []}}, [1, 2, 3, 4, 5]),
            ({"extra.a": {"$in": []}}, []),
            ({"extra.a": {"$in": [1, 2.5, None]}}, [1, 2, 4]),
            ({"extra.a": "1"}, [5]),
            ({"extra.a": {"$like": "_"}}, [3, 5]),
            ({"extra.b": True}, [3]),
            ({"extra.b": {"$in": [True, False]}}, [3, 5]),
            ({"extra.a": None}, [4]),
            ({"extra.a": {"$ne": None}, "extra.b": None}, [1, 2]),
            ({"$or": [{"extra.a": 1}, {"extra.b": False}, {"name": "0"}]}, [1, 3, 5]),
            ({"extra.a": 10**30}, []),
        ):
            assert await things.ids(**asked) == found, asked


async def test_records_without_a_value_come_last_in_both_directions(empty_url: str) -> None:
    async with running(empty_url) as things:
        await things.fill({}, {"a": "x"}, {"a": 2}, {"a": None}, {"a": 1}, {"a": "X"}, {"a": 2})
        for direction, order in ((1, [5, 3, 7, 6, 2, 1, 4]), (-1, [2, 6, 7, 3, 5, 4, 1])):
            sort = {"$sort": {"extra.a": direction}}
            assert await things.ids(**sort) == order
            for limit in range(1, 8):
                for skip in range(8):
                    page = await things.ids(**sort, **{"$limit": limit, "$skip": skip})
                    assert page == order[skip : skip + limit]


async def test_a_page_tells_how_many_there_are(empty_url: str) -> None:
    async with running(empty_url) as things:
        await things.fill({"a": 2}, {}, {"a": 1}, {})
        for query in ({"$sort": {"extra.a": 1}}, {"extra.a": {"$ne": None}}, {"$sort": {"extra.a": 1}, "$limit": 0}):
            page = await things.service.find({"query": query})
            assert page["total"] == (2 if "extra.a" in query else 4)
        page = await things.service.find({"query": {"$sort": {"extra.a": 1}, "$skip": 1}})
        assert ([row["id"] for row in page["data"]], page["limit"], page["skip"]) == ([1, 2], 2, 1)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (
            {"extra": 1},
            "extra cannot be asked for or sorted by: it holds JSON; ask for one of its keys, as in extra.key",
        ),
        ({"extra.": 1}, "Unknown field 'extra.'"),
        ({"name.a": 1}, "Unknown field 'name.a'"),
        ({"$select": ["extra.a"]}, "Unknown field 'extra.a'"),
        ({"extra.a": [1]}, "to ask for several use"),
        ({"extra.a": {"$in": [{}]}}, "must be a string, a number, a boolean or null"),
        ({"extra.a": {"$in": [1, "a"]}}, "needs numbers alone, or none"),
        ({"extra.a": float("nan")}, "must be a finite number"),
        ({"extra.a": {"$gt": None}}, "needs a value that is not null"),
        ({"extra.a": {"$like": 5}}, "needs a text"),
        ({f"extra.{number}": 1 for number in range(9)}, "more than 8 keys"),
        ({"$sort": {f"extra.{number}": 1 for number in range(9)}}, "more than 8 keys"),
    ],
    ids=repr,
)
async def test_unknown_paths_are_refused(sqlite_url: str, query: dict[str, Any], sentence: str) -> None:
    async with running(sqlite_url) as things:
        with pytest.raises(BadRequest) as raised:
            await things.service.find({"query": query})
        assert sentence in str(raised.value)


async def test_a_key_is_asked_for_in_lists_alone(sqlite_url: str) -> None:
    async with running(sqlite_url) as things:
        await things.fill({"a": 1})
        params = {"query": {"extra.a": 1}}
        for call in (
            things.service.get(1, params),
            things.service.patch(1, {"name": "x"}, params),
            things.service.patch(None, {"name": "x"}, params),
            things.service.update(1, {"name": "x"}, params),
            things.service.remove(None, params),
        ):
            with pytest.raises(BadRequest, match=r"extra\.a can be asked for and sorted by in a list alone"):
                await call
        assert await things.ids(**{"name": "0"}) == []
        assert await things.ids() == [1]


async def test_eight_keys_at_once(empty_url: str) -> None:
    async with running(empty_url) as things:
        await things.fill({str(number): number for number in range(8)})
        query: dict[str, Any] = {f"extra.{number}": number for number in range(7)}
        assert await things.ids(**query, **{"$sort": {"extra.7": 1}, "$limit": 5}) == [1]


# A query finds the same records as Python.

NAMES = ("a", "b")
TEXTS = st.sampled_from(["", "a", "B", "b", "é", "true", "1"])
NUMBERS = st.sampled_from([-1, 0, 1, 1.5, 2])
KINDS = (NUMBERS, TEXTS, st.booleans())
EXTRAS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, st.none() | st.one_of(KINDS))), max_size=8)
FIELDS = st.sampled_from([f"extra.{name}" for name in NAMES])


def asked(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(kind, max_size=3)
    operators = {"$in": lists, "$nin": lists, "$ne": kind, "$lt": kind, "$lte": kind, "$gt": kind, "$gte": kind}
    return kind | st.none() | st.fixed_dictionaries({}, optional=operators).filter(bool)


CONDITIONS = st.dictionaries(FIELDS, st.one_of([asked(kind) for kind in KINDS]), max_size=2)
QUERIES = st.fixed_dictionaries(
    {"where": CONDITIONS, "or": st.lists(CONDITIONS, max_size=2)},
    optional={
        "$sort": st.dictionaries(FIELDS | st.just("name"), st.sampled_from([1, -1]), max_size=2),
        "$limit": st.integers(1, 4),
        "$skip": st.integers(0, 5),
    },
)


def stored_value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def alike(one: Any, other: Any) -> bool:
    return isinstance(one, str) == isinstance(other, str) and one is not None


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda one, other: one == other,
    "$ne": lambda one, other: alike(one, other) and one != other,
    "$in": lambda one, others: one in others,
    "$nin": lambda one, others: not others or (alike(one, others[0]) and one not in others),
    "$lt": lambda one, other: alike(one, other) and one < other,
    "$lte": lambda one, other: alike(one, other) and one <= other,
    "$gt": lambda one, other: alike(one, other) and one > other,
    "$gte": lambda one, other: alike(one, other) and one >= other,
}


def holds(extra: dict[str, Any], conditions: dict[str, Any]) -> bool:
    """Return True if a row meets the conditions."""
    for field, wanted in conditions.items():
        value = stored_value(extra.get(field.removeprefix("extra.")))
        for sign, operand in (wanted if isinstance(wanted, dict) else {"$eq": wanted}).items():
            given = [stored_value(one) for one in operand] if isinstance(operand, list) else stored_value(operand)
            if not TESTS[sign](value, given):
                return False
    return True


def in_order(rows: list[dict[str, Any]], sort: dict[str, int]) -> list[dict[str, Any]]:
    """Numbers before texts; what has no value last, whatever the direction."""
    directions = [*sort.items(), ("id", [1, *sort.values()][-1])]
    for field, direction in reversed(directions):

        def key(row: dict[str, Any], field: str = field) -> Any:
            value = row[field] if field in row else stored_value(row["extra"].get(field.removeprefix("extra.")))
            return isinstance(value, str), 0 if value is None else value

        def missing(row: dict[str, Any], field: str = field) -> bool:
            return field not in row and row["extra"].get(field.removeprefix("extra.")) is None

        there = sorted((row for row in rows if not missing(row)), key=key, reverse=direction < 0)
        rows = there + [row for row in rows if missing(row)]
    return rows


@pytest.fixture(scope="module", params=BACKENDS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('paths')}/test.db"
        return
    with new_database(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_url: str) -> AsyncIterator[Things]:
    async with running(shared_url) as things:
        yield things


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=300)
@given(extras=EXTRAS, query=QUERIES)
async def test_a_query_finds_what_python_finds(
    shared: Things, extras: list[dict[str, Any]], query: dict[str, Any]
) -> None:
    await shared.fill(*extras)
    rows: list[dict[str, Any]] = [{"id": n, "name": f"{n % 3}", "extra": extra} for n, extra in enumerate(extras, 1)]
    some = query["or"]
    found = [
        row for row in rows
        if holds(row["extra"], query["where"]) and (not some or any(holds(row["extra"], one) for one in some))
    ]  # fmt: skip
    skip, limit = query.get("$skip", 0), query.get("$limit", 100)
    expected = [row["id"] for row in in_order(found, query.get("$sort", {}))][skip : skip + limit]
    more = {name: query[name] for name in ("$sort", "$limit", "$skip") if name in query}
    either = {"$or": some} if some else {}
    assert await shared.ids(**query["where"], **either, **more) == expected
