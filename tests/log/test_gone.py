"""Positions that the log does not have: forged ones, old ones, and those of another or a restored database."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text, update

from apex.errors import Gone
from apex.log import Log, Position
from apex.log.position import Snapshot
from tests.log.entries import add, numbers, opened, read_all, row
from tests.support.databases import Server, find_binaries, new_database, start_server
from tests.support.waiting import until


async def is_gone(log: Log, position: Position) -> bool:
    try:
        await log.check(Position.parse(str(position)))
    except Gone:
        return True
    return False


async def test_a_position_of_now_is_there(empty_url: str) -> None:
    async with opened(empty_url) as log:
        assert not await is_gone(log, await log.position())
        await add(log, row(1), row(2), row(3))
        assert not await is_gone(log, await log.position())
        page = await log.read(await log.position(), limit=1)
        assert not await is_gone(log, page.position)


async def test_another_epoch_another_entry_and_the_future(empty_url: str) -> None:
    async with opened(empty_url) as log:
        await add(log, row(1))
        now = await log.position()
        wrong = [replace(now, epoch="abc"), replace(now, id=now.id + 1), replace(now, moment=now.moment + 1)]
        if now.seen is None:
            wrong += [Position("0", 5, 5), replace(now, seen=Snapshot(1))]
        else:
            later = Snapshot(now.seen.xmax + 10_000)
            wrong += [replace(now, seen=later), replace(now, reading=later), replace(now, seen=None)]
        for position in wrong:
            assert await is_gone(log, position), position
        with pytest.raises(Gone, match="read the records again"):
            await log.read(replace(now, epoch="abc"))


@pytest.mark.parametrize("url", ["sqlite_url", "postgres_url"])
def test_no_text_of_a_position_breaks_the_log(url: str, request: pytest.FixtureRequest) -> None:
    with asyncio.Runner() as runner:
        opening = opened(request.getfixturevalue(url))
        log = runner.run(opening.__aenter__())
        runner.run(add(log, row(1), row(2)))
        now = str(runner.run(log.position())).split(".")
        part = st.from_regex(r"[0-9a-z]{1,13}(-[0-9a-z]{1,4}){0,3}", fullmatch=True)
        parts = st.tuples(*(st.just(one) | part for one in now), part | st.none())

        @settings(max_examples=100, suppress_health_check=list(HealthCheck))
        @given(parts)
        def holds(parts: Any) -> None:
            try:
                position = Position.parse(".".join(one for one in parts if one is not None))
            except ValueError:
                return

            async def read() -> None:
                if not await is_gone(log, position):
                    await read_all(log, position)

            runner.run(read())

        try:
            holds()
        finally:
            runner.run(opening.__aexit__(None, None, None))


async def test_a_position_before_entries_that_were_removed(empty_url: str) -> None:
    async with opened(empty_url) as log:
        positions = [await log.position()]
        for number in range(4):
            await add(log, row(number))
            positions.append(await log.position())
        await log.database.execute(delete(log.table).where(log.table.c.id <= positions[2].id))
        assert [await is_gone(log, position) for position in positions] == [True, True, True, False, False]


async def test_a_copied_back_file_of_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    async with opened(sqlite_url) as log:
        await add(log, row(1))
        before = await log.position()
        await log.database.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    shutil.copyfile(path, tmp_path / "backup.db")
    async with opened(sqlite_url) as log:
        await add(log, row(2))
        after = await log.position()
    for file in Path(path).parent.iterdir():
        file.unlink()
    shutil.copyfile(tmp_path / "backup.db", path)
    async with opened(sqlite_url) as log:
        assert [await is_gone(log, before), await is_gone(log, after)] == [False, True]
        await add(log, row(3))
        assert await is_gone(log, after)
        assert numbers((await log.read(before)).entries) == [3]


def dump(url: str) -> bytes:
    folder = find_binaries()
    program = "pg_dump" if folder is None else str(folder / "pg_dump")
    return subprocess.run([program, url], check=True, capture_output=True).stdout


def restore(url: str, dumped: bytes) -> None:
    folder = find_binaries()
    program = "psql" if folder is None else str(folder / "psql")
    subprocess.run([program, "-q", url], input=dumped, check=True, capture_output=True)


async def test_a_dump_that_is_restored_into_another_database(postgres_url: str, postgres_server: str) -> None:
    async with opened(postgres_url) as log:
        await add(log, row(1), row(2))
        position = await log.position()
        # As on a server that has done more than the one that the dump is restored on.
        await log.database.execute(update(log.table).values(xid=log.table.c.xid + 1_000_000))
        dumped = dump(postgres_url)
    with new_database(postgres_server) as url:
        restore(url, dumped)
        async with opened(url) as log:
            assert await is_gone(log, position)
            begin = await log.position()
            assert not await is_gone(log, begin)
            await add(log, row(3))
            assert numbers((await read_all(log, begin, 1))[0]) == [3]
            async with log.database.transaction():
                (own,) = await log.database.execute(text("SELECT pg_current_xact_id()::text::bigint AS xid"))

                async def check() -> None:
                    # An entry of the other server whose transaction seems to be open here.
                    await log.database.execute(update(log.table).where(log.table.c.id == 1).values(xid=own["xid"]))
                    await log.check(begin)

                await asyncio.create_task(check(), context=Context())
            rows = await log.database.execute(text("SELECT xid FROM log ORDER BY id"))
            assert [each["xid"] for each in rows][:2] == [0, 0]


async def test_a_dump_that_is_restored_into_the_same_database(postgres_url: str) -> None:
    async with opened(postgres_url) as log:
        await add(log, row(1))
        before = await log.position()
        dumped = dump(postgres_url)
        await add(log, row(2))
        after = await log.position()
        await log.database.execute(text("DROP TABLE log"))
        restore(postgres_url, dumped)
        assert [await is_gone(log, before), await is_gone(log, after)] == [False, True]
        await add(log, row(3))
        assert await is_gone(log, after)
        assert numbers((await log.read(before)).entries) == [3]


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server of PostgreSQL of its own, to be stopped and restored."""
    started = start_server()
    try:
        yield started
    finally:
        started.stop()


