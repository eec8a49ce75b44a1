"""Tests of clients that return: they get what they have missed, once and in order, or are told to read again."""

from __future__ import annotations

import asyncio
from typing import Any

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
