"""Tests of rate limits: no window has more requests than the limit, in one process or several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from apex.errors import TooManyRequests
from apex.limits.rates import FailureLimit, Rate, RateLimiter, Rates
from apex.realtime.redis import RedisRates
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import SECONDS


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture(params=["process", "redis"])
async def rates(request: pytest.FixtureRequest) -> AsyncIterator[list[Rates]]:
    """The rates of one process, or of two that share a Redis."""
    if request.param == "process":
        one = Rates()
        yield [one, one]
        return
    url = request.getfixturevalue("redis").url
    both: list[Rates] = [RedisRates(url), RedisRates(url)]
    yield both
    for one in both:
        await one.close()


async def test_each_request_is_counted(rates: list[Rates]) -> None:
    taken = [await rates[number % 2].take("a", 2, 60) for number in range(4)]
    assert [(rate.allowed, rate.remaining) for rate in taken] == [(True, 1), (True, 0), (False, 0), (False, 0)]
    assert all(59 <= rate.reset <= 60 for rate in taken)
    assert (await rates[0].take("b", 2, 60)).allowed


async def test_ten_thousand_requests_at_once_do_not_exceed_the_limit(rates: list[Rates]) -> None:
    taken = await asyncio.gather(*(rates[number % 2].take("a", 1_000, 3_600) for number in range(10_000)))
    assert sum(rate.allowed for rate in taken) == 1_000
    assert min(rate.remaining for rate in taken) == 0


async def test_a_request_may_count_as_several(rates: list[Rates]) -> None:
    taken = [await rates[number % 2].take("a", 5, 60, amount) for number, amount in enumerate((3, 3, 2, 1))]
    assert [(rate.allowed, rate.remaining) for rate in taken] == [(True, 2), (False, 2), (True, 0), (False, 0)]
    assert all(59 <= rate.reset <= 60 for rate in taken)
    assert [(await rates[0].take("b", 5, 60, amount)).allowed for amount in (9, 1)] == [True, False]


async def test_a_look_does_not_count(rates: list[Rates]) -> None:
    looked = [await rates[number % 2].look("a", 1, 60) for number in range(3)]
    assert [(rate.allowed, rate.remaining) for rate in looked] == [(True, 1)] * 3
    assert (await rates[0].take("a", 1, 60)).allowed
    looked = [await one.look("a", 1, 60) for one in rates]
    assert [(rate.allowed, rate.remaining) for rate in looked] == [(False, 0)] * 2
    assert all(59 <= rate.reset <= 60 for rate in looked)


async def test_failures_are_counted_together(rates: list[Rates]) -> None:
    first, second = (FailureLimit("logins", lambda one=one: one, {"account": 2}) for one in rates)  # type: ignore[misc]
    for limit in (first, second):
        await limit.admit({"account": "ann"})
        await limit.fail({"account": "ann"})
    for limit in (first, second):
        with pytest.raises(TooManyRequests) as raised:
            await limit.admit({"account": "ann"})
        assert 59 <= int(raised.value.headers["Retry-After"]) <= 60
        await limit.admit({"account": "ben"})


async def test_the_former_parameter_of_failures_works_with_a_warning() -> None:
    limit = FailureLimit("logins", Rates, {"account": 2})
    for method in (limit.admit, limit.fail):
        with pytest.warns(DeprecationWarning, match="'who' is 'counters' now"):
            await method(who={"account": "ann"})  # type: ignore[call-arg]


async def test_the_window_slides(rates: list[Rates]) -> None:
    assert (await rates[0].take("a", 1, 1)).allowed
    async with asyncio.timeout(SECONDS):
        while not (await rates[1].take("a", 1, 1)).allowed:
            await asyncio.sleep(0.01)
    assert not (await rates[0].take("a", 1, 1)).allowed


async def test_names_are_evicted_after_their_window() -> None:
    rates = Rates()
    await rates.take("a", 1, 1)
    await rates.take("b", 1, 60)
    assert rates.counted == 2
    async with asyncio.timeout(SECONDS):
        while rates.counted != 1:
            await rates.take("b", 1, 60)
            await asyncio.sleep(0.01)


async def test_without_redis_each_process_counts_by_itself(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rates = RedisRates(redis.url)
    assert (await rates.take("a", 2, 60)).remaining == 1
    redis.kill()
    assert [(await rates.take("a", 2, 60)).allowed for _ in range(3)] == [True, True, False]
    assert caplog.text.count("each process counts rate limits by itself") == 1
    redis.start()
    async with asyncio.timeout(SECONDS):
        while (await rates.take("a", 2, 60)).remaining != 1:  # Redis has lost its counts and starts again.
            await asyncio.sleep(0.01)
    await rates.close()


def test_the_headers_show_the_rate() -> None:
    headers = {"RateLimit-Limit": "5", "RateLimit-Remaining": "4", "RateLimit-Reset": "9", "RateLimit-Policy": "5;w=60"}
    assert Rate(True, 5, 60, 4, 9).headers() == headers
    assert Rate(False, 5, 60, 0, 9).headers() == headers | {"RateLimit-Remaining": "0", "Retry-After": "9"}


async def test_processes_share_a_limit_in_batches(rates: list[Rates]) -> None:
    first, second = (RateLimiter(one, "users", 1_000, 60) for one in rates)

    async def allowed(limiter: RateLimiter, name: str = "a") -> bool:
        return limiter.spend(name) or await limiter.take(name) is None

    made = await asyncio.gather(*(allowed((first, second)[number % 2]) for number in range(2_000)))
    assert sum(made) == 1_000
    beyond = await first.take("a")
    assert beyond is not None
    assert (beyond.allowed, beyond.limit, beyond.remaining, 59 <= beyond.reset <= 60) == (False, 1_000, 0, True)
    assert await allowed(first, "b")


@pytest.mark.parametrize("limit", [1, 2, 99, 150, 10_000])
async def test_a_limit_is_exceeded_by_one_batch_at_most(limit: int) -> None:
    limiter, count = RateLimiter(Rates(), "users", limit, 60), 0
    while limiter.spend("a") or await limiter.take("a") is None:
        count += 1
    assert limit - limit // 100 <= count <= limit


async def test_the_rest_of_a_batch_expires_with_its_window() -> None:
    limiter = RateLimiter(Rates(), "users", 1_000, 1)
    assert await limiter.take("a") is None
    async with asyncio.timeout(SECONDS):
        while limiter.spend("a"):
            await asyncio.sleep(0.3)
        assert await limiter.take("b") is None
    assert list(limiter._batches) == ["b"]


def test_the_former_name_of_the_limiter_works_with_a_warning() -> None:
    module = import_module("apex.limits.rates")
    with pytest.warns(DeprecationWarning, match=r"apex\.limits\.rates\.Portions is RateLimiter now"):
        assert module.Portions is RateLimiter
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # noqa: B018
