"""Tests of Socket.IO packet by packet, as Feathers and Socket.IO on Node send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.interop.frames import engine, opened, wire
from tests.interop.golden import golden

TRANSCRIPT = Path(__file__).parent / "transcript.txt"
LIMITS = {"pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1000000}
MALFORMED = '44{"message":"jwt malformed","data":{"name":"JsonWebTokenError"}}'
LOGIN = '420["create","authentication",{"strategy":"local","email":"a@b.c","password":"p"},{}]'
FIND = '421["find","nomulti",{}]'


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with golden() as url:
        yield url


async def test_the_transcript(url: str) -> None:
    expected = TRANSCRIPT.read_text().splitlines()
    async with httpx2.AsyncClient(base_url=url) as client:
        await client.post("/messages", json=[{"text": text} for text in "abcd"])
        await client.patch("/messages/1", json={"seen": True})
        await client.delete("/messages/0")
    async with wire(url) as one:
        said = [await one.plays(line) for line in expected]
    assert said == expected


async def test_the_open_packet(url: str) -> None:
    async with engine(url) as one:
        assert opened(await one.receive()) == {"sid": "…", "upgrades": [], **LIMITS}


async def test_each_namespace_connection_has_its_own_id(url: str) -> None:
    async with engine(url, masks=False) as one:
        sid = opened(await one.receive())["sid"]
        await one.send('40{"token":"ignored"}')
        frame = await one.receive()
        assert frame.startswith('40{"sid":"')
        assert sid not in frame


async def test_another_namespace_is_refused_and_this_one_is_not(url: str) -> None:
    async with wire(url) as one:
        await one.send("40/admin,")
        await one.says('44/admin,{"message":"Invalid namespace"}')
        await one.send(FIND)
        await one.says("431[null,[]]")


async def test_a_wrong_token_is_refused_and_a_later_packet_ends_the_connection(url: str) -> None:
    async with engine(url, additional_headers={"Authorization": "Bearer abc"}) as one:
        await one.receive()
        await one.send("40")
        await one.says(MALFORMED)
        await one.send(FIND)
        assert await one.ends() == []


async def test_a_call_before_connecting_ends_the_connection(url: str) -> None:
    async with engine(url) as one:
        await one.receive()
        await one.send(FIND)
        assert await one.ends() == []


async def test_a_call_after_leaving_ends_the_connection(url: str) -> None:
    async with wire(url) as one:
        await one.send("41")
        await one.send(FIND)
        assert await one.ends() == []


async def test_a_disconnected_client_gets_a_packet_and_a_later_call_ends_the_connection(url: str) -> None:
    async with wire(url) as one, wire(url) as other:
        for each in (one, other):
            await each.send(LOGIN)
            await each.receive()
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await client.delete("/users/0")).status_code == 200
        for each in (one, other):
            await each.says("41")
            await each.send(FIND)
            assert await each.ends() == []


async def test_binary_data_is_answered_and_the_connection_stays(url: str) -> None:
    async with wire(url) as one:
        await one.send('451-7["create","nomulti",{"_placeholder":true,"num":0},{}]')
        await one.socket.send(b"\x01")
        assert (await one.receive()).startswith('437[{"name":"BadRequest"')
        await one.send(FIND)
        await one.says("431[null,[]]")


async def test_a_frame_that_is_too_large_ends_the_connection(url: str) -> None:
    async with wire(url) as one:
        await one.send("420" + "x" * LIMITS["maxPayload"])
        assert await one.ends() == []
