"""Tests of the client over sockets: events, and connections that break."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from apex import Apex
from apex.client import Client, socketio
from apex.errors import BadRequest, NotAuthenticated, Timeout, Unavailable
from tests.client.sites import LOGIN, Slow, guarded_app, happening, plain_app, talking
from tests.support.databases import free_port
from tests.support.serving import listening


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with talking(plain_app(), "socketio") as client:
        yield client


def drop(app: Apex) -> None:
    """Close all connections, as a server does when it stops."""
    app.emit("shutdown")


async def test_an_event_brings_the_record_before_the_answer(client: Client) -> None:
    heard: list[Any] = []
    client.service("messages").on("created", heard.append)
    record = await client.service("messages").create({"text": "c"})
    assert heard == [record] == [{"text": "c", "id": 2}]


async def test_a_listener_receives_events_of_its_service_and_name_only(client: Client) -> None:
    heard: list[Any] = []
    client.service("/messages/").on("patched", heard.append)
    client.service("echo").on("created", heard.append)
    await client.service("messages").create({"text": "c"})
    await client.service("messages").patch(2, {"text": "d"})
    assert heard == [{"text": "d", "id": 2}]


async def test_a_listener_can_hear_once_or_no_more(client: Client) -> None:
    messages, heard, once = client.service("messages"), list[Any](), list[Any]()
    messages.on("created", heard.append)
    messages.once("created", once.append)
    await messages.create({"text": "c"})
    messages.off("created", heard.append)
    await messages.create({"text": "d"})
    assert [record["text"] for record in (*heard, *once)] == ["c"] * 2


async def test_types_survive(client: Client) -> None:
    query: dict[str, Any] = {"a": None, "b": True, "c": 1, "d": {"$in": []}}
    assert (await client.service("heard").find({"query": query}))["query"] == query


async def test_an_answer_may_be_large(client: Client) -> None:
    assert len((await client.service("slow").get(5_000_000))["text"]) == 5_000_000


async def test_a_slash_in_a_placeholder_is_refused(client: Client) -> None:
    with pytest.raises(BadRequest, match="must not hold a slash"):
        await client.service("groups/:groupId/members").find({"route": {"groupId": "1/2"}})


async def test_calls_wait_for_a_server_that_is_starting() -> None:
    port = free_port()
    async with Client(socketio(f"http://127.0.0.1:{port}", delay=0.01)) as client:
        waiting = asyncio.create_task(client.service("messages").get(0))
        async with listening(plain_app(), port):
            assert await waiting == {"text": "a", "id": 0}


async def test_a_call_whose_connection_breaks_fails_at_once() -> None:
    app = plain_app()
    slow: Slow = app.service("slow").service
    async with talking(app, "socketio", delay=0.01) as client:
        at_work = asyncio.create_task(client.service("slow").find())
        await slow.asked.wait()
        drop(app)
        with pytest.raises(Unavailable, match="The connection broke before the answer came"):
            await at_work
        assert await client.service("echo").nothing() is None
        slow.allowed.set()


async def test_listeners_outlive_the_connection() -> None:
    app = plain_app()
    async with talking(app, "socketio", delay=0.01) as client:
        created = happening(client.service("messages"), "created")
        await client.service("echo").nothing()
        lost, back = happening(client, "disconnect"), happening(client, "connect")
        drop(app)
        await asyncio.gather(lost, back)
        await client.service("messages").create({"text": "c"})
        assert created.result()["text"] == "c"


async def test_a_server_that_restarts_finds_its_clients_again() -> None:
    async with listening(plain_app()) as url:
        client = await Client(socketio(url, delay=0.01)).open()
        assert await client.service("messages").create({"text": "c"}) == {"text": "c", "id": 2}
        lost = happening(client, "disconnect")
    await lost
    async with listening(plain_app(), urlsplit(url).port or 0):
        assert (await client.service("messages").find())["total"] == 2
    await client.close()


async def test_a_call_that_times_out_gives_the_reason() -> None:
    async with Client(socketio(f"http://127.0.0.1:{free_port()}", timeout=0.2, delay=0.01)) as client:
        with pytest.raises(Timeout, match=r"within 0\.2 seconds: No connection to http://127") as caught:
            await client.service("messages").find()
    assert isinstance(caught.value.__cause__, Unavailable)


async def test_a_server_that_hangs_up_is_not_waited_for() -> None:
    async def hang_up(request: web.BaseRequest) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        return socket

    async with RawTestServer(hang_up) as server:
        client = await Client(socketio(str(server.make_url("/")), timeout=0.5, delay=0.01)).open()
        with pytest.raises(Timeout, match="it was closed at once"):
            await client.service("messages").find()
        await client.close()


async def test_closing_in_the_middle_of_a_handshake_leaves_nothing_open() -> None:
    come = asyncio.Event()

    async def say_nothing(request: web.BaseRequest) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.ping()
        await socket.receive()
        come.set()
        await socket.receive()
        return socket

    async with RawTestServer(say_nothing) as server:
        client = await Client(socketio(str(server.make_url("/")))).open()
        await come.wait()
        await client.close()
        del client
        gc.collect()  # A socket that is left open warns when it is collected, and the test fails.


async def test_closing_ends_the_calls_that_wait() -> None:
    client = await Client(socketio(f"http://127.0.0.1:{free_port()}")).open()
    waiting = asyncio.create_task(client.service("messages").find())
    await asyncio.wait({waiting}, timeout=0)
    await client.close()
    with pytest.raises(Unavailable, match="The client is closed"):
        await waiting


async def test_closing_ends_the_calls_at_work() -> None:
    app = plain_app()
    slow: Slow = app.service("slow").service
    async with talking(app, "socketio") as client:
        at_work = asyncio.create_task(client.service("slow").find())
        await slow.asked.wait()
        await client.close()
        with pytest.raises(Unavailable, match="The connection broke"):
            await at_work
        slow.allowed.set()


async def test_a_new_connection_is_logged_in_before_calls_go_out() -> None:
    app = guarded_app()
    async with talking(app, "socketio", delay=0.01) as client:
        await client.authenticate(**LOGIN)
        lost, again = happening(client, "disconnect"), happening(client, "login")
        drop(app)
        await lost
        assert [user["email"] for user in await client.service("users").find()] == ["a@b.c"]
        assert again.result()["user"]["id"] == 0


async def test_a_login_that_is_over_is_forgotten() -> None:
    async with talking(guarded_app(), "socketio", delay=0.01) as client:
        login = await client.authenticate(**LOGIN)
        async with Client(socketio(client.transport.url)) as other:  # type: ignore[attr-defined]
            await other.authenticate(strategy="jwt", accessToken=login["accessToken"])
            gone = happening(client, "logout")
            await other.logout()
        await gone
        assert (client.authentication, client.session.storage.get()) == (None, None)
        with pytest.raises(NotAuthenticated, match="Not authenticated"):
            await client.service("users").find()


async def test_a_login_that_fails_for_now_is_tried_again() -> None:
    app, refused = guarded_app(), asyncio.Event()
    async with talking(app, "socketio", delay=0.01) as client:
        await client.authenticate(**LOGIN)

        async def refuse_once(context: Any) -> None:
            if not refused.is_set():
                refused.set()
                raise Unavailable("Starting")

        app.service("authentication").hooks({"before": {"create": [refuse_once]}})
        lost = happening(client, "disconnect")
        drop(app)
        await lost
        assert len(await client.service("users").find()) == 1
        assert refused.is_set()


async def test_a_server_that_refuses_the_handshake_is_not_connected_to() -> None:
    headers = {"Authorization": "Bearer forged"}
    async with talking(guarded_app(), "socketio", headers=headers, timeout=0.5, delay=0.01) as client:
        with pytest.raises(Timeout, match="jwt malformed"):
            await client.service("notes").find()
