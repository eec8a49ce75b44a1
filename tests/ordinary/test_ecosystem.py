"""Other software of this ecosystem, which works with a server without changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import Column, Integer, MetaData, Numeric, String, Table

import apex
from apex import (
    Apex,
    Connection,
    Context,
    HookMap,
    MemoryService,
    Params,
    Schema,
    SQLService,
    database,
    rest,
    sockets,
    validate_data,
)  # fmt: skip
from apex.common.resolvers import resolve, resolve_external, resolve_result, virtual
from apex.errors import BadRequest
from apex.schema.validation import Id, Text, fields
from apex.sql import Timestamp
from tests.support.serving import calling, serving
from tests.support.sockets import app_of, opened

VENDOR = Path(apex.__file__).parent / "transports" / "socketio" / "static"
SCRIPT = "/socket.io/socket.io.js"


def test_the_vendored_client_is_the_published_one() -> None:
    named = re.findall(r"^([0-9a-f]{64})  (\S+)$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    there = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in VENDOR.glob("socket.io*")}
    assert {name: hash for hash, name in named} == there


async def test_a_page_loads_the_client_of_socket_io_from_the_server() -> None:
    async with calling(app_of("notes", MemoryService())) as http:
        script = await http.get(SCRIPT)
        assert (script.status_code, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        assert script.text.startswith("/*!\n * Socket.IO v4.8.")
        assert (await http.get("/socket.io/socket.io.min.js")).content == script.content
        assert (await http.head(SCRIPT)).headers["content-length"] == script.headers["content-length"]


async def test_a_browser_asks_again_for_the_client_and_is_sent_nothing() -> None:
    async with calling(app_of("notes", MemoryService())) as http:
        tag = (await http.get(SCRIPT)).headers["etag"]
        known = await http.get(SCRIPT, headers={"If-None-Match": tag})
    assert (known.status_code, known.content, known.headers["cache-control"]) == (304, b"", "no-cache")


@pytest.mark.parametrize("path", ["/socket.io/socket.io.js.map", "/socket.io/README.md", "/socket.io/../apex.py"])
async def test_nothing_else_is_served_beside_the_client(path: str) -> None:
    async with calling(app_of("notes", MemoryService())) as http:
        assert (await http.get(path)).status_code == 404


async def test_there_is_no_client_without_sockets() -> None:
    async with calling(Apex().configure(rest)) as http:
        assert (await http.get(SCRIPT)).status_code == 404


async def test_a_connection_has_the_query_and_auth_of_its_handshake() -> None:
    seen: list[Any] = []

    def remember(context: Context) -> None:
        seen.append(context.params.handshake["auth"]["token"])

    def join(connection: Connection) -> None:
        seen.append(connection.handshake)

    app = Apex().configure(rest).configure(sockets).use("notes", MemoryService(), hooks={"before": [remember]})
    app.on("connection", join)
    async with serving(app) as http, opened(http, query="&room=a&tag=x&tag=y") as peer:
        await peer.frame()
        await peer.send('40{"token":"t"}')
        await peer.frame()
        await peer.call("find", "notes", {"room": "b"})
    assert seen == [{"query": {"room": "a", "tag": ["x", "y"]}, "auth": {"token": "t"}}, "t"]


@pytest.mark.parametrize("frame", ["40", "40[1]", '40"text"', "40{", "40{}"])
async def test_a_handshake_without_auth_has_an_empty_one(frame: str) -> None:
    app = app_of("notes", MemoryService())
    async with serving(app) as http, opened(http) as peer:
        await peer.frame()
        await peer.send(frame)
        await peer.frame()
        assert [one.handshake for one in app.events.connections] == [{"query": {}, "auth": {}}]


# Whole records, as ra-data-feathers and feathers-pinia send them: what was received, with what was changed in it.

NOW = datetime(2023, 1, 1, tzinfo=UTC)


class NoteSchema(Schema):
    create_only = ("list_id",)

    id = fields.Integer(dump_only=True)
    text = Text(required=True, max=20)
    list_id = Id(required=True)
    user_id = fields.Integer(dump_only=True)
    price = fields.Decimal(dump_only=True)
    created_at = fields.DateTime(dump_only=True)
    token = fields.String(dump_only=True)


def table() -> Table:
    return Table(
        "notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(20), nullable=False),
        Column("list_id", Integer, nullable=False), Column("user_id", Integer), Column("price", Numeric(9, 2)),
        Column("created_at", Timestamp), Column("token", String(9)),
    )  # fmt: skip


async def stamp(context: Context) -> None:
    if context.method == "create":
        more = {"user_id": 7, "price": Decimal("1.50"), "created_at": NOW, "token": "secret"}
        context.data = {**context.data, **more}


SHOUT = resolve({"shout": virtual(lambda record, context: record["text"].upper())})
SHOWN = resolve({"token": lambda value, record, context: None})


@asynccontextmanager
async def noting(url: str) -> AsyncIterator[AsyncClient]:
    notes = table()
    service: Any = MemoryService() if url == "memory" else SQLService(notes)
    app = Apex().configure(rest)
    if url != "memory":
        app.configure(database(url))
    hooks: HookMap = {
        "around": [resolve_external(SHOWN), resolve_result(SHOUT)],
        "before": {"all": [validate_data(NoteSchema), own], "create": [stamp]},
    }
    app.use("notes", service, hooks=hooks)
    async with calling(app) as http:
        if url != "memory":
            await app.get("database").create_all(notes.metadata)
        yield http


def own(context: Context) -> None:
    if "list" in context.params.query:
        query = dict(context.params.query)
        context.params.scope["list_id"] = int(query.pop("list"))
        context.params.query = query


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    kinds = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    return "memory" if request.param == "memory" else str(request.getfixturevalue(kinds[request.param]))


@pytest.mark.parametrize("verb", ["PATCH", "PUT"])
async def test_a_whole_record_is_taken_as_it_was_received(url: str, verb: str) -> None:
    async with noting(url) as http:
        note = (await http.post("/notes", json={"text": "a", "list_id": 1})).json()
        assert (note["shout"], note["price"], note["created_at"]) == ("A", "1.50", "2023-01-01T00:00:00.000Z")
        changed = await http.request(verb, f"/notes/{note['id']}", json={**note, "text": "b"})
        assert (changed.status_code, changed.json()) == (200, {**note, "text": "b", "shout": "B"})
        assert (await http.get(f"/notes/{note['id']}")).json() == changed.json()


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("id", 99, "Is set by the server: leave it out"),
        ("user_id", 8, "Is set by the server: leave it out"),
        ("user_id", None, "Is set by the server: leave it out"),
        ("price", "1.5", "Is set by the server: leave it out"),
        ("created_at", "2023-01-01T00:00:00.001Z", "Is set by the server: leave it out"),
        ("list_id", 2, "Can only be set on create"),
        ("shout", "B", "Unknown field."),
        ("token", "secret", "Is set by the server: leave it out"),
        ("token", "guess", "Is set by the server: leave it out"),
        ("txt", "a", "Unknown field. Did you mean 'text'?"),
    ],
)
async def test_another_value_of_a_field_of_the_server_is_refused_alone(
    field: str, value: Any, rule: str, sqlite_url: str
) -> None:
    async with noting(sqlite_url) as http:
        note = (await http.post("/notes", json={"text": "a", "list_id": 1})).json()
        refused = (await http.patch("/notes/1", json={**note, "text": "b", field: value})).json()
        assert (refused["code"], refused["errors"][field]) == (400, rule)
        assert field == "txt" or refused["errors"] == {field: rule}
        assert (await http.get("/notes/1")).json() == note


async def test_a_record_outside_of_the_scope_is_not_there_whatever_is_sent(sqlite_url: str) -> None:
    async with noting(sqlite_url) as http:
        note = (await http.post("/notes", json={"text": "a", "list_id": 1})).json()
        for sent in (note, {**note, "user_id": 8}):
            assert (await http.patch("/notes/1?list=2", json=sent)).status_code == 404
        assert (await http.patch("/notes/1?list=1", json=note)).status_code == 200


async def test_a_record_is_read_only_where_a_field_of_the_server_is_sent() -> None:
    read: list[Any] = []

    class Notes(MemoryService):
        async def get(self, id: Any, params: Params) -> Any:
            read.append(id)
            return await super().get(id, params)

    app = Apex().use("notes", Notes(), hooks={"before": [validate_data(NoteSchema)]})
    notes = app.service("notes")
    await notes.create({"text": "a", "list_id": 1})
    await notes.patch(0, {"text": "b"})
    for data in ({"text": ""}, {"txt": "b"}, {"text": "", "id": 0}, {"txt": "b", "id": 0}):
        with pytest.raises(BadRequest):
            await notes.patch(0, data)
    with pytest.raises(BadRequest):
        await notes.patch(None, {"text": "b", "id": 0})
    assert read == []
    assert (await notes.patch(0, {"text": "c", "id": 0})) == {"text": "c", "list_id": 1, "id": 0}
    assert read == [0]
