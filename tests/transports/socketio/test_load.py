"""Tests of many calls, large answers and clients that do not read: memory is bounded, and other clients are served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient

from apex import Apex, MemoryService
from tests.support.serving import serving
from tests.support.sockets import Held, Peer, app_of, connected, empty, polling
from tests.support.waiting import until

MANY = 10_000
LARGE = "x" * 200_000


def link_of(app: Apex) -> Any:
    (link,) = app.mounts["socket.io"].links.values()  # type: ignore[attr-defined]
    return link


def unread(app: Apex) -> int:
    """Return the size of all queued packets."""
    return sum(link.outgoing.size for link in app.mounts["socket.io"].links.values())  # type: ignore[attr-defined]


def calls(count: int, event: str) -> list[str]:
    return [f"42{id}{event}" for id in range(count)]


@asynccontextmanager
async def deaf(http: AsyncClient) -> AsyncIterator[Peer]:
    """A connection over a WebSocket that has stopped reading."""
    async with connected(http) as peer:
        peer.ws.transport.pause_reading()
        try:
            yield peer
        finally:
            peer.ws.transport.abort()


async def test_ten_thousand_calls_in_flight_are_all_answered() -> None:
    app = app_of("held", Held())
    async with serving(app) as http, connected(http) as other, connected(http) as peer:
        sending = asyncio.create_task(peer.send(*calls(MANY, '["find","held"]')))
        await until(lambda: app.service("held").service.begun == 100)
        assert await other.call("get", "held", 1) == [None, "x"]
        app.service("held").service.go.set()
        assert {frame.partition("[")[0] for frame in await peer.frames(MANY)} == {f"43{id}" for id in range(MANY)}
        await sending
        assert (app.service("held").service.ended, unread(app)) == (MANY, 0)


async def test_ten_thousand_calls_of_one_request_are_all_answered() -> None:
    async with serving(app_of("notes", MemoryService())) as http, connected(http) as other:
        poller = await polling(http)
        posting = asyncio.create_task(poller.post(*calls(MANY, '["find","notes",{}]')))
        answers = asyncio.create_task(poller.frames(MANY))
        assert await other.call("find", "notes") == [None, []]
        assert {frame.partition("[")[0] for frame in await answers} == {f"43{id}" for id in range(MANY)}
        assert (await posting).text == "ok"


async def test_no_more_calls_are_at_work_than_may_be() -> None:
    held = Held()
    async with serving(app_of("held", held, maxCalls=3)) as http, connected(http) as peer:
        await peer.send(*calls(10, '["find","held"]'))
        await until(lambda: held.begun == 3)
        held.go.set()
        await peer.frames(10)
        assert held.begun == 10


async def test_calls_of_a_client_that_does_not_read_wait_and_others_do_not() -> None:
    app = app_of("held", Held(), maxBacklog=1_000_000)
    heart = app.mounts["socket.io"].engine.eio  # type: ignore[attr-defined]
    heart.ping_interval = heart.ping_timeout = 0.5
    async with serving(app) as http:
        async with connected(http) as other, deaf(http) as peer:
            await peer.send(*calls(1_000, '["get","held",200000]'))
            await until(lambda: unread(app) > 250_000)
            for _ in range(50):
                assert await other.call("get", "held", 1) == [None, "x"]
            assert unread(app) < 250_000 + 101 * 200_000
        await until(lambda: empty(app))


async def test_a_client_that_does_not_read_events_is_disconnected_and_others_get_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_of("notes", MemoryService(), maxBacklog=1_000_000)
    gone: list[Any] = []
    app.on("disconnect", gone.append)
    async with serving(app) as http, connected(http) as other:
        async with deaf(http):
            for _ in range(100):
                await app.service("notes").create({"text": LARGE})
                assert (await other.event())[1]["text"] == LARGE
                assert unread(app) < 1_300_000
            assert len(gone) == len(app.mounts["socket.io"].links) == 1  # type: ignore[attr-defined]
        await until(lambda: len(app.mounts["socket.io"].engine.eio.sockets) == 1)  # type: ignore[attr-defined]
        assert await other.call("get", "notes", 99) == [None, {"text": LARGE, "id": 99}]
    slow = ("apex", logging.WARNING, "A connection was closed: its client does not read")
    assert caplog.record_tuples == [slow]


async def test_a_client_that_does_not_poll_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of("notes", MemoryService(), maxBacklog=1_000_000)
    async with serving(app) as http:
        poller = await polling(http)
        while app.events.connections:
            await app.service("notes").create({"text": LARGE})
            await asyncio.sleep(0)
        await until(lambda: empty(app))
        assert (await http.get(poller.url)).json()["code"] == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_connection_that_ends_in_mid_call_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    async with serving(app := app_of("held", held)) as http:
        async with connected(http) as peer:
            await peer.send(*calls(500, '["find","held"]'))
            await until(lambda: held.begun == 100)
            peer.ws.transport.abort()
        held.go.set()
        await until(lambda: held.ended >= 100 and empty(app) and not app.mounts["socket.io"].engine._tasks)  # type: ignore[attr-defined]
        assert held.begun == held.ended
    assert [record for record in caplog.records if record.name != "asyncio"] == []


async def test_a_session_that_ends_in_mid_call_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    async with serving(app := app_of("held", held)) as http:
        poller = await polling(http)
        posting = asyncio.create_task(poller.post(*calls(500, '["find","held"]')))
        await until(lambda: held.begun == 100)
        app.emit("disconnect", link_of(app).connection)
        held.go.set()
        await posting
        await until(lambda: held.ended == 100 and empty(app))
    assert caplog.records == []


async def test_a_session_whose_answers_are_not_fetched_ends_when_its_time_is_over() -> None:
    app = app_of("held", Held(), maxBacklog=1_000_000)
    async with serving(app) as http:
        poller = await polling(http)
        posting = asyncio.create_task(poller.post(*calls(200, '["get","held",200000]')))
        (link,) = app.mounts["socket.io"].links.values()  # type: ignore[attr-defined]
        await until(lambda: link._reading is not None)
        await link.socket.close()
        assert (await posting).status_code == 200
        await until(lambda: empty(app))


async def test_a_busy_connection_is_not_taken_for_a_dead_one() -> None:
    held = Held()
    async with serving(app := app_of("held", held, maxCalls=1)) as http, connected(http) as peer:
        link = link_of(app)
        link.socket.last_ping = 1.0
        await peer.send('420["get","held",1]')
        assert await peer.answer(0) == [None, "x"]
        assert await link.socket.check_ping_timeout()
