"""Tests of logins, logouts and the stored token."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apex.client import Client, MemoryStorage
from apex.errors import BY_CODE, FeathersError, GeneralError, NotAuthenticated
from tests.client.sites import LOGIN, TRANSPORTS, Refuses, guarded_app, plain_app, talking
from tests.support.serving import listening
from tests.transports.test_rest import Gives


@pytest.fixture(params=TRANSPORTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with talking(guarded_app(), request.param) as client:
        yield client


async def test_a_login_gives_access(client: Client) -> None:
    with pytest.raises(NotAuthenticated, match="Not authenticated"):
        await client.service("users").find()
    login = await client.authenticate(**LOGIN)
    assert await client.service("users").find() == [login["user"]] == [{"id": 0, "email": "a@b.c"}]
    assert client.authentication == login
    assert client.session.storage.get() == login["accessToken"]


async def test_a_logout_ends_access(client: Client) -> None:
    login = await client.authenticate(**LOGIN)
    assert (await client.logout())["accessToken"] == login["accessToken"]
    assert (client.authentication, client.session.storage.get()) == (None, None)
    with pytest.raises(NotAuthenticated, match="Not authenticated"):
        await client.service("users").find()
    with pytest.raises(NotAuthenticated, match="Token revoked"):
        await client.authenticate(strategy="jwt", accessToken=login["accessToken"])


async def test_listeners_hear_of_logins_and_logouts(client: Client) -> None:
    heard: list[Any] = []
    client.on("login", lambda login: heard.append(login["user"]["id"]))
    client.on("logout", lambda: heard.append("logout"))
    await client.authenticate(**LOGIN)
    await client.logout()
    assert heard == [0, "logout"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stored_token_logs_in_again(transport: str) -> None:
    storage = MemoryStorage()
    async with listening(guarded_app()) as url:
        async with Client(TRANSPORTS[transport](url), storage=storage) as client:
            login = await client.authenticate(**LOGIN)
        async with Client(TRANSPORTS[transport](url), storage=storage) as client:
            assert client.authentication is None
            again = await client.authenticate()
            assert again["user"] == login["user"]
            assert (await client.reauthenticate())["accessToken"] == login["accessToken"]


async def test_without_a_stored_token_there_is_no_login(client: Client) -> None:
    with pytest.raises(NotAuthenticated, match="No accessToken found in storage"):
        await client.authenticate()


async def test_a_wrong_password_ends_the_login_before(client: Client) -> None:
    await client.authenticate(**LOGIN)
    with pytest.raises(NotAuthenticated, match="Invalid login"):
        await client.authenticate(**LOGIN | {"password": "wrong"})
    assert (client.authentication, client.session.storage.get()) == (None, None)


@pytest.mark.parametrize("code", [*BY_CODE, 407])
async def test_codes_that_reject_the_token_delete_it(code: int) -> None:
    error = BY_CODE.get(code, FeathersError)("No")
    vars(error)["code"] = code
    app = plain_app().use("authentication", Refuses(error))
    async with talking(app, "rest") as client:
        for call in (client.reauthenticate, client.logout):
            client.session.storage.set("token")
            with pytest.raises(type(error)):
                await call()
            assert client.session.storage.get() == (None if 401 <= code <= 407 else "token")


@pytest.mark.parametrize("answer", [{"accessToken": None}, {"user": {}}, []])
async def test_a_login_without_a_token_is_none(answer: Any) -> None:
    async with talking(plain_app().use("authentication", Gives(answer)), "rest") as client:
        with pytest.raises(GeneralError, match="without an accessToken"):
            await client.authenticate(**LOGIN)
        assert (client.authentication, client.session.storage.get()) == (None, None)


async def test_the_token_is_sent_with_all_calls_but_the_login() -> None:
    app = plain_app().use("login", Gives({"accessToken": "abc"}), methods=["create"])
    async with listening(app) as url, Client(TRANSPORTS["rest"](url), path="/login/") as client:
        await client.authenticate(**LOGIN)
        heard = client.service("heard")
        assert (await heard.create({}))["headers"]["authorization"] == "Bearer abc"
        own = await heard.find({"headers": {"authorization": "Bearer own"}})
        assert own["headers"]["authorization"] == "Bearer own"
        client.session.segments = ("heard",)
        assert "authorization" not in (await heard.create({}))["headers"]
        assert (await heard.remove(None))["headers"]["authorization"] == "Bearer abc"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens_and_passwords_are_not_logged(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with talking(guarded_app(), transport) as client:
        token = (await client.authenticate(**LOGIN))["accessToken"]
        await client.service("users").find()
        with pytest.raises(FeathersError):
            await client.authenticate(**LOGIN | {"password": "secret-word"})
    assert not any(word in caplog.text for word in (token, "secret-word"))
