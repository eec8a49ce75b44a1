"""The follower: every entry once, in order, also after an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.schema import DropTable

from apex.errors import Unavailable
from apex.log import Entry, Log
from tests.log.entries import add, numbers, opened, row
from tests.support.waiting import until


@asynccontextmanager
async def followed(url: str) -> AsyncIterator[tuple[Log, list[Entry]]]:
    """Follow a log, and collect its entries."""
    async with opened(url) as log:
        entries: list[Entry] = []
        log.follow(entries.extend)
        await log.open()
        try:
            yield log, entries
        finally:
            await log.close()


async def test_entries_are_handled_without_a_call(empty_url: str) -> None:
    async with followed(empty_url) as (log, entries):
        await add(log, row(1), row(2))
        await until(lambda: len(entries) == 2)
        assert numbers(entries) == [1, 2]
        assert log.is_current
        assert log.watermark.id == entries[-1].id == log.stats.last_id


async def test_catch_up_returns_when_all_that_was_committed_is_handled(empty_url: str) -> None:
    async with followed(empty_url) as (log, entries):

        async def write(number: int) -> bool:
            await add(log, row(number))
            await log.catch_up()
            return number in numbers(entries)

        assert all(await asyncio.gather(*map(write, range(50))))
        assert sorted(numbers(entries)) == list(range(50))


async def test_more_entries_than_a_page(empty_url: str) -> None:
    async with followed(empty_url) as (log, entries):
        await add(log, *map(row, range(2_500)))
        await log.catch_up()
        assert numbers(entries) == list(range(2_500))


async def test_an_outage(empty_url: str) -> None:
    async with followed(empty_url) as (log, entries):
        await add(log, row(1))
        await log.catch_up()
        await log.database.close()
        with pytest.raises(Unavailable):
            await log.catch_up()
        await log.database.open()
        await add(log, row(2))
        await until(lambda: len(entries) == 2)
        assert numbers(entries) == [1, 2]


async def test_a_handler_that_fails_does_not_hinder_the_others(empty_url: str) -> None:
    async with opened(empty_url) as log:
        entries: list[Entry] = []

        def fail(some: list[Entry]) -> None:
            raise RuntimeError

        log.follow(fail)
        log.follow(entries.extend)
        await log.open()
        await add(log, row(1))
        await log.catch_up()
        await log.close()
        assert numbers(entries) == [1]


async def test_recent_entries_are_in_memory(empty_url: str) -> None:
    async with followed(empty_url) as (log, _):
        begin = log.watermark
        await add(log, row(1, team=1), row(2, team=2))
        await log.catch_up()
        middle = log.watermark
        await add(log, row(3, team=2))
        await log.catch_up()
        found = [log.recent(begin, tenants=[2]), log.recent(begin), log.recent(middle)]
        assert [read and numbers(read.entries) for read in found] == [[2, 3], [1, 2, 3], [3]]
        assert {read and read.position for read in found} == {log.watermark}


async def test_older_entries_than_those_in_memory(empty_url: str) -> None:
    async with opened(empty_url) as log:
        before = await log.position()
        await add(log, row(1))
        await log.open()
        assert log.recent(before) is None
        assert numbers((await log.read(before)).entries) == [1]
        await log.close()


async def test_a_table_that_is_made_after_the_setup(empty_url: str) -> None:
    async with opened(empty_url) as log:
        await log.database.execute(DropTable(log.table))
        entries: list[Entry] = []
        log.follow(entries.extend)
        await log.open()
        await log.database.create_all(log.table.metadata)
        await add(log, row(1))
        await until(lambda: len(entries) == 1)
        await log.close()
