"""Login to other apps, with users services, strategies and hidden fields of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import Column, Integer, MetaData, String, Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

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
    Schema,
    Service,
    SQLService,
    authenticate,
    database,
    rest,
    sockets,
)
from apex.auth import APIKeyStrategy, new_key
from apex.common import disallow, discard, iff, is_provider
from apex.common.resolvers import OMIT, resolve, resolve_external
from apex.errors import BadRequest, NotAuthenticated
from apex.limits.clients import address_of, network_of
from apex.openapi.document import document
from apex.query.coercion import integer, text
from apex.schema.validation import Password
from apex.sql import Timestamp
from apex.transports import authenticated
from tests.support.serving import calling, serving
from tests.support.sockets import Peer, connected, opened

SETTINGS = {
    "secret": "a secret of at least thirty-two bytes",
    "authStrategies": ["jwt", "local", "api-key", "pin"],
    "argon2": {"time_cost": 1, "memory_cost": 8, "parallelism": 1},
}
ANN = {"email": "ann@example.com", "password": "correct horse"}
LOCAL = {"strategy": "local", **ANN}
KEY = new_key()


class PinStrategy:
    """A strategy of an app."""

    def __init__(self, service: AuthenticationService) -> None:
        self.service = service

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        return {"authentication": {"strategy": "pin"}}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        return {**await self.verify(authentication), "user": await self.service.user_of(1)}

    def parse(self, headers: Mapping[str, str]) -> None:
        return None


class Seen(Service):
    """A service that keeps the user of its hooks."""

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
    service.register("api-key", APIKeyStrategy(holder_of, service.user_of))
    service.register("pin", PinStrategy(service))
    seen = Seen()
    app.use("authentication", service).use("seen", seen, hooks={"before": {"find": [authenticate("jwt")]}})
    return app


async def holder_of(prefix: str) -> Mapping[str, Any]:
    return {"hash": KEY.hash, "payload": {"sub": "1"}}


def sql_app(url: str, **settings: Any) -> Apex:
    """Return an app with users and revoked tokens in a database."""
    metadata = MetaData()
    users = Table("users", metadata, Column("id", Integer, primary_key=True), *map(_text, ("email", "password")))
    ended = Table("ended", metadata, Column("jti", String(64), primary_key=True), Column("expires_at", Timestamp))
    app = Apex({"authentication": {**SETTINGS, **settings}})
    app.configure(database(url)).configure(rest).configure(sockets)
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


async def sign_up(app: Apex, email: str = ANN["email"]) -> None:
    hashed = await app.get("defaultAuthentication").passwords.hash(ANN["password"])
    await app.service("users").create({"email": email, "password": hashed})


async def log_in(http: AsyncClient, **changes: str) -> dict[str, str]:
    """Log in and return the header with the token."""
    answer = await http.post("/authentication", json={**LOCAL, **changes})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}


async def is_let_in(http: AsyncClient, headers: dict[str, str]) -> bool:
    return (await http.get("/seen", headers=headers)).status_code == 200


@asynccontextmanager
async def running(app: Apex) -> AsyncIterator[tuple[AsyncClient, Peer]]:
    """Run an app with the user Ann, and return a client and a socket."""
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


async def test_a_hook_may_show_nothing_of_a_user_whose_password_is_new(sqlite_url: str) -> None:
    def show_nothing(context: Context) -> None:
        context.result = {"changed": True}

    app = sql_app(sqlite_url)
    app.service("users").hooks({"after": {"patch": [show_nothing]}})
    async with calling(app) as http:
        await sign_up(app)
        token = await log_in(http)
        assert (await http.patch("/users/01", json={"password": NEW})).json() == {"changed": True}
        assert not await is_let_in(http, token)


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


async def test_passwords_that_are_changed_within_a_second_end_each_others_tokens(sqlite_url: str) -> None:
    app = sql_app(sqlite_url)
    async with serving(app) as http:
        await sign_up(app)
        password = ANN["password"]
        for number in range(4):
            token = await log_in(http, password=password)
            assert await is_let_in(http, token)
            password = f"{NEW} {number}"
            assert (await http.patch("/users/1", json={"password": password})).status_code == 200
            assert not await is_let_in(http, token), number


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


# Failed logins.


WRONG = {**LOCAL, "password": "wrong"}


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": f"203.0.113.250, {address}"}


async def test_an_account_is_closed_for_a_while_after_failed_logins(caplog: pytest.LogCaptureFixture) -> None:
    async with running(app_of(HIDING["private"])) as (http, peer):
        for email in (ANN["email"], "nobody@example.com"):
            tried = [await http.post("/authentication", json={**WRONG, "email": email}) for _ in range(7)]
            assert [answer.status_code for answer in tried] == [401] * 5 + [429] * 2
            assert 0 < int(tried[-1].headers["Retry-After"]) <= 60
            assert tried[-1].json()["data"] == {"retryAfter": int(tried[-1].headers["Retry-After"])}
        assert (await http.post("/authentication", json=LOCAL)).status_code == 429
        assert (await peer.call("create", "authentication", LOCAL, {}))[0]["code"] == 429
    assert len([one for one in caplog.messages if "A login failed: account" in one and "127.0.0.1" in one]) == 10
    assert ANN["email"] not in caplog.text


async def test_failed_logins_over_sockets_count_as_those_over_rest() -> None:
    async with running(app_of(HIDING["private"])) as (http, peer):
        for _ in range(3):
            assert (await peer.call("create", "authentication", WRONG, {}))[0]["code"] == 401
            await http.post("/authentication", json={**WRONG, "email": " ANN@example.com"})
        assert (await peer.call("create", "authentication", LOCAL, {}))[0]["code"] == 429


async def test_an_address_is_closed_for_a_while_and_others_are_not() -> None:
    app = app_of(HIDING["private"])
    app.set("proxies", 1).configure(rest).configure(sockets)
    async with running(app) as (http, _):
        guesser, home = from_address("198.51.100.7"), from_address("198.51.100.8")
        for number in range(20):
            guess = {**WRONG, "email": f"user{number}@example.com"}
            assert (await http.post("/authentication", json=guess, headers=guesser)).status_code == 401
        assert (await http.post("/authentication", json=LOCAL, headers=guesser)).status_code == 429
        assert (await http.post("/authentication", json=LOCAL, headers=home)).status_code == 201


async def test_handshakes_count_with_the_address_they_come_from() -> None:
    class Basic(LocalStrategy):
        def parse(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
            email, _, password = headers.get("x-login", "").partition(" ")
            return {"strategy": "local", "email": email, "password": password} if email else None

    app = app_of(HIDING["private"])
    service: AuthenticationService = app.get("defaultAuthentication")
    service.register("local", Basic(service))
    async with running(app) as (http, _):
        codes = []
        for _ in range(6):
            async with opened(http, additional_headers={"X-Login": f"{ANN['email']} wrong"}) as peer:
                await peer.frame()
                await peer.send("40")
                codes.append(await peer.frame())
        assert ["Invalid login" in code for code in codes] == [True] * 5 + [False]
        assert "Too many failed attempts" in codes[-1]


async def test_guessers_keep_nobody_else_from_logging_in() -> None:
    app = app_of(HIDING["private"])
    app.set("proxies", 1).configure(rest).configure(sockets)
    async with running(app) as (http, _):

        async def guess(number: int) -> int:
            login = {**WRONG, "email": f"user{number}@example.com"}
            answer = await http.post("/authentication", json=login, headers=from_address("198.51.100.7"))
            return answer.status_code

        guesses = [asyncio.create_task(guess(number)) for number in range(40)]
        logins = [
            await http.post("/authentication", json=LOCAL, headers=from_address(f"192.0.2.{number}"))
            for number in range(5)
        ]
        assert [answer.status_code for answer in logins] == [201] * 5
        assert set(await asyncio.gather(*guesses)) <= {401, 429, 503}


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "found"),
    [
        ("8.8.8.8", None, 0, "8.8.8.8"),
        ("8.8.8.8", "192.0.2.1", 0, "8.8.8.8"),
        ("10.0.0.2", "192.0.2.1", 0, None),
        ("10.0.0.2", "forged, 192.0.2.1", 1, "192.0.2.1"),
        ("10.0.0.2", "forged, 192.0.2.1, 10.0.0.3", 2, "192.0.2.1"),
        ("10.0.0.2", "192.0.2.1", 2, None),
        (None, None, 0, None),
    ],
)
def test_the_address_of_a_client(peer: str | None, forwarded: str | None, proxies: int, found: str | None) -> None:
    scope = {"client": None if peer is None else (peer, 1234)}
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert address_of(scope, headers, proxies) == found


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:50123", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::2]:50123", "2001:db8::/64"),
        ("unknown", "unknown"),
    ],
)
def test_the_network_of_a_client_has_no_port(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("seven77", "Must have a length from 8 to 1024"),
        ("x" * 1025, "Must have a length from 8 to 1024"),
        ("Password1", "Is one of the most common passwords"),
        ("zzzzzzzzzzzz", "Is one of the most common passwords"),
        (None, "Must not be null"),
        (12345678, "Must be a string"),
        ("correct horse", None),
        (" pass phrase ", None),
    ],
)
def test_a_weak_password_is_refused(password: Any, message: str | None) -> None:
    class Login(Schema):
        password = Password(required=True)

    errors = Login().validate({"password": password})
    assert errors == ({} if message is None else {"password": [message]})
    if message is None:
        assert Login().load({"password": password}) == {"password": password}


# The spelling of names.


@pytest.mark.parametrize(
    ("stored", "given", "ignores_case", "status"),
    [
        ("Ann@Example.com", "Ann@Example.com", False, 201),
        ("Ann@Example.com", "ann@example.com", False, 401),
        ("ann@example.com", "Ann@Example.com", False, 401),
        ("ann@example.com", " ann@example.com", False, 401),
        ("Ann@Example.com", "Ann@Example.com", True, 201),
        ("Ann@Example.com", " aNN@example.COM ", True, 201),
        ("ann@example.com", " Ann@example.COM ", "lower", 201),
        ("Ann@example.com", "Ann@example.com", "lower", 401),
        ("ann@example.com", "ANN@example.com", True, 201),
        ("ÉMILE@example.com", "émile@example.com", True, 201),
        ("ann@example.com", "%@example.com", True, 401),
        ("ann@example.com", "ann_example.com", True, 401),
        ("a%n_\\@example.com", "A%N_\\@example.com", True, 201),
    ],
)
async def test_a_name_logs_in_as_it_is_stored(
    empty_url: str, stored: str, given: str, ignores_case: bool | str, status: int
) -> None:
    app = sql_app(empty_url, local={"caseInsensitive": ignores_case})
    async with calling(app) as http:
        await sign_up(app, stored)
        answer = await http.post("/authentication", json={**LOCAL, "email": given})
        assert answer.status_code == status
        if status == 201:
            assert answer.json()["user"] == {"id": 1, "email": stored}


async def test_names_that_case_alone_tells_apart_need_their_spelling(empty_url: str) -> None:
    app = sql_app(empty_url, local={"caseInsensitive": True})
    async with calling(app) as http:
        for email in ("Ann@example.com", "aNN@example.com"):
            await sign_up(app, email)
        found = [
            (await http.post("/authentication", json={**LOCAL, "email": email})).json().get("user", {}).get("id")
            for email in ("Ann@example.com", "aNN@example.com", "ann@example.com")
        ]
        assert found == [1, 2, None]


# Settings, as Feathers has them.


async def claims_of(http: AsyncClient, **login: Any) -> dict[str, Any]:
    """Log in, check that the token is accepted, and return its claims."""
    answer = await http.post("/authentication", json={**LOCAL, **login})
    assert answer.status_code == 201, answer.text
    assert await is_let_in(http, {"Authorization": f"Bearer {answer.json()['accessToken']}"})
    claims: dict[str, Any] = answer.json()["authentication"]["payload"]
    return claims


async def test_an_audience_may_be_a_list(sqlite_url: str) -> None:
    audience = ["https://one.example", "https://two.example"]
    app = sql_app(sqlite_url, jwtOptions={"audience": audience, "issuer": "one"})
    tokens = app.get("defaultAuthentication").tokens
    async with calling(app) as http:
        await sign_up(app)
        claims = await claims_of(http)
        assert (claims["aud"], claims["iss"], claims["sub"]) == (audience, "one", "1")
        for audiences, good in ((["https://two.example", "x"], True), ("https://one.example", True), ("x", False)):
            token = jwt.encode({**claims, "aud": audiences}, tokens.secret, "HS256", tokens.header)
            assert await is_let_in(http, {"Authorization": token}) is good
        refused = await http.get("/seen", headers={"Authorization": token})
        assert refused.json()["message"] == f"jwt audience invalid. expected: {' or '.join(audience)}"


@pytest.mark.parametrize(
    "options", [{"audience": 1}, {"audience": []}, {"audience": ["a", 1]}, {"issuer": ["a"]}, {"subject": "a"}]
)
def test_options_that_no_token_could_have_are_refused_at_once(options: dict[str, Any]) -> None:
    app = Apex({"authentication": {**SETTINGS, "jwtOptions": options}})
    with pytest.raises(ValueError, match="jwtOptions"):
        AuthenticationService(app)


@pytest.mark.parametrize("named", ["service", "setting"])
async def test_users_may_have_another_id(named: str) -> None:
    settings = {**SETTINGS, "entity": "member", "service": "members", "entityId": "uid" if named == "setting" else None}
    app = Apex({"authentication": settings}).configure(rest).configure(sockets)
    app.use("members", MemoryService(id="uid", start_id=7), hooks={"before": {"patch": [hash_password]}})
    service = AuthenticationService(app)
    for name, strategy in (("jwt", JWTStrategy(service)), ("local", LocalStrategy(service))):
        service.register(name, strategy)
    service.register("api-key", APIKeyStrategy(holder_of_seven, service.user_of))
    app.use("authentication", service).use("seen", Seen(), hooks={"before": {"find": [authenticate("jwt")]}})
    told: list[Any] = []
    app.use("notes", MemoryService()).publish(lambda data, context: told.append(context.params.member))
    async with serving(app) as http, connected(http) as peer:
        hashed = await service.passwords.hash(ANN["password"])
        await app.service("members").create({"email": ANN["email"], "password": hashed})
        claims = await claims_of(http)
        assert claims["sub"] == "7"
        by_key = await http.post("/authentication", json={"strategy": "api-key", "key": KEY.text})
        assert by_key.json()["member"] == {"uid": 7, "email": ANN["email"]}
        assert (await peer.call("create", "authentication", LOCAL, {}))[1]["member"]["uid"] == 7
        await peer.call("create", "notes", {}, {})
        assert told[-1] == {"uid": 7}
        await app.bus.sync()
        await app.service("members").patch(7, {"password": NEW})
        assert await peer.frame() == "41"
        assert (await http.post("/authentication", json=LOCAL)).status_code == 401


async def holder_of_seven(prefix: str) -> Mapping[str, Any]:
    return {"hash": KEY.hash, "payload": {"sub": "7"}}


class Guest:
    """A strategy without an entity."""

    def __init__(self, name: str = "guest") -> None:
        self.name = name

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        return {"authentication": {"strategy": self.name}}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        return await self.verify(authentication)

    def parse(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        return {"strategy": self.name} if "x-guest" in headers else None


class Named(AuthenticationService):
    async def payload_of(self, result: Mapping[str, Any], params: Params) -> Mapping[str, Any]:
        return {"role": "reader"}

    async def subject_of(self, result: Mapping[str, Any], params: Params) -> Any:
        return "reader-5"


def stateless(kind: type[AuthenticationService], **options: Any) -> Apex:
    settings = {**SETTINGS, "entity": None, "authStrategies": ["jwt", "guest"], "jwtOptions": options}
    app = Apex({"authentication": settings}).configure(rest).configure(sockets)
    service = kind(app)
    service.register("jwt", JWTStrategy(service))
    service.register("guest", Guest())
    guarded = {"before": {"find": [authenticate("jwt", "guest")]}}
    return app.use("authentication", service).use("seen", Seen(), hooks=guarded)


@pytest.mark.parametrize(
    ("kind", "options", "subject"),
    [
        (AuthenticationService, {}, None),
        (AuthenticationService, {"subject": "all"}, "all"),
        (Named, {}, "reader-5"),
    ],
)
async def test_a_strategy_of_ones_own_needs_no_entity(
    kind: type[AuthenticationService], options: dict[str, Any], subject: str | None
) -> None:
    app = stateless(kind, **options)
    async with serving(app) as http, connected(http) as peer:
        claims = await claims_of(http, strategy="guest")
        assert (claims.get("sub"), claims.get("role")) == (subject, "reader" if kind is Named else None)
        answer = await peer.call("create", "authentication", {"strategy": "guest"}, {})
        assert sorted(answer[1]) == ["accessToken", "authentication"]
        await app.bus.sync()
        assert (await peer.call("remove", "authentication", None, {}))[0] is None
        assert (await http.get("/seen", headers={"X-Guest": "yes"})).status_code == 200


async def test_tokens_of_another_subject_are_refused() -> None:
    app = stateless(AuthenticationService, subject="all")
    tokens = app.get("defaultAuthentication").tokens
    async with calling(app) as http:
        refused = await http.get("/seen", headers={"Authorization": tokens.create("another")[0]})
        assert (refused.status_code, refused.json()["message"]) == (401, "jwt subject invalid. expected: all")


def test_a_password_without_an_entity_is_refused_at_once() -> None:
    service: AuthenticationService = stateless(AuthenticationService).get("defaultAuthentication")
    with pytest.raises(ValueError, match="needs an entity"):
        LocalStrategy(service)


async def test_a_strategy_that_finds_nobody_is_refused() -> None:
    class Nobody(Guest):
        async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
            return {"authentication": {"strategy": "pin"}, "user": None}

    app = app_of(HIDING["private"])
    app.get("defaultAuthentication").register("pin", Nobody("pin"))
    async with running(app) as (http, _):
        answer = await http.post("/authentication", json={"strategy": "pin"})
        assert (answer.status_code, answer.json()["message"]) == (401, "Can not set subject from user.id")


async def test_a_users_service_without_get_is_refused_at_the_start() -> None:
    class Users(Service):
        async def find(self, params: Params) -> list[Any]:
            return []

    app = Apex({"authentication": SETTINGS}).use("users", Users())
    app.use("authentication", AuthenticationService(app))
    with pytest.raises(ValueError, match="Service 'users' has no 'get'"):
        await app.setup()


async def test_active_users_only() -> None:
    class Active(AuthenticationService):
        async def entity_query(self, params: Params) -> Mapping[str, Any]:
            return {"active": True}

    app = Apex({"authentication": SETTINGS}).configure(rest).configure(sockets)
    app.use("users", MemoryService(start_id=1))
    service = Active(app)
    for name, strategy in (("jwt", JWTStrategy(service)), ("local", LocalStrategy(service))):
        service.register(name, strategy)
    app.use("authentication", service).use("seen", Seen(), hooks={"before": {"find": [authenticate("jwt")]}})
    async with serving(app) as http, connected(http) as peer:
        hashed = await service.passwords.hash(ANN["password"])
        users = app.service("users")
        await users.create({"email": ANN["email"], "password": hashed, "active": False})
        assert (await http.post("/authentication", json=LOCAL)).status_code == 401
        await users.patch(1, {"active": True})
        token = await log_in(http)
        await peer.call("create", "authentication", LOCAL, {})
        assert await is_let_in(http, token)
        await users.patch(1, {"active": False})
        assert not await is_let_in(http, token)
        await app.bus.sync()
        assert await peer.frame() == "41"


# HTTP.


async def test_the_answer_of_a_login_is_stored_nowhere_and_a_401_says_how_to_log_in() -> None:
    async with running(app_of(HIDING["private"])) as (http, _):
        login = await http.post("/authentication", json=LOCAL)
        bearer = {"Authorization": f"Bearer {login.json()['accessToken']}"}
        logout = await http.delete("/authentication", headers=bearer)
        assert [answer.headers["Cache-Control"] for answer in (login, logout)] == ["no-store"] * 2
        refused = [
            await http.post("/authentication", json=WRONG),
            await http.get("/seen"),
            await http.get("/seen", headers=bearer),
        ]
        assert {(one.status_code, one.headers["WWW-Authenticate"]) for one in refused} == {
            (401, 'Bearer, ApiKey in="header", name="x-api-key", Pin')
        }


async def test_a_401_has_a_challenge_without_an_authentication_service() -> None:
    def refuse(context: Context) -> None:
        raise NotAuthenticated("No", headers=context.data)

    app = Apex().configure(rest).use("notes", MemoryService(), hooks={"before": {"create": [refuse]}})
    async with calling(app) as http:
        answers = [await http.post("/notes", json=headers) for headers in ({}, {"www-authenticate": "Own"})]
        assert [answer.headers["WWW-Authenticate"] for answer in answers] == ["Bearer", "Own"]


# Strategies in the OpenAPI document.


def test_a_strategy_of_ones_own_is_in_the_document() -> None:
    class Header(Guest):
        scheme = {"type": "apiKey", "in": "header", "name": "x-guest"}

    app = stateless(AuthenticationService)
    service: AuthenticationService = app.get("defaultAuthentication")
    service.register("header", Header("header"))
    app.use("notes", MemoryService(), hooks={"before": {"find": [authenticate("header", "guest", "jwt")]}})
    found = document(app)
    schemes = found["components"]["securitySchemes"]
    assert schemes["header"] == Header.scheme
    assert (schemes["guest"]["type"], schemes["guest"]["scheme"]) == ("http", "guest")
    assert found["paths"]["/notes"]["get"]["security"] == [{"header": []}, {"guest": []}, {"jwt": []}]


async def whoami(request: Request) -> JSONResponse:
    caller = await authenticated(request)
    notes = await request.app.state.apex.service("seen").find(caller)
    return JSONResponse({"email": caller.user["email"], "provider": caller.provider, "seen": notes})


async def only_by_key(request: Request) -> JSONResponse:
    return JSONResponse((await authenticated(request, "api-key")).user)


async def test_a_plain_route_knows_its_caller() -> None:
    app = app_of(HIDING["private"])
    app.routes += [Route("/whoami", whoami), Route("/key", only_by_key)]
    async with calling(app) as client:
        await sign_up(app)
        token = (await client.post("/authentication", json=LOCAL)).json()["accessToken"]
        answer = await client.get("/whoami", headers={"Authorization": f"Bearer {token}"})
        assert answer.json() == {"email": "ann@example.com", "provider": "rest", "seen": []}
        assert app.service("seen").service.user["email"] == "ann@example.com"
        for path, headers in (("/whoami", {}), ("/whoami", {"Authorization": "Bearer x"}), ("/key", {})):
            refused = await client.get(path, headers=headers)
            assert (refused.status_code, refused.json()["className"]) == (401, "not-authenticated")
            assert refused.headers["www-authenticate"]
        assert (await client.get("/key", headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def keyed(request: Request) -> JSONResponse:
    return JSONResponse(await request.app.state.apex.service("keyed").find(await authenticated(request)))


async def test_a_route_does_not_open_services_to_another_way_to_log_in() -> None:
    app = app_of(HIDING["private"])
    app.use("keyed", MemoryService[Any](), hooks={"before": {"find": [authenticate("api-key")]}})
    app.routes.append(Route("/keyed-notes", keyed))
    async with calling(app) as client:
        await sign_up(app)
        token = (await client.post("/authentication", json=LOCAL)).json()["accessToken"]
        for path in ("/keyed", "/keyed-notes"):
            refused = await client.get(path, headers={"Authorization": f"Bearer {token}"})
            assert (refused.status_code, refused.json()["className"]) == (401, "not-authenticated")


async def test_a_route_of_another_app_has_no_caller() -> None:
    other = Starlette(routes=[Route("/whoami", whoami)])
    with pytest.raises(TypeError, match=r"takes the request of a route in app\.routes"):
        await AsyncClient(transport=ASGITransport(other), base_url="http://a").get("/whoami")
