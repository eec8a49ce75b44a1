"""A property: whatever is written and breaks, each live page becomes what ``find`` gives its user."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table

from apex import Apex, Connection, SQLService, database, rest, sockets
from apex.client import Client, Live, socketio
from apex.common import stash_before
from apex.errors import NotFound, Unavailable
from apex.log import log, log_table
from apex.permissions import authorize, can, mine
from apex.relations import belongs_to
from tests.interop.node import FOLDER, NODE, needs_node
from tests.support.databases import free_port, new_database
from tests.support.serving import calling, listening
from tests.support.waiting import until

pytestmark = needs_node

metadata = MetaData()
groups = Table("groups", metadata, Column("id", Integer, primary_key=True), Column("name", String(9)))
notes = Table(
    "notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(9)), Column("rank", Integer),
    Column("group_id", ForeignKey("groups.id")), Column("user_id", Integer),
)  # fmt: skip

EXAMPLES = int(os.environ.get("LIVE_EXAMPLES", "4"))
"""The number of examples. Each starts a server and Node, and one that fails has waited for its deadline."""

entries = log_table(metadata)

USERS = (1, 2)
QUERIES: list[tuple[dict[str, Any], list[str]]] = [
    ({"$sort": {"rank": 1, "id": 1}, "$limit": 3}, []),
    ({"$sort": {"text": -1, "id": 1}, "$limit": 2, "$skip": 1, "$select": ["text"]}, []),
    ({"$or": [{"rank": {"$gt": 2}}, {"text": {"$in": ["a", "b"]}}], "$sort": {"id": -1}}, []),
    ({"$populate": "group", "$sort": {"id": 1}}, ["groups"]),
    ({"group.name": "a", "$sort": {"group.name": 1, "id": 1}, "$limit": 4}, ["groups"]),
]
WATCHES: list[tuple[int, str, Any, list[str]]] = [
    (user, "notes", query, services) for user in USERS for query, services in QUERIES
]


class Notes(SQLService):
    table, paginate, multi = notes, {"default": 5, "max": 10}, True
    relations = {"group": belongs_to("groups")}
    permissions = {"user": can("find", "get", where=mine("user_id"))}


def site(url: str) -> Apex:
    """Return an app whose connections name their user in the handshake, and hear of what this user may read."""

    def name(connection: Connection) -> None:
        connection.user = {"id": int(connection.handshake["query"]["user"])}
        app.channel("all").join(connection)

    app = Apex().configure(rest).configure(sockets).configure(database(url))
    app.configure(log(entries))
    app.use("groups", SQLService(groups)).use("notes", Notes(), hooks={"before": {"all": [authorize, stash_before()]}})
    app.on("connection", name)
    return app.publish(lambda data, context: app.channel("all"))


fields = {
    "text": st.sampled_from("abc"), "rank": st.integers(1, 4), "group_id": st.sampled_from([1, 2, None]),
    "user_id": st.sampled_from(USERS),
}  # fmt: skip
places = st.integers(0, 5)
writes = st.one_of(
    st.tuples(st.just("create"), st.fixed_dictionaries(fields)),
    st.tuples(st.just("patch"), places, st.fixed_dictionaries({}, optional=fields)),
    st.tuples(st.just("remove"), places),
    st.tuples(st.just("rename"), st.sampled_from([1, 2]), st.sampled_from("ab")),
)
disturbances = st.sampled_from(["", "", "cut the Python client", "cut the JavaScript client", "cut all", "restart"])
steps = st.lists(st.tuples(disturbances, st.lists(writes, max_size=6), st.booleans()), min_size=1, max_size=6)


class World:
    """A server with Python and JavaScript clients that watch it. ``pages`` has the newest of JavaScript."""

    def __init__(self, database_url: str, stack: AsyncExitStack) -> None:
        self.database_url, self.stack, self.port = database_url, stack, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lives: list[Live] = []
        self.pages: dict[int, Any] = {}
        self.server = AsyncExitStack()

    async def start(self) -> None:
        self.app = site(self.database_url)
        await self.server.enter_async_context(listening(self.app, self.port))
        await self.app.get("database").create_all(metadata)

    async def watch(self) -> None:
        self.clients = {user: Client(socketio(f"{self.url}?user={user}", delay=0.01)) for user in USERS}
        for client in self.clients.values():
            await self.stack.enter_async_context(client)
        for user, path, query, services in WATCHES:
            watch = self.clients[user].service(path).watch(query, services=services)
            self.lives.append(await self.stack.enter_async_context(watch))
        variables = {**os.environ, "URL": self.url, "WATCHES": json.dumps(WATCHES)}
        assert NODE is not None
        pipe = asyncio.subprocess.PIPE
        self.node = await asyncio.create_subprocess_exec(
            NODE, str(FOLDER / "watchers.mjs"), env=variables, stdin=pipe, stdout=pipe
        )
        self.stack.push_async_callback(self.node.wait)
        self.stack.callback(self.node.kill)
        self.reading = asyncio.create_task(self._read())
        await until(lambda: len(self.pages) == len(WATCHES))

    async def _read(self) -> None:
        assert self.node.stdout is not None
        async for line in self.node.stdout:
            index, page = json.loads(line)
            self.pages[index] = page

    async def disturb(self, kind: str) -> None:
        if kind == "cut all":
            self.app.emit("shutdown")
        elif kind == "cut the JavaScript client":
            assert self.node.stdin is not None
            self.node.stdin.write(b"cut\n")
        elif kind:
            for client in self.clients.values():
                connection: Any = await client.transport._connection  # type: ignore[attr-defined]
                await connection._http.websocket.close()

    async def restart(self, written: list[Any]) -> None:
        """Restart the server. Meanwhile another process writes."""
        await self.server.aclose()
        other = site(self.database_url)
        async with calling(other):
            await asyncio.gather(*(write(other, *each) for each in written))
        await self.start()

    async def truth(self, user: int, path: str, query: Any) -> Any:
        """Return what ``find`` gives a user. The connection may break once more."""
        while True:
            with suppress(Unavailable):
                return await self.clients[user].service(path).find({"query": query})

    async def compare(self) -> None:
        """Wait until all pages are what ``find`` gives their users."""
        expected = [await self.truth(user, path, query) for user, path, query, _ in WATCHES]
        with suppress(TimeoutError):
            await until(lambda: self.shown() == [(page, page) for page in expected])
        assert self.shown() == [(page, page) for page in expected]

    def shown(self) -> list[tuple[Any, Any]]:
        """Return the pages in Python and in JavaScript."""
        return [(live.page, self.pages[index]) for index, live in enumerate(self.lives)]


async def write(app: Apex, kind: str, *arguments: Any) -> None:
    """Write as one of several writers. A place is that of a record in the order of their ids."""
    service = app.service("notes")
    if kind == "create":
        await service.create(*arguments)
    elif kind == "rename":
        await app.service("groups").patch(arguments[0], {"name": arguments[1]})
    else:
        found = await service.find({"query": {"$sort": {"id": 1}, "$skip": arguments[0], "$limit": 1}})
        with suppress(NotFound):  # Another writer has removed it.
            for record in found["data"]:
                await (service.patch(record["id"], arguments[1]) if kind == "patch" else service.remove(record["id"]))


async def follow(database_url: str, taken: list[Any]) -> None:
    async with AsyncExitStack() as stack:
        world = World(database_url, stack)
        stack.push_async_callback(lambda: world.server.aclose())
        await world.start()
        service = world.app.service("groups")
        for name in "ab":
            await service.create({"name": name})
        await world.watch()
        for disturbance, written, is_quiet in taken:
            if disturbance == "restart":
                await world.restart(written)
            else:
                await asyncio.gather(world.disturb(disturbance), *(write(world.app, *each) for each in written))
            if is_quiet:
                await world.compare()
        await world.compare()


@contextmanager
def new_url(kind: str, server: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'test.db'}"
        return
    with new_database(server) as url:
        yield url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_each_page_becomes_what_find_gives_its_user(kind: str, postgres_server: str, tmp_path_factory: Any) -> None:
    @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(steps)
    def check(taken: list[Any]) -> None:
        with new_url(kind, postgres_server, tmp_path_factory.mktemp("live")) as url:
            asyncio.run(follow(url, taken))

    check()
