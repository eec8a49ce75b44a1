"""Events: their order is that of the writes, they precede the answer, and all publishers get the same."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table
from websockets.frames import Frame, Opcode

from apex import Apex, Connection, Context, MemoryService, Params, Service, SQLService, database
from apex.errors import BadRequest
from tests.process.commands import ROOT, environment
from tests.support.databases import free_port
from tests.support.waiting import SECONDS, until

Sent = list[tuple[str, Any]]


def following(app: Apex) -> Sent:
    """Subscribe a connection to all events. Return the list of messages to it."""
    sent: Sent = []
    app.events.connections.add(connection := Connection())
    app.channel("all").join(connection)
    app.publish(lambda data, context: app.channel("all"))
    app.on("publish", lambda context, recipients: sent.append((context.event, context.external)))
    return sent


class Gate:
    """An after hook that delays the calls whose data says so until they are released."""

    def __init__(self) -> None:
        self.waiting, self.go = 0, asyncio.Event()

    async def __call__(self, context: Context) -> None:
        if isinstance(context.data, dict) and context.data.get("waits"):
            self.waiting += 1
            await self.go.wait()


def texts(sent: Sent) -> list[tuple[str, Any]]:
    return [(event, record["text"]) for event, record in sent]


async def test_an_after_hook_that_waits_does_not_let_a_later_state_go_first() -> None:
    gate = Gate()
    app = Apex().use("notes", MemoryService(), hooks={"after": [gate]})
    notes, sent = app.service("notes"), following(app)
    await notes.create({"text": "a"})
    first = asyncio.create_task(notes.patch(0, {"text": "b", "waits": True}))
    await until(lambda: gate.waiting)
    assert (await notes.patch(0, {"text": "c", "waits": False}))["text"] == "c"
    await notes.remove(0)
    assert texts(sent) == [("created", "a")]
    gate.go.set()
    await first
    assert texts(sent) == [("created", "a"), ("patched", "b"), ("patched", "c"), ("removed", "c")]


async def test_another_record_does_not_wait() -> None:
    gate = Gate()
    app = Apex().use("notes", MemoryService(multi=True), hooks={"after": [gate]})
    notes, sent = app.service("notes"), following(app)
    await notes.create([{"text": "a"}, {"text": "b"}, {"text": "c"}])
    first = asyncio.create_task(notes.patch(0, {"text": "d", "waits": True}))
    await until(lambda: gate.waiting)
    await notes.patch(1, {"text": "e"})
    assert texts(sent)[3:] == [("patched", "e")]
    await notes.patch(None, {"text": "f"})
    await notes.patch(2, {"text": "g"})
    assert len(sent) == 4
    gate.go.set()
    await first
    assert texts(sent)[4:] == [("patched", text) for text in ("d", "f", "f", "f", "g")]


async def test_a_call_within_an_after_hook_of_the_same_record_comes_second_and_holds_up_nobody() -> None:
    async def patch_again(context: Context) -> None:
        if context.data["text"] == "b":
            await context.app.service("notes").patch(context.id, {"text": "c"})

    app = Apex().use("notes", MemoryService(), hooks={"after": {"patch": [patch_again]}})
    sent = following(app)
    await app.service("notes").create({"text": "a"})
    await app.service("notes").patch(0, {"text": "b"})
    assert texts(sent) == [("created", "a"), ("patched", "b"), ("patched", "c")]


@pytest.mark.parametrize("suppressed", [False, True])
async def test_a_call_without_an_event_gives_its_place_up(suppressed: bool) -> None:
    gate = Gate()

    def end(context: Context) -> None:
        if context.data.get("waits"):
            context.event = None
            if not suppressed:
                raise BadRequest("no")

    app = Apex().use("notes", MemoryService(), hooks={"after": {"patch": [gate, end]}})
    notes, sent = app.service("notes"), following(app)
    await notes.create({"text": "a"})
    first = asyncio.create_task(notes.patch(0, {"text": "b", "waits": True}))
    await until(lambda: gate.waiting)
    await notes.patch(0, {"text": "c", "waits": False})
    gate.go.set()
    await asyncio.wait([first])
    assert texts(sent) == [("created", "a"), ("patched", "c")]


@pytest.mark.parametrize("end", ["commit", "rollback", "cancel"])
async def test_a_unit_of_work_keeps_or_gives_up_the_places_of_its_calls(sqlite_url: str, end: str) -> None:
    notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9)))
    app = Apex().configure(database(sqlite_url)).use("notes", SQLService(notes))
    async with app.lifespan():
        await app.get("database").create_all(notes.metadata)
        service, sent = app.service("notes"), following(app)
        await service.create({"text": "a"})
        with suppress(BadRequest, asyncio.CancelledError):
            async with app.get("database").transaction():
                await service.patch(1, {"text": "b"})
                await service.patch(1, {"text": "c"})
                assert len(sent) == 1
                if end != "commit":
                    raise BadRequest("no") if end == "rollback" else asyncio.CancelledError
        await service.patch(1, {"text": "d"})
    stored = ["a", "b", "c", "d"] if end == "commit" else ["a", "d"]
    assert [text for _, text in texts(sent)] == stored


async def test_a_publisher_that_waits_delays_its_event_and_those_of_the_record_behind_it_and_no_answer() -> None:
    app, go = Apex().use("notes", MemoryService()), asyncio.Event()
    sent = following(app)

    async def publish(data: Any, context: Context) -> Any:
        if data["text"] == "slow":
            await go.wait()
        return app.channel("all")

    app.publish(publish)
    notes = app.service("notes")
    await notes.create({"text": "slow"})
    await notes.patch(0, {"text": "quick"})
    await notes.create({"text": "other"})
    await until(lambda: sent)
    assert texts(sent) == [("created", "other")]
    go.set()
    await until(lambda: len(sent) == 3)
    assert texts(sent)[1:] == [("created", "slow"), ("patched", "quick")]


async def test_a_publisher_that_fails_gives_its_place_up() -> None:
    app = Apex().use("notes", MemoryService())
    sent = following(app)

    async def publish(data: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        if data["text"] == "a":
            raise KeyError("a")
        return app.channel("all")

    app.publish(publish)
    await app.service("notes").create({"text": "a"})
    await app.service("notes").patch(0, {"text": "b"})
    await until(lambda: sent)
    assert (texts(sent), app.events.turns._waiting) == ([("patched", "b")], {})


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 3)), max_size=12))
def test_the_events_of_a_record_come_in_the_order_of_its_states_whatever_waits(
    calls: list[tuple[int, int, int]],
) -> None:
    """Each call has a record and the number of loop turns for which its after hook and its publisher wait."""
    asyncio.run(_in_order(calls))


async def _in_order(calls: list[tuple[int, int, int]]) -> None:
    states: dict[int, list[int]] = {}

    async def store(context: Context) -> None:
        for _ in range(calls[context.data["call"]][1]):
            await asyncio.sleep(0)

    async def publish(data: Any, context: Context) -> Any:
        for _ in range(calls[data["call"]][2] if "call" in data else 0):
            await asyncio.sleep(0)
        return app.channel("all")

    class Notes(MemoryService):
        async def patch(self, id: Any, data: Any, params: Params) -> Any:
            states.setdefault(id, []).append(data["call"])
            return await super().patch(id, data, params)

    app = Apex().use("notes", Notes(store={id: {"id": id} for id in range(3)}), hooks={"after": [store]})
    sent = following(app)
    app.publish(publish)
    patch = app.service("notes").patch
    await asyncio.gather(*(patch(id, {"call": number}) for number, (id, *_) in enumerate(calls)))
    await until(lambda: len(sent) == len(calls))
    seen = {id: [record["call"] for _, record in sent if record["id"] == id] for id in states}
    assert (seen, app.events.turns._waiting) == (states, {})


async def test_listeners_that_waited_for_their_turn_run_in_the_context_of_their_own_call() -> None:
    gate, caller, heard = Gate(), ContextVar("caller", default=""), list[tuple[str, str]]()

    async def call(name: str, data: Any) -> None:
        caller.set(name)
        await app.service("notes").patch(0, data)

    app = Apex().use("notes", MemoryService(store={0: {"id": 0}}), hooks={"after": [gate]})
    app.service("notes").on("patched", lambda note, context: heard.append((note["by"], caller.get())))
    first = asyncio.create_task(call("one", {"by": "one", "waits": True}))
    await until(lambda: gate.waiting)
    await asyncio.create_task(call("two", {"by": "two", "waits": False}))
    gate.go.set()
    await first
    assert heard == [("one", "one"), ("two", "two")]


async def test_thousands_of_events_wait_for_one() -> None:
    gate = Gate()
    app = Apex().use("notes", MemoryService(), hooks={"after": [gate]})
    notes, sent = app.service("notes"), following(app)
    first = asyncio.create_task(notes.create({"text": "a", "waits": True}))
    await until(lambda: gate.waiting)
    for number in range(3_000):
        await notes.patch(0, {"text": number, "waits": False})
    gate.go.set()
    await first
    assert [text for _, text in texts(sent)] == ["a", *range(3_000)]


async def test_a_caller_who_changes_its_result_changes_no_event_that_waits() -> None:
    gate = Gate()
    app = Apex().use("notes", MemoryService(), hooks={"after": [gate]})
    notes, sent = app.service("notes"), following(app)
    first = asyncio.create_task(notes.create({"text": "a", "waits": True}))
    await until(lambda: gate.waiting)
    (await notes.patch(0, {"text": "b", "waits": False}))["text"] = "secret"
    gate.go.set()
    await first
    assert texts(sent) == [("created", "a"), ("patched", "b")]


class Typed(Service):
    """A service of records with values that JSON has no type for."""

    async def create(self, data: Any, params: Params) -> Any:
        return {
            "id": UUID(int=1), "at": datetime(2023, 1, 1, tzinfo=UTC), "on": date(2023, 1, 31),
            "price": Decimal("1.50"), "tags": ("a", "b"),
        }  # fmt: skip


TYPED = {
    "id": "00000000-0000-0000-0000-000000000001", "at": "2023-01-01T00:00:00.000Z", "on": "2023-01-31",
    "price": "1.50", "tags": ["a", "b"],
}  # fmt: skip


async def test_a_publisher_is_given_json_in_the_process_that_wrote_and_in_the_others() -> None:
    one, other = (Apex().use("typed", Typed()) for _ in range(2))
    seen: list[Any] = []
    for app in (one, other):
        app.events.connections.add(Connection())
        app.publish(lambda data, context: seen.append((data, context.id, context.result, context.params.query)))
    one.bus.alone = False
    one.bus.send = lambda topic, message: other.events.deliver(json.loads(message.text))  # type: ignore[method-assign]
    heard: list[Any] = []
    one.service("typed").on("created", lambda record, context: heard.append(record["price"]))
    await one.service("typed").create({}, {"query": {"day": date(2023, 1, 31)}})
    assert seen == [(TYPED, None, TYPED, {"day": "2023-01-31"})] * 2
    assert heard == [Decimal("1.50")], "listeners are given the record itself"


# The answer and the event as they reach a client, from a server in a process of its own.

SOURCE = """
import sys
import uvicorn
from apex import Apex, MemoryService, Service, rest, sockets

