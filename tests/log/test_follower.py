"""The follower: every entry once, in order, also after an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.schema import DropTable

from apex import Apex, database
from apex.errors import Unavailable
from apex.log import Entry, Log
from apex.log import log as plugin
from tests.log.entries import add, new_table, numbers, opened, row
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


def test_an_app_that_is_set_up_again_in_another_event_loop(sqlite_url: str) -> None:
    app = Apex().configure(database(sqlite_url)).configure(plugin(new_table()))
    made: Any = app.log
    entries: list[Entry] = []
    made.follow(entries.extend)

    async def run(number: int) -> None:
        async with app.lifespan():
            await made.database.create_all(made.table.metadata)
            await add(made, row(number))
            await made.catch_up()
            app.bus.send("news", number)
            await until(lambda: made.stats.handled == 2 * number)

    asyncio.run(run(1))
    asyncio.run(run(2))
    assert [entry.service for entry in entries] == ["notes", None] * 2


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
