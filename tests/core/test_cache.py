"""What is remembered for a while: how much, for how long, and that nothing outlives being forgotten."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

from apex.cache import CACHE_SECONDS, BoundedDict, Cache
from tests.support.waiting import SECONDS

CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


class Source:
    """Finds what ``holds`` has, once its ``door`` is open; ``asked`` are the keys it was asked for."""

    def __init__(self, **holds: str) -> None:
        self.holds = dict(holds)
        self.asked: list[str] = []
        self.callers: set[str] = set()
        self.door = asyncio.Event()
        self.door.set()
        self.cache: Cache[str, str] = Cache(self.find)

    async def find(self, key: str) -> str | None:
        self.asked.append(key)
        self.callers.add(CALLER.get())
        found = self.holds.get(key)
        await self.door.wait()
        if found == "bad":
            raise ValueError(key)
        return found

    async def begin(self, *keys: str) -> list[asyncio.Task[str | None]]:
        """As many calls, all waiting for a source whose door is closed."""
        self.door.clear()
        calls, times = [asyncio.create_task(self.cache.get(key)) for key in keys], len(self.asked)
        async with asyncio.timeout(SECONDS):
            while not {*keys} <= {*self.asked[times:]}:
                await asyncio.sleep(0)
        return calls


def test_the_oldest_entry_makes_room() -> None:
    bounded: BoundedDict[int, str] = BoundedDict(2)
    for number in (1, 2, 1, 3):
        bounded[number] = str(number)
    assert bounded == {2: "2", 3: "3"}


async def test_a_value_is_found_once_until_it_is_old() -> None:
    source = Source(a="1")
    for moment, times in ((100.0, 1), (100 + CACHE_SECONDS - 0.01, 1), (100 + CACHE_SECONDS, 2)):
        source.cache.clock = lambda moment=moment: moment  # type: ignore[misc]
        assert await source.cache.get("a") == "1"
        assert len(source.asked) == times


async def test_a_value_is_as_old_as_the_question() -> None:
    source = Source(a="1")
    source.cache.clock = lambda: 100.0
    (call,) = await source.begin("a")
    source.cache.clock = lambda: 101.0
    source.door.set()
    await call
    await source.cache.get("a")
    assert source.asked == ["a", "a"]


async def test_a_value_that_is_old_is_let_go() -> None:
    class Value:
        pass

    async def find(key: str) -> Value:
        return Value()

    cache = Cache(find)
    cache.clock = lambda: 100.0
    old = weakref.ref(await cache.get("a"))
    cache.clock = lambda: 100 + CACHE_SECONDS
    await cache.get("b")
    gc.collect()
    assert old() is None


async def test_that_there_is_nothing_is_not_remembered() -> None:
    source = Source()
    assert await source.cache.get("a") is None
    source.holds["a"] = "1"
    assert await source.cache.get("a") == "1"


async def test_what_is_forgotten_is_found_anew() -> None:
    source = Source(a="1", b="2", c="3")
    for key in "abc":
        await source.cache.get(key)
    source.cache.forget("a", "unknown")
    for key in "abc":
        await source.cache.get(key)
    source.cache.forget()
    for key in "abc":
        await source.cache.get(key)
    assert source.asked == [*"abc", "a", *"abc"]


async def test_calls_at_the_same_moment_ask_once() -> None:
    source = Source(a="1", b="2")
    calls = await source.begin("a", "b", "a", "a")
    source.door.set()
    assert await asyncio.gather(*calls) == ["1", "2", "1", "1"]
    assert source.asked == ["a", "b"]


@pytest.mark.parametrize("keys", [(), ("a",)])
async def test_an_answer_on_its_way_does_not_bring_back_what_was_forgotten(keys: tuple[str, ...]) -> None:
    source = Source(a="old")
    (call,) = await source.begin("a")
    source.holds["a"] = "new"
    source.cache.forget(*keys)
    source.door.set()
    assert await call == "old"
    assert await source.cache.get("a") == "new"


async def test_who_comes_after_the_change_does_not_wait_for_an_earlier_answer() -> None:
    source = Source(a="old")
    (before,) = await source.begin("a")
    source.holds["a"] = "new"
    source.cache.forget("a")
    (after,) = await source.begin("a")
    source.door.set()
    assert (await before, await after) == ("old", "new")


async def test_a_call_that_is_cancelled_takes_no_other_along() -> None:
    source = Source(a="1")
    first, second = await source.begin("a", "a")
    first.cancel()
    source.door.set()
    assert await second == "1"
    assert source.asked == ["a"]


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered() -> None:
    source = Source(a="bad")
    calls = await source.begin("a", "a")
    source.door.set()
    assert [type(answer) for answer in await asyncio.gather(*calls, return_exceptions=True)] == [ValueError] * 2
    source.holds["a"] = "1"
    assert await source.cache.get("a") == "1"


async def test_a_question_is_not_part_of_the_call_that_asks() -> None:
    source = Source(a="1")
    CALLER.set("somebody")
    await source.cache.get("a")
    assert source.callers == {"nobody"}