class Polls(Service):
    async def find(self, params):
        return len(app.mounts["socket.io"].endpoint.requests)

def create_app():
    return app

app = Apex({"host": "127.0.0.1", "port": int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0})
app.configure(rest).configure(sockets).use("notes", MemoryService()).use("polls", Polls())
app.on("connection", app.channel("all").join)
app.publish(lambda data, context: app.channel("all"))

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="critical", **({"http": sys.argv[1]} if sys.argv[1] else {}))
"""
SERVED = {
    "uvicorn.run(app)": ["chat.py", ""],
    'uvicorn.run(app, http="h11")': ["chat.py", "h11"],
    "apex serve": ["-m", "apex", "--app", "chat:create_app", "serve", "--port"],
}


@contextmanager
def chat(folder: Path, arguments: list[str]) -> Iterator[int]:
    """Start a server, wait until it answers and return its port."""
    (folder / "chat.py").write_text(SOURCE)
    port = free_port()
    command = [sys.executable, *arguments, str(port)]
    with subprocess.Popen(command, cwd=folder, env=environment(PYTHONPATH=str(ROOT), PORT=str(port))) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None
            yield port
        finally:
            process.kill()


ENGINE = "/socket.io/?EIO=4&transport="


def websocket(port: int) -> socket.socket:
    """Return a connection over a WebSocket that accepts compression, as browsers and Node do."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {ENGINE}websocket HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Extensions: permessage-deflate",
    ]  # fmt: skip
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    for sent, told in ((b"", b'0{"sid"'), (Frame(Opcode.TEXT, b"40").serialize(mask=True), b'40{"sid"')):
        raw.sendall(sent)
        read = b""
        while told not in read:
            read += raw.recv(65_536)
    return raw


