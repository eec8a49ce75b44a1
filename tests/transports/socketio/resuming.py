"""An app with a log whose connections return, and clients that keep their pid and offset as those of Socket.IO do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from httpx2 import AsyncClient
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, AuthenticationService, JWTStrategy, MemoryService, SQLService, database, rest, sockets
from apex.log import log, log_table
from apex.types import Row
from tests.auth.test_service import SETTINGS
from tests.support.serving import serving
from tests.support.sockets import Peer, opened


def app_of(
    url: str, *columns: Column[Any], tenant: str | None = None, settings: Row | None = None, **options: Any
) -> Apex:
    """Return the app. All connections are in the channel "all", which gets all events."""
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(200)))
    entries = log_table(metadata, *columns, tenant=tenant)
    app = Apex({"authentication": SETTINGS, **(settings or {})}).configure(database(url)).configure(rest)
    app.configure(sockets).configure(log(entries, **options)).set("tables", metadata)
    app.use("notes", SQLService(notes, multi=True, paginate={"default": 10, "max": 10}))
    app.on("connection", lambda connection: app.channel("all").join(connection))
    return app.publish(lambda data, context: app.channel("all"))


def with_users(app: Apex) -> Apex:
    """Add users and logins. A logged in user is in the channel ``user-<id>``."""
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    app.use("users", MemoryService()).use("authentication", service)
    app.service("users").publish(lambda data: None)
    app.on("login", lambda result, params: app.channel(f"user-{params.user['id']}").join(params.connection))
    return app


@asynccontextmanager
async def served(app: Apex) -> AsyncIterator[AsyncClient]:
    async with serving(app) as http:
        await app.get("database").create_all(app.get("tables"))
        if "users" in app.services:
            for name in ("ann", "bob"):
                await app.service("users").create({"name": name})
        yield http


def login(app: Apex, user: int) -> list[Any]:
    """Return the call with which a client logs in."""
    token = app.get("defaultAuthentication").tokens.create(user)[0]
    return ["create", "authentication", {"strategy": "jwt", "accessToken": token}]


class Client:
    """A client that returns: ``pid`` and ``offset`` are the last ones that a server has sent."""

    def __init__(self) -> None:
        self.pid: str | None = None
        self.offset: str | None = None
        self.recovered = False
        self.events: list[Any] = []

    @asynccontextmanager
    async def connected(self, http: AsyncClient, **auth: Any) -> AsyncIterator[Peer]:
        """Connect with pid and offset, and yield the connection. ``recovered`` is True if the pid is the same."""
        own = {} if self.pid is None else {"pid": self.pid, "offset": self.offset}
        async with opened(http) as peer:
            await peer.frame()
            await peer.send(f"40{json.dumps({**own, **auth})}")
            answer = json.loads((await peer.frame()).removeprefix("40"))
            self.recovered = self.pid is not None and answer["pid"] == self.pid
            self.pid = answer["pid"]
            yield peer

    async def event(self, peer: Peer) -> Any:
        """Return the next event that is not only an offset, without its offset."""
        while (event := self.taken(await peer.event())) is None:
            pass
        return event

    async def settled(self, peer: Peer) -> list[Any]:
        """Return the events up to one that is only an offset, with which a replay ends."""
        events = []
        while (event := self.taken(await peer.event())) is not None:
            events.append(event)
        return events

    def taken(self, event: list[Any]) -> Any:
        """Keep the offset of an event. Return its name and data, or None if there are none."""
        if isinstance(event[-1], str):
            self.offset = event[-1]
        return None if event[0] == "offset" else event[:2]
