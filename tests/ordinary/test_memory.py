"""The adapter in memory: null, operators that it does not support, and one id in two concurrent creates."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from apex import Apex, MemoryService, SQLService
from apex.adapters.companion import Companion
from apex.context import Params
from apex.errors import BadRequest, Conflict
from apex.query.coercion import boolean, integer, text, timestamp
from apex.types import Row


async def test_null_is_a_value_of_every_field_but_the_id() -> None:
    app = Apex().use("people", MemoryService(fields={"id": integer, "age": integer, "name": text, "born": timestamp}))
    people = app.service("people")
    ann = await people.create({"age": None, "name": None, "born": None})
    assert ann == {"id": 0, "age": None, "name": None, "born": None}
    assert (await people.patch(0, {"age": 3}))["age"] == 3
    assert (await people.patch(0, {"age": None}))["age"] is None
    assert await people.find({"query": {"age": "null"}}) == await people.find({"query": {"age": None}}) == [ann]
    assert await people.find({"query": {"name": "null"}}) == []
    with pytest.raises(BadRequest, match="id must be an integer"):
        await people.create({"id": None})


async def test_a_rule_of_ones_own_may_forbid_null() -> None:
    def colour(value: Any) -> str:
        if value not in ("red", "green"):
            raise ValueError("must be red or green")
        return str(value)

    things = Apex().use("things", MemoryService(fields={"id": integer, "colour": colour})).service("things")
    with pytest.raises(BadRequest, match="colour must be red or green"):
        await things.create({"colour": None})


@pytest.mark.parametrize("operator", ["$regex", "like", "$foo"])
def test_an_operator_that_cannot_be_served_is_refused_when_the_service_is_made(operator: str) -> None:
    table = Table("things", MetaData(), Column("id", Integer, primary_key=True))
    for make in (MemoryService, lambda **options: SQLService(table, **options)):
        with pytest.raises(TypeError, match=r"cannot serve the operator .*: there are .*\$like"):
            make(operators=["$like", operator])


@pytest.mark.parametrize("operator", ["$like", "$notlike", "$ilike"])
async def test_the_documented_operators_are_served(operator: str) -> None:
    service = Apex().use("things", MemoryService(operators=[operator])).service("things")
    assert await service.find({"query": {"name": {operator: "a%"}}}) == []


async def test_of_two_creates_under_one_id_one_conflicts() -> None:
    log, go = MemoryService(), asyncio.Event()

    def entry(row: Row) -> Row:
        return {"what": "created"}

    class Slow(MemoryService):
        async def create(self, data: Any, params: Params) -> Any:
            await go.wait()
            return await log.create(data, params)

    service = MemoryService(fields={"id": integer, "done": boolean})
    params = Params({"adapter": {"companion": Companion(Slow(), entry, "record_id", "record")}})
    creates = [asyncio.ensure_future(service.create({"id": 7, "done": done}, params)) for done in (True, False)]
    creates.append(asyncio.ensure_future(service.create({"id": 7}, Params())))
    await asyncio.sleep(0)
    go.set()
    first, second, third = await asyncio.gather(*creates, return_exceptions=True)
    assert first == {"id": 7, "done": True} == service.store[7]
    assert isinstance(second, Conflict)
    assert isinstance(third, Conflict)
    assert len(log.store) == 1


async def test_an_id_is_free_again_when_what_goes_beside_it_fails() -> None:
    class Broken(MemoryService):
        async def create(self, data: Any, params: Params) -> Any:
            raise BadRequest("no")

    service = MemoryService()
    with pytest.raises(BadRequest, match="no"):
        await service.create(
            {"id": 7}, Params({"adapter": {"companion": Companion(Broken(), dict, "record_id", "record")}})
        )
    assert await service.create({"id": 7}, Params()) == {"id": 7}
