"""Decimal numbers with fixed places, the same on both databases."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import Column, Integer, MetaData, Table

from apex import Apex, SQLService, database, rest
from apex.errors import BadRequest
from apex.service import BoundService
from apex.sql import Fixed

prices = Table(
    "prices",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("money", Fixed(2)),
    Column("share", Fixed(4, trimmed=True)),
    Column("number", Fixed(2, as_float=True)),
)


class Prices(SQLService):
    table = prices

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        await self.database.create_all(prices.metadata)


@pytest.fixture
async def service(empty_url: str) -> Any:
    app = Apex().configure(database(empty_url))
    app.use("prices", Prices())
    await app.setup()
    yield app.service("prices")
    await app.teardown()


@pytest.mark.parametrize(
    ("given", "money", "share", "number"),
    [("10", "10.00", "10", 10.0), (2.5, "2.50", "2.5", 2.5), ("0.005", "0.01", "0.005", 0.01),
     (-1, "-1.00", "-1", -1.0),
     ("9999999999999.99", "9999999999999.99", "9999999999999.99", 9999999999999.99), (None, None, None, None)],
)  # fmt: skip
async def test_a_stored_number_comes_back(
    service: BoundService, given: Any, money: Any, share: Any, number: Any
) -> None:
    made = await service.create({"money": given, "share": given, "number": given})
    shown = [None if made[name] is None else str(made[name]) for name in ("money", "share")]
    assert (shown, made["number"]) == ([money, share], number)
    assert await service.get(made["id"]) == made
    assert await service.patch(made["id"], {"money": given}) == made


async def test_a_column_that_is_left_out_is_null_in_the_answer(empty_url: str) -> None:
    """Where a column that cannot be null comes before, which SQLite had mixed up."""
    table = Table(
        "lines",
        MetaData(),
        Column("needed", Integer, nullable=False),
        Column("id", Integer, primary_key=True),
        *(column._copy() for column in prices.c if column.name != "id"),
    )
    app = Apex().configure(rest).configure(database(empty_url)).use("lines", SQLService(table))
    await app.setup()
    await app.get("database").create_all(table.metadata)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://apex") as http:
        made = (await http.post("/lines", json={"needed": 1})).json()
        assert made == {"id": 1, "needed": 1, **dict.fromkeys(("money", "share", "number"))}
        assert (await http.get("/lines/1")).json() == made
    await app.teardown()


async def test_it_sorts_and_compares_as_a_number(service: BoundService) -> None:
    await service.create({"money": "10.00"})
    for amount in ("9.99", "100"):
        await service.create({"money": amount})
    found = await service.find({"query": {"money": {"$gt": "9.99"}, "$sort": {"money": -1}}})
    assert [row["money"] for row in found] == [Decimal("100.00"), Decimal("10.00")]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [("ten", "must be a decimal number"), ("1" * 17, "at most 16 digits"), (True, "decimal number")],
)
async def test_a_number_that_does_not_fit_is_refused(service: BoundService, given: Any, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        await service.create({"money": given})
