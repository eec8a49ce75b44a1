"""Tests of what a client that returns may get: by the rights of today, after its login, and never a part of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Column, Integer
from websockets import ConnectionClosed

from apex import Apex, Service, SQLService
from tests.support.serving import serving
from tests.support.waiting import until
from tests.transports.socketio.resuming import Client, app_of, login, served, with_users

Change = Callable[[Apex], None]


async def texts(client: Client, peer: Any) -> list[str]:
    return [data["text"] for _, data in await client.settled(peer)]


async def test_a_replay_waits_for_the_login(sqlite_url: str) -> None:
    app, client = with_users(app_of(sqlite_url)), Client()
    app.publish(lambda data, context: app.channel("user-0"))
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
            assert (await peer.call(*login(app, 0)))[0] is None
            assert await client.settled(peer) == []
        await app.service("notes").create({"text": "a"})
        async with client.connected(http) as peer:
            assert client.recovered
            await app.service("notes").create({"text": "b"})
            assert (await peer.call("find", "notes"))[1]["total"] == 2
            assert peer.events == []
            await peer.call(*login(app, 0))
            assert await texts(client, peer) == ["a", "b"]


async def test_another_user_gets_what_it_may_get(sqlite_url: str) -> None:
    app, client = with_users(app_of(sqlite_url)), Client()
    app.publish(lambda data, context: app.channel(f"user-{data['text']}"))
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
            await peer.call(*login(app, 0))
            assert await client.settled(peer) == []
        for text in ("0", "1", "0"):
            await app.service("notes").create({"text": text})
        async with client.connected(http) as peer:
            await peer.call(*login(app, 1))
            assert await texts(client, peer) == ["1"]


async def test_a_channel_that_the_client_is_no_longer_in_replays_nothing(sqlite_url: str) -> None:
    app, client, members = app_of(sqlite_url), Client(), {"all"}
    app.publish(lambda data, context: [app.channel("all").filter(lambda connection: members)])
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        await app.service("notes").create({"text": "a"})
        members.clear()
        async with client.connected(http) as peer:
            assert (client.recovered, await texts(client, peer)) == (True, [])


async def test_an_async_publisher_is_asked_again(empty_url: str) -> None:
    app, client = app_of(empty_url), Client()

    async def publish(data: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        if data["text"] == "broken":
            raise RuntimeError("a publisher failed")
        return app.channel("all").send({"text": data["text"].upper()})

    app.publish(publish)
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        for text in ("a", "broken", "b"):
            await app.service("notes").create({"text": text})
        async with client.connected(http) as peer:
            assert client.recovered
            # Some may come twice, if their publisher was still at work when the client came back.
            assert list(dict.fromkeys(await texts(client, peer))) == ["A", "B"]


async def test_only_entries_of_the_tenants_of_a_connection_count(empty_url: str) -> None:
    team = Column("team_id", Integer)
    options: dict[str, Any] = {
        "tenant": "team_id",
        "fields": lambda context: {"team_id": int(context.result["text"][0])},
        "tenants": lambda connection: [int(connection.handshake["auth"].get("team", 1))],
    }
    app, client = app_of(empty_url, team, settings={"log": {"replay": 2}}, **options), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        for text in ("1a", "2a", "2b", "1b", "2c"):
            await app.service("notes").create({"text": text})
        async with client.connected(http, team=1) as peer:
            offset = client.offset
            assert (client.recovered, await texts(client, peer)) == (True, ["1a", "1b"])
        client.offset = offset
        async with client.connected(http, team=2) as peer:
            assert (client.recovered, (await peer.event())[-1]) == (True, "lost")
            await peer.closed()


async def test_a_client_that_was_away_too_long_is_told_to_read_again(empty_url: str) -> None:
    app, client = app_of(empty_url, settings={"log": {"replay": 10}}), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        await app.service("notes").create([{"text": "a"}] * 11)
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
            assert (client.recovered, client.offset) == (True, "lost")
            await peer.closed()
        async with client.connected(http) as peer:
            assert (client.recovered, await client.settled(peer)) == (False, [])
            await app.service("notes").create({"text": "b"})
            assert (await client.event(peer))[1]["text"] == "b"
    stats: Any = app.log and app.log.stats  # type: ignore[attr-defined]
    assert (stats.replays, stats.refused_replays) == (0, 1)


FORGED = [
    "", ";", ";;a", "0.0.0", "x" * 900_000, f"{'1.' * 100_000};1;a", "0.zzzz.1;1;a", "zz.1.1.1;1;a", "0.0.0;1;b",
    "0.0.0;-1;a", f"0.0.0;{'9' * 100};a", 5, [], {}, True, "lost",
]  # fmt: skip


@pytest.mark.parametrize("offset", FORGED, ids=lambda offset: repr(offset)[:20])
async def test_a_forged_offset_recovers_nothing(sqlite_url: str, offset: Any) -> None:
    app, client = app_of(sqlite_url), Client()
    async with served(app) as http:
        client.pid, client.offset = "mine", offset
        async with client.connected(http) as peer:
            assert (client.recovered, await client.settled(peer)) == (False, [])


@pytest.mark.parametrize("pid", ["", "x" * 65, "a b", "é", 5, None, ["a"]])
async def test_a_forged_pid_is_replaced(sqlite_url: str, pid: Any) -> None:
    app, client = app_of(sqlite_url), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            await client.settled(peer)
        async with Client().connected(http, pid=pid, offset=client.offset):
            pass
        other = Client()
        async with other.connected(http, pid=pid, offset=client.offset):
            assert other.pid != pid


async def test_an_offset_of_another_database_recovers_nothing(sqlite_url: str, postgres_url: str) -> None:
    client = Client()
    for url in (sqlite_url, postgres_url, sqlite_url):
        app = app_of(url)
        async with served(app) as http, client.connected(http) as peer:
            await app.service("notes").create({"text": "a"})
            await client.settled(peer)
            await client.event(peer)
            assert not client.recovered


async def test_a_client_whose_login_does_not_come_is_told_to_read_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = with_users(app_of(sqlite_url)), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            await client.settled(peer)
            await peer.call(*login(app, 0))
            await client.settled(peer)
        monkeypatch.setattr("apex.transports.socketio.resumption.LOGIN_SECONDS", 0.01)
        async with client.connected(http) as peer:
            await client.settled(peer)
            assert (client.recovered, client.offset) == (True, "lost")
            await peer.closed()


async def test_a_client_that_does_not_read_its_replay_is_waited_for(sqlite_url: str) -> None:
    settings = {"sockets": {"maxBacklog": 400_000}}
    app, client = app_of(sqlite_url, settings=settings), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            await client.settled(peer)
        app.publish(lambda data, context: app.channel("all").send({"text": data["text"] + "x" * 60_000}))
        for number in range(400):
            await app.service("notes").create({"text": f"{number}:"})
        async with client.connected(http) as peer:
            peer.ws.transport.pause_reading()
            (link,) = app.mounts["socket.io"].links.values()  # type: ignore[attr-defined]
            await until(lambda: link.outgoing.size)
            await app.service("notes").create({"text": "last:"})
            assert link.outgoing.size < 200_000
            peer.ws.transport.resume_reading()
            heard = [text.partition(":")[0] for text in await texts(client, peer)]
    assert heard == [*map(str, range(400)), "last"]


async def test_a_client_that_does_not_read_its_events_returns_and_gets_them(sqlite_url: str) -> None:
    app, client, frames = app_of(sqlite_url, settings={"sockets": {"maxBacklog": 400_000}}), Client(), list[str]()
    app.publish(lambda data, context: app.channel("all").send({"text": data["text"] + "x" * 60_000}))
    async with served(app) as http:
        async with client.connected(http) as peer:
            await client.settled(peer)
            peer.ws.transport.pause_reading()
            written = 0
            while app.events.connections:
                await app.service("notes").create({"text": f"{written}:"})
                written += 1
            peer.ws.transport.resume_reading()
            with suppress(ConnectionClosed):
                while True:
                    frames.append(await peer.frame())
        assert frames.pop() == "1"  # After a "41" the client of Socket.IO would not return.
        heard = [client.taken(json.loads(frame.removeprefix("42"))) for frame in frames]
        async with client.connected(http) as peer:
            heard += await client.settled(peer)
            assert client.recovered
    assert {event[1]["text"].partition(":")[0] for event in heard} == {*map(str, range(written))}


async def test_clients_that_return_after_a_restart_share_the_reads(empty_url: str) -> None:
    clients = [Client() for _ in range(50)]
    async with served(app_of(empty_url)) as http:
        for number, client in enumerate(clients):
            async with client.connected(http) as peer:
                await client.settled(peer)
                await http.post("/notes", json={"text": str(number)})
    app = app_of(empty_url)
    async with serving(app) as http:

        async def missed(client: Client) -> list[str]:
            async with client.connected(http) as peer:
                assert client.recovered
                return await texts(client, peer)

        for number, heard in enumerate(await asyncio.gather(*map(missed, clients))):
            assert set(heard) >= set(map(str, range(number, 50)))
        history: Any = app.mounts["socket.io"].resumption.history  # type: ignore[attr-defined]
        assert history.reads < 15


async def test_a_text_of_a_service_without_a_log_is_no_offset(sqlite_url: str) -> None:
    app, client = app_of(sqlite_url), Client()

    class Bell(SQLService):
        logged = False

    app.use("bells", Bell(app.get("tables").tables["notes"]), events=["rung"])
    async with served(app) as http, client.connected(http) as peer:
        await client.settled(peer)
        app.service("bells").emit("rung", "loudly")
        assert await peer.event() == ["bells rung", "loudly", None]


async def test_a_client_reads_again_if_the_function_for_its_tenants_fails(sqlite_url: str) -> None:
    def tenants(connection: Any) -> Any:
        raise RuntimeError("no tenants")

    app, client = app_of(sqlite_url, Column("team", Integer), tenant="team", tenants=tenants), Client()
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        async with client.connected(http) as peer:
            assert await peer.event() == ["offset", "lost"]
    assert app.callbacks.failed == 1


async def test_a_client_whose_rights_have_changed_gets_no_offset_that_recovers_it(empty_url: str) -> None:
    app, client = app_of(empty_url, rights={"members": lambda member, connection: True}), Client()
    ends = asyncio.Event()
    members = app.get("tables").tables["notes"].to_metadata(app.get("tables"), name="members")

    class Slow(Service):
        async def create(self, data: Any, params: Any) -> Any:
            await ends.wait()
            return {}

    app.use("members", SQLService(members)).use("slow", Slow())
    async with served(app) as http, client.connected(http) as peer:
        assert await client.settled(peer) == []
        await peer.send('420["create","slow",{}]')  # The end of the connection waits for its answer.
        assert (await peer.call("find", "notes"))[1]["total"] == 0
        await app.service("members").create({"text": "a"})
        await app.log.catch_up()  # type: ignore[union-attr]
        note = await app.service("notes").create({"text": "b"})
        await app.service("notes").patch(note["id"], {"text": "c"})
        ends.set()
        await peer.closed()
        first, *later = peer.events
        assert (first[0], {offset for *_, offset in later}) == ("members created", {"lost"})


async def test_a_client_that_has_joined_a_channel_by_a_call_reads_again(sqlite_url: str) -> None:
    app, client = app_of(sqlite_url), Client()

    class Rooms(Service):
        async def create(self, data: Any, params: Any) -> Any:
            app.channel("room").join(params.connection)
            return {}

    app.use("rooms", Rooms())
    app.publish(lambda data, context: app.channel("room") if context.path == "notes" else None)
    async with served(app) as http:
        async with client.connected(http) as peer:
            assert (await peer.call("find", "notes"))[1]["total"] == 0
            assert await client.settled(peer) == []
        async with client.connected(http) as peer:
            assert (client.recovered, await client.settled(peer)) == (True, [])
            assert (await peer.call("create", "rooms", {}))[0] is None
            note = await app.service("notes").create({"text": "a"})
            assert await client.event(peer) == ["notes created", note]
        await app.service("notes").create({"text": "missed"})
        async with client.connected(http) as peer:
            assert (client.recovered, await client.settled(peer)) == (False, [])


async def test_a_replay_of_large_entries_takes_little_memory(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apex.transports.socketio.history.MOST_BYTES", 10_000)
    monkeypatch.setattr("apex.transports.socketio.history.READ", 3)
    client = Client()
    async with served(app_of(empty_url)) as http:
        async with client.connected(http) as peer:
            assert await client.settled(peer) == []
        for number in range(100):
            await http.post("/notes", json={"text": f"{number}:".ljust(200, "x")})
    app = app_of(empty_url)
    async with serving(app) as http, client.connected(http) as peer:
        assert client.recovered
        assert [text.partition(":")[0] for text in await texts(client, peer)] == [*map(str, range(100))]
        history: Any = app.mounts["socket.io"].resumption.history  # type: ignore[attr-defined]
        assert (history.reads > 2, history._bytes() < 15_000) == (True, True)
