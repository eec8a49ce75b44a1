"""The entries of calls that store more than their own record: all of them, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, UniqueConstraint

from apex import Apex, Context, Next, SQLService, batch, database
from apex.common import iff, soft_delete, transaction
from apex.errors import Conflict, FeathersError, Unavailable
from apex.log import log, log_table
from apex.relations import has_many
from apex.sql import Timestamp
from tests.log.apps import entries_of, logged_app


async def test_an_atomic_batch_writes_all_entries_or_none(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        app.configure(batch)
        calls: list[Any] = [["create", "notes", {"text": "a"}], ["patch", "notes", {"$ref": "0.id"}, {"text": "b"}]]
        await app.service("batch").create({"calls": calls, "atomic": True})
        with pytest.raises(FeathersError):
            await app.service("batch").create({"calls": [*calls, ["patch", "notes", 99, {}]], "atomic": True})
        assert await entries_of(app, "service", "event") == [("notes", "created"), ("notes", "patched")]


async def test_an_upsert_has_the_entry_of_its_create_or_patch(empty_url: str) -> None:
    metadata = MetaData()
    columns: list[Any] = [Column("name", String(50)), Column("n", Integer), UniqueConstraint("name")]
    things = Table("things", metadata, Column("id", Integer, primary_key=True), *columns)
    async with logged_app(empty_url) as app:
        await app.get("database").create_all(metadata)
        app.use("things", SQLService(things, natural_key=["name"]))
        for number in (1, 2):
            await app.service("things").upsert({"name": "a", "n": number})
        found = await entries_of(app, "event", "record")
    assert [(event, record["n"]) for event, record in found] == [("created", 1), ("patched", 2)]


async def test_related_records_have_their_entries_in_one_transaction(postgres_url: str) -> None:
    metadata = MetaData()
    albums = Table("albums", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))
    key = Column("album_id", Integer, ForeignKey("albums.id"))
    tracks = Table("tracks", metadata, Column("id", Integer, primary_key=True), key)
    app = Apex().configure(database(postgres_url)).configure(log(log_table(metadata)))
    app.use("albums", SQLService(albums, relations={"tracks": has_many("tracks", "album_id", write=True)}))
    app.use("tracks", SQLService(tracks, multi=True))
    await app.setup()
    try:
        await app.get("database").create_all(metadata)
        await app.service("albums").create({"name": "a", "tracks": [{}, {}]})
        found = await entries_of(app, "service", "xid")
    finally:
        await app.teardown()
    assert [service for service, _ in found] == ["albums", "tracks", "tracks"]
    assert len({xid for _, xid in found}) == 1


async def test_removed_and_restored_records_have_entries(empty_url: str) -> None:
    metadata = MetaData()
    things = Table("things", metadata, Column("id", Integer, primary_key=True), Column("deleted_at", Timestamp))
    async with logged_app(empty_url) as app:
        await app.get("database").create_all(metadata)
        app.use("things", SQLService(things, trash="deleted_at"), hooks={"before": {"all": [soft_delete()]}})
        await app.service("things").create({})
        await app.service("things").remove(1)
        await app.service("things").restore({"id": 1})
        found = await entries_of(app, "event", "method", "record")
    assert [(event, method, record["deleted_at"] is None) for event, method, record in found] == [
        ("created", "create", True),
        ("removed", "remove", False),
        ("created", "restore", True),
    ]


async def test_calls_that_a_hook_makes_at_once_are_part_of_its_transaction(empty_url: str) -> None:
    async def others(context: Context) -> None:
        notes = context.app.service("notes")
        await asyncio.gather(*(notes.patch(1, {"text": str(number)}) for number in range(5)))
        raise Conflict("undone")

    async with logged_app(empty_url) as app:
        await app.service("notes").create({"text": "a"})
        app.service("notes").hooks({"after": {"create": [others]}})
        with pytest.raises(Conflict):
            await app.service("notes").create({"text": "b"})
        assert await entries_of(app, "id", "event") == [(1, "created")]


async def test_an_around_hook_may_go_on_in_another_task(empty_url: str) -> None:
    async def elsewhere(context: Context, next: Next) -> None:
        await asyncio.shield(next())

    async with logged_app(empty_url, hooks={"around": {"all": [elsewhere]}}) as app:
        await app.service("notes").create({"text": "a"})
        await app.service("notes").patch(1, {"text": "b"})
        assert await entries_of(app, "event") == ["created", "patched"]
        with pytest.raises(FeathersError):
            await app.service("notes").patch(9, {"text": "b"})
        assert len(await app.service("notes").find()) == 1


async def test_a_transaction_of_the_app_commits_where_its_hook_ends(empty_url: str) -> None:
    seen: list[Any] = []

    async def look(context: Context, next: Next) -> None:
        await next()
        seen.append(await entries_of(context.app, "event"))

    async with logged_app(empty_url, hooks={"around": {"create": [look, transaction]}}) as app:
        await app.service("notes").create({"text": "a"})
    assert seen == [["created"]]


async def test_a_call_without_an_event_has_no_entry(empty_url: str) -> None:
    def silence(context: Context) -> None:
        context.event = None

    async with logged_app(empty_url, hooks={"after": {"create": [iff(True, silence)]}}) as app:
        await app.service("notes").create({"text": "a"})
        assert (await entries_of(app, "id"), len(await app.service("notes").find())) == ([], 1)


async def test_a_write_without_a_connection_says_so(postgres_url: str) -> None:
    async with logged_app(postgres_url) as app:
        opened = app.get("database")
        await opened.close()
        for data in ({"text": "one"}, [{"text": "several"}]):
            with pytest.raises(Unavailable):
                await app.service("notes").create(data)
        await opened.open()
        assert await entries_of(app, "id") == []


@pytest.mark.parametrize("steps", range(12))
async def test_a_task_that_writes_while_the_transaction_around_it_commits(empty_url: str, steps: int) -> None:
    async with logged_app(empty_url) as app:
        notes, started = app.service("notes"), list[asyncio.Task[Any]]()
        for _ in range(5):
            async with app.get("database").transaction():
                await notes.create({"text": "around"})
                started += [asyncio.create_task(notes.create({"text": "task"})) for _ in range(3)]
                for _ in range(steps):
                    await asyncio.sleep(0)
        await asyncio.gather(*started)
        assert len(await notes.find()) == 20
        assert sorted(await entries_of(app, "record_id"), key=int) == [str(number) for number in range(1, 21)]
