"""Rate limits across processes that share a log, without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex import Apex
from apex.encoding import encode
from apex.errors import TooManyRequests
from apex.limits import FailureLimit, RateLimiter, Rates, rates
from apex.limits.shared import MOST_REPORTED, MOST_WAITING, SharedRates
from apex.realtime.bus import Bus
from tests.log.test_bus import process, running
from tests.support.waiting import SECONDS, until

NAMES = ("users/7", "addresses/203.0.113.7")


@asynccontextmanager
async def sharing(url: str, count: int = 2) -> AsyncIterator[list[Rates]]:
    """Yield the rates of several processes."""
    apps = [process(url).configure(rates) for _ in range(count)]
    async with running(*apps):
        await until(lambda: all(app.bus.is_current for app in apps))
        yield [app.get("rates") for app in apps]


async def told(those: list[Rates], name: str, limit: int, remaining: int) -> None:
    """Wait until all processes know how many requests are left."""
    async with asyncio.timeout(SECONDS):
        while {(await one.look(name, limit, 60)).remaining for one in those} != {remaining}:
            await asyncio.sleep(0.002)


async def test_processes_tell_each_other_what_they_have_counted(empty_url: str) -> None:
    async with sharing(empty_url) as (here, there):
        for _ in range(3):
            await here.take("a", 5, 60)
        await told([here, there], "a", 5, 2)
        assert [(await there.take("a", 5, 60)).allowed for _ in range(3)] == [True, True, False]
        await told([here, there], "a", 5, 0)
        assert not (await here.take("a", 5, 60)).allowed
        assert (await here.take("b", 5, 60)).allowed


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    taken=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(NAMES), st.integers(1, 4)), max_size=20),
    limit=st.integers(1, 50),
)
async def test_once_told_a_limit_holds_across_processes(
    sqlite_url: str, taken: list[tuple[int, str, int]], limit: int
) -> None:
    async with sharing(sqlite_url, 3) as those:
        left = dict.fromkeys(NAMES, limit)
        for number, name, amount in taken:
            rate = await those[number].take(name, limit, 60, amount)
            assert rate.allowed == (min(amount, limit) <= left[name])
            left[name] -= min(amount, limit) * rate.allowed
            await told(those, name, limit, left[name])


async def test_failures_in_one_process_count_in_the_other(sqlite_url: str) -> None:
    async with sharing(sqlite_url) as those:
        first, second = (FailureLimit("logins", lambda one=one: one, {"account": 2}) for one in those)  # type: ignore[misc]
        for _ in range(2):
            await first.fail({"account": "ann"})
        await told(those, "logins/account/ann/60", 2, 0)
        with pytest.raises(TooManyRequests):
            await second.admit({"account": "ann"})


async def test_batches_are_shared(sqlite_url: str) -> None:
    async with sharing(sqlite_url) as those:
        first, second = (RateLimiter(one, "users", 1_000, 60) for one in those)
        for _ in range(990):
            assert first.spend("a") or await first.take("a") is None
        async with asyncio.timeout(SECONDS):
            while (await those[1].look("users/a", 100, 60)).remaining > 1:
                await asyncio.sleep(0.002)
        counted = 0
        while second.spend("a") or await second.take("a") is None:
            counted += 1
        assert counted == 10


class Heard(Bus):
    """A bus that keeps the messages."""

    is_current = True

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []

    def send(self, topic: str, message: Any) -> None:
        self.messages.append(encode(message))


async def test_many_names_make_few_and_short_messages() -> None:
    app = Apex()
    app.bus = bus = Heard()
    shared = SharedRates(app)
    for number in range(50_000):
        await shared.take(f"addresses/{number}", 60, 60)
    for _ in range(60):
        await shared.take("users/7", 100, 60)
    await until(lambda: len(bus.messages) >= 3)
    assert max(map(len, bus.messages)) < 40 * MOST_REPORTED
    assert len(shared._due) <= MOST_WAITING
    assert b":60" in bus.messages[0]  # The name that is nearest to its limit is among the first.
    assert b"addresses" not in b"".join(bus.messages)
    await shared.close()


async def test_few_requests_of_a_large_limit_are_told_together() -> None:
    app = Apex()
    app.bus = bus = Heard()
    shared = SharedRates(app)
    for _ in range(9):
        await shared.take("users/7", 1_000, 60)
    assert shared._timer is None
    await shared.take("users/7", 1_000, 60)
    await until(lambda: bus.messages)
    assert b":10" in bus.messages[0]
    await shared.close()


async def test_an_app_without_a_log_tells_nothing() -> None:
    app = Apex().configure(rates)
    assert (await app.get("rates").take("a", 1, 60)).allowed
    assert not (await app.get("rates").take("a", 1, 60)).allowed
    assert app.get("rates")._timer is None
