"""Creates that are stored together with their entry in one statement: the entry is the same as in a transaction."""

from __future__ import annotations

import gc
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, Column, Date, Float, ForeignKey, Integer, MetaData, String, Table, insert, text

from apex import Apex, Connection, Context, SQLService, database
from apex.common import audit
from apex.errors import BadRequest, Conflict, NotFound
from apex.hooks import keeps_result
from apex.log import log, log_table
from apex.sql import Fixed, Json, Timestamp
from apex.transaction import is_in_transaction
from apex.types import Row
from tests.log.apps import entries_of, logged_app

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
values = st.fixed_dictionaries(
    {},
    optional={
        "text": texts,
        "number": st.integers(-(2**31), 2**31 - 1),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "price": st.decimals(-(10**6), 10**6, places=2),
        "at": moments,
        "day": st.dates(date(1900, 1, 1), date(2200, 1, 1)),
        "is_open": st.booleans(),
        "json": st.recursive(
            st.none() | st.booleans() | texts | st.integers(-(2**53), 2**53),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
            max_leaves=5,
        ),
    },
)


@keeps_result
def keep(context: Context) -> None:
    """Do nothing."""


def look(context: Context) -> None:
    """Do nothing, which the framework cannot know."""


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(values, min_size=1, max_size=4), selected=st.none() | st.just(["text", "at"]))
async def test_the_entry_is_that_of_a_transaction(empty_url: str, rows: list[Row], selected: Any) -> None:
    query = {} if selected is None else {"$select": selected}
    metadata = MetaData()
    columns: dict[str, Any] = {
        "text": String(200), "number": Integer, "float": Float, "price": Fixed(2), "at": Timestamp, "day": Date,
        "is_open": Boolean, "json": Json,
    }  # fmt: skip
    tables = [
        Table(name, metadata, Column("id", Integer, primary_key=True), *(Column(one, columns[one]) for one in columns))
        for name in ("quick", "slow")
    ]
    app = Apex().configure(database(empty_url)).configure(log(log_table(metadata)))
    app.use("quick", SQLService(tables[0]), hooks={"after": {"all": [keep]}})
    app.use("slow", SQLService(tables[1]), hooks={"after": {"all": [look]}})
    await app.setup()
    try:
        for name in metadata.tables:
            await app.get("database").execute(text(f"DROP TABLE IF EXISTS {name}"))
        await app.get("database").create_all(metadata)
        for path in ("quick", "slow"):
            service, params = app.service(path), {"provider": "rest", "query": query}
            for row in rows:
                await service.create(row, params)
            await service.create(rows, {**params, "adapter": {"multi": True}})
            await service.patch(1, rows[-1], params)
            await service.update(1, rows[-1], params)
            await service.remove(1, params)
        found = await entries_of(app, "service", "event", "method", "record_id", "record", "call", "before")
    finally:
        await app.teardown()
    assert [row[1:] for row in found if row[0] == "quick"] == [row[1:] for row in found if row[0] == "slow"]
    assert len(found) == 2 * (2 * len(rows) + 3)


async def test_a_marked_hook_that_fails_does_not_undo_a_create(empty_url: str) -> None:
    @keeps_result
    def fail(context: Context) -> None:
        raise Conflict("afterwards")

    async with logged_app(empty_url, hooks={"after": {"create": [fail]}}) as app:
        with pytest.raises(Conflict):
            await app.service("notes").create({"text": "a"})
        assert await entries_of(app, "event", "record_id") == [("created", "1")]


async def test_a_create_with_marked_hooks_begins_no_transaction(empty_url: str) -> None:
    seen: list[bool] = []

    @keeps_result
    def look(context: Context) -> None:
        seen.append(is_in_transaction())

    async with logged_app(empty_url, hooks={"after": {"create": [look]}}) as app:
        await app.service("notes").create({"text": "a"})
        await app.service("notes").create([{"text": "b"}])
        assert await entries_of(app, "id") == [1, 2]
    assert seen == [False, False]


async def test_many_records_are_stored_without_a_transaction_around_them(empty_url: str) -> None:
    seen: list[bool] = []
    metadata = MetaData()
    text = Column("text", String(200), default=lambda: seen.append(is_in_transaction()))
    marks = Table("marks", metadata, Column("id", Integer, primary_key=True), text)
    async with logged_app(empty_url) as app:
        await app.get("database").create_all(metadata)
        app.use("marks", SQLService(marks, multi=True))
        await app.service("marks").create([{}, {}])
        assert await entries_of(app, "event", "record_id") == [("created", "1"), ("created", "2")]
    assert seen == [False, False]


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a"}, {"text": "b"}, {"team_id": 1}],
        [{}, {}],
        [{"id": 5, "text": "a"}, {"id": 3}, {"id": 4}],
        [{"id": 50}, {"text": "a"}, {}, {"id": 30, "text": "b"}],
        [],
    ],
)
async def test_many_records_come_in_their_order_each_with_its_entry(empty_url: str, rows: list[Row]) -> None:
    async with logged_app(empty_url) as app:
        made = await app.service("notes").create(rows)
        entries = await entries_of(app, "record_id", "record")
    assert [{name: record[name] for name in row} for row, record in zip(rows, made, strict=True)] == rows
    assert sorted(entries) == sorted((str(record["id"]), record) for record in made)


