"""Retention: what is deleted, and what stays."""

from __future__ import annotations

import asyncio
from contextvars import Context
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from sqlalchemy import insert, text

from apex import Apex
from apex.log.pruning import Pruner
from tests.log.apps import entries_of, logged_app


async def entries(app: Apex, *ages: timedelta, service: str | None = "notes") -> None:
    """Store an entry of each age."""
    made: Any = app.log
    for age in ages:
        row = {"origin": "", "created_at": datetime.now(UTC) - age, "service": service, "event": "created"}
        await app.get("database").execute(insert(made.table), row)


def pruner(app: Apex) -> Pruner:
    made: Any = app.log
    return Pruner(made)


def days(*numbers: float) -> list[timedelta]:
    return [timedelta(days=number) for number in numbers]


async def test_entries_are_deleted_after_their_days(empty_url: str) -> None:
    async with logged_app(empty_url, settings={"log": {"days": 2}}) as app:
        await entries(app, *days(9, 3, 1, 0))
        assert await pruner(app).prune() == 2
        assert await entries_of(app, "id") == [3, 4]


async def test_days_without_a_limit_keep_all_entries(empty_url: str) -> None:
    async with logged_app(empty_url, settings={"log": {"days": None}}) as app:
        await entries(app, *days(9999, 9, 0))
        assert await pruner(app).prune() == 0


async def test_no_more_than_the_rows_are_kept(empty_url: str) -> None:
    async with logged_app(empty_url, settings={"log": {"rows": 2}}) as app:
        await entries(app, *days(0, 0, 0, 0, 0))
        assert (await pruner(app).prune(), await entries_of(app, "id")) == (3, [4, 5])


async def test_messages_are_deleted_after_ten_minutes_and_the_newest_entry_stays(empty_url: str) -> None:
    async with logged_app(empty_url, settings={"log": {"days": None}}) as app:
        await entries(app, *days(1, 0), service=None)
        await entries(app, *days(1))
        await entries(app, *days(1, 1), service=None)
        await pruner(app).prune()
        assert await entries_of(app, "id", "service") == [(2, None), (3, "notes"), (5, None)]


class Clock(datetime):
    """A clock that is off by so much."""

    off = timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + cls.off


@pytest.mark.parametrize(("module", "minutes"), [("writing", -11), ("pruning", 11)])
async def test_messages_are_kept_for_ten_minutes_of_the_database(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, module: str, minutes: int
) -> None:
    """A message of a process whose clock is late stays, and one that is pruned by a process whose clock is early."""
    async with logged_app(empty_url) as app:
        monkeypatch.setattr(Clock, "off", timedelta(minutes=minutes))
        monkeypatch.setattr(f"apex.log.{module}.datetime", Clock, raising=False)
        app.bus.send("hello", 1)
        assert await app.bus.flush()
        async with app.get("database").transaction():
            app.bus.send("hello", 2)
            await app.service("notes").create({"text": "a"})
        await pruner(app).prune()
        assert await entries_of(app, "id", "event") == [(1, "hello"), (2, "hello"), (3, "created")]


async def test_more_entries_than_a_batch_are_deleted(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        await app.service("notes").create([{"text": str(number)} for number in range(2500)])
        await app.get("database").execute(text("UPDATE log SET created_at = '2020-01-01T00:00:00.000Z'"))
        assert await pruner(app).prune() == 2499


async def test_one_process_prunes_at_a_time(postgres_url: str) -> None:
    async with logged_app(postgres_url) as app:
        await entries(app, *days(9, 9, 0))
        async with app.get("database").transaction():
            assert await pruner(app).prune() == 2
            # That transaction is still open, so it has the lock and the entries.
            assert await asyncio.create_task(pruner(app).prune(), context=Context()) == 0


async def test_a_position_after_a_message_holds_when_the_message_is_deleted(empty_url: str) -> None:
    async with logged_app(empty_url) as app:
        made: Any = app.log
        await entries(app, *days(1), service="notes")
        await entries(app, *days(1), service=None)
        position = await made.position()
        await entries(app, *days(0), service="notes")
        await pruner(app).prune()
        await made.check(position)
        assert [entry.id for entry in (await made.read(position)).entries] == [3]


@pytest.mark.parametrize(
    "wrong",
    [{"days": 0}, {"days": "x"}, {"days": inf}, {"rows": -1}, {"rows": 2.5}, {"row": 1}, {"replay": None}, [7]],
)
async def test_a_wrong_setting_is_refused_with_its_name(sqlite_url: str, wrong: Any) -> None:
    with pytest.raises(Exception, match=r"setting log"):
        async with logged_app(sqlite_url, settings={"log": wrong}):
            pass
