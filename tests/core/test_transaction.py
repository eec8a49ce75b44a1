"""Functions that wait for a commit run after it, or never."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import nullcontext, suppress
from functools import partial

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, SQLService, database
from apex.common import transaction as in_transaction
from apex.context import Context
from apex.errors import BadRequest, Conflict, GeneralError
from apex.sql import Database
from apex.transaction import after_commit, transaction

notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(100)))


class Notes(SQLService):
    table = notes


async def test_without_a_transaction_it_happens_at_once() -> None:
    done: list[int] = []
    after_commit(partial(done.append, 1))
    assert done == [1]


async def test_it_waits_for_the_outermost_transaction() -> None:
    done: list[int] = []
    async with transaction():
        async with transaction():
            after_commit(partial(done.append, 1))
        after_commit(partial(done.append, 2))
        assert done == []
    assert done == [1, 2]


async def test_after_an_error_it_never_happens() -> None:
    done: list[int] = []

    async def fail() -> None:
        async with transaction():
            after_commit(partial(done.append, 1))
            raise BadRequest

    with pytest.raises(BadRequest):
        await fail()
    assert done == []


async def test_what_nobody_awaits_after_a_cancelled_commit_is_closed() -> None:
    """Otherwise Python warns of it, and the warning fails this test."""

    async def waits() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        async with transaction():
            for _ in range(2):
                after_commit(waits)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_task_that_outlives_its_transaction_works_for_itself() -> None:
    done: list[int] = []
    ended = asyncio.Event()

    async def later() -> None:
        await ended.wait()
        after_commit(partial(done.append, 1))

    async with transaction():
        task = asyncio.create_task(later())
    ended.set()
    await task
    assert done == [1]


@pytest.mark.parametrize("fails", [False, True])
async def test_events_follow_the_commit_and_a_rollback_has_none(empty_url: str, fails: bool) -> None:
    heard: list[str] = []

    async def create_another(context: Context) -> None:
        await context.app.service("copies").create({"text": context.data["text"]})
        heard.append("stored")
        if fails:
            raise BadRequest("no")

    app = Apex().configure(database(empty_url)).use("copies", Notes())
    app.use("notes", Notes(), hooks={"around": {"create": [in_transaction]}, "after": {"create": [create_another]}})
    for path in ("notes", "copies"):
        app.service(path).on("created", lambda item, context: heard.append(context.path))
    await app.setup()
    await app.get("database").create_all(notes.metadata)
    with pytest.raises(BadRequest) if fails else nullcontext():
        await app.service("notes").create({"text": "hello"})
    assert heard == (["stored"] if fails else ["stored", "copies", "notes"])
    await app.teardown()


async def test_a_part_of_a_transaction_can_fail_by_itself(empty_url: str) -> None:
    app = Apex().configure(database(empty_url)).use("notes", Notes())
    heard: list[str] = []
    app.service("notes").on("created", lambda item, context: heard.append(item["text"]))
    await app.setup()
    own, create = app.get("database"), app.service("notes").create
    await own.create_all(notes.metadata)
    async with own.transaction():
        await create({"id": 1, "text": "first"})
        for id in (1, 2):
            with suppress(Conflict, KeyError):
                async with own.savepoint():
                    await create({"id": 7, "text": "undone"})
                    await create({"id": id, "text": "undone"})
                    raise KeyError
        async with own.savepoint(), own.savepoint():
            await create({"id": 3, "text": "last"})
    async with own.savepoint():
        await create({"id": 4, "text": "alone"})
    assert [row["id"] for row in await app.service("notes").find()] == [1, 3, 4]
    assert heard == ["first", "last", "alone"]
    await app.teardown()


async def test_an_error_that_is_caught_inside_undoes_the_savepoint(empty_url: str) -> None:
    app = Apex().configure(database(empty_url)).use("notes", Notes())
    await app.setup()
    own, create = app.get("database"), app.service("notes").create
    await own.create_all(notes.metadata)
    async with own.transaction():
        with suppress(GeneralError):
            async with own.savepoint():
                await create({"id": 1})
                with suppress(Conflict):
                    await create({"id": 1})
        await create({"id": 2})
    assert [row["id"] for row in await app.service("notes").find()] == [2]
    await app.teardown()


async def test_what_has_waited_does_not_stay_with_a_task_that_outlives_the_transaction() -> None:
    class Waiting:
        def __call__(self) -> None: ...

    async with transaction():
        waiting = Waiting()
        seen = weakref.ref(waiting)
        after_commit(waiting)
        outliving = asyncio.create_task(asyncio.Event().wait())
    del waiting
    assert seen() is None
    outliving.cancel()


async def test_one_transaction_at_a_time_has_a_lock(postgres_url: str) -> None:
    own, other = Database(postgres_url), Database(postgres_url)
    await own.open()
    await other.open()
    async with own.transaction():
        assert await own.lock("import")
        async with other.transaction():
            assert not await other.lock("import", wait=False)
            assert await other.lock("export", wait=False)
    async with other.transaction():
        assert await other.lock("import")
    await own.close()
    await other.close()
