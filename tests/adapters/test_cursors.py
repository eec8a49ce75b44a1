"""Cursors through lists of all column types: every row once, in the order of the list, from both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Float, Integer, MetaData, String, Table, Uuid

from apex.adapters.memory import MemoryService
from apex.app import Apex
from apex.service import BoundService
from apex.sql import Fixed, SQLService, Timestamp, database
from apex.sql.types.registry import coercers
from apex.testing.cursors import walk
from tests.conftest import BACKENDS
from tests.support.databases import new_database

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("text", String(20)),
    Column("word", String(20), nullable=False),
    Column("small", Integer),
    Column("big", BigInteger, nullable=False),
    Column("real", Float(53)),
    Column("money", Fixed(2)),
    Column("price", Fixed(2, as_float=True)),
    Column("yes", Boolean),
    Column("at", Timestamp, nullable=False),
    Column("exactly", DateTime(timezone=True)),
    Column("day", Date),
    Column("key", Uuid),
    # Without it SQLite gives the id of a row that is gone to another one.
    sqlite_autoincrement=True,
)
FIELDS = [column.name for column in things.columns]
START = datetime(2024, 2, 29, tzinfo=UTC)


def some(*values: Any) -> st.SearchStrategy[Any]:
    """Few values, so that many are equal; null among them."""
    return st.sampled_from([None, *values])


WORDS = ("", "a", "A", "é", "z\n", "\U0001f600", "\uff5e", "null", "1")
ROWS = st.lists(
    st.fixed_dictionaries({
        "text": some(*WORDS), "word": st.sampled_from(WORDS), "small": some(-1, 0, 1, 2**31 - 1),
        "big": st.sampled_from([-(2**63), 0, 2**53 + 1, 2**63 - 1]), "real": some(0.1, 0.1 + 0.2, -1e300, 5e-324, 3.0),
        "money": some(Decimal("0.10"), Decimal("-1"), Decimal("9999999999999999.99")),
        "price": some(0.1, 12345678901234.56, 12345678901234.57, -3), "yes": some(True, False),
        "at": st.sampled_from([START + timedelta(milliseconds=n) for n in (-1, 0, 1)]),
        "exactly": some(*(START + timedelta(seconds=n) for n in (-1, 0, 1))),
        "day": some(date(2024, 2, 29), date(1, 1, 1)),
        "key": some(UUID(int=0), UUID(int=2**128 - 1), UUID(int=9)),
    }),
    max_size=12,
)  # fmt: skip
SORTS = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from([1, -1]), max_size=4)


@pytest.fixture(scope="module", params=["memory", *BACKENDS])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    if request.param != "postgresql":
        yield None if request.param == "memory" else f"sqlite:///{tmp_path_factory.mktemp('walks')}/test.db"
        return
    with new_database(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(url: str | None) -> AsyncIterator[BoundService]:
    options: dict[str, Any] = {"paginate": {"default": 3}, "multi": True}
    app = Apex()
    if url is None:
        app.use("things", MemoryService(fields=coercers(things), **options))
    else:
        app.configure(database(url)).use("things", SQLService(things, **options))
    await app.setup()
    if url is not None:
        await app.get("database").create_all(things.metadata)
    yield app.service("things")
    await app.teardown()


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=150)
@given(rows=ROWS, sort=SORTS, limit=st.integers(1, 14))
async def test_a_walk_meets_every_row_once(
    service: BoundService, rows: list[dict[str, Any]], sort: dict[str, int], limit: int
) -> None:
    await service.remove(None)
    await service.create(rows)
    listed = await service.find({"query": {"$sort": sort}, "paginate": False})
    query = {"$sort": sort, "$limit": limit}
    forwards, backwards = await asyncio.gather(*(walk(service, name, query) for name in ("$after", "$before")))
    assert [row for page in forwards for row in page] == listed
    assert [row for page in reversed(backwards) for row in page] == listed


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=100)
@given(rows=ROWS, sort=SORTS, limit=st.integers(1, 4), data=st.data())
async def test_rows_that_come_and_go_neither_repeat_nor_hide_the_others(
    service: BoundService, rows: list[dict[str, Any]], sort: dict[str, int], limit: int, data: st.DataObject
) -> None:
    await service.remove(None)
    await service.create(rows)
    everything: dict[str, Any] = {"query": {"$sort": sort}, "paginate": False}
    before = [row["id"] for row in await service.find(everything)]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await service.find({"query": {"$sort": sort, "$limit": limit, "$after": cursor}})
        seen, cursor = seen + [row["id"] for row in page["data"]], page["next"]
        there = [row["id"] for row in await service.find(everything)]
        if there:
            await service.remove(data.draw(st.sampled_from(there)))
        if len(there) < 20 and rows:
            await service.create(data.draw(st.sampled_from(rows)))
    after = {row["id"] for row in await service.find(everything)}
    stayed = [id for id in before if id in after]
    assert len(set(seen)) == len(seen)
    assert [id for id in seen if id in stayed] == stayed
