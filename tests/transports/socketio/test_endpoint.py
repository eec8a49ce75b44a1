"""Tests of polling, of upgrades to a WebSocket, and of refused handshakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import websockets
from httpx2 import AsyncClient

from apex import Apex, MemoryService
from tests.support.serving import serving
from tests.support.sockets import (
    PATH,
    Held,
    address,
    app_of,
    connected,
    empty,
    handshake,
    opened,
    polling,
)
from tests.support.waiting import until

UNKNOWN = {"code": 1, "message": "Session ID unknown"}


@pytest.fixture
async def app() -> Apex:
    return app_of("notes", MemoryService()).use("held", Held())


@pytest.fixture
async def http(app: Apex) -> AsyncIterator[AsyncClient]:
    async with serving(app) as http:
        yield http


def let_go(app: Apex) -> None:
    """End hanging requests, which delay the stop of a server."""
    app.emit("shutdown")


async def test_a_session_is_opened_called_and_left(app: Apex, http: AsyncClient) -> None:
    response = await http.get(f"{PATH}polling")
    assert response.headers["content-type"] == "text/plain; charset=UTF-8"
    assert response.headers["cache-control"] == "no-store"
    assert '"upgrades":["websocket"]' in response.text.replace(" ", "")
    poller = await polling(http)
    taken = await poller.post('420["create","notes",{"text":"a"}]', '421["find","notes"]')
    assert (taken.status_code, taken.text, taken.headers["content-type"]) == (200, "ok", "text/html")
    assert await poller.frames(3) == [
        '42["notes created",{"text":"a","id":0}]', '430[null,{"text":"a","id":0}]', '431[null,[{"text":"a","id":0}]]',
    ]  # fmt: skip
    await poller.post("1")
    assert (await http.get(poller.url)).json() == UNKNOWN
    assert not app.events.connections


async def test_a_poll_hangs_until_there_is_something(app: Apex, http: AsyncClient) -> None:
    poller = await polling(http)
    hanging = asyncio.create_task(poller.get())
    await until(lambda: app.mounts["socket.io"].endpoint.requests)  # type: ignore[attr-defined]
    await app.service("notes").create({"text": "a"})
    assert await hanging == ['42["notes created",{"text":"a","id":0}]']


@pytest.mark.parametrize(
    ("method", "query", "status", "body"),
    [
        ("GET", "EIO=4&transport=polling&sid=nope", 400, UNKNOWN),
        ("POST", "EIO=4&transport=polling&sid=nope", 400, UNKNOWN),
        ("POST", "EIO=4&transport=polling", 400, {"code": 2, "message": "Bad handshake method"}),
        ("PUT", "EIO=4&transport=polling", 400, {"code": 2, "message": "Bad handshake method"}),
        ("GET", "EIO=3&transport=polling", 400, {"code": 5, "message": "Unsupported protocol version"}),
        ("GET", "transport=polling", 400, {"code": 5, "message": "Unsupported protocol version"}),
        ("GET", "EIO=4&transport=carrier-pigeon", 400, {"code": 0, "message": "Transport unknown"}),
        ("GET", "EIO=4&transport=websocket", 400, {"code": 0, "message": "Transport unknown"}),
        ("GET", "EIO=4&transport=polling&j=0", 400, {"code": 0, "message": "Transport unknown"}),
        ("GET", "EIO=4", 400, {"code": 0, "message": "Transport unknown"}),
        ("GET", "", 400, {"code": 0, "message": "Transport unknown"}),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    app: Apex, http: AsyncClient, method: str, query: str, status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    response = await http.request(method, f"/socket.io/?{query}")
    assert (response.status_code, response.json()) == (status, body)
    assert response.headers["content-type"].startswith("application/json")
    assert empty(app)
    assert caplog.records == []


@pytest.mark.parametrize("query", ["EIO=4&transport=polling", "EIO=3&transport=websocket", "sid=x", ""])
async def test_a_websocket_that_makes_no_sense_is_refused(app: Apex, http: AsyncClient, query: str) -> None:
    url = address(http).partition("?")[0]
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"{url}?{query}")
    assert refused.value.response.status_code == 400
    assert refused.value.response.headers["content-type"] == "application/json"
    assert empty(app)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_two_requests_at_once_end_their_session(app: Apex, http: AsyncClient, method: str) -> None:
    poller = await polling(http)
    if method == "POST":
        await poller.post(*['42["find","held",{}]'] * 100)
        first = asyncio.create_task(poller.post('42["find","held"]'))
    else:
        first = asyncio.create_task(http.get(poller.url))
    await until(lambda: app.mounts["socket.io"].endpoint.requests)  # type: ignore[attr-defined]
    second = await http.request(method, poller.url, content="3" if method == "POST" else None)
    assert (second.status_code, second.json()) == (400, {"code": 3, "message": "Bad request"})
    app.service("held").service.go.set()
    assert (await first).status_code == 200
    await until(lambda: empty(app))


async def test_the_upgrade_loses_nothing_and_doubles_nothing(app: Apex, http: AsyncClient) -> None:
    poller, notes = await polling(http), app.service("notes")
    polled = asyncio.create_task(poller.get())
    await until(lambda: app.mounts["socket.io"].endpoint.requests)  # type: ignore[attr-defined]
    async with opened(http, poller.sid) as peer:
        await peer.send("2probe")
        assert await peer.frame() == "3probe"
        assert await polled == ["6"]
        await notes.create({"text": "while it goes over"})
        assert await poller.get() == ["6"]
        await peer.send("5")
        await notes.create({"text": "after"})
        events = [json.loads(frame[2:])[1] for frame in await peer.frames(2)]
        assert events == [{"text": "while it goes over", "id": 0}, {"text": "after", "id": 1}]
        assert await peer.call("get", "notes", 1) == [None, {"text": "after", "id": 1}]
        assert (await http.get(poller.url)).status_code == 400
    await until(lambda: empty(app))


@pytest.mark.parametrize("frames", [[], ["2probe"], ["x"], ['42["find","notes"]'], ["2probe", "2probe"]], ids=repr)
async def test_an_upgrade_that_fails_leaves_the_session_polling(
    app: Apex, http: AsyncClient, frames: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    poller = await polling(http)
    async with opened(http, poller.sid) as peer:
        await peer.send(*frames)
    (socket,) = app.mounts["socket.io"].engine.eio.sockets.values()  # type: ignore[attr-defined]
    await until(lambda: not socket.upgrading)
    await poller.post('420["find","notes"]')
    assert await poller.frames(1) == ["430[null,[]]"]
    assert caplog.records == []


async def test_an_upgrade_that_is_not_gone_through_with_ends(
    app: Apex, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["apex.transports.socketio.connections"], "UPGRADE_SECONDS", 0.05)
    poller = await polling(http)
    async with opened(http, poller.sid) as peer:
        await peer.closed()
    await poller.post('420["find","notes"]')
    assert await poller.get() == ["430[null,[]]"]


async def test_a_second_upgrade_is_refused(http: AsyncClient) -> None:
    poller = await polling(http)
    async with opened(http, poller.sid) as peer:
        await peer.send("2probe")
        assert await peer.frame() == "3probe"
        with pytest.raises(websockets.InvalidStatus):
            await opened(http, poller.sid).__aenter__()
        await peer.send("5")
        assert await peer.call("find", "notes") == [None, []]


@pytest.mark.parametrize("request_line", ["GET", "POST"])
async def test_a_client_that_leaves_in_the_middle_of_a_request_is_gone(
    app: Apex, http: AsyncClient, request_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    poller = await polling(http)
    url = urlsplit(str(http.base_url))
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"{request_line} {poller.url} HTTP/1.1\r\nHost: a\r\n".encode())
    writer.write(b"\r\n" if request_line == "GET" else b"Content-Length: 100\r\n\r\n41")
    await until(lambda: app.mounts["socket.io"].endpoint.requests)  # type: ignore[attr-defined]
    writer.transport.abort()
    await until(lambda: empty(app))
    assert caplog.records == []


async def test_a_body_that_does_not_come_is_not_waited_for(
    app: Apex, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["apex.transports.socketio.endpoint"], "BODY_SECONDS", 0.05)
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"4"
        await never.wait()

    poller = await polling(http)
    with contextlib.suppress(httpx2.TransportError):
        sent = asyncio.create_task(http.post(poller.url, content=body()))
        await until(lambda: empty(app))
        never.set()
        await sent


async def test_a_body_may_come_in_pieces(http: AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'420["find",'
        yield b'"notes"]\x1e421["find","nope"]'

    poller = await polling(http)
    assert (await http.post(poller.url, content=body())).status_code == 200
    assert [frame[:8] for frame in await poller.frames(2)] == ["430[null", '431[{"na']


async def test_a_connection_beyond_the_limit_is_503() -> None:
    async with serving(app_of("notes", MemoryService(), maxConnections=2)) as http:
        first = await polling(http)
        async with connected(http):
            response = await http.get(f"{PATH}polling")
            assert (response.status_code, response.json()["name"]) == (503, "Unavailable")
            with pytest.raises(websockets.InvalidStatus) as refused:
                await opened(http).__aenter__()
            assert refused.value.response.status_code == 503
            assert b"Too many connections" in refused.value.response.body
            await first.post("1")
            assert await handshake(http)


async def test_sessions_that_never_connect_make_room_for_others() -> None:
    async with serving(app_of("notes", MemoryService(), maxConnections=3)) as http, connected(http) as peer:
        for _ in range(20):
            await handshake(http)
        async with opened(http), opened(http):
            await polling(http)
        assert await peer.call("find", "notes") == [None, []]


PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


@pytest.mark.parametrize(("origin", "allowed"), [("https://ours.example", True), ("https://theirs.example", False)])
async def test_sockets_have_their_own_origins(origin: str, allowed: bool) -> None:
    async with serving(app_of("notes", MemoryService(), origins=["https://ours.example"])) as http:
        for method, headers in (("GET", {}), ("OPTIONS", PREFLIGHT)):
            response = await http.request(method, f"{PATH}polling", headers={"origin": origin, **headers})
            assert response.status_code == (200 if allowed else 400)
            assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
            assert "access-control-allow-credentials" not in response.headers
        assert response.headers["access-control-allow-headers"] == "authorization"
        if allowed:
            async with connected(http, additional_headers={"Origin": origin}) as peer:
                assert await peer.call("find", "notes") == [None, []]
        else:
            with pytest.raises(websockets.InvalidStatus):
                await opened(http, additional_headers={"Origin": origin}).__aenter__()


async def test_all_origins_are_taken_unless_some_are_named(http: AsyncClient) -> None:
    response = await http.get(f"{PATH}polling", headers={"origin": "https://theirs.example"})
    assert response.headers["access-control-allow-origin"] == "https://theirs.example"
    assert "access-control-allow-credentials" not in response.headers


async def test_open_connections_are_closed_when_the_app_is_torn_down(app: Apex, http: AsyncClient) -> None:
    poller = await polling(http)
    hanging = asyncio.create_task(poller.get())
    await until(lambda: app.mounts["socket.io"].endpoint.requests)  # type: ignore[attr-defined]
    async with connected(http) as peer, opened(http) as silent:
        async with asyncio.timeout(15):
            await app.teardown()
            await peer.closed()
            await silent.closed()
            assert await hanging == ["1"]
        await until(lambda: empty(app))
        async with connected(http) as again:
            assert await again.call("find", "notes") == [None, []]
