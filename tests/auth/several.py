"""An app with users, tokens and API keys, for tests with several of its processes on one database.

``python -m tests.auth.several URL WAY`` ends logins of user 1 in one of the ``WAYS``, and dies right after the commit.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table

from apex import Apex, AuthenticationService, JWTStrategy, SQLService, authenticate, bus, database
from apex.auth import APIKeyStrategy, Holder, hash_key, revoked_tokens_table
from apex.log import log, log_table
from apex.transaction import after_commit

KEY = f"apex_000000000001_{'k' * 43}"
SECRET = "a secret of at least thirty-two bytes"
SETTINGS = {"secret": SECRET, "authStrategies": ["jwt", "api-key"]}


def create_app(url: str, **settings: Any) -> Apex:
    """Return the app, as each process has it."""
    metadata = MetaData()
    app = Apex({"authentication": SETTINGS, "database_url": url, "metadata": metadata, **settings})
    app.configure(database(url)).configure(bus).configure(log(log_table(metadata)))
    id, password = Column("id", Integer, primary_key=True), Column("password", String(200))
    users = Table("users", metadata, id, Column("name", String(50)), password)
    prefix, text = Column("prefix", String(20)), Column("hash", String(64))
    owner, paused = Column("user_id", Integer), Column("paused", Boolean, nullable=False, default=False)
    keys = Table("keys", metadata, Column("id", Integer, primary_key=True), owner, prefix, text, paused)
    app.use("users", SQLService(users, private=["password"]))
    app.use("keys", SQLService(keys, private=["hash"]))
    authentication = AuthenticationService(app, revocations=revoked_tokens_table(metadata))
    authentication.register("jwt", JWTStrategy(authentication))

    async def find(prefix: str) -> Holder | None:
        query = {"prefix": prefix, "paused": False}
        found = await app.service("keys").find({"query": query, "adapter": {"private": ()}})
        return {**found[0], "key_id": found[0]["id"], "payload": {"sub": str(found[0]["user_id"])}} if found else None

    strategy = APIKeyStrategy(find, authentication.user_of)
    authentication.register("api-key", strategy)
    strategy.follow(app, "keys", lambda key, holder: bool(key["id"] == holder["key_id"]))
    strategy.follow(app, "users", lambda user, holder: bool(user["id"] == holder["user_id"]))
    app.use("authentication", authentication)
    return app.use("secrets", Secrets(), hooks={"before": {"all": [authenticate("jwt", "api-key")]}})


class Secrets:
    """A service for callers who have logged in."""

    async def find(self, params: Any) -> list[str]:
        return ["It is a secret"]


async def create_tables(url: str) -> None:
    """Create the tables of the app."""
    app = Apex().configure(database(url))
    async with app.lifespan():
        await app.get("database").create_all(create_app(url).get("metadata"))


async def fill(app: Apex) -> None:
    """Create the users 1 and 2, and the API key of user 1."""
    for name in ("Ann", "Ben"):
        await app.service("users").create({"name": name, "password": "x"})
    key: dict[str, Any] = {"user_id": 1, "prefix": "apex_000000000001", "hash": hash_key(KEY)}
    await app.service("keys").create(key)


async def log_out(app: Apex, token: str) -> None:
    await app.service("authentication").remove(None, {"authentication": proof_of(token)})


async def change_password(app: Apex, token: str) -> None:
    await app.service("users").patch(1, {"password": "another"})


async def remove_user(app: Apex, token: str) -> None:
    await app.service("users").remove(1)


async def end_tokens(app: Apex, token: str) -> None:
    await app.get("defaultAuthentication").end_tokens(1)


async def remove_key(app: Apex, token: str) -> None:
    await app.service("keys").remove(1)


async def pause_key(app: Apex, token: str) -> None:
    await app.service("keys").patch(1, {"paused": True})


WAYS: Mapping[str, Callable[[Apex, str], Awaitable[None]]] = {
    one.__name__: one for one in (log_out, change_password, remove_user, end_tokens, remove_key, pause_key)
}


def proof_of(token: str) -> dict[str, str]:
    """Return the proof with a token or an API key."""
    is_key = token.startswith("apex_")
    return {"strategy": "api-key", "key": token} if is_key else {"strategy": "jwt", "accessToken": token}


async def end_and_die(url: str, way: str, token: str) -> None:
    app = create_app(url)
    async with app.lifespan(), app.get("database").transaction():
        after_commit(lambda: os._exit(7))
        await WAYS[way](app, token)


if __name__ == "__main__":
    asyncio.run(end_and_die(*sys.argv[1:]))
