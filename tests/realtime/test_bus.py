"""Tests of the bus, with apps that share a Redis like the processes of one app."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apex import Apex, Connection, MemoryService, bus, load_config
from apex.encoding import encode
from apex.errors import NotAuthenticated
from apex.realtime.redis import RedisBus, Signer
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo
from tests.core.test_events import Sent, following, to_all
from tests.services.accounts.test_audience import ADMIN, connect
from tests.services.crm import JANE, Crm
from tests.support.databases import stopped
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import SECONDS, until


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@asynccontextmanager
async def running(*apps: Apex) -> AsyncIterator[None]:
    for app in apps:
        await app.setup()
    try:
        yield
    finally:
        for app in apps:
            await app.teardown()


def worker(redis: RedisServer, name: str = "sqlite:///one.db") -> Apex:
    app = Apex({"redis": redis.url, "database_url": name}).configure(bus)
    return app.use("notes", MemoryService(), events=["typing"]).publish(to_all)


def stats(app: Apex) -> Any:
    assert app.bus.stats is not None
    return app.bus.stats


async def heard(app: Apex, sent: Sent, text: str) -> None:
    """Emit notes until one is received. Earlier messages are lost, as the other process does not listen yet."""
    async with asyncio.timeout(SECONDS):
        while text not in [data["text"] for _, data, _ in sent]:
            app.service("notes").emit("typing", {"text": text})
            await asyncio.sleep(0.02)


async def test_an_event_reaches_the_connections_of_every_process_once(redis: RedisServer) -> None:
    here, there = worker(redis), worker(redis)
    (mine, sent_here), (theirs, sent_there) = following(here), following(there)
    async with running(here, there):
        await until(lambda: stats(here).connected and stats(there).connected)
        for text in "abc":
            await here.service("notes").create({"text": text})
        await until(lambda: len(sent_there) == 3)
        await there.service("notes").create({"text": "d"})
        await until(lambda: len(sent_here) == 4)
    expected = [("notes created", {"text": text, "id": id}, ...) for text, id in zip("abcd", (0, 1, 2, 0), strict=True)]
    assert [(*one[:2], ...) for one in sent_here] == [(*one[:2], ...) for one in sent_there] == expected
    assert {one[2][0] for one in sent_here} == {mine}
    assert {one[2][0] for one in sent_there} == {theirs}


async def test_listeners_are_called_where_it_happened(redis: RedisServer) -> None:
    here, there, called = worker(redis), worker(redis), []
    for app in (here, there):
        app.service("notes").on("created", lambda item, context: called.append(context.app))
    _, sent = following(there)
    async with running(here, there):
        await until(lambda: stats(here).connected and stats(there).connected)
        await here.service("notes").create({"text": "a"})
        await until(lambda: sent)
    assert called == [here]


async def test_apps_on_other_databases_do_not_hear(redis: RedisServer) -> None:
    here, there, stranger = worker(redis), worker(redis), worker(redis, "sqlite:///two.db")
    (_, sent), (_, strange) = following(there), following(stranger)
    async with running(here, there, stranger):
        await until(lambda: stats(stranger).connected)
        await heard(here, sent, "a")
    assert strange == []


def test_all_handlers_of_a_topic_are_called_once() -> None:
    heard: list[str] = []
    handlers = [lambda message: heard.append(f"first {message}"), lambda message: heard.append(f"second {message}")]
    bus = Apex().bus
    for handler in (*handlers, *handlers):
        bus.on("greeting", handler)
    bus.handle("greeting", "hello")
    assert heard == ["first hello", "second hello"]


async def test_a_message_that_comes_twice_or_has_no_sense_is_handled_once_or_not(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    app = worker(redis)
    app.bus.on("greeting", told.append)
    async with running(app):
        assert isinstance(app.bus, RedisBus)
        await until(lambda: stats(app).connected)
        known = [["y", number, time.time(), "greeting", number] for number in (1, 1, 2, 1, 3)]
        for message in (["x", 1, time.time(), "unknown", {}], *known):
            await app.bus._redis.publish(app.bus.channel, Signer((), app.bus.channel).sign(encode(message)))
        await until(lambda: len(told) == 3)
    assert told == [1, 2, 3]
    assert caplog.text.count("A message of another process cannot be handled") == 1
    assert stats(app).refused == 2


async def test_without_redis_the_app_runs_and_logs_one_line(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    here, there, synced = worker(redis), worker(redis), []
    (_, sent_here), (_, sent_there) = following(here), following(there)

    async def sync() -> None:
        synced.append(1)

    here.bus.on_sync(sync)
    async with running(here, there):
        await heard(here, sent_there, "before")
        synced.clear()
        redis.kill()
        await until(lambda: not stats(here).connected and not stats(there).connected)
        await here.service("notes").create({"text": "meanwhile"})
        assert sent_here[-1][1]["text"] == "meanwhile"
        redis.start()
        await heard(here, sent_there, "after")
        await until(lambda: synced)
    assert caplog.text.count("Redis cannot be reached") == 2


async def test_a_redis_that_comes_late_is_found(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    redis.kill()
    here, there = worker(redis), worker(redis)
    _, sent = following(there)
    with caplog.at_level(logging.INFO, "apex"):
        async with running(here, there):
            await until(lambda: "Redis cannot be reached" in caplog.text)
            redis.start()
            await heard(here, sent, "hello")
    assert redis.url not in caplog.text


async def test_a_process_can_be_stopped_at_any_time(redis: RedisServer) -> None:
    for turns in range(60):
        app = await worker(redis).setup()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(SECONDS):
            await app.teardown()


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_process_ends_while_redis_is_silent_or_was_never_asked(redis: RedisServer, is_open: bool) -> None:
    app = worker(redis)
    if is_open:
        await app.setup()
        await until(lambda: stats(app).connected)
    with stopped(redis.process.pid):
        app.bus.send("greeting", 1)
        async with asyncio.timeout(SECONDS):
            await app.teardown()


async def test_messages_beyond_the_queue_are_dropped_and_counted(redis: RedisServer, monkeypatch: Any) -> None:
    monkeypatch.setattr("apex.realtime.redis.QUEUE", 2)
    app = worker(redis)
    for number in range(5):
        app.bus.send("greeting", number)
    app.bus.send("greeting", object())
    assert stats(app).dropped == 3


@asynccontextmanager
async def two_crms(redis: RedisServer, url: str) -> AsyncIterator[tuple[Crm, Crm]]:
    """Two processes of the CRM on one database."""
    environ = {"APEX_ENV": "test", "DATABASE_URL": url, "REDIS_URL": redis.url}
    here, there = (create_app(load_config(CONFIG, environ)) for _ in range(2))
    async with running(here, there):
        await load_demo(here)
        await until(lambda: stats(here).connected and stats(there).connected)
        yield Crm(here, None), Crm(there, None)  # type: ignore[arg-type]


async def test_the_crm_tells_members_wherever_they_are_connected(redis: RedisServer, migrated_url: str) -> None:
    async with two_crms(redis, migrated_url) as (here, there):
        connection, sent = await connect(there), []
        there.app.on("publish", lambda context, recipients: sent.append(recipients))
        await here.app.service("contacts").create(JANE)
        await until(lambda: sent)
        (payload,) = sent[0].values()
        assert (list(sent[0]), payload["first_name"]) == ([connection], "Jane")


async def test_a_role_that_changes_in_one_process_changes_in_all(redis: RedisServer, migrated_url: str) -> None:
    async with two_crms(redis, migrated_url) as (here, there):
        memberships, read = here.app.service("memberships"), there.app.service("memberships").of_user
        there.app.service("memberships").service.roles.clock = lambda: 0.0
        assert await read(790) == {456: "member"}
        (mine,) = await memberships.find({"query": {"user_id": 790}, "paginate": False})
        await memberships.patch(mine["id"], {"role": "admin"})
        async with asyncio.timeout(SECONDS):
            while await read(790) != {456: "admin"}:
                await asyncio.sleep(0.01)


async def test_a_session_that_ends_in_one_process_ends_in_all(redis: RedisServer, migrated_url: str) -> None:
    async with two_crms(redis, migrated_url) as (here, there):
        revoked, member, removed = await connect(there), await connect(there), await connect(there, "other@example.com")
        ended: list[Connection] = []
        there.app.on("disconnect", ended.append)
        proof = revoked.authentication
        await here.app.service("authentication").remove(None, {"authentication": proof})
        await until(lambda: ended == [revoked])
        assert there.app.get("defaultAuthentication").revoked
        await here.app.service("memberships").remove(
            None, {"query": {"user_id": 789}, "adapter": {"multi": ["remove"]}}
        )
        await until(lambda: member.channels == set())
        await here.app.service("users").remove(791)
        await until(lambda: ended == [revoked, removed])


async def test_a_new_password_ends_tokens_and_connections_elsewhere(redis: RedisServer, migrated_url: str) -> None:
    async with two_crms(redis, migrated_url) as (here, there):
        connection = await connect(there, ADMIN)
        token = connection.authentication["accessToken"]
        ended: list[Connection] = []
        there.app.on("disconnect", ended.append)
        await here.app.service("users").patch(789, {"password": "a new one for the test"})
        await until(lambda: ended == [connection])
        with pytest.raises(NotAuthenticated, match="Token revoked"):
            await there.app.service("authentication").create({"strategy": "jwt", "accessToken": token})


async def test_a_membership_that_begins_elsewhere_counts(redis: RedisServer, migrated_url: str) -> None:
    async with two_crms(redis, migrated_url) as (here, there):
        connection = await connect(there, ADMIN)
        await here.app.service("memberships").create({"user_id": 789, "organization_id": 457})
        theirs = {"organizations/456", "organizations/456/admins", "organizations/457"}
        await until(lambda: connection.channels == theirs)
