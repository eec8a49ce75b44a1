"""The reset of a password: with a token that is sent, expires, works once, and tells nobody who has an account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import (
    Apex,
    AuthenticationService,
    Context,
    JWTStrategy,
    LocalStrategy,
    MemoryService,
    SQLService,
    authenticate,
    database,
    rest,
)
from apex.auth import PasswordResets
from apex.common import discard, iff, is_provider
from tests.auth.test_jwt import SECRET
from tests.auth.test_passwords import QUICK
from tests.support.serving import calling
from tests.support.waiting import until

ANN = {"email": "ann@example.com", "password": "correct horse"}
NEW = {**ANN, "password": "battery staple"}
SETTINGS = {
    "secret": SECRET,
    "authStrategies": ["jwt", "local"],
    "argon2": QUICK,
    "local": {"caseInsensitive": "lower"},
}
users = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("email", String, unique=True),
    Column("password", String),
)


class ActiveUsers(AuthenticationService):
    """A service that lets everybody log in except eve."""

    async def entity_query(self, params: Any) -> Mapping[str, Any]:
        return {"email": {"$ne": "eve@example.com"}}


async def hash_password(context: Context) -> None:
    hashed = await context.app.get("defaultAuthentication").passwords.hash(context.data["password"])
    context.data = {**context.data, "password": hashed}


@dataclass
class Site:
    """A running app with a user, who is logged in, and the tokens that were sent."""

    app: Apex
    client: AsyncClient
    sent: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    async def ask(self, email: str = ANN["email"]) -> Response:
        return await self.client.post("/password-resets", json={"email": email})

    async def token(self) -> str:
        count = len(self.sent)
        assert (await self.ask()).status_code == 201
        await until(lambda: len(self.sent) > count)
        return self.sent[-1][1]

    async def finish(self, token: str, password: str = NEW["password"]) -> Response:
        call = {"X-Service-Method": "finish"}
        return await self.client.post("/password-resets", headers=call, json={"token": token, "password": password})

    async def login(self, user: Mapping[str, str]) -> Response:
        return await self.client.post("/authentication", json={"strategy": "local", **user})


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    app, sent = Apex({"authentication": SETTINGS}).configure(rest), []
    if request.param != "memory":
        names = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
        app.configure(database(request.getfixturevalue(names[request.param])))
    service = MemoryService(start_id=1) if request.param == "memory" else SQLService(users, private=("password",))
    hooks: Any = {
        "before": {"get": [authenticate("jwt")], "create": [hash_password], "patch": [hash_password]},
        "after": {"all": [iff(is_provider("external"), discard("password"))]},
    }
    app.use("users", service, hooks=hooks)
    authentication = ActiveUsers(app)
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    app.use("authentication", authentication)

    async def send(user: dict[str, Any], token: str) -> None:
        sent.append((user, token))

    app.use("password-resets", PasswordResets(authentication, send))

    async def create_tables(context: Context, next: Callable[[], Any]) -> None:
        await next()
        if (opened := app.get("database")) is not None:
            await opened.create_all(users.metadata)

    app.hooks({"setup": [create_tables]})
    async with calling(app) as client:
        await app.service("users").create(ANN)
        yield Site(app, client, sent)


async def test_a_token_sets_a_new_password_and_ends_earlier_logins(site: Site) -> None:
    old = (await site.login(ANN)).json()["accessToken"]
    done = await site.finish(await site.token())
    assert (done.status_code, list(done.json())) == (200, ["message"])
    assert site.sent[0][0] == {"id": 1, "email": ANN["email"]}
    assert (await site.client.get("/users/1", headers={"Authorization": f"Bearer {old}"})).status_code == 401
    assert [(await site.login(user)).status_code for user in (ANN, NEW)] == [401, 201]


async def test_a_token_works_once_even_if_it_is_used_twice_at_the_same_time(site: Site) -> None:
    token = await site.token()
    passwords = [f"a new password {number}" for number in range(4)]
    codes = [answer.status_code for answer in await asyncio.gather(*(site.finish(token, one) for one in passwords))]
    assert sorted(codes) == [200, 400, 400, 400]
    used = passwords[codes.index(200)]
    assert (await site.login({**ANN, "password": used})).status_code == 201


async def test_the_answer_does_not_tell_who_has_an_account(site: Site) -> None:
    await site.app.service("users").create({**ANN, "email": "eve@example.com"})
    emails = (ANN["email"], "ANN@example.com ", "nobody@example.com", "eve@example.com")
    answers = [await site.ask(email) for email in emails]
    assert len({(answer.status_code, answer.text, *answer.headers.keys()) for answer in answers}) == 1
    await until(lambda: len(site.sent) == 2)
    assert {user["email"] for user, _ in site.sent} == {ANN["email"]}


async def test_a_new_password_or_name_ends_the_tokens_that_were_sent_before(site: Site) -> None:
    tokens = [await site.token(), await site.token()]
    assert (await site.finish(tokens[1])).status_code == 200
    refused = await site.finish(tokens[0])
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["token"])


@pytest.mark.parametrize("wrong", ["", ".", "1", "1.2.3.4", "\0", "é.é.é", "a" * 1_024, "a" * 100_000, None, 1, []])
async def test_a_wrong_token_is_refused_without_a_question_to_the_database(site: Site, wrong: Any) -> None:
    site.app.hooks({"before": {"get": [lambda context: pytest.fail("the database was asked")]}})
    refused = await site.finish(wrong)
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["token"])


async def test_a_changed_or_foreign_token_is_refused(site: Site) -> None:
    token = await site.token()
    id, expires, digest, signature = token.split(".")
    later = str(int(expires) + 1)
    changed = [f"2.{expires}.{digest}.{signature}", f"{id}.{later}.{digest}.{signature}", token[:-1], f"{token}a"]
    login = (await site.login(ANN)).json()["accessToken"]
    assert [(await site.finish(one)).status_code for one in (*changed, login)] == [400] * 5


async def test_a_weak_password_is_refused_and_the_token_still_works(site: Site) -> None:
    token = await site.token()
    refused = await site.finish(token, "12345678")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["password"])
    assert (await site.finish(token)).status_code == 200


async def test_requests_for_one_account_are_limited(site: Site) -> None:
    codes = [(await site.ask("nobody@example.com")).status_code for _ in range(4)]
    assert codes == [201, 201, 201, 429]
    assert (await site.ask()).status_code == 201


async def test_a_token_expires(site: Site) -> None:
    authentication: AuthenticationService = site.app.get("defaultAuthentication")
    late = PasswordResets(authentication, lambda user, token: site.sent.append((user, token)), seconds=-1)
    site.app.use("late-resets", late)
    assert (await site.client.post("/late-resets", json={"email": ANN["email"]})).status_code == 201
    await until(lambda: bool(site.sent))
    assert (await site.finish(site.sent[0][1])).status_code == 400


@pytest.mark.parametrize("data", [{}, {"email": 1}, {"email": ""}, {"email": "a" * 1_025}, {"name": "ann"}, None])
async def test_bad_data_is_a_clear_400(site: Site, data: Any) -> None:
    answer = await site.client.post("/password-resets", json=data)
    assert (answer.status_code, answer.json()["className"]) == (400, "bad-request")
