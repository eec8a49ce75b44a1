"""Atomic batches: all calls or none, one after the other, with references to earlier results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Params, batch, bus, rest
from apex.adapters import Adapter
from apex.errors import BadRequest, FeathersError, TooManyRequests
from apex.sql import SQLService, database
from apex.transports.atomic import References
from tests.support.serving import calling

metadata = MetaData()
projects = Table("projects", metadata, Column("id", Integer, primary_key=True), Column("key", String(9), unique=True))
issues = Table(
    "issues", metadata, Column("id", Integer, primary_key=True), Column("title", String(20), nullable=False),
    Column("project_id", Integer, ForeignKey("projects.id")),
)  # fmt: skip
CREATED = [["create", "projects", {"key": "APX"}], ["create", "issues", {"title": "a", "project_id": {"$ref": "0.id"}}]]


@asynccontextmanager
async def tracker(url: str) -> AsyncIterator[tuple[Apex, AsyncClient]]:
    app = Apex().configure(database(url)).configure(bus).configure(rest).configure(batch)
    app.use("projects", SQLService(projects, multi=True)).use("issues", SQLService(issues, multi=True))
    async with calling(app) as client:
        await app.get("database").create_all(metadata)
        yield app, client


async def sent(client: AsyncClient, *calls: Any) -> Any:
    return await client.post("/batch", json={"atomic": True, "calls": calls})


async def stored(app: Apex) -> list[int]:
    return [len(await app.service(path).find()) for path in ("projects", "issues")]


async def test_a_call_refers_to_the_results_of_earlier_ones(empty_url: str) -> None:
    async with tracker(empty_url) as (_, client):
        found = ["find", "issues", {"project_id": {"$ref": "0.id"}}]
        patched = ["patch", "issues", {"$ref": "2.0.id"}, {"title": {"$ref": "0.key"}}]
        response = await sent(client, *CREATED, found, patched)
    issue = {"id": 1, "title": "a", "project_id": 1}
    assert response.status_code == 201
    values = [{"id": 1, "key": "APX"}, issue, [issue], {**issue, "title": "APX"}]
    assert response.json() == [{"status": "fulfilled", "value": value} for value in values]


async def test_a_call_that_fails_undoes_all_and_names_itself(empty_url: str) -> None:
    async with tracker(empty_url) as (app, client):
        response = await sent(client, *CREATED, ["create", "issues", {"project_id": 1}])
        assert await stored(app) == [0, 0]
    assert (response.status_code, response.json()) == (400, {
        "name": "BadRequest", "message": "Call 2 (create issues): title is required", "code": 400,
        "className": "bad-request", "data": {"call": 2}, "errors": {"title": "Is required"},
    })  # fmt: skip


async def test_events_follow_the_commit_of_the_whole(empty_url: str) -> None:
    async with tracker(empty_url) as (app, client):
        seen: list[Any] = []

        async def count(row: Any, context: Context) -> None:
            seen.append(await app.service("projects").find())

        app.service("projects").on("created", count)
        await sent(client, *CREATED, ["get", "issues", 7])
        assert seen == []
        await sent(client, CREATED[0], ["patch", "projects", {"$ref": "0.id"}, {"key": "NEW"}])
        assert [rows[0]["key"] for rows in seen] == ["NEW"]


@pytest.mark.parametrize(
    ("reference", "rule"),
    [
        ("1.id", "must name an earlier call than 1"), ("7.id", "must name an earlier call than 1"),
        ("0.name", "names nothing in the result of call 0"), ("0.id.x", "names nothing in the result of call 0"),
        ("0" + ".a" * 11, "is deeper than 10 names"), ("0." + "a" * 100_000, "names nothing"),
        ("x.id", "must be the number of a call and names"), ("-1.id", "must be the number"),
        ("0..id", "must be the number"), ("²", "must be the number"), ("9" * 5000, "must be the number"),
        (1, "must be a text"), (None, "must be a text"),
    ],
)  # fmt: skip
async def test_a_wrong_reference_is_refused(sqlite_url: str, reference: Any, rule: str) -> None:
    async with tracker(sqlite_url) as (app, client):
        response = await sent(client, CREATED[0], ["get", "projects", {"$ref": reference}])
        assert await stored(app) == [0, 0]
    body = response.json()
    assert (response.status_code, body["data"], len(body["message"]) < 300) == (400, {"call": 1}, True)
    assert rule in body["message"]


async def test_a_batch_is_checked_before_it_begins(sqlite_url: str) -> None:
    async with tracker(sqlite_url) as (app, client):
        called: list[Any] = []
        app.hooks({"before": {"all": lambda context: called.append(context.path)}})
        for wrong in (["nothing"], ["get", "nowhere", 1], ["drop", "issues", 1], ["get", "batch", 1], {"a": 1}):
            response = await sent(client, CREATED[0], wrong)
            assert response.json()["data"] == {"call": 1}
        assert (await client.post("/batch", json={"atomic": 1, "calls": []})).json()["errors"].keys() == {"atomic"}
        assert called == ["batch"] * 6


async def test_a_value_that_the_caller_may_not_read_cannot_be_referred_to(sqlite_url: str) -> None:
    async with tracker(sqlite_url) as (app, client):
        app.service("projects").hooks({"after": {"all": hide}})
        response = await sent(client, CREATED[0], ["create", "issues", {"title": {"$ref": "0.key"}}])
    assert (response.status_code, "names nothing" in response.json()["message"]) == (400, True)


def hide(context: Context) -> None:
    context.dispatch = {"id": context.result["id"]}


async def test_values_of_references_are_bounded() -> None:
    app = Apex().configure(rest).configure(batch).use("notes", MemoryService())
    async with calling(app) as client:
        copies = {f"copy{number}": {"$ref": "0.text"} for number in range(20)}
        response = await sent(client, ["create", "notes", {"text": "a" * 60_000}], ["create", "notes", copies])
    assert (response.status_code, "are larger than 1,000,000 bytes" in response.json()["message"]) == (400, True)


async def test_each_call_counts_for_its_own_limits(sqlite_url: str) -> None:
    async with tracker(sqlite_url) as (app, client):
        calls: list[Any] = []

        def limit(context: Context) -> None:
            calls.append(context.method)
            if len(calls) > 1:
                raise TooManyRequests("Slow down", headers={"Retry-After": "7"})

        app.service("projects").hooks({"before": {"all": limit}})
        response = await sent(client, CREATED[0], ["get", "projects", 1])
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert response.json()["message"] == "Call 1 (get projects): Slow down"


async def test_logs_and_metrics_get_the_status_of_each_call(sqlite_url: str) -> None:
    async with tracker(sqlite_url) as (app, client):
        seen: list[tuple[str, int]] = []
        app.on("observation", lambda observation: seen.append((observation.path, observation.status)))
        await sent(client, *CREATED)
        await sent(client, ["get", "projects", 9])
    assert seen == [("projects", 200), ("issues", 200), ("batch", 201), ("projects", 404), ("batch", 404)]


async def test_the_text_of_an_unexpected_error_stays_in_the_log(sqlite_url: str) -> None:
    async with tracker(sqlite_url) as (app, client):
        app.use("broken", Broken())
        body = (await sent(client, CREATED[0], ["create", "broken", {}])).json()
        assert await stored(app) == [0, 0]
    assert (body["code"], body["message"]) == (500, "Call 1 (create broken): An unexpected error occurred")


class Broken:
    async def create(self, data: Any, params: Params) -> Any:
        raise RuntimeError("secret")


async def test_memory_services_undo_too() -> None:
    app = Apex().configure(rest).configure(batch).use("notes", MemoryService()).use("files", MemoryService())
    async with calling(app) as client:
        wrong = await sent(client, ["create", "notes", {"a": 1}], ["create", "files", {"b": 2}], ["get", "notes", 9])
        assert (wrong.status_code, await app.service("notes").find(), await app.service("files").find()) == (
            404,
            [],
            [],
        )


async def test_what_cannot_be_undone_is_refused() -> None:
    class Forgetful(MemoryService):
        unit_of_work = Adapter.unit_of_work  # type: ignore[assignment]

    app = Apex().configure(rest).configure(batch).use("notes", Forgetful()).use("plain", Broken())
    async with calling(app) as client:
        for path in ("notes", "plain"):
            body = (await sent(client, ["create", path, {}])).json()
            assert (body["code"], "cannot undo it" in body["message"]) == (400, True)
        assert (await sent(client, ["find", "notes"])).json() == [{"status": "fulfilled", "value": []}]


async def test_a_program_makes_an_atomic_batch(empty_url: str) -> None:
    async with tracker(empty_url) as (app, _):
        made = await app.service("batch").create({"atomic": True, "calls": CREATED})
        assert [one["value"]["id"] for one in made] == [1, 1]
        with pytest.raises(FeathersError, match=r"^Call 0 \(create projects\): A record with this key"):
            await app.service("batch").create({"atomic": True, "calls": CREATED})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(data=JSON)
@settings(max_examples=80)
def test_data_without_references_stays_as_it_is(data: Any) -> None:
    try:
        assert References().resolve(["create", "notes", data], 0) == ["create", "notes", data]
    except BadRequest:
        assert '"$ref"' in str(data).replace("'", '"')
