"""The bus of several processes that share a log alone, or with Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, SQLService, bus, database
from apex.cache import Cache
from apex.log import log, log_table
from apex.log.bus import LogBus
from apex.realtime.redis import Signer, connect
from tests.support.databases import stopped
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import SECONDS, until


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def process(url: str, bus_first: bool = True, **settings: Any) -> Apex:
    """Return an app with the service ``notes``, as one process of several has it."""
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(200)))
    app = Apex({"database_url": url, "metadata": metadata, **settings}).configure(database(url))
    with_log = log(log_table(metadata))
    for function in (bus, with_log) if bus_first else (with_log, bus):
        app.configure(function)
    return app.use("notes", SQLService(notes, multi=True))


@asynccontextmanager
async def running(*apps: Apex) -> AsyncIterator[None]:
    """Set the apps up on one database, whose tables the first of them creates."""
    async with AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(app.lifespan())
        await apps[0].get("database").create_all(apps[0].get("metadata"))
        yield


def broken(*args: Any) -> None:
    raise ValueError(args)


def log_bus(app: Apex) -> LogBus:
    assert isinstance(app.bus, LogBus)
    return app.bus


async def test_others_get_each_message_once_and_in_order(empty_url: str) -> None:
    here, there = process(empty_url), process(empty_url)
    heard: list[Any] = []
    there.bus.on("greeting", heard.append)
    here.bus.on("greeting", lambda message: heard.append("own"))
    async with running(here, there):
        for number in range(1_000):
            here.bus.send("greeting", number)
        assert await here.bus.flush()
        await until(lambda: len(heard) >= 1_000)
    assert heard == list(range(1_000))
    assert (log_bus(here).stats.sent, log_bus(there).stats.received, log_bus(here).stats.received) == (1_000, 1_000, 0)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans()), max_size=12))
async def test_a_message_in_a_transaction_is_sent_exactly_if_that_succeeds(
    sqlite_url: str, sent: list[tuple[str, bool, bool]]
) -> None:
    here, there = process(sqlite_url), process(sqlite_url)
    heard: list[Any] = []
    for topic in "ab":
        there.bus.on(topic, lambda message, topic=topic: heard.append((topic, message)))  # type: ignore[misc]
    there.bus.on("end", heard.append)
    async with running(here, there):
        for number, (topic, is_inside, fails) in enumerate(sent):
            if not is_inside:
                here.bus.send(topic, number)
                await here.bus.flush()
                continue
            try:
                async with here.get("database").transaction():
                    here.bus.send(topic, number)
                    if fails:
                        raise KeyError
            except KeyError:
                pass
        here.bus.send("end", "end")
        await until(lambda: "end" in heard)
    kept = [(topic, number) for number, (topic, is_inside, fails) in enumerate(sent) if not (is_inside and fails)]
    assert heard == [*kept, "end"]


@pytest.mark.parametrize("bus_first", [True, False])
async def test_redis_only_wakes_and_its_absence_loses_nothing(
    empty_url: str, redis: RedisServer, bus_first: bool
) -> None:
    here, there = (process(empty_url, bus_first, redis=redis.url) for _ in range(2))
    heard: list[Any] = []
    there.bus.on("greeting", heard.append)
    async with running(here, there):
        await until(lambda: log_bus(here).stats.connected and log_bus(there).stats.connected)
        here.bus.send("greeting", "with")
        await until(lambda: heard == ["with"])
        with stopped(redis.process.pid):
            here.bus.send("greeting", "hanging")
            await until(lambda: heard == ["with", "hanging"])
        redis.kill()
        await until(lambda: not log_bus(here).stats.connected)
        here.bus.send("greeting", "without")
        await until(lambda: heard == ["with", "hanging", "without"])
        assert await here.bus.is_reached()


async def test_a_forged_wake_up_is_only_a_read(sqlite_url: str, redis: RedisServer) -> None:
    app = process(sqlite_url, redis=redis.url)
    heard: list[Any] = []
    app.bus.on("greeting", heard.append)
    async with running(app):
        await until(lambda: log_bus(app).stats.connected)
        redis_bus: Any = log_bus(app)._redis
        client = connect(redis.url, 1)
        for topic in ("wake", "greeting"):
            text = f'["x", 1, 0, "{topic}", "forged"]'.encode()
            for signed in (text, Signer((), redis_bus.channel).sign(text)):
                await client.publish(redis_bus.channel, signed)
        await client.aclose()
        await until(lambda: log_bus(app).stats.refused == 4)
    assert heard == []


async def test_a_handler_that_fails_stops_no_other(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    here, there = process(sqlite_url), process(sqlite_url)
    heard: list[Any] = []
    there.bus.on("greeting", broken)
    there.bus.on("greeting", heard.append)
    there.bus.on_change("notes", broken)
    there.bus.on_change("notes", lambda event, record: heard.append((event, record["text"])))
    async with running(here, there):
        here.bus.send("unknown", 1)
        here.bus.send("greeting", 2)
        await here.bus.flush()
        await here.service("notes").create({"text": "a"})
        await until(lambda: heard == [2, ("created", "a")])
    assert caplog.text.count("A handler of") == 2


async def test_a_message_that_the_database_refuses_holds_up_no_other(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = process(sqlite_url), process(sqlite_url)
    heard: list[Any] = []
    there.bus.on("greeting", heard.append)
    async with running(here, there):
        here.bus.send("greeting", object())
        here.bus.send(None, "without a topic")  # type: ignore[arg-type]
        here.bus.send("greeting", "good")
        await until(lambda: heard == ["good"])
    assert log_bus(here).stats.dropped == 1
    assert "has no JSON form" in caplog.text
    assert "cannot be stored" in caplog.text


async def test_a_value_is_kept_until_its_record_changes_in_any_process(empty_url: str) -> None:
    here, there, asked = process(empty_url), process(empty_url), []

    async def find(id: int) -> str:
        asked.append(id)
        return str((await there.service("notes").get(id))["text"])

    texts = Cache(find)
    texts.follow(there, "notes", lambda note: note["id"])
    async with running(here, there):
        notes = here.service("notes")
        for text in "ab":
            await notes.create({"text": text})
        assert there.log is not None
        await there.log.catch_up()
        texts.clock = lambda: 0.0
        assert [await texts.get(id) for id in (1, 2)] == ["a", "b"]
        texts.clock = lambda: 800.0
        assert [await texts.get(id) for id in (1, 2)] == ["a", "b"]
        await notes.patch(1, {"text": "c"})
        async with asyncio.timeout(SECONDS):
            while await texts.get(1) != "c":
                await asyncio.sleep(0.002)
        await notes.remove(None, {"query": {"id": 2}})
    assert asked[:2] == [1, 2]
    assert 2 not in asked[2:]


async def test_values_are_not_kept_longer_while_the_log_is_not_current(sqlite_url: str) -> None:
    app, asked = process(sqlite_url), []

    async def find(key: str) -> str:
        asked.append(key)
        return key

    cache = Cache(find)
    cache.follow(app, "notes")
    for moment in (0.0, 0.8, 1.7):
        cache.clock = lambda moment=moment: moment  # type: ignore[misc]
        await cache.get("a")
    assert asked == ["a", "a"]
    async with running(app):
        await until(lambda: app.bus.is_current)
        await cache.get("a")
        assert asked == ["a", "a", "a"]  # It was found before anybody followed the log.
