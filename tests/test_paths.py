"""Keys of JSON fields: asked for and sorted by in the table that has their values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Column, Double, Index, Integer, MetaData, String, Table

from apex.app import Apex
from apex.sql import Json, SQLService, database

METADATA = MetaData()
THINGS = Table(
    "things", METADATA, Column("id", Integer, primary_key=True), Column("tenant", Integer), Column("name", String(20)),
    Column("extra", Json),
)  # fmt: skip
CODE_POINTS = String(500).with_variant(String(500, collation="C"), "postgresql")
VALUES = Table(
    "values_of_things",
    METADATA,
    Column("tenant", Integer),
    Column("record_id", Integer, primary_key=True),
    Column("name", CODE_POINTS, primary_key=True),
    Column("number", Double),
    Column("text", CODE_POINTS),
)
v = VALUES.c
Index("ix_values_of_things", v.tenant, v.name, v.number, v.text, v.record_id)


def values_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What the table beside has of a row."""
    found = []
    for name, value in row["extra"].items():
        kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else "text"
        written = str(value).lower() if isinstance(value, bool) else value
        found.append({"tenant": row["tenant"], "record_id": row["id"], "name": name, kind: written})
    return [one for one in found if one.get("number") is not None or one.get("text") is not None]


class Things:
    """A service of things on a database."""

    def __init__(self, app: Apex) -> None:
        self.app, self.service = app, app.service("things")

    async def fill(self, *extras: dict[str, Any]) -> None:
        for table in (THINGS, VALUES):
            await self.app.get("database").execute(table.delete())
        rows = [{"id": n, "tenant": n % 2, "name": f"{n % 3}", "extra": extra} for n, extra in enumerate(extras, 1)]
        await self.service.create(rows)
        await self.app.service("values").create([value for row in rows for value in values_of(row)])

    async def ids(self, **query: Any) -> list[int]:
        return [row["id"] for row in await self.service.find({"query": query, "paginate": False})]


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Things]:
    app = Apex().configure(database(url))
    app.use(
        "things", SQLService(THINGS, paths={"extra": VALUES}, multi=True, operators=["$like"], paginate={"default": 2})
    )
    app.use("values", SQLService(VALUES, id="record_id", multi=True))
    await app.setup()
    try:
        await app.get("database").create_all(METADATA)
        yield Things(app)
    finally:
        await app.teardown()


async def test_x(empty_url: str) -> None:
    async with running(empty_url) as things:
        await things.fill({"a": 1}, {"a": 2.5}, {"a": "x", "b": True}, {}, {"b": False})
        assert await things.ids(**{"extra.a": {"$gt": 1}}) == [2]
        assert await things.ids(**{"extra.a": {"$ne": 1}}) == [2]
        assert await things.ids(**{"extra.a": "x"}) == [3]
        assert await things.ids(**{"extra.b": True}) == [3]
        assert await things.ids(**{"extra.a": None}) == [4, 5]
        assert await things.ids(**{"$sort": {"extra.a": 1}}) == [1, 2, 3, 4, 5]
        assert await things.ids(**{"$sort": {"extra.a": -1}}) == [3, 2, 1, 5, 4]
        assert await things.ids(**{"$sort": {"extra.a": -1}, "$limit": 2, "$skip": 2}) == [1, 5]
        assert (await things.service.find({"query": {"$sort": {"extra.a": -1}, "$skip": 3}}))["total"] == 5
        print(list(things.service.service.statements._statements.values())[-3].text)
