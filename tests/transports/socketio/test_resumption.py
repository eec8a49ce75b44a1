"""Tests of clients that return: they get what they have missed, once and in order, or are told to read again."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sqlalchemy import update

from apex.errors import Unavailable
from apex.log import Log
from tests.support.waiting import until
from tests.transports.socketio.resuming import Client, app_of, served


async def texts(client: Client, peer: Any) -> list[str]:
    return [data["text"] for _, data in await client.settled(peer)]


async def test_a_client_that_returns_gets_what_it_has_missed(empty_url: str) -> None:
    app, client = app_of(empty_url), Client()
    async with served(app) as http:
        notes = app.service("notes")
        async with client.connected(http) as peer:
            note = await notes.create({"text": "a"})
            assert [await client.settled(peer), await client.event(peer)] == [[], ["notes created", note]]
        for text in "bcd":
            await notes.patch(note["id"], {"text": text})
        async with client.connected(http) as peer:
            assert (client.recovered, await texts(client, peer)) == (True, ["b", "c", "d"])
            await notes.patch(note["id"], {"text": "e"})
            assert await client.event(peer) == ["notes patched", {**note, "text": "e"}]


async def test_events_between_the_replay_and_now_are_not_lost(empty_url: str) -> None:
    app, client, heard = app_of(empty_url), Client(), list[int]()
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []

        async def write() -> None:
            for _ in range(100):
                await app.service("notes").create({"text": "a"})

        writing = asyncio.gather(*(write() for _ in range(3)))
        while not writing.done():
            async with client.connected(http) as peer:
                heard += [data["id"] for _, data in await client.settled(peer)]
                if len(set(heard)) < 300:
                    heard.append((await client.event(peer))[1]["id"])
                assert client.recovered
        async with client.connected(http) as peer:
            heard += [data["id"] for _, data in await client.settled(peer)]
    assert set(heard) == set(range(1, 301))


async def test_what_a_client_gets_once_more_ends_with_the_last_state(empty_url: str) -> None:
    app, client = app_of(empty_url), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
            note = await app.service("notes").create({"text": "a"})
            async with app.get("database").transaction():
                for text in "bc":
                    await app.service("notes").patch(note["id"], {"text": text})
            assert [(await client.event(peer))[1]["text"] for _ in "abc"] == ["a", "b", "c"]
        async with client.connected(http) as peer:
            assert (client.recovered, [*"bc", *await texts(client, peer)][-1]) == (True, "c")


async def test_entries_that_the_app_has_changed_are_not_sent_as_they_were(empty_url: str) -> None:
    app, clients = app_of(empty_url), [Client(), Client(), Client()]
    database, log = app.get("database"), cast(Log, app.log)

    async def missed_by(client: Client) -> list[str]:
        async with client.connected(http) as peer:
            return await texts(client, peer)

    async def hide(text: str) -> None:
        changed = update(log.table).where(log.table.c.service == "notes").values(record={"id": 1, "text": text})
        async with database.transaction():
            await log.flush()
            await database.execute(changed)

    async with served(app) as http:
        assert [await missed_by(client) for client in clients] == [[], [], []]
        await app.service("notes").create({"text": "Ann"})
        await log.catch_up()
        await hide("*")
        assert await missed_by(clients[0]) == ["*"]
    async with served(app) as http:  # It has read the entries from the database for the next client.
        assert await missed_by(clients[1]) == ["*"]
        await hide("**")
        assert await missed_by(clients[2]) == ["**"]


async def test_a_live_event_whose_publisher_is_slower_than_the_replay_does_not_come_after_it(empty_url: str) -> None:
    app, client, watcher, asked = app_of(empty_url), Client(), Client(), list[str]()
    slow, is_live = asyncio.Event(), asyncio.Event()

    async def publish(data: Any, context: Any) -> Any:
        asked.append(data["text"])
        if asked == ["b"]:
            await slow.wait()
        elif asked == ["b", "a", "b", "c"]:  # The replay is there, in the same page as "b".
            slow.set()
            await is_live.wait()
        return app.channel("all")

    async with served(app) as http, watcher.connected(http) as other:
        async with client.connected(http) as peer:
            assert [await client.settled(peer), await watcher.settled(other)] == [[], []]
        notes = app.service("notes")
        note = await notes.create({"text": "a"})
        app.publish(publish)
        app.on("publish", lambda context, _: is_live.set())
        await notes.patch(note["id"], {"text": "b"})
        await notes.patch(note["id"], {"text": "c"})
        async with client.connected(http) as peer:
            assert await texts(client, peer) == ["a", "b", "c"]


async def test_the_live_event_of_a_new_record_does_not_come_after_the_replay(empty_url: str) -> None:
    app, client, asked, slow = app_of(empty_url), Client(), list[str](), asyncio.Event()

    async def publish(data: Any, context: Any) -> Any:
        asked.append(data["text"])
        if asked == ["a"]:
            await slow.wait()
        return app.channel("all")

    app.publish(publish)
    async with served(app) as http, Client().connected(http):
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        note = await app.service("notes").create({"text": "a"})
        async with client.connected(http) as peer:
            assert await texts(client, peer) == ["a"]
            slow.set()
            await app.service("notes").patch(note["id"], {"text": "b"})
            assert await client.event(peer) == ["notes patched", {**note, "text": "b"}]


async def test_an_event_waits_for_the_database_of_its_publisher(sqlite_url: str) -> None:
    app, client, outages = app_of(sqlite_url), Client(), [Unavailable("away")] * 2

    async def publish(data: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        if outages:
            raise outages.pop()
        return app.channel("all")

    app.publish(publish)
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
            note = await app.service("notes").create({"text": "a"})
            await app.service("notes").patch(note["id"], {"text": "b"})
            assert [(await client.event(peer))[1]["text"] for _ in "ab"] == ["a", "b"]
        await until(lambda: not app.events.connections)
        await app.service("notes").patch(note["id"], {"text": "c"})
        await app.log.catch_up()  # type: ignore[union-attr]
        outages.append(Unavailable("away"))
        async with client.connected(http) as peer:
            assert [await client.settled(peer), client.offset] == [[], "lost"]
            await peer.closed()
