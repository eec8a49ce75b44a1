"""Tests of ``watch``: a page that events keep as ``find`` returns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apex import Apex, MemoryService, rest, sockets
from apex.client import Client, Live, socketio
from apex.client import rest as over_rest
from apex.client.watch import PAUSE_SECONDS
from apex.errors import BadRequest, Forbidden, NotAuthenticated, Timeout, Unavailable
from tests.client.sites import LOGIN, guarded_app, happening
from tests.support.databases import free_port
from tests.support.serving import listening
from tests.support.waiting import SECONDS, until

NAMES = ("Cy", "Ann", "Bob", "Dee")
BY_NAME = {"$sort": {"name": 1}, "$limit": 2}


class Finds:
    """A hook that counts the reads of a service, and that may hold them or let them fail."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.allowed = asyncio.Event()
        self.allowed.set()

    async def __call__(self, context: Any) -> None:
        self.count += 1
        await self.allowed.wait()
        if self.error is not None:
            raise self.error


def people_app(finds: Finds | None = None) -> Apex:
    """Return an app with four people, whose connections receive all events."""
    app = Apex().configure(rest).configure(sockets)
    people = {id: {"name": name, "id": id} for id, name in enumerate(NAMES)}
    service = MemoryService(store=people, start_id=4, multi=True, paginate={"default": 10, "max": 50})
    app.use("people", service, hooks={"before": {"find": [finds or Finds()]}})
    app.use("towns", MemoryService())
    app.on("connection", app.channel("all").join)
    return app.publish(lambda data, context: app.channel("all"))


@asynccontextmanager
async def watching(app: Apex, query: Any = BY_NAME, **options: Any) -> AsyncIterator[tuple[Client, Live]]:
    """Yield a client of a server that runs the app, and a page that it watches."""
    async with (
        listening(app) as url,
        Client(socketio(url, delay=0.01)) as client,
        client.service("people").watch(query, **options) as live,
    ):
        yield client, live


async def shows(live: Live, *names: str) -> None:
    """Wait until a page has people with these names."""
    await until(lambda: names_of(live.page) == list(names))


def names_of(page: Any) -> list[str]:
    return [person["name"] for person in page["data"]]


async def test_a_page_follows_what_enters_moves_and_leaves() -> None:
    async with watching(people_app()) as (client, live):
        people = client.service("people")
        assert live.page == await people.find({"query": BY_NAME})
        await people.create({"name": "Al"})
        await shows(live, "Al", "Ann")
        await people.patch(4, {"name": "Bo"})
        await shows(live, "Ann", "Bo")
        await people.update(1, {"name": "Zoe"})
        await shows(live, "Bo", "Bob")
        await people.remove(None, {"query": {"name": {"$ne": "Cy"}}})
        await shows(live, "Cy")
        assert live.page["total"] == 1


async def test_a_loop_gets_the_page_and_each_one_that_differs() -> None:
    async with watching(people_app()) as (client, live):
        pages = aiter(live)
        assert names_of(await anext(pages)) == ["Ann", "Bob"]
        await client.service("people").patch(0, {"name": "Aya"})
        assert names_of(await anext(pages)) == ["Ann", "Aya"]


async def test_an_equal_page_is_not_given_twice() -> None:
    finds = Finds()
    async with watching(people_app(finds)) as (client, live):
        pages, people = aiter(live), client.service("people")
        first = await anext(pages)
        await people.patch(1, {"name": "Ann"})
        await until(lambda: finds.count == 2)
        await people.patch(1, {"name": "Ada"})
        assert (names_of(first), names_of(await anext(pages))) == (["Ann", "Bob"], ["Ada", "Bob"])


async def test_a_record_beyond_the_page_may_change_its_total() -> None:
    async with watching(people_app(), {"name": {"$gt": "B"}, "$limit": 1}) as (client, live):
        await client.service("people").patch(3, {"name": "A"})
        await until(lambda: live.page["total"] == 2)
        assert names_of(live.page) == ["Cy"]


async def test_a_burst_of_events_costs_few_reads() -> None:
    finds = Finds()
    async with watching(people_app(finds), {"$limit": 1, "$sort": {"id": -1}}) as (client, live):
        await client.service("people").create([{"name": str(number)} for number in range(1000)])
        await shows(live, "999")
        assert finds.count <= 5


async def test_reads_keep_their_distance() -> None:
    finds = Finds()
    async with watching(people_app(finds)) as (client, live):
        begun = time.monotonic()
        for number in range(100):
            await client.service("people").patch(0, {"name": f"A{number}"})
        await shows(live, "A99", "Ann")
        assert finds.count <= 2 + (time.monotonic() - begun) / PAUSE_SECONDS


async def test_events_during_a_read_make_one_more() -> None:
    finds = Finds()
    async with watching(people_app(finds)) as (client, live):
        people, towns = client.service("people"), client.service("towns")
        finds.allowed.clear()
        await people.patch(0, {"name": "Al"})
        await until(lambda: finds.count == 2)
        for name in ("Am", "An", "Ao"):
            await people.patch(0, {"name": name})
        await towns.find()
        assert finds.count == 2
        finds.allowed.set()
        await shows(live, "Ann", "Ao")
        assert finds.count <= 3


async def test_events_of_services_that_the_caller_names_are_followed() -> None:
    finds = Finds()
    async with watching(people_app(finds), services=["towns"]) as (client, _):
        await client.service("towns").create({"name": "Ulm"})
        await until(lambda: finds.count == 2)


