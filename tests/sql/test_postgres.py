"""PostgreSQL: statements, transactions, and what breaks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest

from apex.errors import Conflict, GeneralError, OutcomeUnknown, Unavailable
from apex.sql.drivers.executor import Plan, Violation
from apex.sql.drivers.postgres import PostgresExecutor
from tests.support.databases import stopped

TABLES = """
CREATE TABLE teams (id serial PRIMARY KEY);
CREATE TABLE people (
    id serial PRIMARY KEY, name text NOT NULL, age integer CHECK (age >= 0), team integer REFERENCES teams,
    boss integer REFERENCES people DEFERRABLE INITIALLY DEFERRED, UNIQUE (name, age)
);
"""
ADD = "INSERT INTO people (name) VALUES (%(name)s)"
OWN_PID = "SELECT pg_backend_pid()"


@pytest.fixture
def url(postgres_url: str) -> str:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(TABLES)
    return postgres_url


WITH_AND_WITHOUT_PIPELINE = pytest.mark.parametrize("pipeline_size", [0, 2])


@asynccontextmanager
async def opened(url: str, size: int = 5, pipeline_size: int = 2) -> AsyncIterator[PostgresExecutor]:
    executor = PostgresExecutor(url, size, pipeline_size=pipeline_size)
    await executor.open()
    try:
        yield executor
    finally:
        await executor.close()


async def add(executor: PostgresExecutor, name: str) -> None:
    await executor.fetch(ADD, {"name": name}, writes=True)


async def people(executor: PostgresExecutor) -> list[str]:
    return [row[0] for row in await executor.fetch("SELECT name FROM people ORDER BY id", {})]


async def pid(executor: PostgresExecutor) -> int:
    return int((await executor.fetch(OWN_PID, {}))[0][0])


def kill_all(url: str) -> None:
    """Ends every connection to the database but its own, as a restart of the server would."""
    with psycopg.connect(url, autocommit=True) as connection:
        own = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}".encode())
        connection.execute("SELECT 1")


async def test_a_statement_gives_rows_and_commits(url: str) -> None:
    async with opened(url) as executor:
        rows = await executor.fetch(f"{ADD} RETURNING id, name", {"name": "Ann"}, writes=True)
        assert [tuple(row) for row in rows] == [(1, "Ann")]
        await add(executor, "Bob")
    async with opened(url) as executor:
        assert await people(executor) == ["Ann", "Bob"]


async def test_values_that_are_not_used_are_ignored(url: str) -> None:
    async with opened(url) as executor:
        assert await executor.fetch("SELECT %(a)s::int", {"a": 1, "b": 2}) == [(1,)]


@pytest.mark.parametrize("prepared", [True, False])
async def test_a_plan_is_kept_unless_each_call_is_to_have_its_own(url: str, prepared: bool) -> None:
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%41 + %%'"
    async with opened(url) as executor, executor.transaction():
        await executor.fetch("SELECT 41 + %(a)s::int", {"a": 1}, plan="kept" if prepared else "anew")
        assert await executor.fetch(kept, {}, plan="anew") == [(int(prepared),)]


@pytest.mark.parametrize(("plan", "generic"), [("kept", 0), ("one", 2)])
async def test_one_plan_is_made_once_for_all_values(url: str, plan: Plan, generic: int) -> None:
    """PostgreSQL itself would make one for each of the first five calls."""
    made = "SELECT generic_plans::int FROM pg_prepared_statements WHERE statement LIKE 'SELECT name FROM people%%'"
    async with opened(url, pipeline_size=1) as executor:
        for id in (1, 2):
            await executor.fetch("SELECT name FROM people WHERE id = %(id)s", {"id": id}, plan=plan)
        assert await executor.fetch(made, {}) == [(generic,)]


async def test_a_transaction_commits(url: str) -> None:
    async with opened(url) as executor:
        async with executor.transaction():
            await add(executor, "Ann")
            assert await people(executor) == ["Ann"]
        assert await people(executor) == ["Ann"]


async def test_a_transaction_that_fails_rolls_back(url: str) -> None:
    async with opened(url) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await add(executor, "Ann")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await transact()
        assert await people(executor) == []


async def test_others_see_a_transaction_when_it_is_done(url: str) -> None:
    async with opened(url) as executor, opened(url) as other:
        async with executor.transaction():
            await add(executor, "Ann")
            assert await people(other) == []
        assert await people(other) == ["Ann"]


async def test_a_transaction_inside_another_is_part_of_it(url: str) -> None:
    async with opened(url) as executor:

        async def transact() -> None:
            async with executor.transaction():
                async with executor.transaction():
                    await add(executor, "Ann")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await transact()
        assert await people(executor) == []


async def test_after_a_failed_statement_nothing_is_committed(url: str) -> None:
    async with opened(url) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await add(executor, "Ann")
                with pytest.raises(Violation):
                    await executor.fetch("INSERT INTO people (name) VALUES (NULL)", {}, writes=True)

        with pytest.raises(GeneralError, match="nothing was stored"):
            await transact()
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


async def test_a_commit_that_fails_rolls_back(url: str) -> None:
    async with opened(url) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await executor.fetch("INSERT INTO people (name, boss) VALUES ('Ann', 99)", {}, writes=True)

        with pytest.raises(Violation, match="foreign key"):
            await transact()
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


@pytest.mark.parametrize(
    ("text", "kind", "constraint", "columns"),
    [
        ("INSERT INTO people (name, age) VALUES ('a', 1), ('a', 1)", "unique", "people_name_age_key", ()),
        ("INSERT INTO people (id, name) VALUES (1, 'a'), (1, 'b')", "unique", "people_pkey", ()),
        ("INSERT INTO people (name, team) VALUES ('Ann', 9)", "foreign key", "people_team_fkey", ()),
        ("INSERT INTO people (name) VALUES (NULL)", "not null", None, ("name",)),
        ("INSERT INTO people (name, age) VALUES ('Ann', -1)", "check", "people_age_check", ()),
        ("INSERT INTO people (name, age) VALUES ('Ann', 2147483648)", "data", None, ()),
        ("SELECT 'x'::int", "data", None, ()),
    ],
)
async def test_a_broken_rule_has_its_kind(
    url: str, text: str, kind: str, constraint: str | None, columns: tuple[str, ...]
) -> None:
    async with opened(url) as executor:
        with pytest.raises(Violation) as raised:
            await executor.fetch(text, {}, writes=True)
        assert (raised.value.kind, raised.value.constraint, raised.value.columns) == (kind, constraint, columns)
        assert await people(executor) == []


async def test_the_drivers_words_stay_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(url) as executor:
        with pytest.raises(
            GeneralError, match=r"^The database lacks a table or a column of the app: 'apex check' names it$"
        ) as raised:
            await executor.fetch("SELECT secret FROM nowhere", {})
    assert raised.value.__cause__ is None
    assert "nowhere" in caplog.text


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    executor = PostgresExecutor("postgresql://someone:s3cret@127.0.0.1:1/things")
    with pytest.raises(Unavailable, match=r"^The database things at 127.0.0.1:1 cannot be reached$") as raised:
        await executor.open()
    assert "s3cret" not in repr(raised.value)
    assert raised.value.__cause__ is None
    await executor.close()


async def test_a_database_that_is_not_there_is_unavailable(postgres_server: str) -> None:
    with pytest.raises(Unavailable, match="The database nowhere at"):
        await PostgresExecutor(f"{postgres_server}/nowhere").open()


async def test_it_can_be_closed_unopened_and_opened_again(url: str) -> None:
    executor = PostgresExecutor(url)
    await executor.close()
    for _ in range(2):
        await executor.open()
        await add(executor, "Ann")
        await executor.close()
    async with opened(url) as other:
        assert await people(other) == ["Ann", "Ann"]


async def test_a_closed_database_is_unavailable(url: str) -> None:
    async with opened(url) as executor:
        pass
    with pytest.raises(Unavailable, match="try again"):
        await executor.fetch("SELECT 1", {})


async def test_writes_at_the_same_time_all_arrive(url: str) -> None:
    async def both(number: int) -> None:
        async with executor.transaction():
            await add(executor, f"a{number}")
            await add(executor, f"b{number}")

    async with opened(url) as executor:
        await asyncio.gather(*(add(executor, str(number)) for number in range(50)), *map(both, range(50)))
        assert len(await people(executor)) == 150


async def test_calls_wait_for_a_connection(url: str) -> None:
    async with opened(url, size=1, pipeline_size=0) as executor:
        assert len(await asyncio.gather(*(pid(executor) for _ in range(50)))) == 50


async def test_a_pool_without_a_free_connection_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.postgres.POOL_SECONDS", 0.05)
    async with opened(url, size=1, pipeline_size=0) as executor:
        started = asyncio.Event()
        task = asyncio.create_task(hold(executor, started))
        await started.wait()
        with pytest.raises(Unavailable, match="busy"):
            await add(executor, "Ann")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await people(executor) == []


async def hold(executor: PostgresExecutor, started: asyncio.Event) -> None:
    """Keeps a connection inside a transaction until it is cancelled."""
    async with executor.transaction():
        await add(executor, "held")
        started.set()
        await asyncio.Event().wait()


@WITH_AND_WITHOUT_PIPELINE
async def test_a_read_is_tried_again_when_its_connection_is_lost(url: str, pipeline_size: int) -> None:
    async with opened(url, pipeline_size=pipeline_size) as executor:
        before = await pid(executor)
        kill_all(url)
        assert await pid(executor) != before


@WITH_AND_WITHOUT_PIPELINE
async def test_a_read_is_tried_again_when_its_connection_is_lost_while_it_runs(url: str, pipeline_size: int) -> None:
    async with opened(url, pipeline_size=pipeline_size) as executor:
        await executor.fetch("CREATE TABLE tries (n serial)", {}, writes=True)
        # Runs on a sequence, which no rollback undoes: the first try ends its own connection.
        end_itself = "pg_terminate_backend(pg_backend_pid())::text"
        text = f"SELECT CASE WHEN nextval('tries_n_seq') = 1 THEN {end_itself} ELSE 'ok' END"
        assert await executor.fetch(text, {}) == [("ok",)]


@WITH_AND_WITHOUT_PIPELINE
async def test_a_write_whose_connection_is_lost_is_not_tried_again(url: str, pipeline_size: int) -> None:
    async with opened(url, pipeline_size=pipeline_size) as executor:
        await executor.fetch("CREATE TABLE tries (n serial)", {}, writes=True)
        with pytest.raises(OutcomeUnknown, match="Idempotency-Key"):
            await executor.fetch(
                "SELECT nextval('tries_n_seq'), pg_terminate_backend(pg_backend_pid())", {}, writes=True
            )
        assert await executor.fetch("SELECT last_value FROM tries_n_seq", {}) == [(1,)]


async def test_a_transaction_whose_connection_is_lost_is_unavailable(url: str) -> None:
    async with opened(url) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await add(executor, "Ann")
                kill_all(url)
                await add(executor, "Bob")

        with pytest.raises(Unavailable, match="try again"):
            await transact()
        assert await people(executor) == []


async def test_the_outcome_of_a_transaction_whose_connection_is_lost_at_the_commit_is_unknown(url: str) -> None:
    async with opened(url) as executor:

        async def transact() -> None:
            async with executor.transaction():
                await add(executor, "Ann")
                kill_all(url)

        with pytest.raises(OutcomeUnknown, match="Idempotency-Key"):
            await transact()
        assert await people(executor) == []


async def test_a_transaction_does_not_wait_for_a_silent_network_for_ever(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg waits for five more seconds, so the two cases run at once."""
    monkeypatch.setattr("apex.sql.drivers.postgres.ANSWER_SECONDS", 0.3)

    async def meet_silence(command: str) -> None:
        async with opened(url, size=1) as executor:
            async with executor.transaction():
                process = await pid(executor)

            async def transact(silence: ExitStack) -> None:
                if command == "BEGIN":
                    silence.enter_context(stopped(process))
                async with executor.transaction():
                    silence.enter_context(stopped(process))

            with ExitStack() as silence, pytest.raises(OutcomeUnknown if command == "COMMIT" else Unavailable):
                await transact(silence)
            assert await people(executor) == []

    await asyncio.gather(meet_silence("BEGIN"), meet_silence("COMMIT"))


