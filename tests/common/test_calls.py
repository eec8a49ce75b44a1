"""Hooks for whole calls: results that are kept, and what a call is at."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, SQLService, database, validate_query
from apex.common import cache, debug, set_field, transaction
from apex.errors import Conflict
from apex.query.coercion import integer, text
from apex.relations import belongs_to
from apex.service import BoundService

FIELDS = {"id": integer, "owner": text, "text": text}
OWN = set_field(from_="params.user.name", as_="params.scope.owner")


class Counted(MemoryService[Any]):
    """A service that counts its reads."""

    reads = ("look",)
    reached = 0

    async def find(self, params: Any) -> Any:
        self.reached += 1
        return await super().find(params)

    async def get(self, id: Any, params: Any) -> Any:
        self.reached += 1
        return await super().get(id, params)

    async def look(self, data: Any, params: Any) -> Any:
        return data

    async def clear(self, data: Any, params: Any) -> Any:
        self.store.clear()
        return data


METHODS = ("find", "get", "create", "patch", "remove", "look", "clear")


def notes(*hooks: Any, **options: Any) -> tuple[BoundService, Counted]:
    counted = Counted(fields=FIELDS, multi=True, methods=METHODS, **options)
    return Apex().use("notes", counted, hooks={"before": {"all": list(hooks)}}).service("notes"), counted


def by(name: str, **params: Any) -> dict[str, Any]:
    return {"provider": "rest", "user": {"name": name}, **params}


async def test_a_result_is_kept_until_a_write() -> None:
    service, counted = notes(validate_query, cache())
    await service.create([{"text": "a"}, {"text": "b"}])
    for _ in range(3):
        assert await service.get(0) == {"id": 0, "owner": None, "text": "a"}
        assert len(await service.find({"query": {"text": "b"}})) == 1
        await service.look({})
    assert counted.reached == 2
    (await service.get(0))["text"] = "changed"
    assert (await service.get(0))["text"] == "a"
    await service.patch(0, {"text": "c"})
    assert (await service.get(0))["text"] == "c"
    await service.clear({})
    assert await service.find() == []


async def test_calls_for_relations_neither_use_kept_results_nor_leave_any() -> None:
    app, hooks = Apex(), {"before": {"all": [cache()]}}
    app.use("owners", MemoryService[Any](fields={"id": integer, "name": text}), hooks=hooks)
    owner = {"owner": belongs_to("owners")}
    app.use("notes", MemoryService[Any](fields={"id": integer, "owner_id": integer}, relations=owner), hooks=hooks)
    await app.setup()
    ann = await app.service("owners").create({"name": "ann"})
    note = await app.service("notes").create({"owner_id": ann["id"]})
    for _ in range(2):
        assert await app.service("notes").find({"query": {"$populate": "owner"}}) == [{**note, "owner": ann}]
        for limit in (1, 2):
            assert await app.service("notes").find({"query": {"owner.name": "ann", "$limit": limit}}) == [note]
        assert await app.service("owners").find({"query": {"name": "ann"}}) == [ann]


async def test_callers_do_not_share_results_unless_they_are_told_to() -> None:
    for shared, reached in ((False, 4), (True, 2)):
        service, counted = notes(cache(shared=shared), OWN)
        await service.create([{"owner": "ann"}, {"owner": "bob"}])
        for name, address in (("ann", "1"), ("bob", "1"), ("ann", "1"), ("ann", "2"), ("bob", "2")):
            assert [row["owner"] for row in await service.find(by(name, ip=address))] == [name]
        assert counted.reached == reached


async def test_a_read_that_began_before_a_write_is_not_kept() -> None:
    service, counted = notes(cache())
    await service.create({"text": "old"})
    find, go = counted.find, asyncio.Event()

    async def slow(params: Any) -> Any:
        found = await find(params)
        await go.wait()
        return found

    counted.find = slow  # type: ignore[method-assign]
    service._steps.clear()
    reading = asyncio.create_task(service.find())
    await asyncio.sleep(0)
    await service.patch(0, {"text": "new"})
    go.set()
    assert (await reading)[0]["text"] == "old"
    assert (await service.find())[0]["text"] == "new"


async def test_hooks_run_for_a_kept_result_and_cannot_change_it() -> None:
    def shout(context: Context) -> None:
        for row in context.items:
            row["text"] += "!"

    counted = Counted(fields=FIELDS, store={1: {"id": 1, "owner": "ann", "text": "a"}})
    app = Apex().use("notes", counted, hooks={"before": [cache()], "after": {"get": [shout]}})
    assert [(await app.service("notes").get(1))["text"] for _ in range(3)] == ["a!"] * 3
    assert counted.reached == 1


rows = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9), unique=True))


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
async def test_nothing_that_is_rolled_back_is_kept(request: pytest.FixtureRequest, kind: str) -> None:
    app = Apex().configure(database(request.getfixturevalue(kind)))
    hooks = {"around": {"create": [transaction]}, "before": [cache()]}
    async with app.use("notes", SQLService(rows), hooks=hooks).lifespan():
        await app.get("database").create_all(rows.metadata)
        service = app.service("notes")
        await service.create({"text": "a"})

        async def fail() -> None:
            async with app.get("database").transaction():
                await service.create({"text": "b"})
                assert len(await service.find()) == 2
                await service.create({"text": "b"})

        with pytest.raises(Conflict):
            await fail()
        assert len(await service.find()) == 1
        context = await service._run("find", params={"provider": "rest"})
        again = await service._run("find", params={"provider": "rest"})
        assert again._outgoing == context._outgoing
        assert (await service._run("get", id=1, params={"provider": "rest"}))._outgoing.text == b'{"id":1,"text":"a"}'


def test_a_cache_without_time_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        cache(0)
    with pytest.raises(TypeError, match=r"register cache\(60\) and not cache"):
        cache(Context)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cache in after of service 'notes' cannot be there"):
        Apex().use("notes", MemoryService(), hooks={"after": [cache()]})


async def test_a_call_is_logged_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    service = Apex().use("notes", MemoryService(), hooks={"before": [debug("in", "user")], "after": [debug("out")],
                                                          "error": [debug("failed")]}).service("notes")  # fmt: skip
    with caplog.at_level(logging.INFO, "apex"):
        await service.create({"text": "a", "password": "secret"}, {"user": {"id": 7}})
        with pytest.raises(Exception, match="No record"):
            await service.get(9)
    first, second, *_, last = caplog.messages
    assert first.startswith("* in before create of notes: data={'text': 'a', 'password': '***'}")
    assert first.endswith("user={'id': 7}")
    assert second.startswith("* out after create of notes: data={")
    assert last == """* failed error get of notes: id=9 query={} error='NotFound("No record found for id \\'9\\'")'"""
    with pytest.raises(TypeError, match="debug takes a message"):
        debug(Context)  # type: ignore[arg-type]
