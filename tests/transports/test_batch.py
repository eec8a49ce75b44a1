"""Many calls in one request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from apex import Apex, AuthenticationService, Connection, MemoryService, Params, batch, rest
from apex.errors import Conflict
from apex.sql import SQLService, Timestamp, database
from tests.support.serving import calling


def app_of() -> Apex:
    app = Apex().configure(rest).configure(batch)
    app.use("notes", MemoryService(multi=True)).use("inside", MemoryService(), methods=[])
    return app


async def settled(*calls: Any) -> list[Any]:
    async with calling(app_of()) as client:
        response = await client.post("/batch", json={"calls": calls})
        assert response.status_code == 201
        return list(response.json())


async def test_values_and_errors_are_in_the_order_of_the_calls() -> None:
    found = await settled(["create", "notes", {"text": "a"}], ["get", "notes", 7, {}], ["find", "notes", {"text": "b"}])
    assert found[0] == {"status": "fulfilled", "value": {"text": "a", "id": 0}}
    assert (found[1]["status"], found[1]["reason"]["name"]) == ("rejected", "NotFound")
    assert found[2] == {"status": "fulfilled", "value": []}


@pytest.mark.parametrize(
    ("call", "name", "message"),
    [
        (["create", "inside", {}], "BadRequest", "Invalid method create on inside"),
        (["setup", "notes", {}], "BadRequest", "Invalid method setup on notes"),
        (["create", "batch", {"calls": []}], "BadRequest", "Invalid method create on batch"),
        (["find", "nothing"], "NotFound", "Invalid service nothing"),
        (["get", "notes/1"], "NotFound", "Invalid service notes/1"),
        (["get", "n" * 900], "NotFound", f"Invalid service {'n' * 100}..."),
        (["g" * 900, "notes"], "BadRequest", f"Invalid method {'g' * 100}... on notes"),
        (["patch", "notes", 1], "BadRequest", "patch takes id, data, query"),
        (["get", "notes", 1, {}, {}], "BadRequest", "get takes id, query"),
        ([], "BadRequest", 'A call must be a list such as ["get", "contacts", 1, {}]'),
        ([1, "notes"], "BadRequest", 'A call must be a list such as ["get", "contacts", 1, {}]'),
        (None, "BadRequest", 'A call must be a list such as ["get", "contacts", 1, {}]'),
        (["find", "notes", "x"], "BadRequest", "The query must be an object"),
    ],
)
async def test_what_is_no_call_is_rejected(call: Any, name: str, message: str) -> None:
    [found] = await settled(call)
    assert (found["status"], found["reason"]["name"], found["reason"]["message"]) == ("rejected", name, message)


async def test_nobody_logs_in_by_a_batch() -> None:
    app = app_of().use("users", MemoryService(), methods=[])
    app.set("authentication", {"secret": "s" * 32})
    authentication = AuthenticationService(app)
    app.use("authentication", authentication)
    async with calling(app) as client:
        login = ["create", "authentication", {"strategy": "local"}]
        [found] = (await client.post("/batch", json={"calls": [login]})).json()
    assert found["reason"]["message"] == "Logging in or out is a request of its own"


@pytest.mark.parametrize("data", [{}, [], {"calls": {}}, {"calls": [["find", "notes"]] * 101}])
async def test_what_is_no_batch_is_refused(data: Any) -> None:
    async with calling(app_of()) as client:
        response = await client.post("/batch", json=data)
        assert (response.status_code, "calls" in response.json()["errors"]) == (400, True)


async def test_nobody_hears_of_a_batch() -> None:
    app, heard = app_of(), []
    app.publish(lambda data, context: heard.append(context.path))
    async with calling(app) as client:
        app.channel("all").join(Connection(provider="test", headers={}))
        await client.post("/batch", json={"calls": [["create", "notes", {}]]})
    assert "batch" not in heard


async def test_hooks_see_the_values_of_a_batch(sqlite_url: str) -> None:
    table = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("at", Timestamp))
    seen: list[Any] = []
    app = Apex().configure(rest).configure(batch).configure(database(sqlite_url)).use("notes", SQLService(table))
    app.use("wrong", Wrong())
    app.service("batch").hooks({"after": {"create": lambda context: seen.append(context.result)}})
    calls = [["create", "notes", {"at": "2024-01-01T00:00:00Z"}], ["get", "notes", 1], ["find", "notes"],
             ["get", "wrong", 1], ["get", "wrong", 2]]  # fmt: skip
    async with calling(app) as client:
        await app.get("database").create_all(table.metadata)
        answer = (await client.post("/batch", json={"calls": calls})).json()
        made = await app.service("batch").service.create({"calls": calls[1:2]}, Params({"provider": "rest"}))
    row = {"id": 1, "at": datetime(2024, 1, 1, tzinfo=UTC)}
    assert [one.get("value") for one in seen[0]] == [row, row, [row], None, None]
    assert made == [{"status": "fulfilled", "value": row}]
    assert [one["status"] for one in answer] == ["fulfilled"] * 3 + ["rejected"] * 2
    assert [one["reason"]["code"] for one in answer[3:]] == [500, 409]
    assert answer[0]["value"] == {"id": 1, "at": "2024-01-01T00:00:00.000Z"}


class Wrong:
    """Gives, and raises, what has no form in JSON."""

    async def get(self, id: Any, params: Params) -> Any:
        if id == 2:
            raise Conflict("Taken", {"by": object()})
        return {"what": object()}
