"""The hooks that write a scope: the records of tenants, and removed records with ``$deleted`` and ``restore``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, MemoryService, SQLService, database, validate_query
from apex.adapters import AdapterOptions
from apex.common import limit_to_tenants, require_condition, soft_delete, stash_before
from apex.errors import BadRequest, NotFound
from apex.query.coercion import anything, integer, nullable, text
from apex.service import BoundService
from apex.sql import Timestamp
from apex.tenant import current_tenants, is_tenant_hook
from apex.testing import raises
from tests.common.apps import REST
from tests.common.apps import notes as notes_of

TABLES = MetaData()
notes = Table(
    "notes", TABLES, Column("id", Integer, primary_key=True), Column("text", String(9)), Column("deleted_at", Timestamp)
)
FIELDS = {"id": integer, "text": nullable(text), "deleted_at": anything}
BEFORE = [validate_query, soft_delete(), require_condition("text"), stash_before(most=3)]
HOOKS = {"before": {"all": BEFORE}}


class Memory(MemoryService):
    def fields(self) -> Any:
        return FIELDS


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[BoundService]:
    """Notes 1 to 3, in memory and on both databases."""
    app, options = Apex(), AdapterOptions(trash="deleted_at", multi=True)
    if request.param == "memory":
        app.use("notes", Memory(start_id=1, **options), hooks=HOOKS)
    else:
        app.configure(database(request.getfixturevalue(request.param)))
        app.use("notes", SQLService(notes, **options), hooks=HOOKS)
    await app.setup()
    if request.param != "memory":
        await app.get("database").create_all(TABLES)
    await app.service("notes").create([{"text": "a"}, {"text": "b"}, {"text": "b"}])
    yield app.service("notes")
    await app.teardown()


async def texts(service: BoundService, **query: Any) -> list[str]:
    return [note["text"] for note in await service.find({**REST, "query": query})]


async def test_removed_records_are_listed_and_brought_back(service: BoundService) -> None:
    heard: list[Any] = []
    service.on("created", lambda note, context: heard.append((note["id"], context.method)))
    await service.remove(1, REST)
    assert (await texts(service), await texts(service, **{"$deleted": "true"})) == (["b", "b"], ["a"])
    restored = await service.restore({"id": 1}, REST)
    assert restored == {"id": 1, "text": "a", "deleted_at": None} == await service.get(1)
    assert await texts(service, **{"$deleted": True}) == []
    assert heard == [(1, "restore")]


async def test_of_several_records_all_come_back_or_none(service: BoundService) -> None:
    await service.remove(None, {**REST, "query": {"id": {"$lt": 3}}})
    for ids, error in (([1, 2, 3], NotFound), ([1, 9], NotFound), (3, NotFound), ([], BadRequest), (True, BadRequest)):
        with raises(error):
            await service.restore({"id": ids}, REST)
    assert await texts(service) == ["b"]
    assert [note["id"] for note in await service.restore({"id": [2, 1, 2]}, REST)] == [1, 2]
    assert await texts(service) == ["a", "b", "b"]


async def test_removed_records_are_for_lists_alone(service: BoundService) -> None:
    await service.remove(1, REST)
    asked = {**REST, "query": {"$deleted": True}}
    for call in (service.get(1, asked), service.patch(1, {"text": "x"}, asked), service.remove(1, asked)):
        with raises(BadRequest):
            await call
    with raises(BadRequest):
        await texts(service, **{"$deleted": "perhaps"})
    assert await texts(service, **{"$deleted": False}) == ["b", "b"]
    both = await service.find({"with_removed": True})
    assert [note["id"] for note in both] == [1, 2, 3]


async def test_many_records_are_named_by_a_condition_and_are_few(service: BoundService) -> None:
    for query in ({}, {"text": "b"}, {"id": 2, "$limit": 1}, {"$or": [{"text": "b"}, {"text": "c"}]}):
        for call in (service.remove(None, {**REST, "query": query}), service.patch(None, {}, {**REST, "query": query})):
            with raises(BadRequest):
                await call
    await service.create([{"text": "c"}, {"text": "c"}])
    with pytest.raises(BadRequest, match="finds 5 records, and one call changes at most 3"):
        await service.remove(None, {**REST, "query": {"id": {"$gt": 0}}})
    assert len(await service.remove(None, {**REST, "query": {"id": {"$gt": 2}, "text": {"$ne": "a"}}})) == 3


async def test_a_service_without_trash_has_neither() -> None:
    service = Apex().use("notes", MemoryService(start_id=1), hooks={"before": {"all": [soft_delete()]}})
    with raises(BadRequest):
        await service.service("notes").find({"query": {"$deleted": True}})
    assert "restore" not in service.service("notes")._options.methods


async def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(TypeError, match="trash of service 'notes' names 'deleted', which is no field"):
        Apex().use("notes", SQLService(notes, trash="deleted"))
    service = Apex().use("notes", MemoryService(trash="deleted_at")).service("notes")
    with pytest.raises(TypeError, match="needs the hook soft_delete"):
        await service.restore({"id": 1})


async def test_soft_delete_is_not_for_clients_to_undo() -> None:
    typed = {"id": integer, "text": text, "gone_at": lambda value: value}
    service = notes_of(soft_delete("gone_at"), fields=typed)
    await service.create({"text": "a"})
    assert isinstance((await service.remove(1, REST))["gone_at"], datetime)
    for query in ({}, {"gone_at": {"$ne": None}}, {"$or": [{"id": 1}, {"gone_at": {"$gt": 0}}]}, {"gone_at": None}):
        assert await service.find({**REST, "query": query}) == []
    with raises(NotFound):
        await service.get(1, REST)
    with raises(BadRequest):
        await service.find({**REST, "query": {"$disableSoftDelete": True}})


@pytest.mark.parametrize(
    ("trash", "missing"),
    [
        (None, "the option trash='deleted_at' of the service and the hook soft_delete('deleted_at') before it"),
        ("removed", "the hook soft_delete('removed') before it"),
    ],
)
async def test_a_service_that_keeps_no_removed_records_says_how_to_restore(trash: str | None, missing: str) -> None:
    app = Apex()
    app.use("notes", MemoryService(paginate=False, trash=trash))
    with pytest.raises(TypeError, match=re.escape(f"restore needs {missing}")):
        await app.service("notes").restore({"id": 1})


def caller(*teams: int) -> dict[str, Any]:
    return {"provider": "rest", "user": {"team_ids": teams}}


TEAM = limit_to_tenants("team_id", lambda context: context.params.user["team_ids"])


@pytest.fixture
async def team_notes() -> BoundService:
    service = Apex().use("notes", MemoryService(start_id=1), hooks={"before": {"all": [TEAM]}}).service("notes")
    for team in (1, 2):
        await service.create({"team_id": team})
    return service


async def test_a_caller_reads_and_writes_records_of_its_tenants(team_notes: BoundService) -> None:
    assert [note["team_id"] for note in await team_notes.find(caller(2))] == [2]
    assert [note["team_id"] for note in await team_notes.find(caller(1, 2))] == [1, 2]
    assert (await team_notes.create({}, caller(2)))["team_id"] == 2
    with pytest.raises(NotFound):
        await team_notes.remove(1, caller(2))
    assert len(await team_notes.find()) == 3


async def test_statements_of_the_call_are_limited_too(team_notes: BoundService) -> None:
    seen = []
    team_notes.hooks({"after": {"find": [lambda context: seen.append(current_tenants.get())]}})
    for teams in ((), (2,), (1, 2)):
        await team_notes.find(caller(*teams))
    await team_notes.find()
    assert seen == ["", "2", "1,2", "*"]


async def test_one_id_is_one_tenant() -> None:
    seen: list[str] = []
    hooks = {"before": {"all": [limit_to_tenants("team_id", lambda context: 7)]}}
    service = Apex().use("notes", MemoryService(), hooks=hooks).service("notes")
    service.hooks({"after": {"create": [lambda context: seen.append(current_tenants.get())]}})
    assert (await service.create({}, {"provider": "rest"}))["team_id"] == 7
    assert seen == ["7"]


def test_the_hook_is_marked_for_the_check() -> None:
    assert is_tenant_hook(TEAM)


def test_the_hook_cannot_be_registered_after_a_method() -> None:
    with pytest.raises(TypeError, match="limit_to_tenants"):
        Apex().use("notes", MemoryService(), hooks={"after": {"all": [TEAM]}})
