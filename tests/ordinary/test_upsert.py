"""Upserts: one record for a natural key, whoever calls and how often, with the hooks of create and patch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, UniqueConstraint

from apex import Apex, Context, MemoryService, Schema, SQLService, database, validate_data
from apex.common import prevent_changes, set_field, soft_delete, timestamps, transaction
from apex.errors import BadRequest, Conflict, Forbidden
from apex.openapi import document_of
from apex.permissions import authorize, can
from apex.schema import fields
from apex.service import BoundService
from apex.sql import Timestamp
from apex.sql.types.registry import coercers

contacts = Table(
    "contacts", MetaData(), Column("id", Integer, primary_key=True), Column("team", Integer, nullable=False),
    Column("email", String(50), nullable=False), Column("name", String(50)), Column("created_at", Timestamp),
    Column("updated_at", Timestamp), UniqueConstraint("team", "email"),
)  # fmt: skip
OPTIONS: dict[str, Any] = {"natural_key": ["team", "email"], "multi": True}
TEAM = {"scope": {"team": 1}}


class ContactSchema(Schema):
    team = fields.Integer()
    email = fields.Email(required=True)
    name = fields.String(required=True)


def lower_email(context: Context) -> None:
    context.data["email"] = context.data["email"].lower()


HOOKS: Any = {
    "before": {
        "create": [validate_data(ContactSchema), lower_email, timestamps()],
        "patch": [validate_data(ContactSchema), prevent_changes("email"), timestamps()],
    }
}


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[BoundService]:
    app = Apex()
    if request.param == "memory":
        app.use("contacts", MemoryService(fields=coercers(contacts), **OPTIONS), hooks=HOOKS)
    else:
        app.configure(database(request.getfixturevalue(request.param)))
        app.use("contacts", SQLService(contacts, **OPTIONS), hooks=HOOKS)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.lifespan())
        if request.param != "memory":
            await app.get("database").create_all(contacts.metadata)
        yield app.service("contacts")


async def test_a_record_is_created_and_then_patched(service: BoundService) -> None:
    events: list[tuple[str, str]] = []
    for event in ("created", "patched"):
        service.on(event, lambda row, context, event=event: events.append((event, row["name"])))
    first = await service.upsert({"team": 1, "email": "Ann@example.com", "name": "Ann"})
    again = await service.upsert({"team": 1, "email": "Ann@example.com", "name": "Anna"})
    other = await service.upsert({"team": 2, "email": "ann@example.com", "name": "Other"})
    assert (again["id"], again["email"], again["name"]) == (first["id"], "ann@example.com", "Anna")
    assert again["created_at"] == first["created_at"]
    assert other["id"] != first["id"]
    assert events == [("created", "Ann"), ("patched", "Anna"), ("created", "Other")]


async def test_calls_at_the_same_moment_make_one_record(service: BoundService) -> None:
    events: list[str] = []
    for event in ("created", "patched"):
        service.on(event, lambda row, context, event=event: events.append(event))
    calls = [service.upsert({"team": 1, "email": "ann@example.com", "name": f"Ann {n}"}) for n in range(20)]
    rows = await asyncio.gather(*calls)
    assert len({row["id"] for row in rows}) == 1
    assert sorted(events) == ["created"] + ["patched"] * 19
    assert len(await service.find()) == 1


async def test_a_record_outside_of_the_scope_is_neither_changed_nor_shown(service: BoundService) -> None:
    await service.create({"team": 2, "email": "ann@example.com", "name": "Theirs"})
    listed = {"scope": {"$and": [{"team": [1]}]}}
    mine = await service.upsert({"email": "ann@example.com", "name": "Mine"}, listed)
    assert mine["team"] == 1
    with pytest.raises(Forbidden, match="team is outside of what you may touch"):
        await service.upsert({"team": 2, "email": "ann@example.com", "name": "Stolen"}, TEAM)
    assert sorted(row["name"] for row in await service.find()) == ["Mine", "Theirs"]


async def test_the_hooks_of_create_and_patch_decide(service: BoundService) -> None:
    with pytest.raises(BadRequest) as invalid:
        await service.upsert({"team": 1, "email": "ann@example.com"})
    assert invalid.value.errors == {"name": "Is required"}
    with pytest.raises(BadRequest) as absent:
        await service.upsert({"name": "Ann"}, TEAM)
    assert absent.value.errors == {"email": "Is required"}
    with pytest.raises(BadRequest) as both:
        await service.upsert({"name": "Ann", "email": None})
    assert both.value.errors == {"email": "Is required", "team": "Is required"}
    with pytest.raises(BadRequest, match="team must be an integer"):
        await service.upsert({"team": {"$ne": 1}, "email": "a@example.com", "name": "x"})
    with pytest.raises(BadRequest, match="must be an object"):
        await service.upsert([{"team": 1}])
    row = await service.upsert({"team": 1, "email": "a@example.com", "name": "x"}, {"query": {"$select": ["name"]}})
    assert row.keys() == {"id", "name"}


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
async def test_a_record_that_only_a_hook_of_patch_hides_is_taken(request: pytest.FixtureRequest, kind: str) -> None:
    app = Apex().configure(database(request.getfixturevalue(kind)))
    own = set_field(from_="params.team", as_="params.scope.team")
    hooks = {"before": {"create": [timestamps()], "patch": [own]}, "around": {"all": [transaction]}}
    async with app.use("contacts", SQLService(contacts, **OPTIONS), hooks=hooks).lifespan():
        await app.get("database").create_all(contacts.metadata)
        service = app.service("contacts")
        await service.upsert({"team": 2, "email": "ann@example.com", "name": "Theirs"})
        with pytest.raises(Conflict) as taken:
            await service.upsert({"team": 2, "email": "ann@example.com", "name": "Mine"}, {"team": 1})
        assert taken.value.errors == {"team": "Is taken", "email": "Is taken"}
        assert [row["name"] for row in await service.find()] == ["Theirs"]


notes = Table(
    "notes", MetaData(), Column("id", Integer, primary_key=True), Column("slug", String(9)), Column("text", String(9)),
    Column("deleted_at", Timestamp), Index("u", "slug", unique=True, sqlite_where=Column("deleted_at").is_(None)),
)  # fmt: skip


async def test_a_removed_record_does_not_come_back(sqlite_url: str) -> None:
    app = Apex().configure(database(sqlite_url))
    adapter = SQLService(notes, natural_key=["slug"])
    async with app.use("notes", adapter, hooks={"before": {"all": [soft_delete()]}}).lifespan():
        await app.get("database").create_all(notes.metadata)
        service = app.service("notes")
        first = await service.upsert({"slug": "a", "text": "old"})
        await service.remove(first["id"])
        again = await service.upsert({"slug": "a", "text": "new"})
        assert (again["id"] != first["id"], again["text"]) == (True, "new")


async def test_an_error_leaves_the_transaction_around_it_whole(postgres_url: str) -> None:
    app = Apex().configure(database(postgres_url)).use("contacts", SQLService(contacts, **OPTIONS))
    async with app.lifespan():
        await app.get("database").create_all(contacts.metadata)
        service = app.service("contacts")
        async with app.get("database").transaction():
            await service.create({"team": 1, "email": "a@example.com"})
            with pytest.raises(BadRequest):
                await service.upsert({"team": 1, "email": "b@example.com", "name": "x" * 99})
            await service.upsert({"team": 1, "email": "a@example.com", "name": "kept"})
        assert [row["name"] for row in await service.find()] == ["kept"]


def test_a_key_that_is_not_unique_is_refused_when_it_is_registered() -> None:
    with pytest.raises(TypeError, match="natural_key of service 'contacts' does not name one row: declare a Unique"):
        Apex().use("contacts", SQLService(contacts, natural_key=["name"]))
    with pytest.raises(TypeError, match=r"names 'nam', which is no field\. Did you mean 'name'"):
        Apex().use("contacts", SQLService(contacts, natural_key=["nam"]))


async def test_an_upsert_without_hooks_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Call upsert through app\.service"):
        await MemoryService(natural_key=["a"]).upsert({"a": 1}, {})


def test_the_document_has_the_data_of_create() -> None:
    app = Apex().use("contacts", SQLService(contacts, **OPTIONS), hooks=HOOKS)
    post = document_of(app)["paths"]["/contacts/upsert"]["post"]
    name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert document_of(app)["components"]["schemas"][name]["required"] == ["email", "name"]
    assert {"200", "201", "409"} <= post["responses"].keys()


async def test_a_caller_sees_of_the_record_what_it_may_read() -> None:
    class Contacts(MemoryService[Any]):
        permissions: ClassVar[Any] = {
            "user": can("upsert", "create", "patch"),
            "anyone": [can("find", "get", fields=("name",)), can("search")],
        }

    adapter = Contacts(fields=coercers(contacts), natural_key=["email"], searchable=["name"])
    service = Apex().use("contacts", adapter, hooks={"before": {"all": [authorize]}}).service("contacts")
    await service.create({"email": "a@example.com", "name": "Ann", "team": 7})
    user = {"provider": "rest", "user": {"id": 1}, "authenticated": True}
    context = await service._run("upsert", data={"email": "a@example.com", "name": "Anna"}, params=user)
    assert context.external == {"id": 0, "name": "Anna"}
    context = await service._run("search", data={"$search": "ann"}, params={"provider": "rest"})
    assert context.external == [{"id": 0, "name": "Anna"}]
