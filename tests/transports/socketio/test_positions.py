"""Tests of positions: a client that reads a list and then follows from its position misses nothing."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from apex import Context, MemoryService
from tests.support.sockets import opened
from tests.transports.socketio.resuming import Client, app_of, served, with_users


async def refusal(http: Any, **auth: Any) -> Any:
    async with opened(http) as peer:
        await peer.frame()
        await peer.send(f"40{json.dumps(auth)}")
        return json.loads((await peer.frame()).removeprefix("44"))


async def test_a_client_follows_from_the_position_of_a_find(empty_url: str) -> None:
    app = app_of(empty_url)
    async with served(app) as http:
        before = await http.get("/notes")
        note = (await http.post("/notes", json={"text": "a"})).json()
        client = Client()
        async with client.connected(http, position=before.headers["position"]) as peer:
            assert (await client.settled(peer), client.recovered) == ([["notes created", note]], False)


async def test_a_304_has_the_position_of_now(sqlite_url: str) -> None:
    app = app_of(sqlite_url)
    async with served(app) as http:
        note = (await http.post("/notes", json={"text": "a"})).json()
        first = await http.get(f"/notes/{note['id']}")
        await http.post("/notes", json={"text": "b"})
        await app.log.catch_up()  # type: ignore[union-attr]
        again = await http.get(f"/notes/{note['id']}", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304
        assert again.headers["position"] == str(app.log.watermark)  # type: ignore[union-attr]


async def test_a_result_of_a_hook_has_no_position(sqlite_url: str) -> None:
    app = app_of(sqlite_url)

    def answer(context: Context) -> None:
        context.result = {"total": 0, "limit": 10, "skip": 0, "data": []}

    app.service("notes").hooks({"before": {"find": [answer]}})
    async with served(app) as http, Client().connected(http) as peer:
        assert "position" not in (await http.get("/notes")).headers
        assert (await peer.call("find", "notes", {"$position": "true"}))[1]["position"] is None


@pytest.mark.parametrize("value", ["yes", 5, None, {}, [], "x" * 1_000_000])
async def test_a_wrong_filter_is_named(sqlite_url: str, value: Any) -> None:
    app = app_of(sqlite_url, settings={"sockets": {"maxPayload": 2_000_000}})
    async with served(app) as http, Client().connected(http) as peer:
        error, *_ = await peer.call("find", "notes", {"$position": value})
        assert error["message"] == "$position must be true or false"
        assert (await peer.call("get", "notes", 1, {"$position": True}))[0]["message"] == "$position is for find"
        page = (await peer.call("find", "notes", {"$position": True}))[1]
        assert page == {"total": 0, "limit": 10, "skip": 0, "data": [], "position": page["position"]}


async def test_a_page_over_rest_has_its_position_too(sqlite_url: str) -> None:
    app = app_of(sqlite_url)
    async with served(app) as http:
        note = (await http.post("/notes", json={"text": "a"})).json()
        answer = await http.get("/notes?$position=true&$limit=1")
        page = {"total": 1, "limit": 1, "skip": 0, "data": [note], "position": answer.headers["position"]}
        assert answer.json() == page
        assert "position" not in (await http.get("/notes?$position=false")).json()


@pytest.mark.parametrize(
    ("request_line", "rule"),
    [
        ("GET /notes?$position=yes", "$position must be true or false"),
        ("GET /notes?$position[]=true", "$position must be true or false"),
        ("GET /notes/1?$position=true", "$position is for find"),
        ("DELETE /notes/1?$position=true", "$position is for find"),
        ("GET /names?$position=true", "$position needs a page, and find of 'names' answers with a list"),
    ],
)
async def test_a_wrong_filter_over_rest_is_named(sqlite_url: str, request_line: str, rule: str) -> None:
    app = app_of(sqlite_url)
    app.use("names", MemoryService())
    async with served(app) as http:
        answer = await http.request(*request_line.split())
        assert (answer.status_code, answer.json()["message"]) == (400, rule)


async def test_a_position_that_cannot_be_followed_refuses_the_connection(sqlite_url: str) -> None:
    async with served(with_users(app_of(sqlite_url))) as http:
        wrong: list[Any] = ["", "nonsense", 5, [], "x" * 900_000]
        for position in wrong:
            assert (await refusal(http, position=position))["message"].startswith("auth.position must be")
            assert (await refusal(http, position=position))["data"] == {"name": "BadRequest", "code": 400}
        refused = await refusal(http, position="0.zz.1")
        assert (refused["message"][:24], refused["data"]) == ("auth.position is too old", {"name": "Gone", "code": 410})
        refused = await refusal(http, position="0.0.0", login="no")
        assert refused["message"] == "auth.login must be true or false"


async def test_a_client_connects_while_the_log_cannot_be_read(postgres_url: str) -> None:
    app = app_of(postgres_url)
    async with served(app) as http:
        locking = await psycopg.AsyncConnection.connect(postgres_url)
        async with locking:
            await locking.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
            async with Client().connected(http) as peer:
                assert (await peer.call("find", "notes"))[1]["total"] == 0
