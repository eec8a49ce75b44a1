"""Live events of an app with a log: before the answer, once, and for each record in order, whatever process writes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.schema import DropTable

from apex import Apex, Connection, Context, MemoryService, SQLService
from tests.log.apps import logged_app
from tests.support.waiting import until

Sent = list[tuple[str, Any]]


def to_all(data: Any, context: Context) -> Any:
    return context.app.channel("all")


def connected(app: Apex) -> Sent:
    """Open a connection that gets all events, and return what it gets."""
    sent: Sent = []
    app.on("publish", lambda context, _: sent.append((context.event, context.external)))
    connection = Connection()
    app.events.connections.add(connection)
    app.channel("all").join(connection)
    return sent


@asynccontextmanager
async def running(url: str, count: int = 1, **options: Any) -> AsyncIterator[list[Apex]]:
    """Run some processes of an app in this one, each with a log of its own."""
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(logged_app(url, **options)) for _ in range(count)]
        for app in apps:
            app.publish(to_all)
        yield apps


def names(sent: Sent) -> list[str]:
    return [event for event, _ in sent]


def texts(sent: Sent) -> list[str]:
    return [record["text"] for _, record in sent]


async def test_events_come_before_the_answer(empty_url: str) -> None:
    async with running(empty_url) as (app,):
        sent, notes = connected(app), app.service("notes")
        note = await notes.create({"text": "a"})
        assert texts(sent) == ["a"]
        await notes.patch(note["id"], {"text": "b"})
        assert texts(sent) == ["a", "b"]
        await notes.remove(note["id"])
        assert names(sent) == ["created", "patched", "removed"]
        await app.log.catch_up()  # type: ignore[union-attr]
        assert names(sent) == ["created", "patched", "removed"]


async def test_the_other_process_gets_them_once_and_in_order(empty_url: str) -> None:
    async with running(empty_url, 2) as (one, other):
        sent = connected(other)
        note = await one.service("notes").create({"text": "a"})
        for text in "bcd":
            await one.service("notes").patch(note["id"], {"text": text})
        await until(lambda: len(sent) == 4)
        assert texts(sent) == ["a", "b", "c", "d"]


async def test_writers_in_two_processes(empty_url: str) -> None:
    async with running(empty_url, 2) as apps:
        seen = [connected(app) for app in apps]
        ids = [(await apps[0].service("notes").create({"text": "0"}))["id"] for _ in range(3)]

        async def write(app: Apex, name: str) -> None:
            for number in range(40):
                id = ids[number % 3]
                text = f"{name}{number}"
                await app.service("notes").patch(id, {"text": text})
                assert (id, text) in [(record["id"], record["text"]) for _, record in seen[apps.index(app)]]

        await asyncio.gather(*(write(app, f"{n}{m} ") for n, app in enumerate(apps) for m in range(3)))
        await until(lambda: all(len(sent) == 243 for sent in seen))
        orders = []
        for sent in seen:
            order = defaultdict(list)
            for _, record in sent:
                order[record["id"]].append(record["text"])
            orders.append(order)
        assert orders[0] == orders[1]
        assert all(len(set(order)) == len(order) for order in orders[0].values())
        for id in ids:
            assert (await apps[0].service("notes").get(id))["text"] == orders[0][id][-1]


async def test_a_record_that_is_created_again_with_its_id(empty_url: str) -> None:
    async with running(empty_url, 2) as (one, other):
        seen = [connected(one), connected(other)]
        for text in "ab":
            await one.service("notes").create({"id": 7, "text": text})
            assert texts(seen[0])[-1] == text
            await other.service("notes").remove(7)
        await until(lambda: all(len(sent) == 4 for sent in seen))
        assert [names(sent) for sent in seen] == [["created", "removed"] * 2] * 2


async def test_a_record_that_gets_the_id_of_a_removed_one(tmp_path: Path) -> None:
    # SQLite gives an id again, unless the table has AUTOINCREMENT.
    async with running(f"sqlite:///{tmp_path}/log.db", 2) as (one, other):
        seen = [connected(one), connected(other)]
        for text in "ab":
            assert (await one.service("notes").create({"text": text}))["id"] == 1
            await other.service("notes").remove(1)
        await until(lambda: all(len(sent) == 4 for sent in seen))
        assert [names(sent) for sent in seen] == [["created", "removed"] * 2] * 2


async def test_publishers_that_wait_are_kept_in_order(empty_url: str) -> None:
    async with running(empty_url) as (app,):
        sent, gates = connected(app), {text: asyncio.Event() for text in "abc"}

        async def wait(data: Any, context: Context) -> Any:
            await gates[data["text"]].wait()
            return to_all(data, context)

        app.service("notes").publish(wait)
        note = await app.service("notes").create({"text": "a"})
        await app.service("notes").patch(note["id"], {"text": "b"})
        await app.service("notes").patch(note["id"], {"text": "c"})
        for text in "cba":
            gates[text].set()
        await app.callbacks.drain()
        assert texts(sent) == ["a", "b", "c"]


async def test_a_long_transaction_holds_nothing_back(postgres_url: str) -> None:
    async with running(postgres_url, 2) as (one, other):
        sent = connected(one)
        note = await other.service("notes").create({"text": "a"})
        async with one.get("database").transaction():
            await one.service("notes").create({"text": "late"})
            await asyncio.create_task(_patch_outside(other, note["id"]))
            await until(lambda: texts(sent) == ["a", "b"])
        assert texts(sent) == ["a", "b", "late"]


async def _patch_outside(app: Apex, id: int) -> None:
    await app.service("notes").patch(id, {"text": "b"})


async def test_the_events_of_a_transaction(empty_url: str) -> None:
    async with running(empty_url) as (app,):
        sent, notes = connected(app), app.service("notes")
        async with app.get("database").transaction():
            note = await notes.create({"text": "a"})
            await notes.patch(note["id"], {"text": "b"})
            assert sent == []
        assert texts(sent) == ["a", "b"]


async def test_custom_events_come_before_the_answer_too(empty_url: str) -> None:
    class Notes(SQLService):
        events = ["read"]

    def read(context: Context) -> None:
        context.service.emit("read", {"text": "seen"})

    async with running(empty_url, 2, service=Notes, hooks={"after": {"get": [read], "create": [read]}}) as (one, other):
        sent, others = connected(one), connected(other)
        note = await one.service("notes").create({"text": "a"})
        assert sorted(texts(sent)) == ["a", "seen"]
        await one.service("notes").get(note["id"])
        assert texts(sent)[2:] == ["seen"]
        await until(lambda: len(others) == 3)


async def test_a_custom_event_that_cannot_be_stored(empty_url: str, caplog: pytest.LogCaptureFixture) -> None:
    def wave(context: Context) -> None:
        context.service.emit("waved", {"text": "a"})

    async with running(empty_url) as (app,):
        app.use("people", MemoryService(events=["waved"]), hooks={"after": {"find": [wave]}})
        sent = connected(app)
        await app.get("database").execute(DropTable(app.log.table))  # type: ignore[union-attr]
        assert await app.service("people").find() == []
        assert texts(sent) == ["a"]
        assert "The event 'people waved' is not in the log" in caplog.text


async def test_services_that_are_not_in_the_database(empty_url: str) -> None:
    async with running(empty_url, 2) as (one, other):
        for app in (one, other):
            app.use("people", MemoryService())
        sent, others = connected(one), connected(other)
        await one.service("people").create({"text": "a"})
        async with one.get("database").transaction():
            await one.service("people").patch(0, {"text": "b"})
        assert texts(sent) == ["a", "b"]
        await until(lambda: texts(others) == ["a", "b"])


async def test_a_service_that_is_not_logged_reaches_the_own_connections(empty_url: str) -> None:
    class Counters(MemoryService):
        logged = False

    async with running(empty_url) as (app,):
        app.use("counters", Counters())
        sent = connected(app)
        await app.service("counters").create({"text": "a"})
        assert texts(sent) == ["a"]


async def test_publishers_get_the_same_live_and_from_the_log(empty_url: str) -> None:
    got: dict[int, list[Any]] = defaultdict(list)
    async with running(empty_url, 2) as apps:
        for number, app in enumerate(apps):
            connected(app)
            app.service("notes").publish(
                lambda data, context, number=number: got[number].append((data, context.to_dict()))
            )
        params = {"provider": "rest", "query": {"$select": ["text"]}, "user": {"id": 1, "password": "x"}}
        note = await apps[0].service("notes").create({"text": "a"}, params)
        await apps[0].service("notes").patch(note["id"], {"text": "b"}, params)
        await until(lambda: len(got[1]) == 2)
    assert got[0] == got[1]
    assert got[0][0][1]["params"]["user"] == {"id": 1}


async def test_listeners_run_in_the_process_of_the_call(empty_url: str) -> None:
    heard: list[str] = []
    async with running(empty_url, 2) as (one, other):
        for app in (one, other):
            connected(app)
            app.service("notes").on("patched", lambda note, app=app: heard.append(note["text"]))
        note = await one.service("notes").create({"text": "a"})
        await one.service("notes").patch(note["id"], {"text": "b"})
        await other.log.catch_up()  # type: ignore[union-attr]
        assert heard == ["b"]


async def test_a_call_that_is_cancelled_after_its_commit(empty_url: str) -> None:
    async with running(empty_url) as (app,):
        sent = connected(app)
        note = await app.service("notes").create({"text": "a"})
        app.service("notes").on("patched", lambda: task.cancel())
        task = asyncio.create_task(app.service("notes")._run("patch", id=note["id"], data={"text": "b"}))
        await asyncio.wait([task])
        await until(lambda: texts(sent) == ["a", "b"])


async def test_a_service_that_is_removed_meanwhile(empty_url: str) -> None:
    async with running(empty_url, 2) as (one, other):
        sent = connected(other)
        await other.unuse("notes")
        await one.service("notes").create({"text": "a"})
        await other.log.catch_up()  # type: ignore[union-attr]
        assert sent == []
        assert other.callbacks.failed == 0


async def test_a_publisher_that_fails(empty_url: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(data: Any, context: Context) -> Any:
        raise KeyError("team")

    async with running(empty_url) as (app,):
        connected(app)
        app.service("notes").publish("patched", fail)
        note = await app.service("notes").create({"text": "a"})
        await app.service("notes").patch(note["id"], {"text": "b"})
        assert "The publisher of 'notes patched' failed" in caplog.text
        assert app.callbacks.failed == 1
