"""Logins end in every process, whichever process ends them, and also if it dies right after its commit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import pytest

from apex import Apex, Connection
from apex.errors import NotAuthenticated
from tests.auth.several import KEY, WAYS, create_app, create_tables, fill, proof_of
from tests.support.waiting import SECONDS, until


@pytest.fixture(autouse=True)
def no_regular_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again only what a message or an entry of the log tells to, and not after a while."""
    monkeypatch.setattr(import_module("apex.realtime.bus"), "SYNC_SECONDS", 3_600)


OF_KEYS = ("remove_key", "pause_key")


@asynccontextmanager
async def processes(url: str) -> AsyncIterator[tuple[Apex, Apex]]:
    await create_tables(url)
    here, there = create_app(url), create_app(url)
    async with here.lifespan(), there.lifespan():
        await fill(here)
        await until(lambda: here.bus.is_current and there.bus.is_current)
        yield here, there


async def is_let_in(app: Apex, token: str) -> bool:
    try:
        await app.service("secrets").find({"provider": "rest", "authentication": proof_of(token)})
    except NotAuthenticated:
        return False
    return True


async def connected(app: Apex, token: str) -> Connection:
    connection = Connection(provider="socketio")
    await app.service("authentication").create(proof_of(token), {"provider": "socketio", "connection": connection})
    return connection


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_login_ends_in_every_process(empty_url: str, way: str, dies: bool) -> None:
    async with processes(empty_url) as (here, there):
        issue = there.get("defaultAuthentication").tokens.create
        token, other = KEY if way in OF_KEYS else issue(1)[0], issue(2)[0]
        gone: list[Connection] = []
        there.on("disconnect", gone.append)
        theirs, _ = await connected(there, token), await connected(there, other)
        assert [await is_let_in(app, token) for app in (here, there)] == [True, True]
        if dies:
            command = [sys.executable, "-m", "tests.auth.several", empty_url, way, token]
            process = await asyncio.create_subprocess_exec(*command)
            assert await process.wait() == 7
        else:
            await WAYS[way](here, token)
        async with asyncio.timeout(SECONDS):
            while await is_let_in(there, token) or await is_let_in(here, token):
                await asyncio.sleep(0.002)
        await until(lambda: gone == [theirs])
        assert await is_let_in(there, other)


async def test_a_removed_user_takes_its_keys_along(sqlite_url: str) -> None:
    async with processes(sqlite_url) as (here, there):
        gone: list[Connection] = []
        connection = await connected(there, KEY)
        there.on("disconnect", gone.append)
        await here.service("users").remove(1)
        await until(lambda: gone == [connection])


async def test_a_user_that_changes_elsewhere_is_read_again(empty_url: str) -> None:
    async with processes(empty_url) as (here, there):
        connection = await connected(there, there.get("defaultAuthentication").tokens.create(1)[0])
        await here.service("users").patch(1, {"name": "Anna"})
        await until(lambda: connection.user["name"] == "Anna")