async def test_a_user_without_special_rights(postgres_url: str) -> None:
    async with opened(postgres_url) as log:
        for statement in ("CREATE ROLE reader LOGIN", "GRANT SELECT ON log TO reader"):
            await log.database.execute(text(statement))
        try:
            async with opened(postgres_url.replace("postgres@", "reader@"), creates=False) as other:
                assert not await is_gone(other, await log.position())
        finally:
            for statement in ("DROP OWNED BY reader", "DROP ROLE reader"):
                await log.database.execute(text(statement))


async def test_restored_files_and_a_failover_of_postgresql(server: Server, tmp_path: Path) -> None:
    @asynccontextmanager
    async def reopened() -> Any:
        server.run("pg_ctl", "start", "--wait")
        async with opened(f"{server.url}/postgres") as log:
            yield log
        server.run("pg_ctl", "stop", "--mode=fast")

    server.run("pg_ctl", "stop", "--mode=fast")
    async with reopened() as log:
        await add(log, row(1))
        before = await log.position()
    subprocess.run(["cp", "-a", str(server.data), str(tmp_path / "backup")], check=True)
    async with reopened() as log:
        await add(log, row(2))
        after = await log.position()
    shutil.rmtree(server.data)
    subprocess.run(["cp", "-a", str(tmp_path / "backup"), str(server.data)], check=True)
    async with reopened() as log:
        assert [await is_gone(log, before), await is_gone(log, after)] == [False, True]
        for number in range(3, 6):
            await add(log, row(number))
        assert await is_gone(log, after)
        assert numbers((await log.read(before)).entries) == [3, 4, 5]
    (server.data / "standby.signal").touch()
    server.run("pg_ctl", "start", "--wait")
    server.run("pg_ctl", "promote", "--wait")
    async with opened(f"{server.url}/postgres") as log:
        assert await is_gone(log, before)
        assert not await is_gone(log, await log.position())