def poller(port: int) -> tuple[HTTPConnection, str]:
    """Return a connection that polls, and its address."""
    http = HTTPConnection("127.0.0.1", port, SECONDS)
    path = f"{ENGINE}polling&sid={json.loads(asked(http, 'GET', f'{ENGINE}polling')[1:])['sid']}"
    asked(http, "POST", path, "40")
    assert asked(http, "GET", path).startswith(b'40{"sid"')
    return http, path


def asked(http: HTTPConnection, method: str, path: str, body: str | None = None) -> bytes:
    http.request(method, path, body, {"Content-Type": "application/json"})
    return http.getresponse().read()


def has_something(one: socket.socket) -> bool:
    return bool(select.select([one], [], [], 0)[0])


@pytest.mark.parametrize("how", SERVED)
def test_the_event_has_reached_every_socket_when_the_answer_comes(how: str, tmp_path: Path) -> None:
    with chat(tmp_path, SERVED[how]) as port, ExitStack() as stack:
        sockets, pollers = [websocket(port) for _ in range(5)], [poller(port) for _ in range(3)]
        http, caller = (HTTPConnection("127.0.0.1", port, SECONDS) for _ in range(2))
        for raw in sockets:
            stack.enter_context(closing(raw))
        for polling in (*(one for one, _ in pollers), http, caller):
            stack.enter_context(closing(polling))
        late = 0
        for number in range(30):
            for one, path in pollers:
                one.request("GET", path)
            while json.loads(asked(http, "GET", "/polls")) < len(pollers):
                pass
            asked(caller, "POST", "/notes", json.dumps({"number": number}))
            late += sum(not has_something(raw) for raw in (*sockets, *(one.sock for one, _ in pollers)))
            for raw in sockets:
                assert f'"number":{number}'.encode() in raw.recv(65_536), "whole and not compressed"
            for one, _ in pollers:
                assert f'"number":{number}'.encode() in one.getresponse().read()
        assert late == 0
