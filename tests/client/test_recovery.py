"""Tests of connections that a server recovers, and of events that come twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import RawTestServer
from hypothesis import given
from hypothesis import strategies as st

from apex.client import Client, socketio
from apex.client.recovery import MOST_KNOWN, Recovery
from tests.client.sites import happening, plain_app, talking
from tests.support.waiting import until


class Server:
    """A Socket.IO server of one client at a time, which writes packets as they are. ``auths`` has those of CONNECT."""

    def __init__(self) -> None:
        self.pids: list[str | None] = []
        self.auths: list[Any] = []
        self.socket = web.WebSocketResponse()

    async def __call__(self, request: web.BaseRequest) -> web.WebSocketResponse:
        self.socket = web.WebSocketResponse()
        await self.socket.prepare(request)
        await self.socket.send_str('0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        connect = await self.socket.receive_str()
        self.auths.append(json.loads(connect.removeprefix("40") or "null"))
        pid = self.pids.pop(0)
        await self.socket.send_str("40" + json.dumps({"sid": "a"} if pid is None else {"sid": "a", "pid": pid}))
        async for _ in self.socket:
            pass
        return self.socket

    async def send(self, *event: Any) -> None:
        await self.socket.send_str("42" + json.dumps(event))


@asynccontextmanager
async def connecting(*pids: str | None) -> AsyncIterator[tuple[Server, Client, list[Any]]]:
    """Yield a server that gives its clients certain pids, its client, and the arguments of ``notes created``."""
    server = Server()
    server.pids.extend(pids)
    heard: list[Any] = []
    async with RawTestServer(server) as running:
        client = Client(socketio(str(running.make_url("/")), delay=0.01))
        client.service("notes").on("created", lambda *args: heard.append(args))
        connected = happening(client, "connect")
        async with client:
            await connected
            yield server, client, heard


async def reconnect(server: Server, client: Client) -> bool:
    """Close the connection. Return whether the next one is recovered, as listeners of ``connect`` are told."""
    again = happening(client, "connect")
    await server.socket.close()
    recovered: bool = await again
    assert client.recovered is recovered
    return recovered


async def test_a_client_goes_on_from_its_last_event() -> None:
    async with connecting("p", "p", "q", "q") as (server, client, heard):
        assert not client.recovered
        await server.send("notes created", {"id": 1}, "7;1")
        await until(lambda: heard == [({"id": 1},)])
        assert await reconnect(server, client)
        assert not await reconnect(server, client)
        assert await reconnect(server, client)
    assert server.auths[1:] == [{"pid": "p", "offset": "7;1"}, {"pid": "p", "offset": "7;1"}, {"pid": "q"}]


async def test_an_event_that_comes_again_is_dropped() -> None:
    async with connecting("p", "p", "q") as (server, client, heard):
        for offset in ("7;1", "7;2", "7;1"):
            await server.send("notes created", {}, offset)
        assert await reconnect(server, client)
        for offset in ("8;2", "8;3"):
            await server.send("notes created", {}, offset)
        await until(lambda: len(heard) == 3)
        assert not await reconnect(server, client)
        await server.send("notes created", {}, "1;3")
        await until(lambda: len(heard) == 4)


async def test_listeners_get_the_arguments_without_the_offset() -> None:
    async with connecting("p", None) as (server, client, heard):
        await server.send("notes created", "text", None)
        await server.send("notes created", "text", "7;1")
        await server.send("notes created", "text", 2)
        await server.send("notes created", {})
        await until(lambda: heard == [("text",), ("text",), ("text", 2), ({},)])
        assert not await reconnect(server, client)
        await server.send("notes created", "text", "other")
        await until(lambda: heard[-1] == ("text", "other"))


async def test_an_offset_comes_without_an_event_as_well() -> None:
    async with connecting("p", "p") as (server, client, heard):
        await server.send("offset", "7;;a")
        await server.send("notes created", {"id": 1}, "8;1;a")
        await server.send("notes created", {"id": 1}, "8;1")
        await server.send("offset", "9;")
        await server.send("notes created", {"id": 2}, "9;2")
        await until(lambda: heard == [({"id": 1},), ({"id": 2},)])
        await server.send("offset", "lost")
        assert await reconnect(server, client)
    assert server.auths[1] == {"pid": "p", "offset": "lost"}


async def test_a_connection_is_not_recovered_if_one_before_it_was_not() -> None:
    async with connecting("p", "q", "q") as (server, client, _):
        refused: list[Any] = []

        async def refuse_once(send: Any) -> None:
            if not refused:
                refused.append(True)
                raise ConnectionError("Not now")

        client.log_in = refuse_once  # type: ignore[method-assign]
        assert not await reconnect(server, client)
        assert len(server.auths) == 3


async def test_a_server_without_recovery_is_called_as_before() -> None:
    async with talking(plain_app(), "rest") as client:
        assert not client.recovered


@given(st.lists(st.integers(0, 30), max_size=60))
def test_each_event_is_received_once(ids: list[int]) -> None:
    recovery = Recovery()
    recovery.connect("p")
    received = [id for id in ids if recovery.receive(({}, f"1;{id}")) is not None]
    assert received == list(dict.fromkeys(ids))


def test_the_memory_of_events_is_bounded() -> None:
    recovery = Recovery()
    recovery.connect("p")
    for id in range(2 * MOST_KNOWN):
        recovery.receive(({}, f"1;{id}"))
    assert len(recovery._known) == MOST_KNOWN
    assert recovery.receive(({}, f"1;{MOST_KNOWN}")) is None
