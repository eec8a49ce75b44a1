"""Tests of clients of a server with a log: they get what they have missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine

from apex import Apex, Connection, Context, MemoryService, SQLService, database, rest, sockets
from apex.client import Client, socketio
from apex.client import rest as rest_client
from apex.common import stash_before
from apex.errors import Forbidden, Timeout
from apex.log import log, log_table
from apex.permissions import authorize, can, mine
from tests.client.sites import LOGIN, guarded_app, happening
from tests.client.test_watch import Finds, shows
from tests.support.databases import free_port
from tests.support.serving import calling, listening
from tests.support.waiting import until

BY_NAME = {"$sort": {"name": 1}, "$limit": 2}


def logged_app(file: Path, finds: Finds | None = None, **settings: Any) -> Apex:
    """Return an app with a log and people, whose connections receive all events."""
    metadata = MetaData()
    people = Table("people", metadata, Column("id", Integer, primary_key=True), Column("name", String(9)))
    app = Apex({"log": settings}).configure(rest).configure(sockets).configure(database(f"sqlite:///{file}"))
    app.configure(log(log_table(metadata))).set("tables", metadata)
    service = SQLService(people, paginate={"default": 10, "max": 10}, multi=True)
    app.use("people", service, hooks={"before": {"find": [finds or Finds()]}})
    app.use("towns", MemoryService())
    app.on("connection", app.channel("all").join)
    return app.publish(lambda data, context: app.channel("all"))


@asynccontextmanager
async def serving_people(app: Apex, port: int = 0) -> AsyncIterator[str]:
    async with listening(app, port) as url:
        await app.get("database").create_all(app.get("tables"))
        yield url


async def test_a_client_gets_the_events_of_the_time_without_a_connection(tmp_path: Path) -> None:
    app, heard = logged_app(tmp_path / "test.db"), list[Any]()
    async with serving_people(app) as url, Client(socketio(url, delay=0.01)) as client:
        people = client.service("people")
        for event in ("created", "patched"):
            people.on(event, lambda *args: heard.append(args))
        ann = await people.create({"name": "Ann"})
        lost, again = happening(client, "disconnect"), happening(client, "connect")
        app.emit("shutdown")
        await lost
        for name in ("Bea", "Cat"):
            await app.service("people").patch(ann["id"], {"name": name})
        assert await again
        await people.patch(ann["id"], {"name": "Dan"})
        assert heard == [({"id": 1, "name": name},) for name in ("Ann", "Bea", "Cat", "Dan")]


async def test_a_client_follows_from_the_position_of_a_page(tmp_path: Path) -> None:
    app, heard = logged_app(tmp_path / "test.db"), list[str]()
    async with serving_people(app) as url:
        async with Client(rest_client(url)) as reader:
            page = await reader.service("people").find({"query": {"$position": True}})
        for name in ("Ann", "Bea"):
            await app.service("people").create({"name": name})
        client = Client(socketio(url, position=page["position"]))
        client.service("people").on("created", lambda person: heard.append(person["name"]))
        connected = happening(client, "connect")
        async with client:
            assert await connected
            await until(lambda: heard == ["Ann", "Bea"])


async def test_a_client_that_cannot_follow_from_a_position_is_told_to_read_again(tmp_path: Path) -> None:
    async with serving_people(logged_app(tmp_path / "test.db")) as url:
        client = Client(socketio(url, position="0.zz.1", delay=0.01))
        connected = happening(client, "connect")
        async with client:
            assert (await connected, client.recovered) == (False, False)
        async with Client(socketio(url, position="nonsense", timeout=0.1)) as client:
            with pytest.raises(Timeout, match=r"auth\.position must be the position that a find has answered with"):
                await client.service("people").find()


async def test_a_page_goes_on_after_a_recovered_cut_without_a_read(tmp_path: Path) -> None:
    finds = Finds()
    app = logged_app(tmp_path / "test.db", finds)
    async with serving_people(app) as url, Client(socketio(url, delay=0.01)) as client:
        await client.service("people").create({"name": "Cy"})
        async with client.service("people").watch(BY_NAME) as live:
            again = happening(client, "connect")
            app.emit("shutdown")
            assert await again
            await client.service("people").get(1)
            assert finds.count == 1
            lost = happening(client, "disconnect")
            app.emit("shutdown")
            await lost
            await app.service("people").create({"name": "Ann"})
            await shows(live, "Ann", "Cy")
            assert finds.count == 2


async def test_a_page_goes_on_after_the_login_of_a_recovered_connection(tmp_path: Path) -> None:
    finds, metadata, url = Finds(), MetaData(), f"sqlite:///{tmp_path / 'test.db'}"
    app = guarded_app().configure(database(url)).configure(log(log_table(metadata)))
    metadata.create_all(create_engine(url))
    app.service("notes").hooks({"before": {"find": [finds]}})
    async with listening(app) as url, Client(socketio(url, delay=0.01)) as client:
        await client.authenticate(**LOGIN)
        async with client.service("notes").watch():
            again = happening(client, "connect")
            app.emit("shutdown")
            assert await again
            await client.service("heard").find()
            assert finds.count == 1


async def test_a_page_goes_on_after_a_restart(tmp_path: Path) -> None:
    finds, port = Finds(), free_port()
    async with Client(socketio(f"http://127.0.0.1:{port}", delay=0.01)) as client:
        watch = client.service("people").watch(BY_NAME)
        async with serving_people(logged_app(tmp_path / "test.db", finds), port):
            await client.service("towns").find()
            live = await watch.__aenter__()
            lost = happening(client, "disconnect")
        await lost
        again = happening(client, "connect")
        app = logged_app(tmp_path / "test.db", finds)
        async with serving_people(app, port):
            assert await again
            await client.service("towns").find()
            assert finds.count == 1
            await app.service("people").create({"name": "Ann"})
            await shows(live, "Ann")
            await watch.__aexit__(None, None, None)


async def test_a_page_is_read_again_if_too_much_was_missed(tmp_path: Path) -> None:
    port, heard = free_port(), list[bool]()
    async with Client(socketio(f"http://127.0.0.1:{port}", delay=0.01)) as client, AsyncExitStack() as stack:
        async with serving_people(logged_app(tmp_path / "test.db", replay=5), port):
            live = await stack.enter_async_context(client.service("people").watch(BY_NAME))
            lost = happening(client, "disconnect")
        await lost
        client.on("connect", heard.append)
        writer = logged_app(tmp_path / "test.db")
        async with calling(writer):
            await writer.service("people").create([{"name": f"A{number}"} for number in range(10)])
        async with serving_people(logged_app(tmp_path / "test.db", replay=5), port):
            await shows(live, "A0", "A1")
            assert heard == [True, False]


class Notes(SQLService):
    permissions = {"user": can("find", "get", where=mine("user_id"))}


def owned_app(file: Path) -> Apex:
    """Return an app with a log and notes, whose connections name their user and hear of the notes of this user."""
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("user_id", Integer))
    app = Apex().configure(rest).configure(sockets).configure(database(f"sqlite:///{file}"))
    app.configure(log(log_table(metadata))).set("tables", metadata)
    app.use("notes", Notes(notes), hooks={"before": {"all": [authorize, stash_before()]}})

    def name(connection: Connection) -> None:
        connection.user = {"id": int(connection.handshake["query"]["user"])}
        app.channel("all").join(connection)

    app.on("connection", name)
    return app.publish(lambda data, context: app.channel("all"))


async def test_a_record_that_moves_to_another_team_is_removed_for_clients_of_the_former_one(tmp_path: Path) -> None:
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("team", Integer))
    app = Apex().configure(rest).configure(sockets).configure(database(f"sqlite:///{tmp_path}/test.db"))
    teams = log(log_table(metadata, Column("team", Integer), tenant="team"), tenants=lambda one: one["teams"])
    app.configure(teams).set("tables", metadata)
    app.use("notes", SQLService(notes), hooks={"before": {"patch": [stash_before()]}})

    def join(connection: Connection) -> None:
        connection["teams"] = [int(team) for team in connection.handshake["query"]["teams"].split("-")]
        for team in connection["teams"]:
            app.channel(str(team)).join(connection)

    app.on("connection", join)
    app.publish(lambda data, context: app.channel(str(data["team"])))
    heard = {"7": list[Any](), "8": list[Any](), "7-8": list[Any]()}

    def has_heard(count: int) -> bool:
        return all(len(events) >= count for events in heard.values())

    async with serving_people(app) as url, AsyncExitStack() as stack:
        for names, events in heard.items():
            client = await stack.enter_async_context(Client(socketio(f"{url}?teams={names}", delay=0.5)))
            for event in ("patched", "removed"):
                client.service("notes").on(event, lambda note, to=events, name=event: to.append((name, note)))
            await client.service("notes").find()
        for id in (1, 2):
            await app.service("notes").create({"team": 7})
            if id == 2:
                app.emit("shutdown")
                await until(lambda: not app.events.connections)
            await app.service("notes").patch(id, {"team": 8})
            await until(partial(has_heard, id))
    moved = [("patched", {"id": id, "team": 8}) for id in (1, 2)]
    assert heard == {"7": [("removed", {"id": 1}), ("removed", {"id": 2})], "8": moved, "7-8": moved}


async def test_a_record_that_a_user_may_no_longer_read_is_removed_for_it(tmp_path: Path) -> None:
    app, heard = owned_app(tmp_path / "test.db"), {1: list[Any](), 2: list[Any](), 3: list[Any]()}
    async with serving_people(app) as url, AsyncExitStack() as stack:
        for user, events in heard.items():
            client = await stack.enter_async_context(Client(socketio(f"{url}?user={user}", delay=0.01)))
            for event in ("created", "patched", "removed"):
                client.service("notes").on(event, lambda note, to=events, name=event: to.append((name, note)))
            await client.service("notes").find()
        note = await app.service("notes").create({"user_id": 1})
        await app.service("notes").patch(1, {"user_id": 2})
        await until(lambda: len(heard[1]) == 2)
        lost = [happening(client, "disconnect"), happening(client, "connect")]
        app.emit("shutdown")
        await lost[0]
        await app.service("notes").patch(1, {"user_id": 3})
        await until(lambda: len(heard[2]) == 2 and heard[3])
        assert heard[1] == [("created", note), ("removed", {"id": 1})]
        assert heard[2] == [("patched", {**note, "user_id": 2}), ("removed", {"id": 1})]
        assert heard[3] == [("patched", {**note, "user_id": 3})]


def shared_app(file: Path) -> Apex:
    """Return an app whose notes are for users with a grant."""
    metadata = MetaData()
    grants = Table("grants", metadata, Column("id", Integer, primary_key=True), Column("user_id", Integer))
    app = Apex().configure(rest).configure(sockets).configure(database(f"sqlite:///{file}"))
    changes = {"grants": lambda grant, connection: grant["user_id"] == connection.user["id"]}
    app.configure(log(log_table(metadata), rights=changes)).set("tables", metadata)

    async def require_grant(context: Context) -> None:
        if not await app.service("grants").find({"query": {"user_id": context.params.user["id"]}}):
            raise Forbidden("No grant")

    def name(connection: Connection) -> None:
        connection.user = {"id": int(connection.handshake["query"]["user"])}

    app.use("grants", SQLService(grants, multi=True)).use(
        "notes", MemoryService(), hooks={"before": {"find": [require_grant]}}
    )
    app.on("connection", name)
    return app


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_page_ends_with_the_rights_of_its_user(tmp_path: Path, is_away: bool) -> None:
    app = shared_app(tmp_path / "test.db")
    async with serving_people(app) as url, AsyncExitStack() as stack:
        await app.service("grants").create([{"user_id": id} for id in (1, 2)])
        clients = [await stack.enter_async_context(Client(socketio(f"{url}?user={id}", delay=0.01))) for id in (1, 2)]
        pages = [await stack.enter_async_context(client.service("notes").watch()) for client in clients]
        lost = happening(clients[0], "disconnect")
        if is_away:
            app.emit("shutdown")
            await lost
        await app.service("grants").remove(1)
        with pytest.raises(Forbidden, match="No grant"):
            async for _ in pages[0]:
                pass
        await app.service("grants").find()
        assert pages[1].page == []
