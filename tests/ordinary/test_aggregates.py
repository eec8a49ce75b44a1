"""Aggregates: memory, SQLite and PostgreSQL compute the same, within what a caller may see."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Enum,
    Float,
    Integer,
    Interval,
    MetaData,
    Numeric,
    String,
    Table,
)

from apex import Apex, Context, MemoryService, SQLService, database
from apex.adapters import Aggregate
from apex.errors import BadRequest
from apex.openapi import document_of
from apex.permissions import authorize, can
from apex.service import BoundService
from apex.sql import Fixed, Json, Timestamp
from apex.sql.types.registry import coercers
from tests.support.databases import new_database


class Stage(enum.Enum):
    OPEN = "open"
    WON = "won"


deals = Table(
    "deals", MetaData(), Column("id", Integer, primary_key=True), Column("stage", Enum(Stage, name="stage")),
    Column("owner", String(9)), Column("amount", Fixed(2)), Column("price", Numeric(9, 2)), Column("rate", Numeric),
    Column("items", BigInteger), Column("score", Float), Column("day", Date), Column("at", Timestamp),
    Column("hot", Boolean), Column("took", Interval), Column("tags", Json),
)  # fmt: skip
EVERYTHING = Aggregate(
    count=True, sum=["amount", "price", "rate", "items", "score"], avg=["amount", "price", "items", "score"],
    min=["amount", "owner", "day", "at", "items"], max=["amount", "owner", "day", "at", "score"],
    group=["stage", "owner", "hot"],
)  # fmt: skip
SUMMARY = Aggregate(count=True, sum=["amount"], group=["stage"])
OPTIONS: dict[str, Any] = {"multi": True, "aggregates": {"summary": SUMMARY, "totals": Aggregate(count=True)}}
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC))
QUARTERS = st.integers(-99, 99).map(lambda quarters: quarters / 4)
CENTS = st.integers(-10_000, 10_000).map(lambda cents: Decimal(cents) / 100)
ROWS = st.lists(
    st.fixed_dictionaries({
        "stage": st.none() | st.sampled_from(Stage), "owner": st.none() | st.sampled_from(["ann", "Bob", "é"]),
        "amount": st.none() | CENTS, "price": st.none() | CENTS, "rate": CENTS,
        "items": st.none() | st.integers(-(2**40), 2**40), "score": st.none() | QUARTERS,
        "day": st.none() | MOMENTS.map(lambda at: at.date()), "at": MOMENTS, "hot": st.none() | st.booleans(),
    }),
    max_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def urls(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with new_database(postgres_server) as url:
        yield [f"sqlite:///{tmp_path_factory.mktemp('aggregates')}/test.db", url]


async def opened(stack: AsyncExitStack, url: str | None, hooks: Any = None, **options: Any) -> BoundService:
    app, options = Apex(), {**OPTIONS, **options}
    if url is None:
        app.use("deals", MemoryService(fields=coercers(deals), **options), hooks=hooks)
    else:
        app.configure(database(url)).use("deals", SQLService(deals, **options), hooks=hooks)
    await stack.enter_async_context(app.lifespan())
    if url is not None:
        await app.get("database").create_all(deals.metadata)
    return app.service("deals")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(urls: list[str]) -> AsyncIterator[list[BoundService]]:
    async with AsyncExitStack() as stack:
        yield [await opened(stack, url) for url in (None, *urls)]


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=80)
@given(rows=ROWS, query=st.sampled_from([{}, {"hot": True}, {"amount": {"$gt": 0}}, {"$or": [{"owner": "é"}]}]))
async def test_all_stores_compute_the_same(
    stores: list[BoundService], rows: list[dict[str, Any]], query: dict[str, Any]
) -> None:
    answers = []
    for service in stores:
        await service.remove(None)
        await service.create([{**row, "id": number} for number, row in enumerate(rows, 1)])
        grouped = await service.service.aggregate({"query": query}, EVERYTHING)
        whole = await service.service.aggregate({"query": query}, Aggregate(sum=["amount", "items"], avg=["price"]))
        answers.append((grouped, whole))
    first = sorted(answers[0][0], key=repr)
    assert all(sorted(grouped, key=repr) == first and whole == answers[0][1] for grouped, whole in answers)
    assert answers[1][0] == answers[2][0]


DEALS = [
    {"id": 1, "stage": "won", "owner": "ann", "amount": "10.10"},
    {"id": 2, "stage": "open", "owner": "ann", "amount": "0.20"},
    {"id": 3, "stage": "won", "owner": "bob", "amount": None},
    {"id": 4, "stage": "won", "owner": "bob", "amount": "5"},
]


def only_own(context: Context) -> None:
    context.params.scope["owner"] = context.params.user["name"]


async def test_a_declared_aggregate_keeps_to_query_and_scope(url: str | None) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, url, {"before": {"summary": [only_own]}})
        await service.create(DEALS)
        bob = {"provider": "rest", "user": {"name": "bob"}}
        assert await service.summary({}, bob) == [{"stage": Stage.WON, "count": 2, "sum": {"amount": Decimal("5.00")}}]
        assert await service.summary({"amount": None}, bob) == [
            {"stage": Stage.WON, "count": 1, "sum": {"amount": None}}
        ]
        assert await service.summary({"owner": "ann"}, bob) == []
        assert await service.totals({"stage": "won"}) == {"count": 3}
        assert await service.totals({"id": 9}) == {"count": 0}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"$sort": {"id": 1}}, "\\$sort is for lists alone"),
        ({"$limit": 1}, "\\$limit is for lists alone"),
        ({"amuont": 1}, "Unknown field 'amuont'. Did you mean 'amount'"),
        ({"amount": "much"}, "amount must be a decimal number"),
        ([], "must be an object"),
    ],
)
async def test_a_query_that_cannot_be_is_refused(url: str | None, data: Any, named: str) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, url)
        with pytest.raises(BadRequest, match=named):
            await service.summary(data)


async def test_hidden_fields_and_too_many_groups_are_refused(url: str | None) -> None:
    async with AsyncExitStack() as stack:
        service = (await opened(stack, url, private=["items"])).service
        with pytest.raises(BadRequest, match="Unknown field 'items'"):
            await service.aggregate({}, Aggregate(sum=["items"]))
        with pytest.raises(BadRequest, match="Unknown field 'amount'"):
            await service.aggregate({"adapter": {"private": ["amount"]}}, Aggregate(sum=["amount"]))
        await service.create([{"id": number, "stage": "open"} for number in range(1_001)], {})
        with pytest.raises(BadRequest, match="There are more than 1,000 groups: narrow the query"):
            await service.aggregate({}, Aggregate(count=True, group=["id"]))


async def test_a_sum_beyond_64_bits_is_no_failure_of_the_server(sqlite_url: str) -> None:
    async with AsyncExitStack() as stack:
        service = await opened(stack, sqlite_url)
        await service.create([{"items": 2**62}, {"items": 2**62}])
        with pytest.raises(BadRequest, match="A field has a value that does not fit"):
            await service.service.aggregate({}, Aggregate(sum=["items"]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sum": ["owner"]}, "owner has no sum: it does not hold numbers"),
        ({"avg": ["at"]}, "at has no avg"),
        ({"sum": ["took"]}, "took has no sum"),
        ({"max": ["hot"]}, "hot has no max: it does not hold numbers, texts, dates or times"),
        ({"min": ["stage"]}, "stage has no min"),
        ({"count": True, "group": ["tags"]}, "tags has no group: it does not hold one value"),
        ({"count": True, "group": ["stge"]}, "Unknown field 'stge'. Did you mean 'stage'"),
    ],
)
def test_a_declared_aggregate_that_cannot_be_is_refused(options: Any, named: str) -> None:
    with pytest.raises(TypeError, match=f"The aggregate 'wrong' of service 'deals' is wrong: .*{named}"):
        Apex().use("deals", SQLService(deals, aggregates={"wrong": Aggregate(**options)}))


def test_options_that_make_no_aggregate_are_refused() -> None:
    with pytest.raises(TypeError, match="sum takes a list of names such as \\['amount'\\]"):
        Aggregate(sum="amount")
    with pytest.raises(TypeError, match="needs count=True, or fields"):
        Aggregate(group=["stage"])
    with pytest.raises(TypeError, match="'count': the result has another value there"):
        Aggregate(count=True, group=["count"])
    with pytest.raises(TypeError, match="cannot have the name 'find', which MemoryService has already"):
        MemoryService(aggregates={"find": Aggregate(count=True)})
    with pytest.raises(TypeError, match="aggregates takes a dict such as"):
        MemoryService(aggregates={"a": {"count": True}})  # type: ignore[dict-item]


async def test_memory_without_fields_checks_the_values() -> None:
    service: Any = MemoryService(aggregates={"total": Aggregate(sum=["a"])}, multi=True)
    await service.create([{"a": 1}, {"a": 2.5}, {"b": 1}], {})
    assert await service.total({}, {}) == {"sum": {"a": 3.5}}
    await service.create({"a": "x"}, {})
    with pytest.raises(BadRequest, match="a has no sum: it does not hold numbers alone"):
        await service.total({}, {})


def test_the_document_has_the_shape_of_the_result() -> None:
    app = Apex().use("deals", SQLService(deals, aggregates={"summary": Aggregate(avg=["items"], group=["owner"])}))
    answer = document_of(app)["paths"]["/deals/summary"]["post"]["responses"]["200"]
    shape = answer["content"]["application/json"]["schema"]["items"]["properties"]
    assert shape["owner"] == {"type": ["string", "null"]}
    assert shape["avg"]["properties"] == {"items": {"type": ["number", "null"]}}


async def test_an_aggregate_uses_only_fields_that_the_caller_may_read() -> None:
    class Deals(MemoryService[Any]):
        permissions: ClassVar[Any] = {
            "user": [can("find", fields=("id", "stage")), can("stages", "summary")],
            "anyone": can("stages"),
        }

    declared = {"summary": SUMMARY, "stages": Aggregate(count=True, group=["stage"])}
    service = Deals(fields=coercers(deals), multi=True, aggregates=declared)
    deal = Apex().use("deals", service, hooks={"before": {"all": [authorize]}}).service("deals")
    await deal.create(DEALS)
    user = {"provider": "rest", "user": {"id": 1}, "authenticated": True}
    assert sorted(row["count"] for row in await deal.stages({}, user)) == [1, 3]
    assert sorted(row["count"] for row in await deal.stages({}, {"provider": "rest"})) == [1, 3]
    for who, data in ((user, {"amount": 5}), ({"provider": "rest"}, {"amount": 5})):
        with pytest.raises(BadRequest, match="Unknown field 'amount'"):
            await deal.stages(data, who)
    with pytest.raises(BadRequest, match="Unknown field 'amount'"):
        await deal.summary({}, user)
