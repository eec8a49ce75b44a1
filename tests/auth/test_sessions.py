"""Tests of sessions: a connection has a user until its token or its user ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from apex import Apex, AuthenticationService, Connection, JWTStrategy, LocalStrategy, MemoryService, Params
from apex.auth import APIKeyStrategy, hash_key
from apex.errors import NotAuthenticated, Unavailable
from apex.realtime.bus import Bus
from tests.support.waiting import SECONDS, until

SETTINGS = {
    "secret": "a secret of at least thirty-two bytes",
    "authStrategies": ["jwt", "local", "api-key"],
    "argon2": {"time_cost": 1, "memory_cost": 8, "parallelism": 1},
}
ANN = {"strategy": "local", "email": "ann@example.com", "password": "secret"}


class World:
    """A running app with the user Ann. It records its events with the user of the connection."""

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
    app = Apex({"authentication": SETTINGS | {"jwtOptions": options}}).use(
        "users", MemoryService(start_id=1, paginate={"default": 1})
    )
    authentication = AuthenticationService(app)
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    app.use("authentication", authentication)
    await app.setup()
    hashed = await authentication.passwords.hash("secret")
    await app.service("users").create({"email": "ann@example.com", "password": hashed})
    yield World(app, authentication)
    await app.teardown()


async def test_a_login_sets_the_user_before_listeners_run() -> None:
    async with world() as here:
        connection = Connection(provider="socketio")
        result = await here.login(connection)
        assert here.heard == [("login", "ann@example.com")]
        assert connection.user == {"id": 1, "email": "ann@example.com"}
        assert connection.authentication == {"strategy": "jwt", "accessToken": result["accessToken"]}


async def test_a_login_over_rest_emits_an_event_and_an_internal_one_does_not() -> None:
    async with world() as here:
        await here.login()
        await here.app.service("authentication").create(ANN)
        assert here.heard == [("login", None)]


async def test_a_logout_removes_the_user_and_leaves_all_channels() -> None:
    async with world() as here:
        connection = Connection(provider="socketio")
        here.app.channel("a", "b").join(connection)
        await here.logout(await here.login(connection), connection)
        assert here.heard == [("login", "ann@example.com"), ("logout", None)]
        assert (dict(connection), here.app.channels) == ({"provider": "socketio"}, [])
        assert here.authentication.sessions.open == {}


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


async def test_the_sync_ends_sessions_that_ended_elsewhere() -> None:
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


async def test_its_own_events_reach_no_connection() -> None:
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


class Joined(Bus):
    """A bus between the apps of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[Bus] = []

    def send(self, topic: str, message: Any) -> None:
        for other in self.others:
            other.handle(topic, message)


class Keys(APIKeyStrategy):
    """A strategy with the keys of user 1 that have these secrets. Their ids are their positions."""

    def __init__(self, authentication: AuthenticationService, *secrets: str) -> None:
        super().__init__(self.find_one, authentication.user_of)
        self.texts = [f"apex_{place:012}_{secret * 43}" for place, secret in enumerate(secrets)]
        self.known, self.failure, self.checks = set(range(len(secrets))), False, 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        self.checks += 1
        return await super().verify(authentication)

    async def find_one(self, prefix: str) -> Any:
        await self.gate.wait()
        if self.failure:
            raise Unavailable("Try again later")
        place = int(prefix.removeprefix("apex_"))
        if place not in self.known:
            return None
        return {"hash": hash_key(self.texts[place]), "payload": {"sub": "1"}, "key_id": place}


def give_keys(here: World) -> Keys:
    keys = Keys(here.authentication, "a", "b")
    here.authentication.register("api-key", keys)
    return keys


async def with_key(here: World, keys: Keys, place: int) -> Connection:
    """A connection that has logged in with a key."""
    connection = Connection(provider="socketio")
    await here.login(connection, strategy="api-key", key=keys.texts[place])
    return connection


def ended(here: World) -> list[Connection]:
    """Return a list that collects the connections which are disconnected from now on."""
    gone: list[Connection] = []
    here.app.on("disconnect", gone.append)
    return gone


@pytest.mark.parametrize("way", ["logout", "sign out", "password", "key"])
async def test_a_token_that_ends_in_one_process_ends_in_the_others(way: str) -> None:
    async with world() as here, world() as there:
        bus = Joined()
        bus.handlers, bus.others, here.app.bus = here.app.bus.handlers, [there.app.bus], bus
        await there.app.service("users").create({"email": "ben@example.com"})
        keys, result, ben, mine = give_keys(there), await here.login(), Connection(), Connection()
        await there.login(ben, strategy="jwt", accessToken=here.authentication.tokens.create(2)[0])
        await there.login(mine, strategy="jwt", accessToken=result["accessToken"])
        first, second = await with_key(there, keys, 0), await with_key(there, keys, 1)
        gone, sessions = ended(there), here.authentication.sessions
        if way == "logout":
            await here.logout(result)
        elif way == "password":
            await here.app.service("users").patch(1, {"password": "another"})
        else:
            (sessions.sign_out if way == "sign out" else sessions.end_key)(1)
        wanted = {"sign out": [mine, first, second], "key": [second]}.get(way, [mine])
        await until(lambda: len(gone) >= len(wanted))
        assert gone == wanted
        if way in ("logout", "password"):
            with pytest.raises(NotAuthenticated):
                await there.login(Connection(), strategy="jwt", accessToken=result["accessToken"])


