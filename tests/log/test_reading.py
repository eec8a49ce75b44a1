"""Reading the log: each entry once, whatever transactions are open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import MetaData, insert, select

from apex import Apex, database
from apex.errors import ConfigError
from apex.log import Log, Position, Read, log_table
from apex.log import log as install
from apex.log.settings import Settings
from apex.migrations import enable_row_level_security, prepare_row_level_security
from apex.migrations.revisions import connect
from apex.tenant import ROLE, tenant_context
from tests.log.entries import add, numbers, opened, read_all, row


async def test_entries_after_a_position_are_read_in_pages(empty_url: str) -> None:
    async with opened(empty_url) as log:
        await add(log, row(0))
        position = await log.position()
        await add(log, *(row(number) for number in range(1, 8)))
        entries, after = await read_all(log, position, limit=3)
        assert numbers(entries) == [1, 2, 3, 4, 5, 6, 7]
        assert (await log.read(after)).entries == []
        assert numbers((await read_all(log, position))[0]) == [1, 2, 3, 4, 5, 6, 7]


async def test_filters(empty_url: str) -> None:
    async with opened(empty_url) as log:
        begin = await log.position()
        rows = [row(1, "a", 1), row(2, "b", 2), row(3, "a", None), row(4, "a", 2, "tags"), row(5, service=None)]
        await add(log, *rows)

        async def found(**options: object) -> list[int]:
            for limit in (1, 2, 1000):
                entries, after = await read_all(log, begin, limit, **options)
                assert (await log.read(after)).entries == []
            return numbers(entries)

        assert await found(tenants=[2]) == [2, 4]
        assert await found(tenants=[1, None]) == [1, 3, 5]
        assert await found(tenants=[]) == []
        assert await found(services=["notes"], record_id="a") == [1, 3]
        assert await found(services=["tags", None]) == [4, 5]
        assert await found(event="created") == []


async def test_entries_since_a_moment_are_read_from_its_position(empty_url: str) -> None:
    async with opened(empty_url) as log:
        start, noon = (datetime(2026, 5, 1, hour, tzinfo=UTC) for hour in (6, 12))
        await add(log, row(1, team=1) | {"created_at": start})
        await add(log, row(2, team=1) | {"created_at": noon}, row(3, team=2) | {"created_at": noon})
        assert numbers((await read_all(log, await log.position_at(noon)))[0]) == [2, 3]
        assert numbers((await read_all(log, await log.position_at(start, tenants=[2]), tenants=[2]))[0]) == [3]
        assert (await read_all(log, await log.position_at(noon + timedelta(seconds=1))))[0] == []


async def test_a_read_inside_a_transaction_does_not_see_what_may_be_undone(empty_url: str) -> None:
    async with opened(empty_url) as log:
        begin = await log.position()
        async with log.database.transaction():
            await log.database.execute(insert(log.table), row(1))
            entries, after, _ = await log.read(begin)
            assert entries == []
        assert numbers((await log.read(after)).entries) == [1]


async def test_row_level_security_does_not_hide_that_an_entry_is_there(postgres_url: str) -> None:
    async with opened(postgres_url) as log:
        with connect(postgres_url) as connection, Operations.context(MigrationContext.configure(connection)):
            prepare_row_level_security()
            enable_row_level_security("log", "team")
            connection.commit()
        await add(log, row(1, team=2))
        position = await log.position()
        app = Apex().configure(database(postgres_url, role=ROLE))
        other = Log(app, log.table, Settings())
        await other.database.open()
        with tenant_context("1"):
            assert await other.database.execute(select(log.table.c.id)) == []
            await other.check(position)
            assert numbers((await other.read(position)).entries) == []
        await other.database.close()


async def test_an_entry_has_what_was_stored(empty_url: str) -> None:
    async with opened(empty_url) as log:
        begin = await log.position()
        stored = {**row(1, team=3), "before": {"n": 0}, "call": {"id": 1, "params": {"provider": None}}}
        await add(log, stored)
        entry = (await log.read(begin)).entries[0]
        assert [entry.before, entry.record, entry.call] == [stored["before"], stored["record"], stored["call"]]
        assert (entry.tenant, entry.origin, entry.service, entry.record_id) == (3, "test", "notes", "1")
        assert entry.message() == {
            "path": "notes", "event": "patched", "method": "patch", "result": {"n": 1}, "before": {"n": 0},
            "id": 1, "params": {"provider": None},
        }  # fmt: skip


async def test_positions_in_their_order(empty_url: str) -> None:
    async with opened(empty_url) as log:
        positions = [await log.position()]
        for number in range(3):
            await add(log, row(number))
            positions.append(await log.position())
        assert all(a <= b for a, b in pairwise(positions))
        assert not any(b <= a for a, b in pairwise(positions))
        assert [Position.parse(str(one)) for one in positions] == positions


async def test_what_a_log_cannot_read_names_the_rule(empty_url: str) -> None:
    table = log_table(MetaData())
    with pytest.raises(TypeError, match="takes the table of the log and not the app"):
        install(Apex())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="before log"):
        Apex().configure(install(table))
    log = Log(Apex().configure(database(empty_url)), table, Settings())
    with pytest.raises(RuntimeError, match="from the setup of the app on"):
        _ = log.watermark
    await log.database.open()
    await log.database.create_all(table.metadata)
    begin = await log.position()
    with pytest.raises(ValueError, match="limit must be at least 1"):
        await log.read(begin, limit=0)
    with pytest.raises(ValueError, match="The log has no tenants"):
        await log.read(begin, tenants=[1])
    await log.database.close()


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_a_read_of_large_entries_ends_after_a_mebibyte(empty_url: str, limit: int) -> None:
    sizes = [1, 400_000, 10, 700_000, 3_000_000, 1, 2, 2_000_000, 5]
    async with opened(empty_url) as log:
        begin = await log.position()
        for number, size in enumerate(sizes):
            await add(log, {**row(number), "record": {"n": number, "text": "x" * size}, "before": {"text": "ä"}})
        found, read, pages = list[int](), Read([], begin, True), 0
        while read.more:
            read = await log.read(read.position, limit=limit)
            assert sum(entry.size for entry in read.entries[:-1]) < 1 << 20
            found, pages = found + numbers(read.entries), pages + 1
    assert found == [*range(len(sizes))]
    assert pages == {1: 9, 3: 4, 1000: 4}[limit]


async def test_the_text_of_a_position_has_to_be_parsed(sqlite_url: str) -> None:
    async with opened(sqlite_url) as log:
        text: Any = str(await log.position())
        for ask in (log.read, log.check):
            with pytest.raises(TypeError, match=r"takes a Position: Position.parse\(text\), and not str"):
                await ask(text)


async def test_an_entry_that_is_printed_says_what_it_is(sqlite_url: str) -> None:
    async with opened(sqlite_url) as log:
        await add(log, row(1, "a"))
        [entry] = (await log.read(await log.beginning())).entries
    assert repr(entry) == f"<Entry 1: {entry.service} {entry.event} {entry.record_id}>"
