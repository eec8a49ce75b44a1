"""Logging in to an app of somebody else's: with its own users service, strategies and ways of hiding fields."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import (
    Apex,
    AuthenticationService,
    Context,
    HookMap,
    JWTStrategy,
    LocalStrategy,
    MemoryService,
    Next,
    Params,
    Service,
    SQLService,
    authenticate,
    database,
    rest,
    sockets,
)
from apex.coerce import integer, text
from apex.common import disallow, discard, iff, is_provider
from apex.errors import BadRequest
from apex.keys import KeyStrategy, new_key
from apex.resolvers import OMIT, resolve, resolve_external
from apex.sql import Timestamp
from tests.serving import serving
from tests.sockets import Peer, connected

SETTINGS = {
    "secret": "a secret of at least thirty-two bytes",
    "authStrategies": ["jwt", "local", "api-key", "pin"],
    "argon2": {"time_cost": 1, "memory_cost": 8, "parallelism": 1},
}
ANN = {"email": "ann@example.com", "password": "correct horse"}
LOCAL = {"strategy": "local", **ANN}
KEY = new_key()


class PinStrategy:
    """A strategy as an app writes it."""

    def __init__(self, service: AuthenticationService) -> None:
        self.service = service

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        return {"authentication": {"strategy": "pin"}}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        return {**await self.verify(authentication), "user": await self.service.user_of(1)}

    def parse(self, headers: Mapping[str, str]) -> None:
        return None


class Seen(Service):
    """Keeps the user that hooks have at hand."""

    methods = ("find", "create")
    user: Any = None

    async def find(self, params: Params) -> list[Any]:
        self.user = params.user
        return []

    async def create(self, data: Any, params: Params) -> Any:
        self.user = params.user
        return {}


def show_the_public_part(context: Context) -> None:
    context.dispatch = {name: context.result[name] for name in ("id", "email") if name in context.result}


HIDING: dict[str, HookMap] = {
    "resolve_external": {"around": {"all": [resolve_external(resolve({"totp": lambda value, record, context: OMIT}))]}},
    "iff": {"after": {"all": [iff(is_provider("external"), discard("totp"))]}},
    "dispatch": {"after": {"get": [show_the_public_part], "create": [show_the_public_part]}},
    "private": {},
}


def app_of(hooks: HookMap, private: tuple[str, ...] = ("password",)) -> Apex:
    app = Apex({"authentication": SETTINGS}).configure(rest).configure(sockets)
    fields = {"id": integer, "email": text, "password": text, "totp": text}
    app.use("users", MemoryService(fields=fields, private=private, start_id=1), hooks=hooks)
    app.service("users").hooks({"before": {"get": [authenticate("jwt")]}})
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    service.register("local", LocalStrategy(service))
    service.register("api-key", KeyStrategy(holder_of, service.user_of))
    service.register("pin", PinStrategy(service))
    seen = Seen()
    app.use("authentication", service).use("seen", seen, hooks={"before": {"find": [authenticate("jwt")]}})
    return app


async def holder_of(prefix: str) -> Mapping[str, Any]:
    return {"hash": KEY.hash, "payload": {"sub": "1"}}


def sql_app(url: str) -> Apex:
    """An app whose users are in a database, and the tokens that are worthless."""
    metadata = MetaData()
    users = Table("users", metadata, Column("id", Integer, primary_key=True), *map(_text, ("email", "password")))
    ended = Table("ended", metadata, Column("jti", String(64), primary_key=True), Column("expires_at", Timestamp))
    app = Apex({"authentication": SETTINGS}).configure(database(url)).configure(rest).configure(sockets)
    app.use("users", SQLService(table=users, private=("password",)), hooks={"before": {"patch": [hash_password]}})
    app.use("ended", SQLService(table=ended, id="jti", multi=("remove",)), methods=[])
    service = AuthenticationService(app, revocations="ended")
    service.register("jwt", JWTStrategy(service))
    service.register("local", LocalStrategy(service))

    async def create_tables(context: Context, next: Next) -> None:
        await app.get("database").create_all(metadata)
        await next()

    app.hooks({"setup": [create_tables]})
    guarded = {"before": {"all": [authenticate("jwt")]}}
    return app.use("authentication", service).use("seen", Seen(), hooks=guarded)


def _text(name: str) -> Column[str]:
    return Column(name, String(254))


async def hash_password(context: Context) -> None:
    if "password" in context.data:
        hashed = await context.app.get("defaultAuthentication").passwords.hash(context.data["password"])
        context.data = {**context.data, "password": hashed}


async def sign_up(app: Apex) -> None:
    hashed = await app.get("defaultAuthentication").passwords.hash(ANN["password"])
    await app.service("users").create({"email": ANN["email"], "password": hashed})


async def log_in(http: AsyncClient, **changes: str) -> dict[str, str]:
    """The header that a login gives."""
    answer = await http.post("/authentication", json={**LOCAL, **changes})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}


async def is_let_in(http: AsyncClient, headers: dict[str, str]) -> bool:
    return (await http.get("/seen", headers=headers)).status_code == 200


@asynccontextmanager
async def running(app: Apex) -> AsyncIterator[tuple[AsyncClient, Peer]]:
    """A client and a socket of a running app whose user is Ann."""
    async with serving(app) as http, connected(http) as peer:
        hashed = await app.get("defaultAuthentication").passwords.hash(ANN["password"])
        await app.service("users").create({"email": ANN["email"], "password": hashed, "totp": "hidden"})
        yield http, peer


# A login answers with the user as the users service shows it.


@pytest.mark.parametrize("way", HIDING)
async def test_a_login_shows_no_field_that_the_users_service_hides(way: str) -> None:
    app = app_of(HIDING[way], private=("password", "totp") if way == "private" else ("password",))
    async with running(app) as (http, peer):
        token = (await http.post("/authentication", json=LOCAL)).json()["accessToken"]
        bearer = {"Authorization": f"Bearer {token}"}
        shown = (await http.get("/users/1", headers=bearer)).json()
        assert shown == {"id": 1, "email": ANN["email"]}
        for proof in (
            LOCAL,
            {"strategy": "jwt", "accessToken": token},
            {"strategy": "api-key", "key": KEY.text},
            {"strategy": "pin"},
        ):
            assert (await http.post("/authentication", json=proof)).json()["user"] == shown, proof
            selected = await http.post("/authentication?$select=email", json=proof)
            assert selected.json()["user"] == shown, proof
            assert "hidden" not in (await http.post("/authentication?$select=totp", json=proof)).text, proof
            assert (await peer.call("create", "authentication", proof, {}))[1]["user"] == shown, proof
            over_socket = await peer.call("create", "authentication", proof, {"$select": ["email"]})
            assert over_socket[1]["user"] == shown, proof
        await peer.call("create", "authentication", LOCAL, {})
        assert (await peer.call("remove", "authentication", None, {}))[1]["user"] == shown
        assert (await http.delete("/authentication", headers=bearer)).json()["user"] == shown


@pytest.mark.parametrize("way", [way for way in HIDING if way != "private"])
async def test_hooks_have_the_whole_user(way: str) -> None:
    app = app_of(HIDING[way])
    heard: list[Any] = []
    app.on("login", lambda result, params, context: heard.append((result["user"], params.user)))
    whole = {"id": 1, "email": ANN["email"], "totp": "hidden"}
    async with running(app) as (http, peer):
        seen = app.service("seen").service
        await peer.call("create", "authentication", LOCAL, {})
        await peer.call("create", "seen", {}, {})
        assert (seen.user, heard) == (whole, [({"id": 1, "email": ANN["email"]}, whole)])
        token = (await http.post("/authentication", json=LOCAL)).json()["accessToken"]
        await http.get("/seen", headers={"Authorization": f"Bearer {token}"})
        assert seen.user == whole
    inside = await app.service("authentication").create(LOCAL)
    assert inside["user"] == whole


async def test_a_users_service_that_is_closed_to_callers_shows_the_id_alone() -> None:
    async with running(app_of({"before": {"all": [disallow("external")]}})) as (http, peer):
        answer = await http.post("/authentication", json=LOCAL)
        assert (answer.status_code, answer.json()["user"]) == (201, {"id": 1})
        assert (await peer.call("create", "authentication", LOCAL, {}))[1]["user"] == {"id": 1}


async def test_what_a_hook_adds_to_the_user_of_a_login_is_on_the_connection() -> None:
    def add_roles(context: Context) -> None:
        context.result["user"]["roles"] = ["admin"]

    app = app_of(HIDING["iff"])
    app.service("authentication").hooks({"after": {"create": [add_roles]}})
    async with running(app) as (_, peer):
        assert (await peer.call("create", "authentication", LOCAL, {}))[1]["user"]["roles"] == ["admin"]
        await peer.call("create", "seen", {}, {})
        assert app.service("seen").service.user == {
            "id": 1, "email": ANN["email"], "totp": "hidden", "roles": ["admin"],
        }  # fmt: skip


# A new password ends what was issued before it.


NEW = "battery staple"


@pytest.mark.parametrize("method", ["patch", "update"])
async def test_a_new_password_ends_all_tokens_and_sockets_of_before(empty_url: str, method: str) -> None:
    app = sql_app(empty_url)
    app.service("users").hooks({"before": {"update": [hash_password]}})
    data = {"email": ANN["email"], "password": NEW}
    async with serving(app) as http, connected(http) as mine, connected(http) as hers:
        await sign_up(app)
        before = [await log_in(http), await log_in(http)]
        await mine.call("create", "authentication", LOCAL, {})
        await hers.call("create", "authentication", LOCAL, {})
        answer = await mine.call(method, "users", 1, data, {})
        assert answer == [None, {"id": 1, "email": ANN["email"]}]
        assert [await peer.frame() for peer in (mine, hers)] == ["41", "41"]
        assert [await is_let_in(http, headers) for headers in before] == [False, False]
        assert (await http.post("/authentication", json=LOCAL)).status_code == 401
        after = await log_in(http, password=NEW)
        assert await is_let_in(http, after)
    async with serving(sql_app(empty_url)) as http:
        assert [await is_let_in(http, headers) for headers in (*before, after)] == [False, False, True]


async def test_what_leaves_the_password_alone_ends_nothing(empty_url: str) -> None:
    app = sql_app(empty_url)
    async with serving(app) as http:
        await sign_up(app)
        token = await log_in(http)
        assert (await http.patch("/users/1", json={"email": "anna@example.com"})).status_code == 200
        with pytest.raises(BadRequest):
            await app.service("users").patch(1, {"password": NEW, "nothing": "such"})
        assert await is_let_in(http, token)


async def test_a_logout_outlasts_a_restart(empty_url: str) -> None:
    app = sql_app(empty_url)
    async with serving(app) as http:
        await sign_up(app)
        gone, kept = await log_in(http), await log_in(http)
        await http.delete("/authentication", headers=gone)
    async with serving(sql_app(empty_url)) as http:
        assert [await is_let_in(http, headers) for headers in (gone, kept)] == [False, True]


async def test_who_gets_the_id_of_a_removed_user_does_not_get_its_tokens(sqlite_url: str) -> None:
    app = sql_app(sqlite_url)
    async with serving(app) as http:
        await sign_up(app)
        token = await log_in(http)
        await app.service("users").remove(1)
        assert (await http.post("/users", json={"email": "ben@example.com"})).json()["id"] == 1
        assert not await is_let_in(http, token)


async def test_tokens_can_be_ended_by_hand() -> None:
    app = app_of(HIDING["private"])
    async with running(app) as (http, peer):
        token = (await http.post("/authentication", json=LOCAL)).json()["accessToken"]
        await peer.call("create", "authentication", LOCAL, {})
        await app.get("defaultAuthentication").end_tokens(1)
        assert await peer.frame() == "41"
        assert (await http.get("/seen", headers={"Authorization": token})).status_code == 401


async def test_a_login_that_began_before_a_new_password_gives_no_token() -> None:
    app = app_of(HIDING["private"])
    service: AuthenticationService = app.get("defaultAuthentication")

    class Slow(PinStrategy):
        async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
            await service.end_tokens(1)
            return await super().authenticate(authentication, params)

    service.register("pin", Slow(service))
    async with running(app) as (http, _):
        assert (await http.post("/authentication", json={"strategy": "pin"})).status_code == 401
