"""Tests of connections from the handshake to the end: tokens, and the events of the app."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import AsyncClient

from apex import Apex, sockets
from apex.errors import Unavailable
from tests.auth.test_service import site_app, users_service
from tests.support.serving import serving
from tests.support.sockets import Peer, connected, empty, opened, polling
from tests.support.waiting import until

LOGIN = {"strategy": "local", "email": "a@b.c", "password": "p"}


class Told(list[str]):
    """The events of an app about its connections."""

    def __init__(self, app: Apex) -> None:
        super().__init__()
        for event in ("connection", "disconnect"):
            app.on(event, lambda connection, event=event: self.append(event))


@pytest.fixture
async def app() -> Apex:
    app = site_app(users_service()).configure(sockets)
    app.on("connection", app.channel("all").join)
    return app


@pytest.fixture
async def http(app: Apex) -> AsyncIterator[AsyncClient]:
    async with serving(app) as http:
        await http.post("/users", json={"email": "a@b.c", "password": "p"})
        yield http


def token_of(app: Apex, lifetime: int = 60) -> str:
    tokens = app.get("defaultAuthentication").tokens
    tokens.lifetime = lifetime
    token: str = tokens.create(0)[0]
    return token


def bearing(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def refused(http: AsyncClient, token: str) -> str:
    """Return the packet that refuses a handshake with a token."""
    async with opened(http, **bearing(token)) as peer:
        await peer.frame()
        await peer.send("40")
        frame = await peer.frame()
        await peer.send('420["find","open"]')
        await peer.closed()
    return frame


async def test_a_token_in_the_handshake_logs_in_before_the_connection(app: Apex, http: AsyncClient) -> None:
    seen: list[Any] = []
    app.on("connection", lambda connection: seen.append((connection.user, connection.authentication["strategy"])))
    async with connected(http, **bearing(token_of(app))) as peer:
        assert (await peer.call("get", "users", 0))[1]["email"] == "a@b.c"
    assert seen == [({"id": 0, "email": "a@b.c"}, "jwt")]


async def test_a_token_that_is_none_refuses_the_connection(app: Apex, http: AsyncClient) -> None:
    told = Told(app)
    assert await refused(http, "nonsense") == '44{"message":"jwt malformed","data":{"name":"JsonWebTokenError"}}'
    await until(lambda: empty(app))
    assert told == []


async def test_a_token_that_has_expired_refuses_the_connection(app: Apex, http: AsyncClient) -> None:
    assert (await refused(http, token_of(app, lifetime=-60))).startswith(
        '44{"message":"jwt expired","data":{"name":"TokenExpiredError"'
    )


async def test_a_token_that_was_revoked_refuses_the_connection(app: Apex, http: AsyncClient) -> None:
    token = token_of(app)
    await http.delete("/authentication", headers={"Authorization": f"Bearer {token}"})
    assert await refused(http, token) == '44{"message":"Token revoked","data":{"name":"JsonWebTokenError"}}'


@pytest.mark.parametrize(
    ("error", "message"), [(KeyError("s3cret"), "An unexpected error occurred"), (Unavailable("later"), "later")]
)
async def test_a_handshake_that_fails_leaves_nothing(
    app: Apex, http: AsyncClient, error: Exception, message: str
) -> None:
    def fail(context: Any) -> None:
        app.channel("early").join(context.params.connection)
        raise error

    told = Told(app)
    app.service("authentication").hooks({"after": {"create": [fail]}})
    assert await refused(http, token_of(app)) == f'44{{"message":"{message}"}}'
    await until(lambda: empty(app))
    assert (told, app.get("defaultAuthentication").sessions.open) == ([], {})


async def test_a_connection_that_is_closed_while_it_logs_in_leaves_nothing(
    app: Apex, http: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait(context: Any) -> None:
        begun.set()
        await go.wait()

    told = Told(app)
    app.service("authentication").hooks({"before": {"create": [wait]}})
    async with opened(http, **bearing(token_of(app))) as peer:
        await peer.send("40")
        await begun.wait()
        (socket,) = app.mounts["socket.io"].engine.eio.sockets.values()  # type: ignore[attr-defined]
        await socket.close()
    go.set()
    await until(lambda: empty(app) and not app.get("defaultAuthentication").sessions.open)
    assert told.count("connection") == told.count("disconnect")
    assert caplog.records == []


async def leaves(app: Apex, peer: Peer) -> None:
    await peer.ws.close()


async def breaks(app: Apex, peer: Peer) -> None:
    peer.ws.transport.abort()


async def says_so(app: Apex, peer: Peer) -> None:
    await peer.send("41")
    await peer.send("1")


async def sends_nonsense(app: Apex, peer: Peer) -> None:
    await peer.send("nonsense")


async def is_let_go(app: Apex, peer: Peer) -> None:
    app.emit("disconnect", next(iter(app.events.connections)))
    assert await peer.frame() == "41"
    await peer.send('420["find","open"]')
    await peer.closed()


async def logs_out_elsewhere(app: Apex, peer: Peer) -> None:
    (connection,) = app.events.connections
    await app.service("authentication").remove(None, {"authentication": connection.authentication})
    assert await peer.frame() == "41"
    await peer.ws.close()


async def is_removed(app: Apex, peer: Peer) -> None:
    await app.service("users").remove(0)
    assert await peer.frame() == "41"
    await peer.ws.close()


async def goes_down_with_the_server(app: Apex, peer: Peer) -> None:
    app.emit("shutdown")
    await peer.closed()


ENDS = [leaves, breaks, says_so, sends_nonsense, is_let_go, logs_out_elsewhere, is_removed, goes_down_with_the_server]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_the_app_emits_one_event_for_each_start_and_end(
    app: Apex, http: AsyncClient, end: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(app)
    async with connected(http, **bearing(token_of(app))) as peer:
        await end(app, peer)
    await until(lambda: empty(app))
    await until(lambda: not app.mounts["socket.io"].engine._tasks)  # type: ignore[attr-defined]
    assert told == ["connection", "disconnect"]
    assert caplog.records == []


async def test_a_polling_connection_that_leaves_emits_one_event(app: Apex, http: AsyncClient) -> None:
    told = Told(app)
    poller = await polling(http)
    await poller.post("41", "1")
    await until(lambda: empty(app))
    assert told == ["connection", "disconnect"]


async def test_a_disconnected_client_may_connect_again_but_not_call(app: Apex, http: AsyncClient) -> None:
    told = Told(app)
    async with connected(http) as peer:
        app.emit("disconnect", next(iter(app.events.connections)))
        assert await peer.frame() == "41"
        await peer.send("40")
        assert (await peer.frame()).startswith('40{"sid"')
        assert await peer.call("find", "open") == [None, []]
    await until(lambda: empty(app))
    assert told == ["connection", "disconnect"] * 2


async def test_a_disconnected_client_that_stays_is_closed(
    app: Apex, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["apex.transports.socketio.engine"], "CONNECT_SECONDS", 0.05)
    async with connected(http) as peer:
        app.emit("disconnect", next(iter(app.events.connections)))
        await peer.closed()
    await until(lambda: empty(app))


async def test_a_client_that_is_disconnected_as_it_connects_gets_a_packet(app: Apex, http: AsyncClient) -> None:
    app.on("connection", lambda connection: app.emit("disconnect", connection))
    async with opened(http) as peer:
        await peer.send("40")
        open, connect, leave = await peer.frames(3)
        assert (open[:1], connect[:2], leave) == ("0", "40", "41")
    await until(lambda: empty(app))


async def test_an_expired_token_ends_its_connection(app: Apex, http: AsyncClient) -> None:
    async with connected(http, **bearing(token_of(app, lifetime=2))) as peer:
        assert await peer.frame() == "41"


async def test_a_login_and_a_logout_change_one_connection(app: Apex, http: AsyncClient) -> None:
    async with connected(http) as peer, connected(http) as other:
        assert (await peer.call("get", "users", 0))[0]["code"] == 401
        assert (await peer.call("create", "authentication", LOGIN))[0] is None
        assert (await peer.call("get", "users", 0))[0] is None
        assert (await other.call("get", "users", 0))[0]["code"] == 401
        assert (await peer.call("remove", "authentication", None))[0] is None
        assert (await peer.call("get", "users", 0))[0]["code"] == 401
