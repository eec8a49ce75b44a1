"""Tests of authentication over HTTP: tokens, the access that they give, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import bcrypt
import jwt
import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import MetaData, create_engine

from apex import (
    Apex,
    AuthenticationService,
    Connection,
    Context,
    JWTStrategy,
    LocalStrategy,
    MemoryService,
    Params,
    Service,
    authenticate,
    rest,
)
from apex.auth import revoked_tokens_table
from apex.errors import NotAuthenticated
from apex.query.coercion import integer, nullable, text, timestamp
from apex.sql import database
from tests.auth.test_jwt import SECRET, forged
from tests.auth.test_passwords import OF_FEATHERS, QUICK, Watched
from tests.support.serving import calling

LOGIN = {"strategy": "local", "email": "a@b.c", "password": "p"}
USER = {"id": 0, "email": "a@b.c"}
SETTINGS = {"secret": SECRET, "authStrategies": ["jwt", "local"], "argon2": QUICK}


class Users(MemoryService):
    """A service that counts its calls."""

    asked = 0

    async def _select(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        return await super()._select(*arguments, **options)


async def hash_password(context: Context) -> None:
    if not context.data["password"].startswith("$"):
        passwords = context.app.get("defaultAuthentication").passwords
        context.data = {**context.data, "password": await passwords.hash(context.data["password"])}


@dataclass
class Site:
    """A running app whose users and notes need a token."""

    app: Apex
    users: Users
    authentication: AuthenticationService
    client: AsyncClient

    async def log_in(self, **changes: Any) -> Response:
        return await self.client.post("/authentication", json={**LOGIN, **changes})

    async def token(self) -> str:
        return str((await self.log_in()).json()["accessToken"])

    async def get(self, authorization: str | bytes, url: str = "/users/0") -> Response:
        return await self.client.get(url, headers=[(b"Authorization", _bytes(authorization))])


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def site_app(users: Users, settings: Mapping[str, Any] = SETTINGS, revocations: Service | None = None) -> Apex:
    app = Apex({"authentication": settings}).configure(rest)
    if revocations is not None:
        app.use("revocations", revocations, methods=[])
    service = AuthenticationService(app, revocations=None if revocations is None else "revocations")
    service.register("jwt", JWTStrategy(service))
    service.register("local", LocalStrategy(service))
    guarded = {"find": [authenticate("jwt")], "get": [authenticate("jwt")]}
    app.use("users", users, hooks={"before": {**guarded, "create": [hash_password], "patch": [hash_password]}})
    app.use("authentication", service)
    return app.use("open", MemoryService())


def users_service() -> Users:
    return Users(fields={"id": integer, "email": text, "password": nullable(text)}, private=("password",))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    users = users_service()
    app = site_app(users)
    async with calling(app) as client:
        await client.post("/users", json={"email": "a@b.c", "password": "p"})
        yield Site(app, users, app.get("defaultAuthentication"), client)


def said(response: Response, message: str, **data: Any) -> bool:
    """Return True for a 401 with this message."""
    body = {"name": "NotAuthenticated", "message": message, "code": 401, "className": "not-authenticated"}
    return response.status_code == 401 and response.json() == {**body, **({"data": data} if data else {})}


# Logging in.


async def test_a_login_gives_a_token_its_payload_and_the_user(site: Site) -> None:
    response = await site.log_in()
    body = response.json()
    assert (response.status_code, list(body)) == (201, ["accessToken", "authentication", "user"])
    payload = body["authentication"]["payload"]
    assert body["authentication"] == {"strategy": "local", "payload": payload}
    assert list(payload) == ["iat", "exp", "aud", "iss", "sub", "jti"]
    assert (payload["aud"], payload["iss"], payload["sub"]) == ("https://yourdomain.com", "feathers", "0")
    assert UUID(payload["jti"]).version == 4
    assert body["user"] == USER
    assert jwt.get_unverified_header(body["accessToken"]) == {"alg": "HS256", "typ": "access"}


async def test_the_password_never_leaves(site: Site) -> None:
    created = await site.client.post("/users", json={"email": "b@b.c", "password": "p"})
    assert created.json() == {"id": 1, "email": "b@b.c"}
    assert "password" not in (await site.get(await site.token())).text


@pytest.mark.parametrize(("changes", "status"), [({"email": " A@B.c "}, 401), ({"extra": {"x": 1}}, 201)])
async def test_the_name_is_spelled_as_it_is_stored(site: Site, changes: dict[str, Any], status: int) -> None:
    assert (await site.log_in(**changes)).status_code == status


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong"}, {"email": "nobody@b.c"}, {"password": ""}, {"email": ""}, {"password": "P"},
        {"password": "p "}, {"email": "a@b.c\0"}, {"password": "p\0"}, {"password": "p" * 100_000}, {"email": "%"},
    ],
)  # fmt: skip
async def test_each_failed_login_has_the_same_answer(site: Site, changes: dict[str, Any]) -> None:
    assert said(await site.log_in(**changes), "Invalid login")


@pytest.mark.parametrize("missing", ["email", "password"])
async def test_a_login_without_name_or_password_is_invalid(site: Site, missing: str) -> None:
    login = {name: value for name, value in LOGIN.items() if name != missing}
    assert said(await site.client.post("/authentication", json=login), "Invalid login")


@pytest.mark.parametrize("field", ["email", "password"])
@pytest.mark.parametrize("value", [{"$ne": None}, {"$gt": ""}, {"$in": ["a@b.c"]}, ["a@b.c"], None, 1, True])
async def test_a_login_with_anything_but_text_is_400(site: Site, field: str, value: Any) -> None:
    response = await site.log_in(**{field: value})
    assert (response.status_code, response.json()["errors"]) == (400, {field: "must be a string"})
    assert site.users.asked == 0


@pytest.mark.parametrize("email", ["a@b.c", "nobody@b.c", "without@b.c"])
async def test_an_unknown_user_costs_as_much_as_a_wrong_password(site: Site, email: str) -> None:
    await site.app.service("users").service.create({"email": "without@b.c", "password": None}, Params())
    site.authentication.passwords = watched = Watched()
    assert said(await site.log_in(email=email, password="wrong"), "Invalid login")
    assert (watched.worked, site.users.asked) == (1, 1)


async def test_a_user_without_the_password_field_cannot_log_in() -> None:
    users = Users(store={0: {"id": 0, "email": "a@b.c"}})
    async with calling(site_app(users)) as client:
        assert said(await client.post("/authentication", json=LOGIN), "Invalid login")


async def test_the_hash_of_a_migrated_user_is_made_anew_on_login() -> None:
    users = users_service()
    users.store[0] = {**USER, "password": OF_FEATHERS}
    app = site_app(users)
    async with calling(app) as client:
        assert (await client.post("/authentication", json={**LOGIN, "password": "wrong"})).status_code == 401
        assert users.store[0]["password"] == OF_FEATHERS
        for _ in range(2):
            response = await client.post("/authentication", json={**LOGIN, "password": "U*U"})
            assert (response.status_code, response.json()["user"]) == (201, USER)
            assert users.store[0]["password"].startswith("$argon2id$")


async def test_a_hash_that_is_up_to_date_stays(site: Site) -> None:
    stored = site.users.store[0]["password"]
    await site.log_in()
    assert site.users.store[0]["password"] == stored


async def test_many_may_log_in_at_once(site: Site) -> None:
    responses = await asyncio.gather(*(site.log_in() for _ in range(20)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["accessToken"] for response in responses}) == 20


async def test_a_login_through_the_service_takes_a_payload_along(site: Site) -> None:
    result = await site.app.service("authentication").create(LOGIN, {"payload": {"role": "admin"}})
    assert result["authentication"]["payload"]["role"] == "admin"


# Strategies.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "Invalid authentication information (no `strategy` set)"),
        (None, "Invalid authentication information (no `strategy` set)"),
        ({"strategy": ""}, "Invalid authentication information (no `strategy` set)"),
        ({"strategy": "foo"}, "Invalid authentication information (strategy not allowed in authStrategies)"),
        ({"strategy": ["jwt"]}, "Invalid authentication information (strategy not allowed in authStrategies)"),
        ({"strategy": {"jwt": 1}}, "Invalid authentication information (strategy not allowed in authStrategies)"),
        ({"strategy": "jwt"}, "No access token"),
        ({"strategy": "jwt", "accessToken": ""}, "No access token"),
    ],
)
async def test_a_missing_setting_is_named(site: Site, data: Any, message: str) -> None:
    assert said(await site.client.post("/authentication", json=data), message)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("x.y.z", "invalid token"),
        ("abc", "jwt malformed"),
        (1, "jwt must be a string"),
        (["a"], "jwt must be a string"),
    ],
)
async def test_a_token_that_is_none_is_refused(site: Site, token: Any, message: str) -> None:
    response = await site.client.post("/authentication", json={"strategy": "jwt", "accessToken": token})
    assert said(response, message, name="JsonWebTokenError")


async def test_a_list_of_logins_is_400(site: Site) -> None:
    assert (await site.client.post("/authentication", json=[LOGIN, LOGIN])).status_code == 400


async def test_a_token_is_given_back_as_it_is(site: Site) -> None:
    token = await site.token()
    response = await site.client.post("/authentication", json={"strategy": "jwt", "accessToken": token})
    payload = jwt.decode(token, options={"verify_signature": False})
    proof = {"strategy": "jwt", "accessToken": token, "payload": payload}
    assert (response.status_code, response.json()) == (
        201,
        {"accessToken": token, "authentication": proof, "user": USER},
    )


async def test_a_strategy_that_is_allowed_but_not_there_is_refused() -> None:
    app = site_app(users_service(), {**SETTINGS, "authStrategies": ["jwt", "magic"]})
    async with calling(app) as client:
        response = await client.post("/authentication", json={"strategy": "magic"})
        assert said(response, "Invalid authentication information")
        refused = await client.post("/authentication", json=LOGIN)
    assert said(refused, "Invalid authentication information (strategy not allowed in authStrategies)")


@pytest.mark.parametrize(("url", "method"), [("/authentication", "find"), ("/authentication/1", "get")])
async def test_the_service_has_create_and_remove_alone(site: Site, url: str, method: str) -> None:
    response = await site.client.get(url)
    assert (response.status_code, response.headers["allow"]) == (405, "POST, DELETE")
    assert response.json()["message"] == f"Method `{method}` is not supported by this endpoint."


# The calls that a token allows.


async def test_without_a_token_a_guarded_service_is_closed(site: Site) -> None:
    assert said(await site.client.get("/users"), "Not authenticated")
    assert site.users.asked == 0


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer: {}", "JWT {}", "Bearer   {} ", "{}"])
async def test_a_token_is_read_from_every_form_of_the_header(site: Site, form: str) -> None:
    response = await site.get(form.format(await site.token()))
    assert (response.status_code, response.json()) == (200, USER)


@pytest.mark.parametrize(
    "form", ["Basic {}", "Token {}", "Bearer {} {}", "Bearer {}, Bearer {}", "Basic a, Bearer {}", ""]
)
async def test_another_header_is_no_token(site: Site, form: str) -> None:
    assert said(await site.get(form.replace("{}", await site.token())), "Not authenticated")


async def test_two_headers_are_no_token(site: Site) -> None:
    header = (b"Authorization", f"Bearer {await site.token()}".encode())
    assert said(await site.client.get("/users", headers=[header, header]), "Not authenticated")


async def test_a_token_in_the_query_is_no_token(site: Site) -> None:
    assert said(await site.client.get(f"/users?accessToken={await site.token()}"), "Not authenticated")


FORGERIES: dict[str, Callable[[], str | bytes]] = {
    "no token": lambda: "abc",
    "another secret": lambda: forged(secret="another secret"),
    "no signature": lambda: forged({"alg": "none", "typ": "access"}).rpartition(".")[0] + ".",
    "no algorithm": lambda: forged({"alg": None, "typ": "access"}),
    "another algorithm": lambda: forged({"alg": "HS512", "typ": "access"}, hash="HS512"),
    "another type": lambda: forged({"alg": "HS256", "typ": "refresh"}),
    "a dot too many": lambda: forged() + ".x",
    "100 KB": lambda: forged(x="x" * 100_000),
    "no text": lambda: b"\xff.\xff.\xff",
    "brackets": lambda: b"[" * 2_000,
}
CLAIMS: list[dict[str, Any]] = [
    {"sub": ...}, {"sub": 0}, {"sub": ["0"]}, {"sub": "999"}, {"sub": "abc"}, {"sub": ""}, {"sub": "0 "},
    {"sub": "0.0"}, {"sub": "$ne"}, {"sub": "9" * 30}, {"jti": ["a"]}, {"jti": {}}, {"jti": ...}, {"exp": ...},
    {"exp": "4000000000"}, {"exp": 1e300}, {"exp": -1e300}, {"exp": 1}, {"nbf": 4_000_000_000}, {"iat": "x"},
    {"aud": ["https://yourdomain.com"]}, {"iss": ["feathers"]},
]  # fmt: skip


def refuses(response: Response) -> bool:
    return (response.status_code, response.json()["name"]) == (401, "NotAuthenticated") and len(response.text) < 500


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_token_of_another_service_is_refused(site: Site, name: str) -> None:
    assert refuses(await site.get(b"Bearer " + _bytes(FORGERIES[name]()), "/users"))
    assert site.users.asked == 0


@pytest.mark.parametrize("claims", CLAIMS, ids=str)
async def test_a_token_with_a_wrong_claim_opens_nothing(site: Site, claims: dict[str, Any]) -> None:
    assert refuses(await site.get("Bearer " + forged(**claims), "/users"))


@pytest.mark.parametrize("claims", [{"exp": 1}, {"aud": "x"}, {"sub": 1}, {"exp": ...}], ids=str)
async def test_claims_are_checked_before_anyone_is_asked(site: Site, claims: dict[str, Any]) -> None:
    assert refuses(await site.get("Bearer " + forged(**claims)))
    assert site.users.asked == 0


async def test_a_forged_token_with_everything_right_opens(site: Site) -> None:
    assert (await site.get("Bearer " + forged(sub="0"))).json() == USER


async def test_a_malformed_token_is_named(site: Site) -> None:
    assert said(await site.get("Bearer abc"), "jwt malformed", name="JsonWebTokenError")
    assert said(await site.get("Bearer x.y.z"), "invalid token", name="JsonWebTokenError")


async def test_an_open_service_does_not_mind_a_bad_token(site: Site) -> None:
    assert (await site.get("Bearer abc", "/open")).status_code == 200


async def test_the_token_of_a_removed_user_is_refused(site: Site) -> None:
    token = await site.token()
    await site.app.service("users").remove(0)
    assert said(await site.get(f"Bearer {token}"), "Token revoked", name="JsonWebTokenError")
    other = site.authentication.tokens.create("7")[0]
    assert said(await site.get(f"Bearer {other}"), "The user of this token no longer exists")


async def test_tokens_are_good_after_a_restart(site: Site) -> None:
    token = await site.token()
    async with calling(site_app(site.users)) as client:
        assert (await client.get("/users/0", headers={"Authorization": token})).status_code == 200


# Logging out.


async def log_out(client: AsyncClient, token: str, url: str = "/authentication") -> Response:
    return await client.delete(url, headers={"Authorization": f"Bearer {token}"})


async def test_a_logout_returns_the_result_of_the_login(site: Site) -> None:
    token = await site.token()
    response = await log_out(site.client, token)
    body = response.json()
    assert (response.status_code, body["accessToken"], body["user"]) == (200, token, USER)
    assert (body["authentication"]["strategy"], body["authentication"]["accessToken"]) == ("jwt", token)


async def test_a_token_that_was_logged_out_opens_nothing(site: Site) -> None:
    token, other = await site.token(), await site.token()
    await log_out(site.client, token, f"/authentication/{token}")
    for response in (await site.get(token), await log_out(site.client, token)):
        assert said(response, "Token revoked", name="JsonWebTokenError")
    again = await site.client.post("/authentication", json={"strategy": "jwt", "accessToken": token})
    assert said(again, "Token revoked", name="JsonWebTokenError")
    assert (await site.get(other)).status_code == 200


async def test_logging_out_needs_the_token_that_is_meant(site: Site) -> None:
    token = await site.token()
    for id in ("foo", "null", await site.token()):
        assert said(await log_out(site.client, token, f"/authentication/{id}"), "Invalid access token")
    assert (await site.get(token)).status_code == 200


@pytest.mark.parametrize("url", ["/authentication", "/authentication/foo"])
async def test_logging_out_without_a_token_is_refused(site: Site, url: str) -> None:
    assert said(await site.client.delete(url), "Invalid authentication information (no `strategy` set)")


def revocations() -> MemoryService:
    return MemoryService(fields={"jti": text, "expires_at": timestamp}, id="jti", multi=["remove"])


async def test_a_restart_does_not_revive_a_token() -> None:
    users, kept = users_service(), revocations()
    async with calling(site_app(users, revocations=kept)) as client:
        await client.post("/users", json={"email": "a@b.c", "password": "p"})
        token = (await client.post("/authentication", json=LOGIN)).json()["accessToken"]
        answers = await asyncio.gather(*(log_out(client, token) for _ in range(5)))
    assert 200 in {answer.status_code for answer in answers} <= {200, 401}
    assert len(kept.store) == 1
    async with calling(site_app(users, revocations=kept)) as client:
        response = await client.get("/users", headers={"Authorization": token})
    assert said(response, "Token revoked", name="JsonWebTokenError")


async def test_revoked_tokens_are_forgotten_once_they_have_expired() -> None:
    kept = revocations()
    app = site_app(users_service(), revocations=kept)
    async with calling(app):
        service: AuthenticationService = app.get("defaultAuthentication")
        for jti, exp in (("old", 1_000_000_000), ("new", 4_000_000_000), ("newer", 4_000_000_000)):
            await service.revoke({"jti": jti, "exp": exp})
    assert (set(service.revoked), set(kept.store)) == ({"new", "newer"}, {"new", "newer"})


async def test_a_table_keeps_revoked_tokens_after_a_restart(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/test.db")
    table = revoked_tokens_table(MetaData())
    table.create(engine)
    for known in ({}, {"lost": 4_000_000_000}):
        app = Apex({"authentication": SETTINGS}).configure(database(str(engine.url))).use("users", MemoryService())
        service = AuthenticationService(app, revocations=table)
        async with app.use("authentication", service).lifespan():
            assert service.revoked == known
            await service.revoke({"jti": "lost", "exp": 4_000_000_000})
            assert app.service("revoked-tokens")._options.methods == ()


async def test_nobody_hears_of_revoked_tokens() -> None:
    app, sent = site_app(users_service(), revocations=revocations()), list[str]()
    app.publish(lambda data, context: app.channel("all"))
    app.on("publish", lambda context, _: sent.append(context.path))
    async with calling(app):
        connection = Connection()
        app.events.connections.add(connection)
        app.channel("all").join(connection)
        await app.get("defaultAuthentication").revoke({"jti": "lost", "exp": 4_000_000_000})
        await app.service("users").create({"email": "a@b.c", "password": "p"})
    assert sent == ["users"]


# The hook.


class Whoami(Service):
    async def find(self, params: Params) -> Any:
        return {name: params.get(name) for name in ("user", "authenticated", "authentication")}


def whoami(*hooks: Any, kind: str = "before") -> Apex:
    return site_app(users_service()).use("whoami", Whoami(), hooks={kind: {"find": list(hooks)}})


async def test_the_hook_sets_the_user_and_the_payload() -> None:
    app = whoami(authenticate("jwt"))
    async with calling(app) as client:
        await client.post("/users", json={"email": "a@b.c", "password": "p"})
        token = (await client.post("/authentication", json=LOGIN)).json()["accessToken"]
        body = (await client.get("/whoami", headers={"Authorization": token})).json()
    assert (body["user"], body["authenticated"]) == (USER, True)
    assert (body["authentication"]["accessToken"], body["authentication"]["payload"]["sub"]) == (token, "0")


async def test_the_hook_can_check_the_proof_alone() -> None:
    async with calling(whoami(authenticate("jwt", entity=False))) as client:
        body = (await client.get("/whoami", headers={"Authorization": forged(sub="nobody")})).json()
        assert (body["user"], body["authentication"]["payload"]["sub"]) == (None, "nobody")
        assert (await client.get("/whoami", headers={"Authorization": forged(secret="x")})).status_code == 401


async def test_internal_calls_need_no_token_but_theirs_are_checked() -> None:
    app = whoami(authenticate("jwt"))
    assert (await app.service("whoami").find())["user"] is None
    assert await app.service("whoami").find({"authenticated": True, "provider": "rest"})
    with pytest.raises(NotAuthenticated, match="jwt malformed"):
        await app.service("whoami").find({"authentication": {"strategy": "jwt", "accessToken": "abc"}})


async def test_the_hook_allows_the_strategies_it_names() -> None:
    async with calling(whoami(authenticate("local"))) as client:
        response = await client.get("/whoami", headers={"Authorization": forged()})
    assert said(response, "Invalid authentication information (strategy not allowed in authStrategies)")


@pytest.mark.parametrize("kind", ["after", "error"])
def test_the_hook_is_refused_behind_the_method(kind: str) -> None:
    with pytest.raises(TypeError, match=f"Hook authenticate in {kind} .* register it under 'before' or 'around'"):
        whoami(authenticate("jwt"), kind=kind)


def test_the_hook_needs_a_strategy() -> None:
    with pytest.raises(ValueError, match="at least one allowed strategy"):
        authenticate()


async def test_without_an_authentication_service_each_call_is_refused() -> None:
    app = Apex().configure(rest).use("whoami", Whoami(), hooks={"before": {"find": [authenticate("jwt")]}})
    async with calling(app) as client:
        assert said(await client.get("/whoami"), "Could not find a valid authentication service")


# Settings.


@pytest.mark.parametrize("settings", [None, {}, {"secret": ""}])
def test_a_service_without_a_secret_is_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match="A 'secret' must be provided in your authentication configuration"):
        AuthenticationService(Apex({"authentication": settings}))


async def test_the_service_of_the_entity_must_be_there() -> None:
    app = Apex({"authentication": SETTINGS})
    app.use("authentication", AuthenticationService(app))
    with pytest.raises(LookupError, match="Can not find service 'users'"):
        await app.setup()


async def test_without_an_entity_the_token_is_all_there_is() -> None:
    app = Apex({"authentication": {**SETTINGS, "entity": None}}).configure(rest)
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    app.use("authentication", service).use("whoami", Whoami(), hooks={"before": {"find": [authenticate("jwt")]}})
    async with calling(app) as client:
        body = (await client.get("/whoami", headers={"Authorization": forged(sub="7")})).json()
    assert (body["user"], body["authentication"]["payload"]["sub"]) == (None, "7")


async def test_other_names_for_user_and_fields_may_be_set() -> None:
    local = {"usernameField": "login", "passwordField": "pin", "caseInsensitive": True}
    app = Apex({"authentication": {**SETTINGS, "entity": "account", "service": "accounts", "local": local}})
    service = AuthenticationService(app.configure(rest))
    service.register("local", LocalStrategy(service))
    hashed = bcrypt.hashpw(b"1234", bcrypt.gensalt(4)).decode()
    app.use("accounts", MemoryService(store={"x": {"id": "x", "login": "me", "pin": hashed}}))
    async with calling(app.use("authentication", service)) as client:
        login = {"strategy": "local", "login": "Me", "pin": "1234"}
        body = (await client.post("/authentication", json=login)).json()
    assert (body["account"], body["authentication"]["payload"]["sub"]) == ({"id": "x", "login": "me"}, "x")
