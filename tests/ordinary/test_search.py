"""Full-text search: memory, SQLite and PostgreSQL find the same records, within what a caller may see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, Text

from apex import Apex, Context, MemoryService, SQLService, database, validate_query
from apex.cli.checks import findings
from apex.common import soft_delete
from apex.errors import BadRequest, FeathersError, Unavailable
from apex.migrations.migrate import upgrade
from apex.openapi import document_of
from apex.openapi.declarations import declarations
from apex.query.search import SEARCHED
from apex.service import BoundService
from apex.sql import Timestamp
from tests.support.databases import new_database
from tests.support.migrating import folder_of

notes = Table(
    "notes", MetaData(), Column("id", Integer, primary_key=True), Column("title", String(200)), Column("rank", Text),
    Column("owner", String(9)), Column("gone", Timestamp),
)  # fmt: skip
OPTIONS: dict[str, Any] = {"searchable": ("title", "rank"), "multi": True, "paginate": {"default": 10, "max": 100}}
ALPHABET = "abAB12éÉüÜçñøßÅžŁďξΞ\u03c3ςΣйЙжЖ日本語אبก²½_-.,;:'\"*()&|!<>\\/%@#+^~ \t\n👍🎉€§µſ"
TEXTS = st.none() | st.text(ALPHABET, max_size=12)


@pytest.fixture(scope="module")
def urls(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with new_database(postgres_server) as url:
        yield [f"sqlite:///{tmp_path_factory.mktemp('search')}/test.db", url]


async def opened(stack: AsyncExitStack, url: str | None, hooks: Any = None, **options: Any) -> BoundService:
    app = Apex()
    if url is None:
        app.use("notes", MemoryService(**{**OPTIONS, **options}), hooks=hooks)
    else:
        app.configure(database(url)).use("notes", SQLService(notes, **{**OPTIONS, **options}), hooks=hooks)
    await stack.enter_async_context(app.lifespan())
    if url is not None:
        await app.get("database").create_all(notes.metadata)
    return app.service("notes")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(urls: list[str]) -> AsyncIterator[list[BoundService]]:
    async with AsyncExitStack() as stack:
        yield [await opened(stack, url) for url in (None, *urls)]


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue(request.param)


async def found(service: BoundService, text: str, **query: Any) -> list[int]:
    page = await service.find({"query": {"$search": text, **query}})
    assert page["total"] >= len(page["data"])
    return [row["id"] for row in page["data"]]


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=200)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), max_size=6), data=st.data())
async def test_all_stores_find_the_same(
    stores: list[BoundService], texts: list[tuple[str | None, str | None]], data: st.DataObject
) -> None:
    rows = [{"id": number, "title": title, "rank": rank} for number, (title, rank) in enumerate(texts, 1)]
    some = [text for pair in texts for text in pair if text] or ["a"]
    beginnings = st.sampled_from(some).map(lambda text: text[: len(text) // 2 + 1])
    asked = data.draw(beginnings | st.text(ALPHABET, min_size=1, max_size=12))
    answers = []
    for service in stores:
        await service.remove(None)
        await service.create(rows)
        await service.patch(None, {"title": "patched"}, {"query": {"title": "a"}})
        try:
            answers.append(sorted(await found(service, asked)))
        except FeathersError as error:
            answers.append([error.code])
    assert answers[0] == answers[1] == answers[2]


ROWS = [
    {"id": 1, "title": "Fix the login page", "rank": "It fails after a password reset"},
    {"id": 2, "title": "Rename the button", "rank": "The LOGIN button says log in"},
    {"id": 3, "title": "Café in Zürich", "rank": None},
    {"id": 4, "title": "x" * 150, "rank": "logger 100%"},
]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("login", [1, 2]),
        ("LOG", [1, 2, 4]),
        ("button rename", [2]),
        ("fails log", [1]),
        ("log fails", []),
        ("cafe zuri", [3]),
        ("ZÜRICH", [3]),
        ("  ", [1, 2, 3, 4]),
        ("100%", [4]),
        ("login' OR '1'='1", []),
        ('title:"login"*', []),
        ("x" * 150, [4]),
    ],
)
async def test_words_are_found_in_all_fields(url: str | None, text: str, ids: list[int]) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, url)
        await service.create(ROWS)
        assert sorted(await found(service, text)) == ids


async def test_the_best_match_comes_first_and_pages_follow(url: str | None) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, url)
        await service.create([{"id": 9, "title": "b", "rank": "some login"}, *ROWS])
        assert (await found(service, "login"))[0] == 1
        pages = [await found(service, "login", **{"$limit": 1, "$skip": skip}) for skip in range(4)]
        assert [*pages[0], *pages[1], *pages[2]] == await found(service, "login")
        assert pages[3] == []
        assert await found(service, "login", **{"$sort": {"id": -1}}) == [9, 2, 1]
        page = await service.find({"query": {"$search": "login", "$sort": {"id": 1}, "$after": "", "$limit": 2}})
        assert [row["id"] for row in page["data"]] == [1, 2]
        assert page["next"]
        assert (await service.find({"query": {"$search": "login", "$limit": 0}}))["total"] == 3
        cut = await service.find({"query": {"$search": "fix", "$select": ["title"]}})
        assert cut["data"] == [{"id": 1, "title": "Fix the login page"}]


def only_own(context: Context) -> None:
    context.params.scope["owner"] = context.params.user["name"]


async def test_a_search_stays_in_the_scope_of_find(url: str | None) -> None:
    async with AsyncExitStack() as stack:
        hooks = {"before": {"all": [validate_query, soft_delete("gone")], "find": [only_own]}}
        service = await opened(stack, url, hooks)
        owned = [{**row, "owner": "ann" if row["id"] == 1 else "bob", "gone": None} for row in ROWS]
        await service.create(owned)
        ann = {"provider": "rest", "user": {"name": "ann"}}
        page = await service.search({"$search": "login"}, ann)
        assert (page["total"], [row["id"] for row in page["data"]]) == (1, [1])
        assert (await service.search({"$search": "login", "title": "Rename the button"}, ann))["data"] == []
        await service.remove(1)
        assert (await service.search({"$search": "login"}, ann))["total"] == 0


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"$search": "a" * 1_000_000}, "\\$search must be a text of at most 200 characters"),
        ({"$search": "'\"*&|"}, "\\$search must have a letter or a digit"),
        ({"$search": ["a"]}, "\\$search must be a text"),
        ({"$search": "a", "$after": ""}, "\\$after does not go with the order of \\$search"),
        ({"$or": [{"$search": "a"}]}, "Invalid query parameter \\$search"),
    ],
)
async def test_a_search_that_cannot_be_is_refused(url: str | None, query: dict[str, Any], named: str) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, url)
        with pytest.raises(BadRequest, match=named):
            await service.find({"query": query})
        with pytest.raises(BadRequest, match="is for lists alone"):
            await service.patch(None, {"title": "a"}, {"query": {"$search": "a"}})
        with pytest.raises(BadRequest, match="Invalid data"):
            await service.search({"title": "a"})


async def test_long_texts_are_stored_and_searched_in_their_first_part(url: str | None) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, url)
        long = " ".join(f"{number:x}" for number in range(SEARCHED // 4))
        await service.create({"id": 1, "title": "a", "rank": f"first {long} last"})
        await service.create({"id": 2, "title": "b", "rank": "日" * 300 + " 𠜎" * SEARCHED})
        assert await found(service, "first") == [1]
        assert await found(service, "last") == []
        assert await found(service, "日" * 199) == [2]
        await service.remove(1)
        assert await found(service, "first") == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"searchable": "title"}, "searchable takes a list of names"),
        ({"searchable": ["titel"]}, "names 'titel', which is no field. Did you mean 'title'"),
        ({"searchable": ["id"]}, "names 'id', which does not hold text"),
        ({"searchable": ["title"], "private": ["title"]}, "names 'title', which is private"),
    ],
)
def test_fields_that_cannot_be_searched_are_refused(options: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        Apex().use("notes", SQLService(notes, **options))


ENV = (
    "from tests.ordinary.test_search import notes\nfrom apex.migrations import run_migrations\n"
    "run_migrations(notes.metadata)\n"
)
CREATE = "ddl.create_search_index('notes', 'title', 'rank')"
TABLE = (
    "op.create_table('notes', sa.Column('id', sa.Integer, primary_key=True), sa.Column('title', sa.String(200)), "
    "sa.Column('rank', sa.Text), sa.Column('owner', sa.String(9)), sa.Column('gone', sa.String(30)))"
)


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
def test_a_migration_makes_the_index_and_its_absence_is_reported(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(kind)
    folder = folder_of(tmp_path / "migrations", TABLE, CREATE, "ddl.drop_search_index('notes')")
    monkeypatch.chdir(tmp_path)

    async def search() -> list[int]:
        async with AsyncExitStack() as stack:
            app = Apex().configure(database(url)).use("notes", SQLService(notes, **OPTIONS))
            await stack.enter_async_context(app.lifespan())
            return await found(app.service("notes"), "login")

    async def fill() -> None:
        async with AsyncExitStack() as stack:
            app = Apex().configure(database(url)).use("notes", SQLService(notes, **OPTIONS))
            await stack.enter_async_context(app.lifespan())
            await app.service("notes").create(ROWS)

    upgrade(url, "0001", folder)
    asyncio.run(fill())
    with pytest.raises(Unavailable, match="The search in 'notes' is not available: its index is missing"):
        asyncio.run(search())
    upgrade(url, "0002", folder)
    assert sorted(asyncio.run(search())) == [1, 2]
    upgrade(url, "0003", folder)
    with pytest.raises(Unavailable):
        asyncio.run(search())
    (folder / "env.py").write_text(ENV)
    app = Apex().configure(database(url)).use("notes", SQLService(notes, **OPTIONS))
    fix = "table 'notes' has no search index in the database: apex migrate --new 'search notes' --auto"
    assert fix in [finding["message"] for finding in findings(app)]


def test_the_document_and_the_types_have_the_filter_and_the_method() -> None:
    app = Apex().use("notes", SQLService(notes, **OPTIONS))
    paths = document_of(app)["paths"]
    assert "$search" in [parameter["name"] for parameter in paths["/notes"]["get"]["parameters"]]
    data = paths["/notes/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    page = paths["/notes/search"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert (data["required"], page["$ref"].endswith("Page")) == (["$search"], True)
    types = declarations(app)
    assert "$search?: string" in types
    assert "search(data:" in types