CROSSING = """
CREATE SEQUENCE tries;
CREATE FUNCTION crossing(times int, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tries') <= times THEN RAISE EXCEPTION USING ERRCODE = state, MESSAGE = 'crossed'; END IF;
    RETURN 'done';
END $$
"""


@WITH_AND_WITHOUT_PIPELINE
@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_statements_that_cross_are_tried_three_times(url: str, pipeline_size: int, state: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(CROSSING)
    async with opened(url, pipeline_size=pipeline_size) as executor:
        call: dict[str, Any] = {"times": 2, "state": state}
        text = "SELECT crossing(%(times)s::int, %(state)s::text)"
        assert await executor.fetch(text, call, writes=True) == [("done",)]
        with pytest.raises(Conflict, match="changed by others at the same time"):
            await executor.fetch(text, call | {"times": 9}, writes=True)
        assert (await executor.fetch("SELECT last_value FROM tries", {}))[0][0] == 6


async def test_transactions_that_lock_each_other_out_give_one_conflict(url: str) -> None:
    async def swap(first: str, second: str, here: asyncio.Event, there: asyncio.Event) -> None:
        async with executor.transaction():
            await executor.fetch("UPDATE people SET age = 1 WHERE name = %(name)s", {"name": first}, writes=True)
            here.set()
            await there.wait()
            await executor.fetch("UPDATE people SET age = 2 WHERE name = %(name)s", {"name": second}, writes=True)

    async with opened(url) as executor:
        await executor.fetch("INSERT INTO people (name) VALUES ('a'), ('b')", {}, writes=True)
        one, two = asyncio.Event(), asyncio.Event()
        both = await asyncio.gather(swap("a", "b", one, two), swap("b", "a", two, one), return_exceptions=True)
        assert [type(result) for result in both if result] == [Conflict]


async def test_a_transaction_cancelled_inside_rolls_back(url: str) -> None:
    async with opened(url, size=1) as executor:
        started = asyncio.Event()
        task = asyncio.create_task(hold(executor, started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await add(executor, "Bob")
        assert await people(executor) == ["Bob"]


async def test_a_transaction_cancelled_at_any_moment_gives_its_connection_back(url: str) -> None:
    async def work() -> None:
        async with executor.transaction():
            await add(executor, "a")
            await add(executor, "b")

    async with opened(url, size=1) as executor:
        for turns in range(40):
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        names = await people(executor)
        assert names.count("a") == names.count("b")


async def test_a_task_that_outlives_its_transaction_works_for_itself(url: str) -> None:
    done = asyncio.Event()

    async def later() -> None:
        await done.wait()
        await add(executor, "later")

    async def transact() -> None:
        async with executor.transaction():
            done.set()
            for _ in range(20):
                await add(executor, "gone")
            raise ZeroDivisionError

    async with opened(url, size=1) as executor:
        async with executor.transaction():
            task = asyncio.create_task(later())
        with pytest.raises(ZeroDivisionError):
            await transact()
        await task
        assert await people(executor) == ["later"]


async def test_a_statement_of_a_task_is_not_part_of_the_next_transaction(url: str) -> None:
    async def fail() -> None:
        async with executor.transaction():
            await add(executor, "gone")
            raise ZeroDivisionError

    async with opened(url, size=1) as executor:
        for turns in range(40):
            async with executor.transaction():
                tasks = [asyncio.create_task(add(executor, "task")) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
            with pytest.raises(ZeroDivisionError):
                await fail()
            await asyncio.gather(*tasks)
        assert await people(executor) == ["task"] * 120


async def test_a_statement_that_takes_too_long_is_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.sql.drivers.postgres.STATEMENT_SECONDS", 0.05)
    async with opened(url, pipeline_size=0) as executor:
        with pytest.raises(Unavailable, match="cannot answer now"):
            await executor.fetch("SELECT pg_sleep(60)", {})


async def test_moments_are_in_utc_and_json_is_decoded(url: str) -> None:
    async with opened(url) as executor:
        text = """SELECT '2023-01-01T00:00:00+02:00'::timestamptz::text, '{"a": [1]}'::jsonb"""
        assert await executor.fetch(text, {}) == [("2022-12-31 22:00:00+00", {"a": [1]})]
