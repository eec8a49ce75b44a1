"""Other software of this ecosystem: what it loads from a server and sends to it works as it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

import apex
from apex import Apex, Connection, Context, MemoryService, rest, sockets
from tests.serving import calling, serving
from tests.sockets import app_of, opened

VENDOR = Path(apex.__file__).parent / "vendor"
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
        assert (await http.head(SCRIPT)).headers["content-length"] == str(len(script.content))


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