async def test_a_page_survives_cuts() -> None:
    app = people_app()
    async with watching(app) as (client, live):
        for name in ("Ala", "Alb", "Alc"):
            lost = happening(client, "disconnect")
            app.emit("shutdown")
            await lost
            await app.service("people").patch(0, {"name": name})
            await shows(live, name, "Ann")


async def test_a_page_survives_a_restart_of_the_server() -> None:
    port = free_port()
    async with Client(socketio(f"http://127.0.0.1:{port}", delay=0.01)) as client:
        watch = client.service("people").watch(BY_NAME)
        async with listening(people_app(), port):
            live = await watch.__aenter__()
            lost = happening(client, "disconnect")
        await lost
        app = people_app()
        await app.service("people").remove(1)
        async with listening(app, port):
            await shows(live, "Bob", "Cy")
            await watch.__aexit__(None, None, None)


async def test_a_read_whose_connection_breaks_is_repeated() -> None:
    finds = Finds()
    app = people_app(finds)
    async with watching(app) as (client, live):
        finds.allowed.clear()
        await client.service("people").patch(0, {"name": "Al"})
        await until(lambda: finds.count == 2)
        app.emit("shutdown")
        finds.allowed.set()
        await shows(live, "Al", "Ann")


async def test_an_error_of_the_query_is_raised_at_once() -> None:
    app = people_app()
    async with listening(app) as url, Client(socketio(url)) as client:
        with pytest.raises(BadRequest, match="Invalid query parameter"):
            async with client.service("people").watch({"name": {"$near": 1}}):
                pass


async def test_a_page_that_may_no_longer_be_read_is_not_shown() -> None:
    finds = Finds()
    async with watching(people_app(finds)) as (client, live):
        pages = aiter(live)
        await anext(pages)
        finds.error = Forbidden("Not yours")
        await client.service("people").create({"name": "Eve"})
        with pytest.raises(Forbidden, match="Not yours"):
            await anext(pages)
        with pytest.raises(Forbidden, match="Not yours"):
            _ = live.page


async def test_a_server_that_is_busy_is_asked_again() -> None:
    finds = Finds()
    async with watching(people_app(finds)) as (client, live):
        finds.error = Unavailable("Busy")
        await client.service("people").patch(0, {"name": "Al"})
        await until(lambda: finds.count >= 3)
        finds.error = None
        await shows(live, "Al", "Ann")


async def test_a_page_ends_with_its_login() -> None:
    app = guarded_app()
    async with listening(app) as url, Client(socketio(url, delay=0.01)) as client:
        with pytest.raises(NotAuthenticated):
            async with client.service("users").watch():
                pass
        await client.authenticate(**LOGIN)
        async with client.service("users").watch() as live:
            pages = aiter(live)
            assert [user["email"] for user in await anext(pages)] == ["a@b.c"]
            await client.logout()
            with pytest.raises(NotAuthenticated):
                await anext(pages)


async def test_a_page_is_that_of_the_newest_login() -> None:
    def own(context: Any) -> None:
        if context.params.provider:
            context.params.scope["id"] = context.params.user["id"]

    app = guarded_app()
    app.service("users").hooks({"before": {"find": [own]}})
    async with listening(app) as url, Client(socketio(url)) as client:
        await client.service("users").create({"email": "b@b.c", "password": "p"})
        await client.authenticate(**LOGIN)
        async with client.service("users").watch() as live:
            assert [user["email"] for user in live.page] == ["a@b.c"]
            await client.authenticate(**{**LOGIN, "email": "b@b.c"})
            await until(lambda: [user["email"] for user in live.page] == ["b@b.c"])


async def test_a_loop_ends_with_its_block() -> None:
    async with watching(people_app()) as (client, live):
        seen = asyncio.create_task(gathered(live))
        await client.service("people").find()
    async with asyncio.timeout(SECONDS):
        assert [names_of(page) for page in await seen] == [["Ann", "Bob"]]


async def gathered(live: Live) -> list[Any]:
    return [page async for page in live]


async def test_a_watch_that_ends_leaves_no_listeners() -> None:
    async with listening(people_app()) as url, Client(socketio(url)) as client:
        async with client.service("people").watch():
            assert client.events.listens("people created")
        assert not any(emitter._listeners for emitter in (client, client.events))


async def test_a_watch_needs_a_server() -> None:
    async with Client(socketio(f"http://127.0.0.1:{free_port()}", timeout=0.1, delay=0.01)) as client:
        with pytest.raises(Timeout):
            async with client.service("people").watch():
                pass


async def test_rest_has_no_events() -> None:
    async with listening(people_app()) as url, Client(over_rest(url)) as client:
        with pytest.raises(RuntimeError, match="REST transport has no events"):
            async with client.service("people").watch():
                pass


async def test_a_watch_takes_the_values_of_placeholders() -> None:
    app = Apex().configure(rest).configure(sockets)
    app.use("teams/:teamId/people", MemoryService())
    app.on("connection", app.channel("all").join)
    app.publish(lambda data, context: app.channel("all"))
    async with listening(app) as url, Client(socketio(url)) as client:
        people = client.service("teams/:teamId/people")
        async with people.watch(route={"teamId": 1}) as live:
            await people.create({"name": "Ann"}, {"route": {"teamId": 1}})
            await until(lambda: [person["name"] for person in live.page] == ["Ann"])