async def test_the_end_of_a_key_ends_its_connections_alone() -> None:
    async with world() as here:
        keys, gone = give_keys(here), ended(here)
        first, second = await with_key(here, keys, 0), await with_key(here, keys, 1)
        token = Connection()
        await here.login(token)
        assert first.authentication == {"strategy": "api-key", "key": keys.texts[0], "key_id": 0}
        here.authentication.sessions.end_key(7)
        assert gone == []
        here.authentication.sessions.end_key(1)
        assert gone == [second]
        here.authentication.sessions.sign_out(7)
        assert gone == [second]
        await here.app.service("users").remove(1)
        assert gone[1:] == [token, first] or gone[1:] == [first, token]


async def test_a_proof_that_is_worth_nothing_any_more_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("apex.auth.sessions.PROOF_SECONDS", 0.001)
    async with world() as here:
        keys, gone = give_keys(here), ended(here)
        first, second = await with_key(here, keys, 0), await with_key(here, keys, 1)
        keys.failure = True
        keys.forget()
        await until(lambda: "A session could not be checked: Try again later" in caplog.text)
        assert gone == []
        keys.failure, keys.known = False, {1}
        keys.forget()
        await until(lambda: gone == [first])
        await asyncio.sleep(0)
        assert list(here.authentication.sessions.open) == [second]
        keys.known = set()
        keys.forget()
        await until(lambda: gone == [first, second])


async def test_a_session_that_ends_while_its_proof_is_checked_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.auth.sessions.PROOF_SECONDS", 0.001)
    async with world() as here:
        keys, gone = give_keys(here), ended(here)
        first, second = await with_key(here, keys, 0), await with_key(here, keys, 1)
        keys.gate.clear()
        keys.forget()
        checks = keys.checks
        await until(lambda: keys.checks > checks)  # A check of the first one waits.
        keys.known = set()
        here.authentication.sessions.end_key(0)
        keys.gate.set()
        await until(lambda: second in gone)
        assert gone == [first, second]


async def test_tokens_end_that_were_given_until_a_moment() -> None:
    async with world() as here:
        connection, gone = Connection(), ended(here)
        issued = (await here.login(connection))["authentication"]["payload"]["iat"]
        sessions, service = here.authentication.sessions, here.authentication
        sessions.end_tokens("2", issued + 60)
        sessions.end_tokens("1", issued - 60)
        assert gone == []
        sessions.end_tokens("1", issued + 1)
        assert gone == [connection]
        sessions.end_tokens("1", issued - 60)
        assert service.ended["1"] == issued + 1


async def test_users_are_looked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.auth.sessions.CHUNK", 2)
    async with world() as here:
        users, connections, gone = here.app.service("users"), {}, ended(here)
        for name in "bcde":
            user = await users.create({"email": f"{name}@example.com"})
            connections[user["id"]] = Connection()
            token, _ = here.authentication.tokens.create(user["id"])
            await here.login(connections[user["id"]], strategy="jwt", accessToken=token)
        for id in (2, 5):
            await users.service.remove(id, Params())
        await here.app.bus.sync()
        assert gone == [connections[2], connections[5]] or gone == [connections[5], connections[2]]


async def test_fields_that_hooks_have_added_to_a_user_stay_on_the_connection() -> None:
    async with world() as here:
        here.app.service("authentication").hooks(
            {"after": {"create": [lambda context: context.params.__setitem__("user", {"role": "admin"})]}}
        )
        connection = Connection()
        await here.login(connection)
        assert connection.user == {"id": 1, "email": "ann@example.com", "role": "admin"}


async def test_a_login_without_an_entity_in_its_result_sets_no_user(caplog: pytest.LogCaptureFixture) -> None:
    def without_user(context: Any) -> None:
        del context.result["user"]

    async with world() as here:
        here.app.service("authentication").hooks({"after": {"create": [without_user]}})
        connection = Connection()
        await here.login(connection)
        assert (connection.user, here.heard) == (None, [("login", None)])
        await here.app.bus.sync()
        assert caplog.records == []


async def test_a_proof_is_not_checked_all_the_time() -> None:
    async with world() as here:
        keys = give_keys(here)
        await with_key(here, keys, 0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert 1 <= keys.checks < 20


async def test_proofs_are_checked_until_the_shutdown() -> None:
    async with world() as here:
        running = asyncio.all_tasks()
        await with_key(here, give_keys(here), 0)
        (checking,) = asyncio.all_tasks() - running
        await here.app.teardown()
        await asyncio.sleep(0)
        assert checking.cancelled()


async def test_a_second_setup_listens_no_second_time() -> None:
    async with world() as here:
        await here.app.setup()  # A second time.
        await here.login(Connection())
        assert here.heard == [("login", "ann@example.com")]


async def test_proofs_are_checked_until_only_tokens_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.auth.sessions.PROOF_SECONDS", 0.001)
    async with world() as here:
        await here.login(Connection())
        running, keys = asyncio.all_tasks(), give_keys(here)
        await with_key(here, keys, 0)
        (checking,) = asyncio.all_tasks() - running
        here.authentication.sessions.end_key(0)
        await until(checking.done)


async def test_the_sync_ends_sessions_whose_user_may_no_longer_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async def active_only(params: Params) -> dict[str, Any]:
        return {"active": True}

    async with world() as here:
        gone, connection = ended(here), Connection()
        await here.login(connection)
        monkeypatch.setattr(here.authentication, "entity_query", active_only)
        await here.app.bus.sync()
        assert gone == [connection]


async def test_the_sync_reads_the_tokens_that_another_process_has_revoked() -> None:
    async with world() as here:
        revocations, gone, connection = MemoryService(), ended(here), Connection()
        here.app.use("revocations", revocations)
        here.authentication.revocations = "revocations"
        claims = (await here.login(connection))["authentication"]["payload"]
        revoked = {"jti": claims["jti"], "expires_at": datetime.fromtimestamp(claims["exp"], UTC)}
        await here.app.service("revocations").create(revoked)
        await here.app.bus.sync()
        assert gone == [connection]
