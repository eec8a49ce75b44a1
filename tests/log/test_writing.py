"""Writing to the log: what is stored with a change, and when."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Uuid

from apex import Context, MemoryService, SQLService
from apex.common import stash_before, transaction
from apex.errors import Conflict, NotFound
from apex.types import Row
from tests.log.apps import entries_of, logged_app
from tests.support.waiting import until


def fail(context: Context) -> None:
    raise Conflict("afterwards")


async def test_each_write_has_an_entry_with_its_record(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        notes = app.service("notes")
        await notes.create({"text": "a"})
        await notes.patch(1, {"text": "b"})
        await notes.update(1, {"text": "c"})
        await notes.remove(1)
        found = await entries_of(app, "service", "event", "method", "record_id", "record")
    record = {"id": 1, "team_id": None}
    assert found == [
        ("notes", "created", "create", "1", {**record, "text": "a"}),
        ("notes", "patched", "patch", "1", {**record, "text": "b"}),
        ("notes", "updated", "update", "1", {**record, "text": "c"}),
        ("notes", "removed", "remove", "1", {**record, "text": "c"}),
    ]


async def test_a_call_of_many_records_has_an_entry_for_each(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        await app.service("notes").create([{"text": "a"}, {"text": "b"}])
        await app.service("notes").patch(None, {"text": "c"})
        found = await entries_of(app, "event", "record_id")
    assert found == [("created", "1"), ("created", "2"), ("patched", "1"), ("patched", "2")]


async def test_an_after_hook_that_fails_undoes_the_write_and_its_entry(empty_url: str) -> None:
    async with logged_app(empty_url, hooks={"after": {"create": [fail]}}) as app:
        with pytest.raises(Conflict):
            await app.service("notes").create({"text": "a"})
        assert await entries_of(app, "id") == await app.service("notes").find() == []


async def test_a_field_that_an_after_hook_hides_is_hidden_in_the_log(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        app.hooks({"after": {"create": [lambda context: context.result.pop("text") and None]}})
        await app.service("notes").create({"text": "a"})
        assert await entries_of(app, "record") == [{"id": 1, "team_id": None}]


async def test_private_fields_are_not_in_the_log(empty_url: str) -> None:
    async with logged_app(empty_url, hooks={"before": {"patch": [stash_before()]}}) as app:
        await app.service("notes").create({"text": "a", "secret": "s"})
        await app.service("notes").patch(1, {"text": "b", "secret": "t"}, {"adapter": {"private": ()}})
        found = await entries_of(app, "before", "record")
    assert found[1] == ({"text": "a"}, {"id": 1, "text": "b", "team_id": None})


async def test_the_entries_of_a_transaction_are_written_at_its_commit(empty_url: str) -> None:
    async def twice(context: Context) -> None:
        notes = context.app.service("notes")
        await notes.patch(1, {"text": "b"})
        with suppress(NotFound):
            async with context.app.get("database").savepoint():
                await notes.patch(1, {"text": "undone"})
                await notes.patch(9, {"text": "b"})
        assert await entries_of(context.app, "id") == []

    hooks = {"around": {"create": [transaction]}, "after": {"create": [twice]}}
    async with logged_app(empty_url, hooks=hooks) as app:
        await app.service("notes").create({"text": "a"})
        found = await entries_of(app, "event", "record")
    assert [(event, record["text"]) for event, record in found] == [("created", "a"), ("patched", "b")]


async def test_the_fields_of_an_app_and_the_tenant_of_the_record_are_stored(empty_url: str) -> None:
    def fields(context: Context) -> dict[str, Any]:
        return {"user_id": context.params.user["id"], "team_id": 3}

    columns = [Column("team_id", Integer), Column("user_id", Integer)]
    async with logged_app(empty_url, *columns, tenant="team_id", fields=fields) as app:
        await app.service("notes").create({"team_id": 7}, {"user": {"id": 5}})
        await app.service("notes").create({}, {"user": {"id": 6}})
        assert await entries_of(app, "team_id", "user_id") == [(7, 5), (3, 6)]


async def test_a_service_may_be_left_out_of_the_log(empty_url: str) -> None:
    class Counters(MemoryService):
        logged = False

    async with logged_app(empty_url) as app:
        app.use("counters", Counters()).use("people", MemoryService())
        await app.service("counters").create({"n": 1})
        await app.service("people").create({"name": "Ann"})
        app.service("people").emit("created", {"id": 8})
        await app.callbacks.drain()
        assert await entries_of(app, "service", "record_id") == [("people", "0"), ("people", "8")]


async def test_the_announcement_of_an_event_knows_its_entry(empty_url: str) -> None:
    seen: list[Any] = []
    async with logged_app(empty_url) as app:
        app.service("notes").on("created", lambda record, context: seen.append(context.entries.ids))
        await app.service("notes").create({"text": "a"})
        assert seen == [await entries_of(app, "id")]


ODD: list[Any] = [
    {"id": 1, "x": "\x00"},
    {"id": "a" * 300},
    {"id": "\x00"},
    {"id": 2, "n": 1e300, "s": "\u2028"},
    "text",
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_a_record_of_any_json_is_stored_alone_and_with_others(empty_url: str, odd: Any) -> None:
    class Odd:
        async def create(self, data: Any, params: Any) -> Any:
            return odd

    async with logged_app(empty_url, Column("team_id", Integer), tenant="team_id") as app:
        app.use("odd", Odd())
        await app.service("odd").create({})
        async with app.get("database").transaction():
            await app.service("odd").create({})
            app.service("odd").emit("created", odd)
        assert await entries_of(app, "record") == [odd, odd, odd]


async def test_a_record_without_a_json_form_has_no_entry_and_changes_no_answer(empty_url: str) -> None:
    class Objects:
        async def create(self, data: Any, params: Any) -> Any:
            return {"it": self}

    async with logged_app(empty_url) as app:
        app.use("objects", Objects())
        assert await app.service("objects").create({})
        app.service("objects").emit("created", {"it": object()})
        assert (await entries_of(app, "id"), app.callbacks.failed) == ([], 2)


async def test_the_id_of_a_record_is_text_whatever_its_type(empty_url: str) -> None:
    metadata = MetaData()
    things = Table("things", metadata, Column("id", Uuid, primary_key=True, default=uuid4))
    async with logged_app(empty_url) as app:
        await app.get("database").create_all(metadata)
        app.use("things", SQLService(things))
        ids = [str((await app.service("things").create({}))["id"]) for _ in range(2)]
        assert await entries_of(app, "record_id") == ids


async def test_a_record_of_a_megabyte_is_stored_whole(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        app.use("blobs", MemoryService())
        await app.service("blobs").create({"blob": "x" * 3_000_000})
        assert [len(record["blob"]) for record in await entries_of(app, "record")] == [3_000_000]


async def test_a_wrong_tenant_of_a_record_is_not_stored(empty_url: str) -> None:
    async with logged_app(empty_url, Column("team_id", Integer), tenant="team_id") as app:
        app.use("people", MemoryService())
        await app.service("people").create(
            [{"team_id": "x"}, {"team_id": [1]}, {"team_id": 5}], {"adapter": {"multi": True}}
        )
        assert await entries_of(app, "team_id") == [None, None, 5]


async def test_records_that_are_elsewhere_have_entries_in_the_order_of_their_states(empty_url: str) -> None:
    goes_on, store = asyncio.Event(), {1: Row({"id": 1})}

    def has_text(text: str) -> bool:
        return store[1].get("text") == text

    async def wait(context: Context) -> None:
        if context.data["text"] == "a":
            await goes_on.wait()

    async with logged_app(empty_url) as app:
        app.use("things", MemoryService(store=store), hooks={"after": {"patch": [wait]}})
        patches = list[asyncio.Task[Any]]()
        for text in "abc":
            patches.append(asyncio.create_task(app.service("things").patch(1, {"text": text})))
            await until(partial(has_text, text))
        await app.service("things").create({"id": 2, "text": "d"})
        goes_on.set()
        await asyncio.gather(*patches)
        assert [record["text"] for record in await entries_of(app, "record")] == ["d", "a", "b", "c"]


@pytest.mark.parametrize("fails", [False, True])
async def test_calls_that_hooks_make_have_their_entries_after_that_of_the_call(empty_url: str, fails: bool) -> None:
    async def add_slug(context: Context) -> None:
        if "slug" not in context.data:
            await context.service.patch(context.result["id"], {"slug": "s"})
            if fails:
                raise Conflict("afterwards")

    async with logged_app(empty_url) as app:
        store: dict[int, Row] = {1: {"id": 1}}
        app.use("things", MemoryService(store=store), hooks={"after": {"patch": [add_slug]}})
        things = app.service("things")
        await asyncio.gather(*(things.patch(1, {"n": n}) for n in range(5)), return_exceptions=fails)
        entries = await entries_of(app, "record")
        assert (len(entries), entries[-1]) == (5 if fails else 10, store[1])
        await things.patch(1, {"slug": "t"})
        assert (await entries_of(app, "record"))[-1] == {"id": 1, "n": 4, "slug": "t"}
