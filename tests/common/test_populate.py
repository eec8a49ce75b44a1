"""Related records beside an id."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Context, MemoryService
from apex.common import populate
from apex.query.coercion import boolean
from apex.service import BoundService
from tests.hooks.apps import notes

PAGE = {"default": 10, "max": 10}


async def library(asked: list[Any] | None = None, **options: Any) -> BoundService:
    """Notes by author 1, by author 9 who is not there, and by nobody."""

    def note(context: Context) -> None:
        if asked is not None:
            asked.append(context.params.query)

    def asks(context: Context) -> Any:
        return context.params.query.get("withAuthor")

    hook = populate("author", service="authors", key="author_id", fields=("id", "name"), when=asks)
    service = notes({"after": {"find": [hook]}}, filters={"withAuthor": boolean}, **options)
    service._app.use("authors", MemoryService(start_id=1), hooks={"before": {"find": [note]}})
    await service._app.service("authors").create({"name": "Ada", "password": "secret"})
    for author in (1, 9, None, 1):
        await service.create({"author_id": author})
    return service


@pytest.mark.parametrize("paginate", [PAGE, False])
async def test_each_row_gets_its_record_or_null(paginate: Any) -> None:
    service = await library(paginate=paginate)
    found = await service.find({"query": {"withAuthor": True}})
    rows = found["data"] if paginate else found
    ada = {"id": 1, "name": "Ada"}
    assert [row["author"] for row in rows] == [ada, None, None, ada]


async def test_nothing_is_joined_unless_it_is_asked_for() -> None:
    service = await library(paginate=PAGE)
    for query in ({}, {"withAuthor": False}):
        assert all("author" not in row for row in (await service.find({"query": query}))["data"])


async def test_a_page_is_joined_with_one_call() -> None:
    asked: list[Any] = []
    service = await library(asked, paginate=PAGE)
    await service.find({"query": {"withAuthor": True}})
    assert [query["id"] for query in asked] == [{"$in": [1, 9]}]
    await service.find({"query": {"withAuthor": True, "author_id": None}})
    assert len(asked) == 1


async def test_a_row_without_the_key_is_left_alone() -> None:
    service = await library(paginate=PAGE)
    page = await service.find({"query": {"withAuthor": True, "$select": ["id"]}})
    assert page["data"] == [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]


async def test_keys_of_several_types_and_fields_that_are_missing_do_no_harm() -> None:
    service = await library(paginate=PAGE)
    await service._app.service("authors").create({})
    for author in ("x", 2):
        await service.create({"author_id": author})
    rows = (await service.find({"query": {"withAuthor": True, "$skip": 4}}))["data"]
    assert [row["author"] for row in rows] == [None, {"id": 2}]


async def test_many_records_stand_beside_the_one_they_refer_to() -> None:
    hook = populate("notes", service="notes", key="author_id", fields=lambda note: note["id"], many=True)
    service = await library()
    authors = service._app.service("authors").hooks({"after": {"find": [hook]}})
    await authors.create({"name": "Ben"})
    assert [(author["name"], author["notes"]) for author in await authors.find()] == [("Ada", [1, 4]), ("Ben", [])]
