"""Callbacks of every kind, in every place that takes one: each is called, and awaited where there is something to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from apex import Apex, Connection, Context, MemoryService, SQLService, database

Called = list[tuple[Any, ...]]
Function = Callable[..., Any]


def kinds(called: Called, returned: Any = None) -> dict[str, Function]:
    """Functions of every kind that note how they were called, after a turn of the event loop where they can wait."""

    def plain(*args: Any) -> Any:
        called.append(args)
        return returned

    async def waiting(*args: Any) -> Any:
        await asyncio.sleep(0)
        return plain(*args)

    def decorated(function: Function) -> Function:
        @wraps(function)
        def decorator(*args: Any) -> Any:
            return function(*args)

        return decorator

    class Plain:
        def __call__(self, *args: Any) -> Any:
            return plain(*args)

        def method(self, *args: Any) -> Any:
            return plain(*args)

        static = staticmethod(plain)

    class Waiting:
        async def __call__(self, *args: Any) -> Any:
            return await waiting(*args)

        async def method(self, *args: Any) -> Any:
            return await waiting(*args)

        @classmethod
        async def of_class(cls, *args: Any) -> Any:
            return await waiting(*args)

        static = staticmethod(waiting)

    return {
        "def": plain,
        "async def": waiting,
        "lambda": lambda *args: plain(*args),
        "lambda that gives a coroutine": lambda *args: waiting(*args),
        "bound method": Plain().method,
        "async bound method": Waiting().method,
        "async class method": Waiting.of_class,
        "partial": partial(plain),
        "async partial": partial(waiting),
        "object": Plain(),
        "async object": Waiting(),
        "staticmethod": Plain.static,
        "async staticmethod": Waiting.static,
        "decorated": decorated(plain),
        "async decorated": decorated(waiting),
    }


KINDS = list(kinds([]))


async def as_listener(app: Apex, function: Function) -> None:
    app.service("notes").on("created", function)


async def as_once(app: Apex, function: Function) -> None:
    app.service("notes").once("created", function)


async def as_listener_of_the_app(app: Apex, function: Function) -> None:
    app.on("stored", function)
    app.service("notes").on("created", lambda note, context: app.emit("stored", note, context))


async def as_publisher(app: Apex, function: Function) -> None:
    app.events.connections.add(Connection())
    app.publish("created", function)


PLACES: dict[str, Callable[[Apex, Function], Coroutine[Any, Any, None]]] = {
    "listener": as_listener,
    "once": as_once,
    "app listener": as_listener_of_the_app,
    "publisher": as_publisher,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_called_with_the_record_and_the_context(kind: str, place: str) -> None:
    called: Called = []
    app = Apex().use("notes", MemoryService())
    await PLACES[place](app, kinds(called)[kind])
    await app.service("notes").create({"text": "a"})
    await app.teardown()
    ((note, context),) = called
    assert (note, context.path, app.callbacks.failed) == ({"text": "a", "id": 0}, "notes", 0)


async def test_the_listeners_of_a_call_have_run_when_it_answers_in_the_order_they_were_added() -> None:
    heard: list[str] = []

    def listener(name: str, turns: int) -> Function:
        async def listen(note: Any, context: Context) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            heard.append(f"{name} {note['id']}")

        return listen

    notes = Apex().use("notes", MemoryService(multi=True)).service("notes")
    notes.on("created", listener("slow", 5))
    notes.on("created", lambda note, context: heard.append(f"plain {note['id']}"))
    notes.on("created", listener("quick", 1))
    await notes.create([{}, {}])
    assert heard == ["plain 0", "plain 1", "slow 0", "quick 0", "slow 1", "quick 1"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_it_raises_is_logged_and_counted_and_changes_no_answer(
    is_async: bool, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("lost")

    async def fail_later(*args: Any) -> None:
        await asyncio.sleep(0)
        fail()

    app = Apex().use("notes", MemoryService())
    await PLACES[place](app, fail_later if is_async else fail)
    with caplog.at_level(logging.ERROR, "apex"):
        assert await app.service("notes").create({"text": "a"}) == {"text": "a", "id": 0}
        await app.teardown()
    assert app.callbacks.failed == 1
    (line,) = caplog.messages
    assert ("stored" if "app" in place else "created") in line
    assert "fail_later" in line if is_async else line.endswith("fail")
    assert "KeyError: 'lost'" in caplog.text


async def test_a_failing_listener_keeps_no_other_from_being_called() -> None:
    heard: list[int] = []

    async def fail(*args: Any) -> None:
        raise KeyError

    async def hear(*args: Any) -> None:
        heard.append(1)

    app = Apex().use("notes", MemoryService())
    for listener in (fail, hear, fail, lambda *args: heard.append(2)):
        app.service("notes").on("created", listener)
    await app.service("notes").create({})
    assert (heard, app.callbacks.failed) == ([2, 1], 2)


async def test_emit_returns_at_once_and_a_teardown_waits_for_what_it_started() -> None:
    app, heard, ready = Apex(), [], asyncio.Event()

    async def listen(text: str) -> None:
        await ready.wait()
        heard.append(text)

    app.on("said", listen)
    app.emit("said", "hello")
    assert heard == []
    asyncio.get_running_loop().call_soon(ready.set)
    await app.teardown()
    assert heard == ["hello"]


async def test_emit_in_a_thread_runs_an_async_listener_in_the_loop_of_the_app() -> None:
    app, heard = await Apex().setup(), asyncio.Event()

    async def listen() -> None:
        heard.set()

    app.on("done", listen)
    await asyncio.to_thread(app.emit, "done")
    await heard.wait()
    await app.teardown()


def test_emit_without_a_loop_says_that_an_async_listener_needs_one() -> None:
    async def listen() -> None: ...

    app = Apex()
    app.on("done", listen)
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        app.emit("done")


async def test_a_teardown_cancels_what_takes_longer_than_its_grace(caplog: pytest.LogCaptureFixture) -> None:
    app, ended = Apex(), []

    async def listen() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    app.on("said", listen)
    app.emit("said")
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR, "apex"):
        await app.callbacks.drain(0)
    assert (ended, app.callbacks.tasks) == ([True], set())
    assert "1 callbacks were cancelled" in caplog.text


async def test_a_listener_of_once_is_called_once_and_can_be_taken_away() -> None:
    heard: list[str] = []

    async def listen(text: str) -> None:
        heard.append(text)

    app = Apex()
    app.once("said", listen)
    await app.emit_and_wait("said", "a")
    await app.emit_and_wait("said", "b")
    app.once("said", listen)
    app.off("said", listen)
    await app.emit_and_wait("said", "c")
    assert (heard, app.listens("said")) == (["a"], False)


async def test_the_listeners_of_a_unit_of_work_have_run_when_it_ends(empty_url: str) -> None:
    table = Table("notes", MetaData(), Column("id", Integer, primary_key=True))
    heard: list[int] = []

    async def listen(note: Any, context: Context) -> None:
        await asyncio.sleep(0)
        heard.append(note["id"])

    app = Apex().configure(database(empty_url)).use("notes", SQLService(table))
    app.service("notes").on("created", listen)
    await app.setup()
    await app.get("database").create_all(table.metadata)
    async with app.get("database").transaction():
        await app.service("notes").create({"id": 1})
        await app.service("notes").create({"id": 2})
        assert heard == []
    assert heard == [1, 2]
    await app.teardown()


async def test_a_caller_that_is_cancelled_keeps_no_listener_from_its_end() -> None:
    begun, go_on, heard = asyncio.Event(), asyncio.Event(), []

    async def listen(note: Any, context: Context) -> None:
        begun.set()
        await go_on.wait()
        heard.append(note["id"])

    app = Apex().use("notes", MemoryService())
    app.service("notes").on("created", listen)
    call = asyncio.create_task(app.service("notes").create({}))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    await app.teardown()
    assert heard == [0]


@pytest.mark.parametrize("wrong", [None, "listen", 1])
def test_what_cannot_be_called_is_no_listener(wrong: Any) -> None:
    for add in (Apex().on, Apex().once):
        with pytest.raises(TypeError, match="A listener of 'said' must be a function"):
            add("said", wrong)


def test_an_async_function_cannot_configure_an_app() -> None:
    async def routes(app: Apex) -> None: ...

    with pytest.raises(TypeError, match=r"configure takes a 'def' function, and .*routes is 'async def'"):
        Apex().configure(routes)