@pytest.mark.parametrize("is_made", [False, True])
async def test_many_records_may_have_ids_of_text(empty_url: str, is_made: bool) -> None:
    metadata = MetaData()
    id = Column("id", String(400), primary_key=True, default=(lambda: f"{uuid4()}") if is_made else None)
    marks = Table("marks", metadata, id, Column("text", String(200)))
    async with logged_app(empty_url) as app:
        await app.get("database").create_all(metadata)
        app.use("marks", SQLService(marks, multi=True))
        rows: list[Row] = [{"text": text} if is_made else {"id": f"{'x' * 300}{text}", "text": text} for text in "cab"]
        made = await app.service("marks").create(rows)
        entries = await entries_of(app, "record")
    assert [record["text"] for record in made] == ["c", "a", "b"]
    assert sorted(entries, key=repr) == sorted(made, key=repr)


async def test_many_records_have_the_entries_of_their_events(empty_url: str) -> None:
    seen: list[tuple[str, int]] = []

    def publish(data: Any, context: Context) -> None:
        assert context.entry is not None
        seen.append((str(data["id"]), context.entry.id))

    async with logged_app(empty_url) as app:
        app.publish(publish)
        app.events.connections.add(Connection())
        await app.service("notes").create([{"text": text} for text in "abcdefghijkl"])
        assert seen == await entries_of(app, "record_id", "id")


async def test_many_records_with_one_that_breaks_a_rule_are_not_stored(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        notes = app.service("notes")
        await notes.create({"id": 2})
        with pytest.raises(Conflict):
            await notes.create([{"id": 1}, {"id": 2}, {"id": 3}])
        assert await entries_of(app, "record_id") == [str(row["id"]) for row in await notes.find()] == ["2"]


@pytest.mark.parametrize("data", [[None], ["a"], [[]], [{"text": "a"}, None]])
async def test_many_records_that_are_none_are_refused(empty_url: str, data: Any) -> None:
    async with logged_app(empty_url) as app:
        with pytest.raises(BadRequest):
            await app.service("notes").create(data)
        assert await entries_of(app, "id") == await app.service("notes").find() == []


async def test_the_entry_of_a_create_in_a_transaction_is_undone_with_it(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        with suppress(Conflict):
            async with app.get("database").transaction():
                await app.service("notes").create({"text": "a"})
                raise Conflict("undone")
        assert await entries_of(app, "id") == await app.service("notes").find() == []


async def test_a_broken_rule_is_told_as_without_a_log(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        await app.service("notes").create({"id": 1})
        with pytest.raises(Conflict) as caught:
            await app.service("notes").create({"id": 1})
        assert caught.value.errors == {"id": "Is taken"}
        assert await entries_of(app, "id") == [1]


@pytest.mark.parametrize("scope", [{}, {"text": "b"}])
async def test_a_change_that_finds_no_record_has_no_entry(empty_url: str, scope: Row) -> None:
    async with logged_app(empty_url) as app:
        notes, id = app.service("notes"), 1 if scope else 9
        await notes.create({"text": "a"})
        for change in (notes.patch(id, {"team_id": 1}, {"scope": scope}), notes.remove(id, {"scope": scope})):
            with pytest.raises(NotFound):
                await change
        assert await entries_of(app, "event") == ["created"]


@pytest.mark.parametrize("hook", [keep, keeps_result(lambda context: None, lambda context: True)])
async def test_a_patch_without_data_has_an_entry(empty_url: str, hook: Any) -> None:
    async with logged_app(empty_url, hooks={"after": {"all": [hook]}}) as app:
        await app.service("notes").create({"text": "a"})
        await app.service("notes").patch(1, {})
        assert await entries_of(app, "event", "record_id") == [("created", "1"), ("patched", "1")]


async def test_entries_in_a_transaction_have_the_order_of_its_changes(empty_url: str) -> None:
    async with logged_app(empty_url, hooks={"after": {"create": [look]}}) as app:
        async with app.get("database").transaction():
            await app.service("notes").create({"text": "a"})
            await app.service("notes").patch(1, {"text": "b"})
        assert await entries_of(app, "event") == ["created", "patched"]


async def test_a_removal_that_a_key_forbids_has_no_entry(empty_url: str) -> None:
    metadata = MetaData()
    parents = Table("parents", metadata, Column("id", Integer, primary_key=True))
    Table("parts", metadata, Column("id", Integer, primary_key=True), Column("of", ForeignKey("parents.id")))
    async with logged_app(empty_url) as app:
        await app.get("database").create_all(metadata)
        app.use("parents", SQLService(parents))
        await app.service("parents").create({})
        await app.get("database").execute(insert(metadata.tables["parts"]), {"of": 1})
        with pytest.raises(BadRequest):
            await app.service("parents").remove(1)
        assert await entries_of(app, "event") == ["created"]


async def test_an_audit_fills_its_columns_of_the_entry_of_a_patch(empty_url: str) -> None:
    hooks = {"after": {"all": [audit()]}}
    async with logged_app(empty_url, Column("after", Json), hooks=hooks) as app:
        await app.service("notes").create({"text": "a"})
        await app.service("notes").patch(1, {"text": "b"})
        assert [row and row["text"] for row in await entries_of(app, "after")] == [None, "b"]


async def test_a_call_is_freed_with_its_entries(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        notes = app.service("notes")
        await notes.create({"text": "a"})
        gc.collect()
        gc.disable()
        try:
            for method in (notes.create, lambda data: notes.patch(1, data)):
                await method({"text": "b"})
            assert not [one for one in gc.get_objects() if isinstance(one, Context) and one.app is app]
        finally:
            gc.enable()
