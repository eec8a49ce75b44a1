"""SQLite: statements, transactions, and what breaks them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from contextvars import Context
from pathlib import Path

import pytest

from apex.errors import GeneralError, Unavailable
from apex.sql.drivers.executor import Violation
from apex.sql.drivers.slow import MOST_SLOW_RUNS, SLOW_SECONDS
from apex.sql.drivers.sqlite import WRITES, LoopConnection, SQLiteExecutor

TABLES = """
CREATE TABLE teams (id INTEGER PRIMARY KEY);
CREATE TABLE people (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER CHECK (age >= 0), team INTEGER REFERENCES teams,
    boss INTEGER REFERENCES people DEFERRABLE INITIALLY DEFERRED, UNIQUE (name, age)
);
"""
ADD = "INSERT INTO people (name) VALUES (:name)"
NUMBERS = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < :most)"
COUNT = f"{NUMBERS} SELECT count(*) FROM n"
LONG = {"most": 2_000_000}


@pytest.fixture
def path(sqlite_url: str) -> str:
    file = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(TABLES)
    return file


@asynccontextmanager
async def opened(path: str) -> AsyncIterator[SQLiteExecutor]:
    executor = SQLiteExecutor(path)
    await executor.open()
    try:
        yield executor
    finally:
        await executor.close()


async def add(executor: SQLiteExecutor, name: str) -> None:
    await executor.fetch(ADD, {"name": name}, writes=True)


async def people(executor: SQLiteExecutor) -> list[str]:
    return [row[0] for row in await executor.fetch("SELECT name FROM people ORDER BY id", {})]


async def test_a_statement_gives_rows_and_commits(path: str) -> None:
    async with opened(path) as executor:
        rows = await executor.fetch(f"{ADD} RETURNING id, name", {"name": "Ann"}, writes=True)
        assert [tuple(row) for row in rows] == [(1, "Ann")]
        await add(executor, "Bob")
    async with opened(path) as executor:
        assert await people(executor) == ["Ann", "Bob"]


async def test_values_that_are_not_used_are_ignored(path: str) -> None:
    async with opened(path) as executor:
        assert await executor.fetch("SELECT :a", {"a": 1, "b": 2}) == [(1,)]


async def test_a_transaction_commits(path: str) -> None:
    async with opened(path) as executor:
        async with executor.transaction():
            await add(executor, "Ann")
            assert await people(executor) == ["Ann"]
        assert await people(executor) == ["Ann"]


async def test_a_transaction_that_fails_rolls_back(path: str) -> None:
    async with opened(path) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await add(executor, "Ann")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await transact()
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


async def test_others_see_a_transaction_when_it_is_done(path: str) -> None:
    async with opened(path) as executor, opened(path) as other:
        async with executor.transaction():
            await add(executor, "Ann")
            assert await people(other) == []
        assert await people(other) == ["Ann"]


async def test_a_transaction_inside_another_is_part_of_it(path: str) -> None:
    async with opened(path) as executor:

        async def transact() -> None:
            async with executor.transaction():
                async with executor.transaction():
                    await add(executor, "Ann")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await transact()
        assert await people(executor) == []


async def test_after_a_failed_statement_nothing_is_committed(path: str) -> None:
    async with opened(path) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await add(executor, "Ann")
                with pytest.raises(Violation):
                    await executor.fetch("INSERT INTO people (name) VALUES (NULL)", {}, writes=True)

        with pytest.raises(GeneralError, match="nothing was stored"):
            await transact()
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


async def test_a_commit_that_fails_rolls_back(path: str) -> None:
    async with opened(path) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await executor.fetch("INSERT INTO people (name, boss) VALUES ('Ann', 99)", {}, writes=True)

        with pytest.raises(Violation, match="foreign key"):
            await transact()
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


@pytest.mark.parametrize(
    ("text", "kind", "columns"),
    [
        ("INSERT INTO people (name, age) VALUES ('Ann', 1), ('Ann', 1)", "unique", ("name", "age")),
        ("INSERT INTO people (id, name) VALUES (1, 'a'), (1, 'b')", "unique", ("id",)),
        ("INSERT INTO people (name, team) VALUES ('Ann', 9)", "foreign key", ()),
        ("INSERT INTO people (name, boss) VALUES ('Ann', 9) RETURNING id", "foreign key", ()),
        ("INSERT INTO people (name) VALUES (NULL)", "not null", ("name",)),
        ("INSERT INTO people (name, age) VALUES ('Ann', -1)", "check", ()),
        ("INSERT INTO people (id, name) VALUES ('x', 'Ann')", "data", ()),
    ],
)
async def test_a_broken_rule_has_its_kind(path: str, text: str, kind: str, columns: tuple[str, ...]) -> None:
    async with opened(path) as executor:
        for _ in range(4):  # On the loop and on the writer.
            with pytest.raises(Violation) as raised:
                await executor.fetch(text, {}, writes=True)
            assert (raised.value.kind, raised.value.columns) == (kind, columns)
            assert await people(executor) == []
        await add(executor, "Ann")
        assert await people(executor) == ["Ann"]


async def test_the_drivers_words_stay_in_the_log(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(path) as executor:
        with pytest.raises(
            GeneralError, match=r"^The database lacks a table or a column of the app: 'apex check' names it$"
        ) as raised:
            await executor.fetch("SELECT secret FROM nowhere", {})
    assert raised.value.__cause__ is None
    assert "nowhere" in caplog.text


async def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, but long enough to be taken for one" * 100)
    for path in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        executor = SQLiteExecutor(str(path))
        with pytest.raises(Unavailable, match="cannot be opened"):
            await executor.open()
        await executor.close()


async def test_a_file_that_can_only_be_read_is_unavailable(path: str) -> None:
    async with opened(path) as executor:
        await add(executor, "Ann")
        await executor.fetch("PRAGMA query_only = ON", {})
        async with executor.transaction():
            await executor.fetch("PRAGMA query_only = ON", {})
        for _ in range(4):  # On the loop and on the writer.
            with pytest.raises(Unavailable, match="cannot be written"):
                await add(executor, "Bob")
        with pytest.raises(Unavailable, match="cannot be written"):
            async with executor.transaction():
                await add(executor, "Bob")
        assert await people(executor) == ["Ann"]


async def test_folders_are_made(tmp_path: Path) -> None:
    async with opened(str(tmp_path / "a" / "b" / "test.db")) as executor:
        assert await executor.fetch("SELECT 1", {}) == [(1,)]


async def test_it_can_be_closed_unopened_and_opened_again(path: str) -> None:
    executor = SQLiteExecutor(path)
    await executor.close()
    for _ in range(2):
        await executor.open()
        await add(executor, "Ann")
        await executor.close()
    async with opened(path) as other:
        assert await people(other) == ["Ann", "Ann"]


async def test_a_file_that_others_hold_is_unavailable(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.sqlite.BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with opened(path) as executor:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="try again"):
                await add(executor, "Ann")
            with pytest.raises(Unavailable, match="try again"):
                async with executor.transaction():
                    raise AssertionError("must not begin")
            other.execute("ROLLBACK")
            await add(executor, "Bob")
            assert await people(executor) == ["Bob"]


async def test_writes_at_the_same_time_all_arrive(path: str) -> None:
    async def both(number: int) -> None:
        async with executor.transaction():
            await add(executor, f"a{number}")
            await add(executor, f"b{number}")

    async with opened(path) as executor:
        await asyncio.gather(*(add(executor, str(number)) for number in range(50)), *map(both, range(50)))
        names = await people(executor)
        assert len(names) == 150
        assert all(names[names.index(f"a{number}") + 1] == f"b{number}" for number in range(50))


async def test_reads_do_not_wait_for_a_transaction(path: str) -> None:
    async with opened(path) as executor, executor.transaction():
        await add(executor, "Ann")
        outside = [asyncio.create_task(people(executor), context=Context()) for _ in range(20)]
        assert await asyncio.gather(*outside) == [[]] * 20


async def test_a_transaction_cancelled_inside_rolls_back(path: str) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with executor.transaction():
            await add(executor, "Ann")
            started.set()
            await asyncio.Event().wait()

    async with opened(path) as executor:
        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


async def test_a_transaction_cancelled_at_any_moment_leaves_the_writer_free(path: str) -> None:
    async def work() -> None:
        async with executor.transaction():
            await add(executor, "a")
            await add(executor, "b")

    async with opened(path) as executor:
        for turns in range(40):
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await add(executor, "last")
        names = await people(executor)
        assert (names[-1], names.count("a")) == ("last", names.count("b"))
        async with opened(path) as other:
            assert await people(other) == names


async def test_a_task_that_outlives_its_transaction_works_for_itself(path: str) -> None:
    done = asyncio.Event()

    async def later() -> None:
        await done.wait()
        await add(executor, "later")

    async with opened(path) as executor:
        async with executor.transaction():
            task = asyncio.create_task(later())

        async def transact() -> None:
            async with executor.transaction():
                done.set()
                for _ in range(20):
                    await add(executor, "gone")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await transact()
        await task
        assert await people(executor) == ["later"]


async def test_patterns_and_lower_case_know_all_letters(path: str) -> None:
    async with opened(path) as executor:
        assert await executor.fetch("SELECT 'a' LIKE 'A', lower('ÉA'), lower(NULL), lower(5)", {}) == [
            (0, "éa", None, 5)
        ]


async def test_objects_are_merged(path: str) -> None:
    async with opened(path) as executor:
        text = (
            """SELECT json_merge('{"a": 1}', '{"a": null, "b": 2}'), json_merge(NULL, '{}'), json_merge('{}', NULL)"""
        )
        assert await executor.fetch(text, {}) == [('{"b":2}', "{}", None)]


async def test_a_call_behind_a_writer_does_not_wait_for_ever(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.sqlite.BUSY_SECONDS", 0.05)
    async with opened(path) as executor, executor.transaction():
        waiting = asyncio.get_running_loop().create_task(add(executor, "Ann"), context=Context())
        with pytest.raises(Unavailable):
            await waiting


async def test_a_long_read_does_not_hold_the_loop(path: str) -> None:
    async with opened(path) as executor:
        long = asyncio.create_task(executor.fetch(COUNT, LONG))
        await asyncio.sleep(0)
        assert await executor.fetch("SELECT 1", {}) == [(1,)]
        assert not long.done()
        assert await long == [(LONG["most"],)]


async def test_a_long_write_is_done_once_and_does_not_hold_the_loop(path: str) -> None:
    async with opened(path) as executor:
        await add_some(executor)
        text = f"INSERT INTO teams {NUMBERS} SELECT i FROM n"
        long = asyncio.create_task(executor.fetch(text, {"most": 200_000}, writes=True))
        await asyncio.sleep(0)
        assert await executor.fetch("SELECT count(*) FROM teams", {}) == [(0,)]
        assert not long.done()
        await long
        assert await executor.fetch("SELECT count(*) FROM teams", {}) == [(200_000,)]


async def add_some(executor: SQLiteExecutor) -> list[str]:
    """So many that the next write is one for the loop."""
    for number in range(4):
        await add(executor, str(number))
    return ["0", "1", "2", "3"]


async def test_reads_do_not_wait_for_another_process_that_writes(path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with opened(path) as executor:
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO people (name) VALUES ('Ann')")
            assert await people(executor) == []
            other.execute("COMMIT")
            assert await people(executor) == ["Ann"]


async def test_a_write_waits_for_another_process_while_reads_go_on(path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with opened(path) as executor:
            before = await add_some(executor)
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(add(executor, "Ann"))
            await asyncio.sleep(0)
            assert await people(executor) == before
            assert not writing.done()
            other.execute("COMMIT")
            await writing
            assert await people(executor) == [*before, "Ann"]


async def test_a_write_that_waits_too_long_is_unavailable_while_reads_go_on(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex.sql.drivers.sqlite.BUSY_SECONDS", 0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with opened(path) as executor:
            before = await add_some(executor)
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(add(executor, "Ann"))
            reads = 0
            while not writing.done():
                await asyncio.sleep(0)
                assert await people(executor) == before
                reads += 1
            assert reads > 10
            with pytest.raises(Unavailable, match="try again"):
                await writing
            other.execute("ROLLBACK")
            await add(executor, "Bob")
            assert await people(executor) == [*before, "Bob"]


def test_a_slow_statement_stays_away_from_the_loop_for_a_while(path: str) -> None:
    inline, ahead = LoopConnection(path), 0
    with closing(inline.connection):
        inline.clock = lambda: time.monotonic() + ahead
        assert [inline.run(COUNT, LONG) for _ in range(MOST_SLOW_RUNS)] == [None] * MOST_SLOW_RUNS
        assert inline.run(COUNT, {"most": 1}) is None
        ahead = SLOW_SECONDS
        assert inline.run(COUNT, {"most": 1}) == [(1,)]


def test_a_statement_that_waits_for_a_processor_stays_on_the_loop(path: str) -> None:
    inline = LoopConnection(path)
    with closing(inline.connection):
        inline.connection.create_function("wait", 1, time.sleep)
        assert [inline.run("SELECT wait(0.005)", {}) for _ in range(12)] == [[(None,)]] * 12


async def test_a_statement_that_is_found_quick_comes_back_to_the_loop(path: str) -> None:
    async with opened(path) as executor:
        inline = executor._loop_connection
        assert inline is not None
        for _ in range(MOST_SLOW_RUNS):
            await executor.fetch(COUNT, LONG)
        assert inline.run(COUNT, {"most": 1}) is None
        await executor.fetch(COUNT, {"most": 1})
        assert inline.run(COUNT, {"most": 1}) == [(1,)]


async def test_the_log_of_many_small_writes_stays_short(path: str) -> None:
    async with opened(path) as executor:
        text, values = "INSERT INTO people (name) VALUES (:name)", {"name": "a" * 8_000}
        for _ in range(20 * WRITES):
            await executor.fetch(text, values, writes=True)
        assert os.stat(f"{path}-wal").st_size < 8_000_000


async def test_closed_it_leaves_the_file_to_others(path: str) -> None:
    async with opened(path) as executor:
        await add_some(executor)
        await people(executor)
    with closing(sqlite3.connect(path, timeout=0)) as other:
        assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
