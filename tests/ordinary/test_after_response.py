"""``context.after_response``: callbacks after the answer, for every way to call a service."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import Column, Integer, MetaData, Table

from apex import Apex, Context, MemoryService, Params, SQLService, batch, database, rest, sockets
from apex.errors import BadRequest
from tests.support.serving import calling, serving
from tests.support.sockets import connected

Trace = list[Any]


def noting(trace: Trace, is_async: bool = True) -> Any:
    """Return a hook that records the id of the record after the response."""

    async def note(text: str, id: Any) -> None:
        await asyncio.sleep(0)
        trace.append((text, id))

    def note_at_once(text: str, id: Any) -> None:
        trace.append((text, id))

    def defer(context: Context) -> None:
        context.after_response(note if is_async else note_at_once, context.method, context.result["id"])
        trace.append("hook")

    return defer


async def sent_by(app: Apex, trace: Trace, body: bytes) -> None:
    """Post a note over ASGI, and add the messages that are sent to the trace."""
    scope = {"type": "http", "method": "POST", "path": "/notes", "raw_path": b"/notes", "query_string": b"",
             "headers": [(b"content-length", str(len(body)).encode())], "client": ("127.0.0.1", 1)}  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        trace.append(message.get("status", "sent"))

    await app(scope, receive, send)


@pytest.mark.parametrize("is_async", [False, True])
async def test_over_rest_it_runs_behind_the_response(is_async: bool) -> None:
    trace: Trace = []
    app = Apex().configure(rest).use("notes", MemoryService(), hooks={"after": {"create": [noting(trace, is_async)]}})
    await sent_by(app, trace, b"{}")
    await app.teardown()
    assert trace == ["hook", 201, "sent", ("create", 0)]


async def test_over_a_socket_it_runs_behind_the_acknowledgement() -> None:
    app = Apex().configure(rest).configure(sockets)
    app.use("notes", MemoryService(), events=["noted"])
    notes = app.service("notes")
    notes.hooks({"after": {"create": lambda context: context.after_response(notes.emit, "noted", context.result)}})
    notes.publish("noted", lambda data, context: app.channel("all"))
    app.on("connection", app.channel("all").join)
    async with serving(app) as client, connected(client) as peer:
        await peer.send('420["create","notes",{}]')
        frames = await peer.frames(2)
    assert frames == ['430[null,{"id":0}]', '42["notes noted",{"id":0}]']


async def test_inside_the_process_it_runs_behind_the_outermost_call() -> None:
    trace: Trace = []

    async def copy(context: Context) -> None:
        await asyncio.gather(context.app.service("copies").create({}), context.app.service("copies").create({}))
        await asyncio.sleep(0)
        trace.append("copied")

    app = Apex().use("copies", MemoryService(), hooks={"after": [noting(trace)]})
    app.use("notes", MemoryService(start_id=10), hooks={"after": {"create": [noting(trace), copy]}})
    await app.service("notes").create({})
    trace.append("answered")
    await app.teardown()
    assert trace == ["hook", "hook", "hook", "copied", "answered", ("create", 10), ("create", 0), ("create", 1)]


async def test_the_calls_of_a_batch_wait_for_the_answer_of_the_batch() -> None:
    trace: Trace = []
    app = Apex().configure(rest).configure(batch)
    app.use("notes", MemoryService(), hooks={"after": {"create": [noting(trace)]}})
    async with calling(app) as client:
        calls = [["create", "notes", {}], ["get", "notes", 9], ["create", "notes", {}]]
        response = await client.post("/batch", json={"calls": calls})
        trace.append(response.status_code)
    assert trace[:2] == ["hook", "hook"]
    assert sorted(trace[2:], key=str) == [("create", 0), ("create", 1), 201]


@pytest.mark.parametrize("outside", [False, True])
async def test_it_does_not_run_where_the_call_fails(outside: bool) -> None:
    trace: Trace = []

    def fail(context: Context) -> None:
        raise BadRequest("no")

    app = Apex().configure(rest).use("notes", MemoryService(), hooks={"after": [noting(trace), fail]})
    if outside:
        async with calling(app) as client:
            assert (await client.post("/notes", json={})).status_code == 400
    else:
        with pytest.raises(BadRequest):
            await app.service("notes").create({})
    await app.teardown()
    assert trace == ["hook"]


@pytest.mark.parametrize("fails", ["inner", "outer"])
async def test_it_does_not_run_where_the_call_or_one_around_it_fails(fails: str) -> None:
    trace: Trace = []

    def fail(context: Context) -> None:
        raise BadRequest("no")

    async def copy(context: Context) -> None:
        try:
            await context.app.service("copies").create({})
        except BadRequest:
            return
        raise BadRequest("no")

    app = Apex().use("copies", MemoryService(), hooks={"after": [noting(trace), *([fail] if fails == "inner" else [])]})
    app.use("notes", MemoryService(), hooks={"after": [copy]})
    try:
        await app.service("notes").create({})
    except BadRequest:
        assert fails == "outer"
    await app.teardown()
    assert trace == ["hook"]


async def test_what_it_raises_is_logged_and_counted_and_others_run(caplog: pytest.LogCaptureFixture) -> None:
    trace: Trace = []

    def fail() -> None:
        raise KeyError("lost")

    def defer(context: Context) -> None:
        context.after_response(fail)
        context.after_response(trace.append, "done")

    app = Apex().use("notes", MemoryService(), hooks={"after": [defer]})
    with caplog.at_level(logging.ERROR, "apex"):
        assert await app.service("notes").create({}) == {"id": 0}
        await app.teardown()
    assert (trace, app.callbacks.failed) == (["done"], 1)
    assert "After the response of 'create' of 'notes' failed: fail" in caplog.text


@pytest.mark.parametrize("ends", ["commit", "rollback"])
async def test_in_a_unit_of_work_it_waits_for_the_commit(empty_url: str, ends: str) -> None:
    trace: Trace = []
    table = Table("notes", MetaData(), Column("id", Integer, primary_key=True))
    app = Apex().configure(database(empty_url)).use("notes", SQLService(table), hooks={"after": [noting(trace)]})
    await app.setup()
    await app.get("database").create_all(table.metadata)
    try:
        async with app.get("database").transaction():
            await app.service("notes").create({})
            await asyncio.sleep(0)
            trace.append("inside")
            if ends == "rollback":
                raise BadRequest
    except BadRequest:
        pass
    await app.teardown()
    assert trace == ["hook", "inside", *([("create", 1)] if ends == "commit" else [])]


async def test_a_listener_may_defer_too() -> None:
    trace: Trace = []

    async def listen(note: Any, context: Context) -> None:
        context.after_response(trace.append, note["id"])

    app = Apex().configure(rest).use("notes", MemoryService())
    app.service("notes").on("created", listen)
    await sent_by(app, trace, b"{}")
    await app.teardown()
    assert trace == [201, "sent", 0]


async def test_after_the_end_of_its_call_it_runs_at_once() -> None:
    trace: Trace = []
    contexts: list[Context] = []
    app = Apex().use("notes", MemoryService(), hooks={"after": lambda context: contexts.append(context)})
    await app.service("notes").create({})
    contexts[0].after_response(trace.append, "late")
    await app.teardown()
    assert trace == ["late"]


async def test_a_task_that_a_hook_has_left_running_is_not_part_of_its_call() -> None:
    trace: Trace = []
    tasks: list[asyncio.Task[Any]] = []
    go_on = asyncio.Event()

    async def copy(app: Apex) -> None:
        await go_on.wait()
        await app.service("copies").create({})

    app = Apex().use("copies", MemoryService(), hooks={"after": [noting(trace)]})
    leave = {"after": lambda context: tasks.append(asyncio.create_task(copy(app)))}
    await app.use("notes", MemoryService(), hooks=leave).service("notes").create({})
    go_on.set()
    await tasks[0]
    await app.teardown()
    assert trace == ["hook", ("create", 0)]


async def test_it_runs_as_the_process_and_not_as_the_caller() -> None:
    found: Trace = []

    async def look(app: Apex) -> None:
        found.append(await app.service("notes").find())

    def defer(context: Context) -> None:
        context.after_response(look, context.app)

    app = Apex().configure(rest).use("notes", MemoryService())
    app.service("notes").hooks({"before": {"all": lambda context: context.params.scope.update(owner=1)}})
    app.service("notes").hooks({"after": {"create": [defer]}})
    async with calling(app) as client:
        await client.post("/notes", json={})
    assert found == [[{"id": 0, "owner": 1}]]


@pytest.mark.parametrize("wrong", [None, 1, "send"])
def test_it_takes_a_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match="after_response takes a function and its arguments"):
        Context(Apex(), None, "get", params=Params()).after_response(wrong)


async def test_a_setup_hook_may_defer() -> None:
    trace: Trace = []

    async def setup(context: Context, next: Any) -> None:
        context.after_response(trace.append, "ready")
        await next()
        trace.append("set up")

    app = await Apex().hooks({"setup": [setup]}).setup()
    await app.teardown()
    assert trace == ["set up", "ready"]


async def test_an_async_listener_of_connection_has_run_when_the_client_is_connected() -> None:
    app = Apex().configure(rest).configure(sockets).use("notes", MemoryService())

    async def join(connection: Any) -> None:
        await asyncio.sleep(0.01)
        app.channel("all").join(connection)

    app.on("connection", join)
    app.publish(lambda data, context: app.channel("all"))
    async with serving(app) as client, connected(client) as peer:
        await post(client)
        assert await peer.event() == ["notes created", {"id": 0}]


async def post(client: AsyncClient) -> None:
    assert (await client.post("/notes", json={})).status_code == 201
