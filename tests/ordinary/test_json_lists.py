"""Fields with a list: queries for its items have the same results on all adapters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, MemoryService, SQLService, database
from apex.errors import BadRequest
from apex.query.coercion import integer, json, text
from apex.query.evaluation import TESTS
from apex.service import BoundService
from apex.sql import Json

notes = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("tags", Json),
    Column("years", Json),
    Column("name", String(9)),
)
LISTS = {"tags": text, "years": integer}
ROWS: list[dict[str, Any]] = [
    {"id": 1, "tags": ["login", "urgent"], "years": [2025, 2026]},
    {"id": 2, "tags": ["log"], "years": []},
    {"id": 3, "tags": [], "years": [25]},
    {"id": 4, "tags": None, "years": [2026]},
    {"id": 5, "tags": ['say "hi"', "a,b", "%", "é"], "years": None},
]


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
async def service(request: pytest.FixtureRequest) -> Any:
    app = Apex()
    if request.param == "memory":
        kinds = {"id": integer, "tags": json, "years": json, "name": text}
        app.use("notes", MemoryService(fields=kinds, lists=LISTS, multi=True))
    else:
        app.configure(database(request.getfixturevalue(request.param)))
        app.use("notes", SQLService(notes, lists=LISTS, multi=True))
    await app.setup()
    if request.param != "memory":
        await app.get("database").create_all(notes.metadata)
    await app.service("notes").create(ROWS)
    yield app.service("notes")
    await app.teardown()


async def found(service: BoundService, **query: Any) -> list[int]:
    return [row["id"] for row in await service.find({"query": {**query, "$sort": {"id": 1}}})]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"tags": "login"}, [1]),
        ({"tags": "log"}, [2]),
        ({"tags": 'say "hi"'}, [5]),
        ({"tags": "%"}, [5]),
        ({"tags": "é"}, [5]),
        ({"tags": "a"}, []),
        ({"tags": {"$in": ["log", "urgent"]}}, [1, 2]),
        ({"tags": {"$in": []}}, []),
        ({"tags": {"$ne": "login"}}, [2, 3, 5]),
        ({"tags": {"$nin": ["login", "%"]}}, [2, 3]),
        ({"tags": {"$nin": []}}, [1, 2, 3, 4, 5]),
        ({"tags": {"$in": ["login"], "$ne": "urgent"}}, []),
        ({"$and": [{"tags": "login"}, {"tags": "urgent"}]}, [1]),
        ({"$or": [{"tags": "log"}, {"years": 25}]}, [2, 3]),
        ({"years": "2026"}, [1, 4]),
        ({"years": {"$nin": [2026]}}, [2, 3]),
    ],
)
async def test_a_list_is_asked_for_its_items(service: BoundService, query: dict[str, Any], ids: list[int]) -> None:
    assert await found(service, **query) == ids


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"tags": ["login"]}, "use \\$in"),
        ({"tags": {"$gt": "a"}}, "holds a list, for which there are \\$contains, \\$in, \\$ne, \\$nin"),
        ({"tags": 3}, "must be a string"),
        ({"tags": None}, "must be a string"),
        ({"years": "x"}, "must be an integer"),
        ({"$sort": {"tags": 1}}, "without an order"),
    ],
)
async def test_operators_that_lists_do_not_have_are_refused(service: BoundService, query: Any, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        await service.find({"query": query})


async def test_many_are_changed_by_an_item(service: BoundService) -> None:
    assert [row["id"] for row in await service.patch(None, {"name": "x"}, {"query": {"tags": "login"}})] == [1]
    assert await found(service, name="x") == [1]


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abcd")))
def test_none_of_the_values_is_the_opposite_of_one_of_them(held: list[str], asked: list[str]) -> None:
    assert TESTS["$nin"](held, asked) is not TESTS["$in"](held, asked)
    assert all(TESTS["$ne"](held, one) is not TESTS["$eq"](held, one) for one in asked)


@pytest.mark.parametrize("wrong", [["tags"], "tags", {"tags": "text"}, None])
def test_lists_without_the_type_of_their_items_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="lists takes a dict of fields and functions"):
        MemoryService(lists=wrong)


def test_a_list_that_is_no_json_is_refused_when_it_is_registered(sqlite_url: str) -> None:
    app = Apex().configure(database(sqlite_url))
    with pytest.raises(TypeError, match="lists of service 'notes' names 'name', which does not hold JSON"):
        app.use("notes", SQLService(notes, lists={"name": text}))
    with pytest.raises(TypeError, match="names 'tag', which is no field"):
        app.use("notes", SQLService(notes, lists={"tag": text}))


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"tags": {"$contains": "login"}}, [1]),
        ({"tags": {"$contains": ["login", "urgent"]}}, [1]),
        ({"tags": {"$contains": ["login", "log"]}}, []),
        ({"years": {"$contains": "2026", "$ne": 2025}}, [4]),
    ],
)
async def test_a_list_contains_one_item_or_several(
    service: BoundService, query: dict[str, Any], ids: list[int]
) -> None:
    assert await found(service, **query) == ids