async def test_numbers_of_transactions_that_are_given_out_again_after_a_crash() -> None:
    server = start_server("synchronous_commit = on\nwal_writer_delay = 10s\n")
    try:
        async with opened(f"{server.url}/postgres") as log:
            await add(log, row(1))
            with psycopg.connect(f"{server.url}/postgres") as connection:
                (lost,) = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
                connection.rollback()
            position = await log.position()
        server.run("pg_ctl", "restart", "--mode=immediate", "--wait")
        async with opened(f"{server.url}/postgres") as log:
            for number in (2, 3):
                await add(log, row(number))
            await log.check(position)
            entries = (await log.read(position)).entries
            assert numbers(entries) == [2, 3]
            assert entries[0].xid == lost
    finally:
        server.stop()


async def test_a_follower_of_a_server_that_is_restored(server: Server, tmp_path: Path) -> None:
    server.run("pg_ctl", "stop", "--mode=fast")
    subprocess.run(["cp", "-a", str(server.data), str(tmp_path / "backup")], check=True)
    server.run("pg_ctl", "start", "--wait")
    handled: list[Any] = []
    lost: list[bool] = []
    async with opened(f"{server.url}/postgres") as log:
        log.follow(handled.extend, lambda: lost.append(True))
        await log.open()
        await add(log, row(1))
        await log.catch_up()
        server.run("pg_ctl", "stop", "--mode=immediate")
        shutil.rmtree(server.data)
        subprocess.run(["cp", "-a", str(tmp_path / "backup"), str(server.data)], check=True)
        server.run("pg_ctl", "start", "--wait")
        async with opened(f"{server.url}/postgres") as other:
            for number in range(2, 5):
                await add(other, row(number))
        await until(lambda: lost)
        await add(log, row(5))
        await log.catch_up()
        await log.close()
    # It may have noticed before the others were written.
    assert numbers(handled) in [[1, *range(first, 6)] for first in range(2, 6)]


async def test_a_follower_whose_entries_are_gone(empty_url: str) -> None:
    async with opened(empty_url) as log:
        handled: list[Any] = []
        lost: list[bool] = []
        log.follow(handled.extend, lambda: lost.append(True))
        await add(log, row(1))
        await log.open()
        await log.database.close()
        async with opened(empty_url) as other:
            await other.database.execute(delete(other.table))
            await add(other, row(2))
        await log.database.open()
        await until(lambda: lost)
        await add(log, row(3))
        await log.catch_up()
        await log.close()
        assert numbers(handled) == [3]


def put_back(url: str, taken: Path | bytes) -> None:
    """Restore a backup in one step, while others are connected."""
    if isinstance(taken, bytes):
        restore(url, b"BEGIN; DROP TABLE log CASCADE;" + taken + b"COMMIT;")
        return
    with closing(sqlite3.connect(taken)) as source, closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as target:
        source.backup(target)


async def test_a_backup_that_is_restored_while_a_process_follows(empty_url: str, tmp_path: Path) -> None:
    async with opened(empty_url) as log:
        handled: list[Any] = []
        lost: list[bool] = []
        await add(log, row(1))
        if empty_url.startswith("sqlite"):
            await log.database.execute(text(f"VACUUM INTO '{tmp_path / 'backup.db'}'"))
        taken = tmp_path / "backup.db" if empty_url.startswith("sqlite") else dump(empty_url)
        log.follow(handled.extend, lambda: lost.append(True))
        await log.open()
        await add(log, row(2), row(3))
        await log.catch_up()
        await asyncio.to_thread(put_back, empty_url, taken)
        await until(lambda: lost)
        await add(log, row(4))
        await log.catch_up()
        await log.close()
        assert (numbers(handled), lost) == ([2, 3, 4], [True])
