"""The pipeline: calls that share connections neither touch each other nor wait for each other."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest

from apex.errors import Forbidden, GeneralError, OutcomeUnknown, Unavailable
from apex.sql.drivers.executor import Violation
from apex.sql.drivers.pipeline import LATEST
from apex.sql.drivers.postgres import PostgresExecutor
from apex.tenant import ROLE, SETTING, tenant_context
from tests.sql.test_postgres import ADD, TABLES, add, kill_all, opened, people, pid
from tests.support.databases import Server, new_database, start_server, stopped
from tests.support.waiting import SECONDS, until

ECHO = "SELECT %(n)s::int"
SLEEP = "SELECT pg_sleep(%(seconds)s::float)::text"
NOTE = "INSERT INTO notes (organization_id) VALUES (%(n)s) RETURNING organization_id"
NOTES = f"""
CREATE TABLE notes (id serial PRIMARY KEY, organization_id bigint);
INSERT INTO notes (organization_id) SELECT n % 2 FROM generate_series(1, 10) n;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes TO {ROLE} USING (organization_id = ANY ((SELECT apex_tenants())::bigint[]));
"""


@pytest.fixture
def url(postgres_url: str) -> str:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(TABLES)
    return postgres_url


@pytest.fixture
def sealed_url(migrated_postgres_url: str) -> str:
    with psycopg.connect(migrated_postgres_url) as connection:
        connection.execute(NOTES.encode())
    return migrated_postgres_url


@asynccontextmanager
async def sealed(url: str, pipeline_size: int = 2) -> AsyncIterator[PostgresExecutor]:
    executor = PostgresExecutor(url, 5, role=ROLE, pipeline_size=pipeline_size)
    await executor.open()
    try:
        yield executor
    finally:
        await executor.close()


async def sent(executor: PostgresExecutor, groups: int) -> None:
    """Waits until so many groups are under way, and have been handed to the network."""
    await until(lambda: executor.pipeline.metrics()["in_flight"] >= groups)
    await asyncio.sleep(0)


async def echo(executor: PostgresExecutor, n: int) -> int:
    return int((await executor.fetch(ECHO, {"n": n}))[0][0])


def change(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode())


# Calls beside each other


async def test_every_call_gets_its_own_answer(url: str) -> None:
    async with opened(url) as executor:
        for _ in range(2):
            calls = [echo(executor, n) for n in range(500)]
            assert await asyncio.gather(*calls) == list(range(500))


async def test_errors_touch_nobody_else(url: str) -> None:
    insert = "INSERT INTO people (name, age, boss) VALUES (%(name)s, %(age)s, %(boss)s)"
    bad: dict[str, dict[str, Any]] = {
        "unique": {"age": 7},
        "check": {"age": -1},
        "data": {"age": 2**40},
        "not null": {"name": None},
        "foreign key": {"boss": 999_999},  # Deferred: it fails when the group commits.
    }
    async with opened(url) as executor:
        await executor.fetch(insert, {"name": "taken", "age": 7, "boss": None}, writes=True)

        async def call(n: int) -> str:
            kind = [*bad, "fine"][n % 6]
            values = {"name": f"{kind}{n}", "age": 1, "boss": None} | bad.get(kind, {})
            if kind == "unique":
                values["name"] = "taken"
            try:
                await executor.fetch(insert, values, writes=True)
            except Violation as violation:
                return f"{violation.kind}{n}"
            return f"fine{n}"

        assert await asyncio.gather(*map(call, range(600))) == [f"{[*bad, 'fine'][n % 6]}{n}" for n in range(600)]
        assert await people(executor) == ["taken", *(f"fine{n}" for n in range(600) if n % 6 == 5)]
        assert executor.pipeline.metrics()["errors"] == 500


async def test_each_call_has_its_own_tenants(sealed_url: str) -> None:
    async def call(executor: PostgresExecutor, n: int) -> None:
        mine = n % 2
        with tenant_context(str(mine)):
            if n % 3 == 0:
                with pytest.raises(Forbidden):
                    await executor.fetch(NOTE, {"n": 1 - mine}, writes=True)
            rows = await executor.fetch("SELECT organization_id FROM notes", {})
            assert [row[0] for row in rows] == [mine] * 5

    async with sealed(sealed_url) as executor:
        await asyncio.gather(*(call(executor, n) for n in range(1_000)))
        with tenant_context(""):
            assert not await executor.fetch("SELECT organization_id FROM notes", {})


@pytest.mark.parametrize("tenants", ["", "7,9", "o'brien\\, %s, %(tenants)s"])
async def test_a_transaction_has_the_tenants_of_each_moment(sealed_url: str, tenants: str) -> None:
    async with sealed(sealed_url) as executor:
        with tenant_context(tenants):
            async with executor.transaction():
                for now in (tenants, "8", tenants):
                    with tenant_context(now):
                        assert await executor.fetch(f"SELECT current_setting('{SETTING}')", {}) == [(now,)]


async def test_values_and_results_may_be_large(url: str) -> None:
    async def text(size: int) -> int:
        return len((await executor.fetch("SELECT %(text)s::text || 'x'", {"text": "y" * size}))[0][0])

    async def numbers(count: int) -> int:
        values = {"ids": list(range(count))}
        return len(await executor.fetch("SELECT unnest(%(ids)s::int[])", values))

    async with opened(url, pipeline_size=1) as executor:
        sizes = [5_000_000, 10, 3_000_000, 1, 20]
        results = await asyncio.gather(*map(text, sizes), numbers(10_000), echo(executor, 1))
        assert results == [*(size + 1 for size in sizes), 10_000, 1]


async def test_a_value_that_cannot_travel_is_bad_data(url: str) -> None:
    async with opened(url) as executor:
        with pytest.raises(Violation, match="data"):
            await add(executor, "a\0b")


async def test_a_caller_that_has_gone_leaves_the_others_their_answers(url: str) -> None:
    async with opened(url) as executor:
        for turns in range(12):
            tasks = [asyncio.create_task(echo(executor, n)) for n in range(100)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == list(range(1, 100, 2))
            assert all(isinstance(result, asyncio.CancelledError) or result in range(100) for result in results[::2])


# Statements that take long


@pytest.mark.parametrize("writes", [False, True])
async def test_the_pool_runs_a_statement_that_takes_too_long_for_the_pipeline(
    url: str, writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex.sql.drivers.postgres.PIPELINE_SECONDS", 0.1)
    text = "WITH slept AS (SELECT pg_sleep(0.3)) INSERT INTO people (name) SELECT 'slow' FROM slept RETURNING name"
    async with opened(url) as executor:
        assert await executor.fetch(text, {}, writes) == [("slow",)]
        assert await people(executor) == ["slow"]


async def test_a_statement_that_waits_for_a_lock_holds_up_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.postgres.PIPELINE_SECONDS", 60)
    monkeypatch.setattr("apex.sql.drivers.pipeline.SILENT_SECONDS", 60)
    async with opened(url, pipeline_size=1) as executor:
        await add(executor, "Ann")
        with psycopg.connect(url) as other:
            other.execute("UPDATE people SET age = 1")
            update = executor.fetch("UPDATE people SET age = age + 1 RETURNING age", {}, writes=True)
            waiting = asyncio.create_task(update)
            await sent(executor, 1)
            async with asyncio.timeout(SECONDS):
                assert await echo(executor, 1) == 1
            assert not waiting.done()
        assert await waiting == [(2,)]


async def test_a_slow_statement_leaves_the_pipeline_and_quick_ones_stay(url: str) -> None:
    async with opened(url, pipeline_size=1) as executor:
        pipeline = executor.pipeline
        for n in range(20):
            await echo(executor, n)
        while not pipeline.metrics()["set_apart"]:
            await executor.fetch(SLEEP, {"seconds": 0.1})
        assert pipeline.pick(pipeline.command(SLEEP)) is None
        assert pipeline.pick(pipeline.command(ECHO)) is not None
        before = pipeline.metrics()["groups"]
        await executor.fetch(SLEEP, {"seconds": 0.1})
        assert pipeline.metrics()["groups"] == before


async def test_a_statement_that_is_found_quick_comes_back_at_once(sealed_url: str) -> None:
    async with sealed(sealed_url) as executor:
        pipeline = executor.pipeline
        while not pipeline.metrics()["set_apart"]:
            await executor.fetch(SLEEP, {"seconds": 0.1})
        with tenant_context("1"):
            rows = await executor.fetch(SLEEP, {"seconds": 0})
        assert rows == [("",)]
        assert pipeline.pick(pipeline.command(SLEEP)) is not None


async def test_a_statement_that_waits_for_a_processor_stays_in_the_pipeline(url: str) -> None:
    """The process stands still while each answer is on its way."""
    async with opened(url, pipeline_size=1) as executor:
        command, suspected = executor.pipeline.command(ECHO), 0
        for n in range(20):
            answer = asyncio.create_task(echo(executor, n))
            await asyncio.sleep(0)
            time.sleep(0.03)
            assert await answer == n
            suspected += command.timing.is_suspect
        assert suspected
        assert executor.pipeline.metrics()["set_apart"] == 0
        assert executor.pipeline.pick(command) is not None


async def test_a_statement_that_must_run_alone_is_not_measured(url: str) -> None:
    """``VACUUM`` goes with no other statement in its transaction, such as one that asks for the time."""
    async with opened(url, pipeline_size=1) as executor:
        command = executor.pipeline.command("VACUUM people")
        for apart in (False, True):
            command.timing.is_suspect, command.timing.slow_until = True, math.inf if apart else 0
            assert not await executor.fetch("VACUUM people", {}, writes=True)


async def test_a_statement_that_most_calls_use_stays_in_the_pipeline(url: str) -> None:
    async with opened(url, pipeline_size=1) as executor:
        for _ in range(LATEST):
            await echo(executor, 1)
        executor.pipeline.latest.extend([executor.pipeline.command(SLEEP)] * LATEST)
        for _ in range(6):
            await executor.fetch(SLEEP, {"seconds": 0.05})
        assert executor.pipeline.metrics()["set_apart"] == 0


async def test_a_full_pipeline_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.pipeline.IN_FLIGHT", 3)
    async with opened(url) as executor:
        results = await asyncio.gather(*(echo(executor, n) for n in range(10)), return_exceptions=True)
        assert results[:6] == list(range(6))
        refused = [result for result in results if isinstance(result, Unavailable)]
        assert len(refused) == 4
        assert refused[0].headers == {"Retry-After": "1"}
        assert await echo(executor, 7) == 7


# Connections that break


async def test_a_lost_connection_loses_no_read_and_does_no_write_twice(url: str) -> None:
    async with opened(url) as executor:
        blocks = [asyncio.create_task(executor.fetch(SLEEP, {"seconds": 1})) for _ in range(2)]
        await sent(executor, 2)
        reads = [asyncio.create_task(echo(executor, n)) for n in range(100)]
        writes = [asyncio.create_task(add(executor, str(n))) for n in range(100)]
        await sent(executor, 202)
        kill_all(url)
        assert await asyncio.gather(*reads) == list(range(100))
        await asyncio.gather(*blocks)
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert {type(result) for result in results} == {OutcomeUnknown}
        assert await people(executor) == []
        await until(lambda: executor.pipeline.metrics()["connections"] == 2)
        assert executor.pipeline.metrics()["reconnects"] == 2
        await add(executor, "after")
        assert await people(executor) == ["after"]


async def test_a_write_that_was_carried_out_is_not_done_again(url: str) -> None:
    async with opened(url, pipeline_size=1) as executor:
        connection = executor.pipeline.connections[0]
        connection.loop.remove_reader(connection.socket)  # The answer is not read.
        task = asyncio.create_task(add(executor, "Ann"))
        await sent(executor, 1)
        with psycopg.connect(url, autocommit=True) as other:
            await until(lambda: other.execute("SELECT count(*) FROM people").fetchall() == [(1,)])
        connection.end(ConnectionError("cut"))
        with pytest.raises(OutcomeUnknown, match=r"outcome is unknown.* Idempotency-Key") as raised:
            await task
        assert raised.value.headers == {}
        assert await people(executor) == ["Ann"]


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = start_server()
    try:
        yield server
    finally:
        server.stop()


async def test_a_server_that_comes_back_is_found_again(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.postgres.POOL_SECONDS", 1)
    with new_database(own_server.url) as url:
        async with opened(url) as executor:
            assert await echo(executor, 1) == 1
            own_server.run("pg_ctl", "stop", "--mode=fast")
            await until(lambda: executor.pipeline.metrics()["connections"] == 0)
            for writes in (False, True):
                with pytest.raises(Unavailable, match="try again"):
                    await executor.fetch("SELECT 1", {}, writes)
            own_server.run("pg_ctl", "start", "--wait")
            await until(lambda: executor.pipeline.metrics()["connections"] == 2)
            assert await asyncio.gather(*(echo(executor, n) for n in range(50))) == list(range(50))


async def test_a_server_is_looked_for_as_often_however_long_it_is_away(own_server: Server) -> None:
    """Ten attempts with pauses that double would take ten minutes."""
    with new_database(own_server.url) as url:
        async with opened(url, size=1) as executor:
            await transact(executor)
            own_server.run("pg_ctl", "stop", "--mode=fast")
            waiting = [asyncio.create_task(eventually(executor)) for _ in range(3)]
            await until(lambda: executor.pool.get_stats().get("connections_errors", 0) >= 10)
            own_server.run("pg_ctl", "start", "--wait")
            await asyncio.gather(*waiting)
            await asyncio.gather(*(transact(executor) for _ in range(20)))


async def eventually(executor: PostgresExecutor) -> None:
    """Make a transaction, and again until it is done."""
    while True:
        with suppress(Unavailable):
            return await transact(executor)


async def transact(executor: PostgresExecutor) -> None:
    async with executor.transaction():
        await executor.fetch("SELECT 1", {})


async def test_connections_of_the_pool_that_a_restart_has_cut_fail_no_call(url: str) -> None:
    async with opened(url) as executor:
        await asyncio.gather(*(transact(executor) for _ in range(20)))
        kill_all(url)
        await asyncio.gather(*(transact(executor) for _ in range(20)))


async def test_a_silent_network_is_noticed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.pipeline.SILENT_SECONDS", 0.3)
    monkeypatch.setattr("apex.sql.drivers.pipeline.WATCH_SECONDS", 0.05)
    async with opened(url, pipeline_size=1) as executor, asyncio.timeout(SECONDS):
        with stopped(await pid(executor)):
            read = asyncio.create_task(echo(executor, 1))
            with pytest.raises(Unavailable):
                await add(executor, "Ann")
            assert await read == 1


async def test_an_answer_that_came_while_the_process_stood_still_counts(url: str) -> None:
    async with opened(url, pipeline_size=1) as executor:
        pipeline, connection = executor.pipeline, executor.pipeline.connections[0]
        connection.loop.remove_reader(connection.socket)
        task = asyncio.create_task(echo(executor, 1))
        await sent(executor, 1)
        with psycopg.connect(url, autocommit=True) as other:
            answered = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query LIKE 'SELECT $1::int'"
            while other.execute(answered.encode()).fetchall() != [(1,)]:
                other.execute("SELECT pg_stat_clear_snapshot()")
        connection.heard_at = connection.waiting[0].sent_at = 0.0
        pipeline._watch()
        assert await task == 1
        assert pipeline.metrics()["reconnects"] == 0


# Prepared statements


async def test_a_connection_keeps_a_number_of_statements_prepared(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.pipeline.PREPARED", 5)
    async with opened(url, pipeline_size=1) as executor:
        for n in range(20):
            await executor.fetch(f"SELECT {n}", {})
            with pytest.raises(GeneralError):
                await executor.fetch(f"SELECT {n} FROM nowhere", {})
        kept = await executor.fetch("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time", {})
        assert [row[0] for row in kept[:-1]] == ["SELECT 16", "SELECT 17", "SELECT 18", "SELECT 19"][-len(kept) + 1 :]


ALL = "SELECT * FROM people"
RETURNING = "INSERT INTO people (name) VALUES ('x') RETURNING *"


@pytest.mark.parametrize("pipeline_size", [0, 1])
async def test_a_table_may_change_under_a_prepared_statement(url: str, pipeline_size: int) -> None:
    async with opened(url, size=1, pipeline_size=pipeline_size) as executor:
        for column in ("one", "two"):
            widths = [len((await executor.fetch(text, {}, writes=True))[0]) for text in (RETURNING, ALL)]
            change(url, f"ALTER TABLE people ADD {column} integer")
            calls = [executor.fetch(text, {}, writes=True) for text in (RETURNING, ALL) * 20]
            results = await asyncio.gather(*calls)
            assert [len(rows[0]) for rows in results] == [width + 1 for width in widths] * 20
        assert len(await executor.fetch(ALL, {})) == 42


async def test_a_transaction_under_which_a_table_changes_may_be_tried_again(url: str) -> None:
    async with opened(url, size=1) as executor:

        async def transact() -> int:
            async with executor.transaction():
                return len((await executor.fetch(RETURNING, {}, writes=True))[0])

        width = await transact()
        change(url, "ALTER TABLE people ADD more integer")
        with pytest.raises(Unavailable, match="try again"):
            await transact()
        assert await transact() == width + 1
        assert len(await people(executor)) == 2


@pytest.mark.parametrize("pipeline_size", [0, 1])
async def test_a_server_that_has_forgotten_its_statements_is_told_again(sealed_url: str, pipeline_size: int) -> None:
    async with sealed(sealed_url, pipeline_size) as executor:
        for _ in range(2):
            await executor.fetch("DEALLOCATE ALL", {})
            assert await asyncio.gather(*(echo(executor, n) for n in range(50))) == list(range(50))
            with tenant_context("1"):
                assert await executor.fetch(NOTE, {"n": 1}, writes=True) == [(1,)]


async def test_a_statement_that_cannot_be_prepared_leaves_nothing_broken(url: str) -> None:
    async with opened(url, pipeline_size=1) as executor:
        for text in ("SELEC 1", "SELECT * FROM later"):
            calls = [executor.fetch(text, {}) for _ in range(10)]
            results = await asyncio.gather(*calls, echo(executor, 1), return_exceptions=True)
            assert [type(result) for result in results[:-1]] == [GeneralError] * 10
            assert results[-1] == 1
        change(url, "CREATE TABLE later AS SELECT 1 AS n")
        assert await executor.fetch("SELECT * FROM later", {}) == [(1,)]


# The end, and what can be told from outside


async def test_closing_waits_for_what_is_under_way(url: str) -> None:
    text = f"WITH slept AS (SELECT pg_sleep(0.3)) {ADD.replace('VALUES (%(name)s)', 'SELECT %(name)s FROM slept')}"
    async with opened(url) as executor:
        tasks = [asyncio.create_task(executor.fetch(text, {"name": str(n)}, writes=True)) for n in range(4)]
        await sent(executor, 4)
    await asyncio.gather(*tasks)
    async with opened(url) as executor:
        assert sorted(await people(executor)) == ["0", "1", "2", "3"]


async def test_closing_ends_while_a_connection_connects_again(url: str) -> None:
    async def silent() -> Any:
        await asyncio.Event().wait()

    async with opened(url) as executor:
        executor.pipeline.connect = silent
        kill_all(url)
        await until(lambda: executor.pipeline.metrics()["connections"] == 0)
    assert executor.pipeline.metrics()["connections"] == 0


async def test_a_connection_that_cannot_connect_at_the_start_is_tried_again(url: str) -> None:
    executor = PostgresExecutor(url, 2, pipeline_size=2)
    connect, failures = executor.pipeline.connect, iter([True])

    async def fails_once() -> Any:
        if next(failures, False):
            raise psycopg.OperationalError("too many clients")
        return await connect()

    executor.pipeline.connect = fails_once
    await executor.open()
    assert await echo(executor, 1) == 1
    await until(lambda: executor.pipeline.metrics()["connections"] == 2)
    await executor.close()


async def test_metrics_count_connections_and_groups(url: str) -> None:
    async with opened(url) as executor:
        task = asyncio.create_task(executor.fetch(SLEEP, {"seconds": 0.2}))
        await sent(executor, 1)
        assert executor.pipeline.metrics()["in_flight"] == 1
        await task
        failed: Awaitable[Any] = executor.fetch("SELECT 'x'::int", {})
        with pytest.raises(Violation):
            await failed
        counts = {"groups": 2, "errors": 1, "reconnects": 0, "set_apart": 0}
        assert executor.pipeline.metrics() == {"size": 2, "connections": 2, "lanes": 2, "in_flight": 0} | counts


async def test_the_former_name_still_works_with_a_warning(url: str) -> None:
    async with opened(url) as executor:
        with pytest.warns(DeprecationWarning, match=r"PostgresExecutor\.pipeline"):
            assert executor.lanes is executor.pipeline
