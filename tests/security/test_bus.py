"""The bus, attacked by somebody who can read and write the Redis of an app, but does not know its secret."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from apex import Apex, bus
from apex.encoding import encode
from apex.realtime.redis import RedisBus, RedisRates, Signer
from tests.realtime.test_bus import running, stats
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import until

SECRET, OTHER = "the secret of these tests " * 2, "another secret of these tests " * 2


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def attacker(redis: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis.url) as client:
        yield client


def worker(redis: RedisServer, heard: list[Any], secret: str = SECRET, previous: str | None = None) -> Apex:
    secrets = {"secret": secret, "previousSecret": previous}
    settings = {"redis": redis.url, "database_url": "sqlite:///one.db", "authentication": secrets}
    app = Apex(settings).configure(bus)
    app.bus.on("greeting", heard.append)
    return app


def bus_of(app: Apex) -> RedisBus:
    assert isinstance(app.bus, RedisBus)
    return app.bus


async def listening(*apps: Apex) -> None:
    await until(lambda: all(stats(app).connected for app in apps))


def message(number: int, greeting: str, moment: float | None = None, origin: str = "x") -> bytes:
    return encode([origin, number, time.time() if moment is None else moment, "greeting", greeting])


async def test_a_forged_or_altered_message_is_dropped_counted_and_logged_once(
    redis: RedisServer, attacker: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    app = worker(redis, heard)
    own, channel = Signer((SECRET,), bus_of(app).channel), bus_of(app).channel
    signed = own.sign(message(1, "a"))
    forged = [
        message(1, "forged"), b"{", b"", b"\n", b"\n" + message(1, "forged"), signed.replace(b'"a"', b'"b"'),
        Signer((OTHER,), channel).sign(message(1, "other secret")),
        Signer((SECRET,), "apex:another").sign(message(1, "other database")),
        Signer((), channel).sign(message(1, "no secret")),
    ]  # fmt: skip
    async with running(app):
        await listening(app)
        for text in (*forged, signed):
            await attacker.publish(channel, text)
        await until(lambda: heard)
    assert (heard, stats(app).refused, stats(app).received) == (["a"], len(forged), 1)
    assert caplog.text.count("refused") == 1


async def test_a_message_is_not_heard_again(redis: RedisServer, attacker: Redis) -> None:
    heard: list[Any] = []
    app = worker(redis, heard)
    own, channel, now = Signer((SECRET,), bus_of(app).channel), bus_of(app).channel, time.time()
    refused = [
        message(2, "again"), message(1, "out of order"), message(3, "old", now - 120), message(3, "ahead", now + 120),
        message(1, "of before this process", now - 20, "y"), message(1, "own", origin=bus_of(app).origin),
    ]  # fmt: skip
    async with running(app):
        await listening(app)
        for text in (message(2, "once"), *refused, message(3, "last")):
            await attacker.publish(channel, own.sign(text))
        await until(lambda: "last" in heard)
    assert (heard, stats(app).refused) == (["once", "last"], 5)  # One's own message comes back each time.


async def test_what_one_process_said_is_not_heard_by_one_that_starts_later(
    redis: RedisServer, attacker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex.realtime.redis.CLOCKS_DIFFER", 0)
    heard: list[Any] = []
    here, there, later = worker(redis, []), worker(redis, heard), worker(redis, heard)
    async with running(here, there), attacker.pubsub() as tap:
        await tap.subscribe(bus_of(here).channel)
        await listening(here, there)
        here.bus.send("greeting", "hello")
        await until(lambda: heard)
        recorded = [one["data"] async for one in _taken(tap, 1)]
    heard.clear()
    async with running(here, later):
        await listening(here, later)
        await attacker.publish(bus_of(here).channel, recorded[0])
        here.bus.send("greeting", "good day")
        await until(lambda: heard)
    assert (heard, stats(later).refused) == (["good day"], 1)


async def _taken(tap: Any, count: int) -> AsyncIterator[Any]:
    while count:
        one = await tap.get_message(timeout=1)
        if one is not None and one["type"] == "message":
            count -= 1
            yield one


async def test_processes_hear_each_other_while_a_secret_is_changed(redis: RedisServer) -> None:
    said: list[list[Any]] = [[], [], [], []]
    old, between, new, stranger = apps = (
        worker(redis, said[0]), worker(redis, said[1], OTHER, SECRET), worker(redis, said[2], OTHER),
        worker(redis, said[3], OTHER * 2),
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(*apps))
        await listening(*apps)
        for app, name in zip(apps, ("old", "between", "new", "stranger"), strict=True):
            app.bus.send("greeting", name)
        await until(lambda: all(stats(app).received + stats(app).refused == 3 for app in apps))
    assert [sorted(one) for one in said] == [["between"], ["new", "old"], ["between"], []]
    assert [stats(app).refused for app in (old, between, new, stranger)] == [2, 1, 2, 3]


@pytest.mark.parametrize("stored", ["nan", "inf", "1e300", "-1e300", "x"])
async def test_moments_that_others_store_lead_to_no_error(redis: RedisServer, attacker: Redis, stored: str) -> None:
    rates = RedisRates(redis.url, "one")
    await rates.take("a", 1, 60)
    (key,) = await attacker.keys("*rates:a")
    await attacker.delete(key)
    await attacker.rpush(key, stored)
    rate = await rates.take("a", 1, 60)
    assert 1 <= rate.reset <= 60
    await attacker.delete(key)
    await attacker.set(key, "no list")
    assert (await rates.take("a", 9, 60)).allowed
    await rates.close()
