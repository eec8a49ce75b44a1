"""Fields that a record has only if they are selected, on all adapters."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, MemoryService, SQLService, database
from apex.query.coercion import integer, text
from apex.service import BoundService

notes = Table(
    "notes", MetaData(), Column("id", Integer, primary_key=True), Column("name", String(9)), Column("source", String(9))
)


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
async def service(request: pytest.FixtureRequest) -> Any:
    app = Apex()
    if request.param == "memory":
        kinds = {"id": integer, "name": text, "source": text}
        app.use("notes", MemoryService(fields=kinds, on_demand=["source"], start_id=1))
    else:
        app.configure(database(request.getfixturevalue(request.param)))
        app.use("notes", SQLService(notes, on_demand=["source"]))
    await app.setup()
    if request.param != "memory":
        await app.get("database").create_all(notes.metadata)
    yield app.service("notes")
    await app.teardown()


async def test_a_record_has_it_only_where_it_is_selected(service: BoundService) -> None:
    plain = {"id": 1, "name": "a"}
    assert await service.create({"name": "a", "source": "x"}) == plain
    assert await service.get(1) == plain
    assert await service.find({"query": {"source": "x", "$sort": {"source": 1}}}) == [plain]
    select = {"query": {"$select": ["source"]}}
    chosen = {"id": 1, "source": "x"}
    assert await service.get(1, select) == (await service.find(select))[0] == chosen
    assert await service.patch(1, {"name": "b"}, select) == chosen
    assert await service.patch(1, {"source": "y"}) == {"id": 1, "name": "b"}


async def test_an_update_that_leaves_it_out_keeps_it(service: BoundService) -> None:
    await service.create({"name": "a", "source": "x"})
    assert await service.update(1, {"name": "b"}) == {"id": 1, "name": "b"}
    assert await service.get(1, {"query": {"$select": ["source"]}}) == {"id": 1, "source": "x"}
    await service.update(1, {"name": "b", "source": "y"})
    assert await service.find({"query": {"source": "y"}}) == [{"id": 1, "name": "b"}]


def test_the_id_is_in_every_record() -> None:
    with pytest.raises(TypeError, match="every record has it"):
        SQLService(notes, on_demand=["id"])
