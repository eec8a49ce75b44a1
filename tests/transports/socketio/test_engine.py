"""Tests of packets that no client sends: only their own connection ends or gets an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import AsyncClient

from apex import Apex, MemoryService, rest, sockets
from apex.transports.socketio import engine
from tests.support.serving import serving
from tests.support.sockets import app_of, connected, empty, handshake, opened, polling
from tests.support.waiting import until

FRAMES = [
    "", "x", "9", "0", "2", "3[", "4", "4[]", '4{"a":1}', "4true", "4-5", "4" + "[" * 100_000, "3" + "[" * 100_000,
    "b", "b4AB", "47", "49[]", "40" + "0" * 200, "42" + "1" * 101 + '["find","notes"]', '42²["find","notes"]',
    '44{"message":"no"}', '42/admin,0["find","notes"]', "41/admin,", "4\ud7ff",
]  # fmt: skip


@pytest.fixture
async def app() -> Apex:
    return app_of("notes", MemoryService())


@pytest.fixture
async def http(app: Apex) -> AsyncIterator[AsyncClient]:
    async with serving(app) as http:
        yield http


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: ascii(frame[:20]))
async def test_a_malformed_packet_ends_only_its_connection(
    app: Apex, http: AsyncClient, frame: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(http) as other:
        async with connected(http) as peer:
            await peer.send(frame)
            await peer.closed()
        assert await other.call("find", "notes") == [None, []]
    await until(lambda: empty(app))
    assert caplog.records == []


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if frame != "b"], ids=lambda f: ascii(f[:20]))
async def test_a_malformed_packet_ends_a_polling_connection(
    app: Apex, http: AsyncClient, frame: str, caplog: pytest.LogCaptureFixture
) -> None:
    poller = await polling(http)
    await poller.post(frame)
    await until(lambda: empty(app))
    assert (await http.get(poller.url)).json() == {"code": 1, "message": "Session ID unknown"}
    assert caplog.records == []


@pytest.mark.parametrize("frame", ["430[]", "43[]", "461-0[]", b"stray", b"", "3", "5"], ids=repr)
async def test_a_packet_without_a_meaning_is_ignored(http: AsyncClient, frame: str | bytes) -> None:
    async with connected(http) as peer:
        await peer.send(frame)
        assert await peer.call("find", "notes") == [None, []]


@pytest.mark.parametrize("frame", ['42["find","notes"]', '420["find","notes"]', "41", '450-["x"]', "43[]"])
async def test_a_client_that_is_not_connected_cannot_call(app: Apex, http: AsyncClient, frame: str) -> None:
    async with opened(http) as peer:
        await peer.send(frame, "42[]")
        await peer.closed()
    await until(lambda: empty(app))


async def test_a_binary_event_is_refused(http: AsyncClient) -> None:
    async with connected(http) as peer:
        await peer.send('451-7["create","notes",{"_placeholder":true,"num":0}]', b"\0" * 100)
        (error,) = await peer.answer(7)
        assert (error["code"], error["message"]) == (400, "Binary data is not supported: send JSON")
        await peer.send('451-["create","notes",{"_placeholder":true,"num":0}]', b"")
        assert await peer.call("find", "notes") == [None, []]


async def test_a_binary_event_is_refused_over_polling(http: AsyncClient) -> None:
    poller = await polling(http)
    await poller.post('451-7["create","notes",{"_placeholder":true,"num":0}]', "bAQIDBA==", '428["find","notes"]')
    refused, answer = await poller.frames(2)
    assert refused.startswith('437[{"name":"BadRequest","message":"Binary data is not supported')
    assert answer == "438[null,[]]"


@pytest.mark.parametrize("name", ["/admin", "/admin?a=1", "/x"])
async def test_there_is_no_other_namespace(http: AsyncClient, name: str) -> None:
    async with connected(http) as peer:
        await peer.send(f"40{name},")
        assert await peer.frame() == f'44{name.partition("?")[0]},{{"message":"Invalid namespace"}}'
        assert await peer.call("find", "notes") == [None, []]


async def test_a_second_connect_changes_nothing(app: Apex, http: AsyncClient) -> None:
    async with connected(http) as peer:
        await peer.send("40", '40{"token":"x"}', "40[")
        assert await peer.call("find", "notes") == [None, []]
        assert len(app.events.connections) == 1


async def test_a_disconnected_client_may_connect_again(app: Apex, http: AsyncClient) -> None:
    async with connected(http) as peer:
        await peer.send("41")
        await until(lambda: not app.events.connections)
        await peer.send("40")
        assert (await peer.frame()).startswith('40{"sid":"')
        assert await peer.call("find", "notes") == [None, []]


async def test_a_session_that_does_not_connect_in_time_is_closed(
    app: Apex, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 0.05)
    await handshake(http)
    async with opened(http) as silent, connected(http) as peer:
        await silent.closed()
        assert await peer.call("find", "notes") == [None, []]
        await peer.send("41")
        await peer.closed()
    await until(lambda: empty(app))


@pytest.mark.parametrize("large", ['420["find","' + "x" * 5_000_000 + '"]', b"x" * 5_000_000])
async def test_a_frame_that_is_too_large_ends_its_connection_alone(app: Apex, http: AsyncClient, large: Any) -> None:
    async with connected(http) as other:
        async with connected(http) as peer:
            await peer.send(large)
            await peer.closed()
        assert await other.call("find", "notes") == [None, []]
    await until(lambda: empty(app))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_ends_its_connection_alone(app: Apex, http: AsyncClient, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 65_536

    other, poller = await polling(http), await polling(http)
    body: Any = pieces() if chunked else b'420["find","' + b"x" * 5_000_000 + b'"]'
    assert (await http.post(poller.url, content=body)).status_code == 400
    assert len(app.events.connections) == 1
    await other.post('420["find","notes"]')
    assert await other.get() == ["430[null,[]]"]


async def test_a_frame_at_the_limit_is_taken() -> None:
    async with serving(app_of("notes", MemoryService(), maxPayload=100)) as http:
        for large, taken in ((100, True), (101, False)):
            async with connected(http) as peer:
                await peer.send('420["find","' + "x" * (large - 14) + '"]')
                await (peer.answer(0) if taken else peer.closed())


async def test_a_body_of_empty_frames_ends_its_connection(app: Apex, http: AsyncClient) -> None:
    poller = await polling(http)
    assert (await poller.post(*["3"] * 500_000)).json() == {"code": 3, "message": "Bad request"}
    await until(lambda: empty(app))


async def test_other_paths_need_another_transport() -> None:
    app = Apex().configure(sockets)
    with pytest.raises(RuntimeError, match=r"call app\.configure\(rest\) before serving it"):
        await app({"type": "http", "path": "/notes"}, None, None)  # type: ignore[arg-type]


async def test_sockets_may_be_configured_before_the_transport_for_requests() -> None:
    app = Apex().configure(sockets).configure(rest).use("notes", MemoryService())
    async with serving(app) as http, connected(http) as peer:
        assert await peer.call("find", "notes") == [None, []]
        assert (await http.get("/notes")).status_code == 200
        assert (await http.get("/socket.io/other")).json()["message"] == "Path /socket.io/other not found"
