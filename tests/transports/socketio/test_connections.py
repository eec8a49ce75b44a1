"""Tests of frames that are built once: their bytes, their order, and clients that do not read."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from apex import Apex, MemoryService
from apex.transports.socketio.connections import Socket, WebSocket, writer_of
from apex.transports.socketio.packets import Message
from tests.support.serving import serving
from tests.support.sockets import address, app_of, connected, opened, polling
from tests.support.waiting import SECONDS, until

PROTOCOLS = pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"], ids=["built", "ordinary"])
LARGE = "x" * 10_000
MANY = 10_000


class Site:
    """An ASGI application with one WebSocket, which stays open until ``leave`` is set."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts = accepts
        self.opened, self.leave = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.send = send
        self.write: Any = writer_of(send)
        if self.accepts:
            await send({"type": "websocket.accept"})
        self.opened.set()
        await self.leave.wait()


class Gate:
    """A WebSocket that blocks until it is opened."""

    def __init__(self) -> None:
        self.open, self.sent = asyncio.Event(), list[str]()

    async def receive(self) -> Any:
        """Return nothing."""

    async def send(self, message: Any) -> None:
        await self.open.wait()
        self.sent.append(message["text"])


@asynccontextmanager
async def listening(site: Site) -> AsyncIterator[ClientConnection]:
    """A client of the application's WebSocket."""
    async with serving(site, lifespan="off") as http, websockets.connect(address(http), max_size=None) as client:
        await site.opened.wait()
        try:
            yield client
        finally:
            site.leave.set()


def link_of(app: Apex) -> Any:
    (link,) = app.mounts["socket.io"].links.values()  # type: ignore[attr-defined]
    return link


async def text_of(client: ClientConnection) -> str:
    async with asyncio.timeout(SECONDS):
        return str(await client.recv())


@pytest.mark.parametrize("size", [0, 123, 124, 65_533, 65_534, 200_000])
async def test_a_built_frame_is_read_as_its_text(size: int) -> None:
    async with listening(site := Site()) as client:
        assert site.write(Message("é" + "x" * (size - 1)).frame if size else Message("").frame)
        assert await text_of(client) == "4" + ("é" + "x" * (size - 1) if size else "")


async def test_a_built_frame_comes_after_earlier_frames() -> None:
    async with listening(site := Site()) as client:
        for number in range(0, 100, 2):
            await site.send({"type": "websocket.send", "text": f"4{number}"})
            assert site.write(Message(str(number + 1)).frame)
        assert [await text_of(client) for _ in range(100)] == [f"4{number}" for number in range(100)]


async def test_nothing_is_written_until_the_client_reads() -> None:
    async with listening(site := Site()) as client:
        client.transport.pause_reading()
        count = next(count for count in range(MANY) if not site.write(Message(LARGE).frame))
        assert not site.write(Message("").frame)
        client.transport.resume_reading()
        assert [len(await text_of(client)) for _ in range(count)] == [10_001] * count
        await until(lambda: site.write(Message("again").frame))
        assert await text_of(client) == "4again"


async def test_nothing_is_written_before_a_websocket_is_accepted() -> None:
    site = Site(accepts=False)
    async with serving(site, lifespan="off") as http:
        connecting = asyncio.create_task(websockets.connect(address(http)).__aenter__())
        await site.opened.wait()
        written = site.write(Message("").frame)
        site.leave.set()
        with pytest.raises(websockets.InvalidStatus):
            await connecting
    assert not written


async def test_nothing_is_written_after_the_server_has_closed() -> None:
    async with listening(site := Site()):
        await site.send({"type": "websocket.close"})
        assert not site.write(Message("").frame)


async def test_nothing_is_written_after_the_client_is_gone() -> None:
    async with listening(site := Site()) as client:
        client.transport.abort()
        await until(lambda: not site.write(Message("").frame))


@PROTOCOLS
async def test_a_client_that_pauses_reads_all_events_in_order(ws: Any) -> None:
    app, sent = app_of("notes", MemoryService(), maxBacklog=100_000_000), itertools.count(1)
    async with serving(app, ws=ws) as http, connected(http) as peer:
        link = link_of(app)
        peer.ws.transport.pause_reading()
        for _ in range(300):
            await app.service("notes").create({"text": LARGE * 10, "number": next(sent)})
        assert link.outgoing.size > 5_000_000
        peer.ws.transport.resume_reading()
        read = [(await peer.event())[1]["number"] for _ in range(20)]
        for _ in range(20):
            await app.service("notes").create({"number": (last := next(sent))})
        read += [(await peer.event())[1]["number"] for _ in range(last - 20)]
        assert read == list(range(1, last + 1))


@PROTOCOLS
async def test_an_event_and_an_answer_are_the_same_frames_with_either(ws: Any) -> None:
    async with serving(app_of("notes", MemoryService()), ws=ws) as http, connected(http) as peer:
        await peer.send('427["create","notes",{"text":"é"},{}]')
        assert await peer.frames(2) == ['42["notes created",{"text":"é","id":0}]', '437[null,{"text":"é","id":0}]']


async def test_a_frame_does_not_overtake_queued_packets() -> None:
    app = app_of("notes", MemoryService())
    async with serving(app) as http, connected(http) as peer:
        link = link_of(app)
        link.socket.enqueue(Message("first"))
        link.socket.write(Message("second"))
        assert await peer.frames(2) == ["4first", "4second"]


async def test_a_frame_does_not_overtake_one_that_is_being_sent() -> None:
    gate, written = Gate(), list[bytes]()

    def write(frame: bytes) -> bool:
        written.extend([frame] * gate.open.is_set())
        return gate.open.is_set()

    transport: Any = app_of("notes", MemoryService()).mounts["socket.io"]
    socket = Socket(transport.engine.eio, "1")
    socket.websocket = WebSocket(gate.receive, gate.send)
    socket.websocket.direct = write
    socket.write(Message("first"))
    await asyncio.sleep(0)
    socket.write(Message("second"))
    gate.open.set()
    await until(lambda: socket.direct is write)
    socket.write(Message("third"))
    assert (gate.sent, written) == (["4first"], [Message("second").frame, Message("third").frame])


async def test_an_upgraded_client_gets_each_event_once_and_in_order() -> None:
    app = app_of("notes", MemoryService())
    async with serving(app) as http:
        poller = await polling(http)
        link = link_of(app)
        await app.service("notes").create({})
        frames = await poller.get()
        hanging = asyncio.create_task(poller.get())
        await until(lambda: app.mounts["socket.io"].endpoint.requests)  # type: ignore[attr-defined]
        async with opened(http, poller.sid) as peer:
            await peer.send("2probe")
            assert (await peer.frame(), await hanging) == ("3probe", ["6"])
            await app.service("notes").create({})
            assert link.outgoing.size, "the client does not listen there yet"
            await peer.send("5")
            await until(lambda: link.socket.upgraded)
            for _ in range(3):
                await app.service("notes").create({})
            while len(frames) < 5:
                frames += [frame for frame in await peer.frames(1) if frame != "6"]
    assert [json.loads(frame.removeprefix("42"))[1]["id"] for frame in frames] == list(range(5))
