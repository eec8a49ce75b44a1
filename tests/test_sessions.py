"""Sessions: a connection that logs in is somebody, until its token or its user ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apex import Apex, AuthenticationService, Connection, JWTStrategy, LocalStrategy, MemoryService, Params
from apex.errors import NotAuthenticated
from tests.waiting import SECONDS

SETTINGS = {
    "secret": "a secret of at least thirty-two bytes",
    "authStrategies": ["jwt", "local"],
    "argon2": {"time_cost": 1, "memory_cost": 8, "parallelism": 1},
}
ANN = {"strategy": "local", "email": "ann@example.com", "password": "secret"}


class World:
    """A running app with the user Ann, and what it emits: events with the user of the connection."""

    def __init__(self, app: Apex, authentication: AuthenticationService) -> None:
        self.app, self.authentication = app, authentication
        self.heard: list[tuple[str, Any]] = []
        for event in ("login", "logout"):
            app.on(event, lambda result, params, context, event=event: self.hear(event, params.connection))
        app.on("disconnect", lambda connection: self.hear("disconnect", connection))

    def hear(self, event: str, connection: Connection | None) -> None:
        self.heard.append((event, None if connection is None else (connection.user or {}).get("email")))

    async def login(self, connection: Connection | None = None, **data: Any) -> dict[str, Any]:
        params = {"provider": "socketio", "connection": connection}
        result: dict[str, Any] = await self.app.service("authentication").create(data or ANN, params)
        return result

    async def logout(self, result: dict[str, Any], connection: Connection | None = None) -> None:
        proof = {"strategy": "jwt", "accessToken": result["accessToken"]}
        params = {"provider": "socketio", "connection": connection, "authentication": proof}
        await self.app.service("authentication").remove(None, params)


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    app = Apex({"authentication": SETTINGS | {"jwtOptions": options}}).use("users", MemoryService(start_id=1))
    authentication = AuthenticationService(app)
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    app.use("authentication", authentication)
    await app.setup()
    hashed = await authentication.passwords.hash("secret")
    await app.service("users").create({"email": "ann@example.com", "password": hashed})
    yield World(app, authentication)
    await app.teardown()


async def test_a_login_makes_a_connection_somebody_before_listeners_hear_of_it() -> None:
    async with world() as here:
        connection = Connection(provider="socketio")
        result = await here.login(connection)
        assert here.heard == [("login", "ann@example.com")]
        assert connection.user == {"id": 1, "email": "ann@example.com"}
        assert connection.authentication == {"strategy": "jwt", "accessToken": result["accessToken"]}


async def test_a_login_over_rest_is_told_and_one_inside_is_not() -> None:
    async with world() as here:
        await here.login()
        await here.app.service("authentication").create(ANN)
        assert here.heard == [("login", None)]


async def test_a_logout_forgets_who_it_was_and_leaves_all_channels() -> None:
    async with world() as here:
        connection = Connection(provider="socketio")
        here.app.channel("a", "b").join(connection)
        await here.logout(await here.login(connection), connection)
        assert here.heard == [("login", "ann@example.com"), ("logout", None)]
        assert (dict(connection), here.app.channels) == ({"provider": "socketio"}, [])


async def test_a_logout_of_another_token_leaves_a_connection_as_it_is() -> None:
    async with world() as here:
        connection, other = Connection(), await here.login()
        await here.login(connection)
        await here.logout(other, connection)
        assert connection.user["email"] == "ann@example.com"


async def test_a_revoked_token_ends_every_other_connection_that_uses_it() -> None:
    async with world() as here:
        first, second, third = Connection(), Connection(), Connection()
        result = await here.login(first)
        await here.login(second, strategy="jwt", accessToken=result["accessToken"])
        await here.login(third)
        here.heard.clear()
        await here.logout(result, first)
        assert here.heard == [("disconnect", "ann@example.com"), ("logout", None)]
        await asyncio.sleep(0)
        assert (second.user, third.user["email"]) == (None, "ann@example.com")


async def test_a_removed_user_loses_its_connections_at_once() -> None:
    async with world() as here:
        connection = Connection()
        await here.login(connection)
        await here.app.service("users").remove(1)
        assert here.heard[-1] == ("disconnect", "ann@example.com")


async def test_a_connection_ends_when_its_token_expires_and_a_new_login_starts_anew() -> None:
    async with world(expiresIn=1) as here:
        ended = asyncio.Event()
        here.app.on("disconnect", lambda connection: ended.set())
        connection = Connection()
        await here.login(connection)
        (first,) = here.authentication.sessions.open.values()
        await here.login(connection)
        await asyncio.wait_for(ended.wait(), SECONDS)
        await asyncio.sleep(0)
        assert first.timer is not None
        assert first.timer.cancelled()
        assert (connection.user, connection.authentication) == (None, None)
        assert [event for event, _ in here.heard] == ["login", "login", "disconnect"]


async def test_what_ended_elsewhere_is_noticed_when_all_is_read_again() -> None:
    async with world() as here:
        revoked, orphan, kept = Connection(), Connection(), Connection()
        await here.app.service("users").create({"email": "ben@example.com"})
        claims = (await here.login(revoked))["authentication"]["payload"]
        token, _ = here.authentication.tokens.create(2)
        await here.login(orphan, strategy="jwt", accessToken=token)
        await here.login(kept)
        here.authentication.revoked[claims["jti"]] = claims["exp"]
        await here.app.service("users").service.remove(2, Params())
        here.heard.clear()
        await here.app.bus.sync()
        assert here.heard == [("disconnect", "ann@example.com"), ("disconnect", "ben@example.com")]
        assert list(here.authentication.sessions.open) == [kept]


async def test_its_own_events_are_for_nobody() -> None:
    async with world() as here:
        sent: list[Any] = []
        here.app.publish(lambda data, context: sent.append(data))
        here.app.events.connections.add(Connection())
        await here.logout(await here.login())
        assert sent == []


async def test_a_wrong_login_changes_nothing() -> None:
    async with world() as here:
        connection = Connection()
        with pytest.raises(NotAuthenticated):
            await here.login(connection, **ANN | {"password": "wrong"})
        assert (dict(connection), here.heard) == ({}, [])
