"""Engine.IO over HTTP: what is refused, and the way from polling to a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets import InvalidStatus

from tests.interop.frames import engine, opened
from tests.interop.golden import golden

PATH = "/socket.io/"
OPEN = f"{PATH}?EIO=4&transport=polling"


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with golden() as url, httpx2.AsyncClient(base_url=url) as client:
        yield client


async def opened_session(http: httpx2.AsyncClient) -> str:
    """The address of a new session."""
    return f"{OPEN}&sid={opened((await http.get(OPEN)).text)['sid']}"


@pytest.mark.parametrize(
    ("method", "query", "body"),
    [
        ("GET", "EIO=4&transport=pigeon", {"code": 0, "message": "Transport unknown"}),
        ("GET", "EIO=4", {"code": 0, "message": "Transport unknown"}),
        ("GET", "EIO=4&transport=polling&sid=gone", {"code": 1, "message": "Session ID unknown"}),
        ("POST", "EIO=4&transport=polling&sid=gone", {"code": 1, "message": "Session ID unknown"}),
        ("POST", "EIO=4&transport=polling", {"code": 2, "message": "Bad handshake method"}),
        ("GET", "EIO=3&transport=polling", {"code": 5, "message": "Unsupported protocol version"}),
    ],
)
async def test_refusals(http: httpx2.AsyncClient, method: str, query: str, body: Any) -> None:
    response = await http.request(method, f"{PATH}?{query}")
    assert (response.status_code, response.json()) == (400, body)
    assert response.headers["content-type"].partition(";")[0] == "application/json"


async def test_a_websocket_of_an_unknown_session_is_refused(http: httpx2.AsyncClient) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with engine(str(http.base_url), "&sid=gone"):
            pass
    assert refused.value.response.status_code == 400
    assert refused.value.response.body == b'{"code":1,"message":"Session ID unknown"}'


async def test_packets_come_and_go_together(http: httpx2.AsyncClient) -> None:
    first = await http.get(OPEN)
    assert first.headers["content-type"] == "text/plain; charset=UTF-8"
    assert first.headers["cache-control"] == "no-store"
    assert opened(first.text)["upgrades"] == ["websocket"]

    session = f"{OPEN}&sid={opened(first.text)['sid']}"
    calls = '40\x1e420["get","echo","num",{}]\x1e421["get","echo","null",{}]'
    sent = await http.post(session, content=calls, headers={"Content-Type": "text/plain;charset=UTF-8"})
    assert sent.status_code == 200
    packets = (await http.get(session)).text.split("\x1e")
    while len(packets) < 3:
        packets += (await http.get(session)).text.split("\x1e")
    assert packets[0].startswith('40{"sid":')
    assert packets[1:] == ["430[null,0]", "431[null,null]"]


async def test_packets_are_acknowledged(http: httpx2.AsyncClient) -> None:
    sent = await http.post(await opened_session(http), content="40")
    assert (sent.status_code, sent.text, sent.headers["content-type"]) == (200, "ok", "text/html")


async def test_polling_gives_way_to_a_websocket(http: httpx2.AsyncClient) -> None:
    session = await opened_session(http)
    await http.post(session, content="40")
    await http.get(session)
    async with engine(str(http.base_url), session.removeprefix(OPEN)) as one:
        waiting = asyncio.create_task(http.get(session))
        await one.send("2probe")
        await one.says("3probe")
        assert (await waiting).text == "6"
        await one.send("5")
        await one.send('420["get","echo","num",{}]')
        await one.says("430[null,0]")


async def test_a_second_poll_at_the_same_time_ends_the_session(http: httpx2.AsyncClient) -> None:
    session = await opened_session(http)
    polls = await asyncio.gather(*(http.get(session) for _ in range(3)))
    assert 400 in [response.status_code for response in polls]
    assert (await http.get(session)).json() == {"code": 1, "message": "Session ID unknown"}


async def test_browsers_of_other_origins(http: httpx2.AsyncClient) -> None:
    response = await http.get(OPEN, headers={"Origin": "https://example.com"})
    assert response.headers["access-control-allow-origin"] in ("*", "https://example.com")
