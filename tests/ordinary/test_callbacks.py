"""Callbacks of every kind in every place that takes one: each is called, and awaited if it can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from apex import (
    Apex,
    Connection,
    Context,
    MemoryService,
    Next,
    Schema,
    SQLService,
    authenticate,
    database,
    validate_data,
    validate_query,
)
from apex.common import (
    disallow,
    discard,
    iff,
    is_provider,
    populate,
    prevent_changes,
    required,
    set_field,
    set_now,
    soft_delete,
    stash_before,
)
from apex.common.resolvers import OMIT, resolve, resolve_data, resolve_external, resolve_query, virtual
from apex.errors import FeathersError, NotAuthenticated
from apex.schema.validation import Text

Called = list[tuple[Any, ...]]
Function = Callable[..., Any]


def kinds(called: Called, returned: Any = None) -> dict[str, Function]:
    """Return functions of every kind that record their calls. Coroutines let the event loop run once first."""

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


async def as_before(app: Apex, function: Function) -> None:
    app.service("notes").hooks({"before": {"create": [function]}})


async def as_after(app: Apex, function: Function) -> None:
    app.service("notes").hooks({"after": {"create": function}})


async def as_error(app: Apex, function: Function) -> None:
    def fail(context: Context) -> None:
        raise KeyError

    app.hooks({"error": [function, lambda context: {"result": {"text": "a", "id": 0}}]})
    app.service("notes").hooks({"before": {"create": fail}})


HOOKS = {"before": as_before, "after": as_after, "error": as_error}

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


@pytest.mark.parametrize("place", HOOKS)
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_a_hook(kind: str, place: str) -> None:
    called: Called = []
    app = Apex().use("notes", MemoryService())
    await HOOKS[place](app, kinds(called)[kind])
    assert await app.service("notes").create({"text": "a"}) == {"text": "a", "id": 0}
    ((context,),) = called
    assert context.path == "notes"


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_it_returns_is_laid_over_the_context(kind: str, place: str) -> None:
    returned = {"data": {"text": "b"}} if place == "before" else {"result": {"text": "b", "id": 0}}
    app = Apex().use("notes", MemoryService())
    await HOOKS[place](app, kinds([], returned)[kind])
    assert await app.service("notes").create({"text": "a"}) == {"text": "b", "id": 0}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_around_hook_is_async_or_refused(kind: str) -> None:
    called: Called = []
    app, function = Apex().use("notes", MemoryService()), kinds(called)[kind]
    if "async" not in kind:
        with pytest.raises(TypeError, match=r"must be declared with 'async def', as an around hook awaits next\(\)"):
            app.service("notes").hooks({"around": [function]})
        return
    app.service("notes").hooks({"around": [function]})
    assert await app.service("notes").create({"text": "a"}) is None
    ((context, _),) = called
    assert context.path == "notes"


@pytest.mark.parametrize("method", ["setup", "teardown"])
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_a_services_setup_or_teardown(kind: str, method: str) -> None:
    called: Called = []

    class Notes(MemoryService):
        pass

    notes = Notes()
    setattr(notes, method, kinds(called)[kind])
    app = Apex().use("notes", notes)
    await app.setup()
    await app.teardown()
    assert called == [(app, "notes")]


@pytest.mark.parametrize("place", ["virtual", "value"])
@pytest.mark.parametrize("kind", KINDS)
async def test_it_resolves_a_property(kind: str, place: str) -> None:
    called: Called = []
    function = kinds(called, "b")[kind]
    resolver = resolve({"text": virtual(function) if place == "virtual" else function})
    app = Apex().use("notes", MemoryService(), hooks={"before": {"create": [resolve_data(resolver)]}})
    assert await app.service("notes").create({"text": "a"}) == {"text": "b", "id": 0}
    assert called[0][:-1] == (({"text": "a"},) if place == "virtual" else ("a", {"text": "a"}))


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_a_predicate(kind: str) -> None:
    for answer, text in ((True, None), (False, "a")):
        hook = iff(kinds([], answer)[kind], discard("text"))
        app = Apex().use("notes", MemoryService(), hooks={"before": {"create": [hook]}})
        assert (await app.service("notes").create({"text": "a"})).get("text") == text


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


def test_a_listener_may_be_an_object_with_every_attribute() -> None:
    class Remote:
        """A procedure of another server, as ``xmlrpc.client`` has them."""

        def __init__(self) -> None:
            self.calls: list[str] = []

        def __getattr__(self, name: str) -> str:
            return f"the attribute {name}"

        def __call__(self, text: str) -> None:
            self.calls.append(text)

    app, remote = Apex(), Remote()
    app.on("said", remote)
    app.emit("said", "a")
    assert remote.calls == ["a"]


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


class NoteSchema(Schema):
    text = Text(required=True, max=10)


SHIPPED: dict[str, tuple[str, Function]] = {
    "authenticate": ("before", lambda: authenticate("jwt")),
    "disallow": ("before", lambda: disallow("rest")),
    "iff": ("before", lambda: iff(is_provider("rest"), required("by"))),
    "nested iff": ("before", lambda: iff(True, iff(is_provider("rest"), disallow()).else_(required("text")))),
    "prevent_changes": ("before", lambda: prevent_changes("text")),
    "required": ("before", lambda: required("by")),
    "resolve_data": ("before", lambda: resolve_data(resolve({"text": lambda text, *_: text and text.upper()}))),
    "resolve_query": ("before", lambda: resolve_query(resolve({"text": lambda text, *_: "nothing"}))),
    "set_field": ("before", lambda: set_field(from_="params.provider", as_="data.text")),
    "set_now": ("before", lambda: set_now("at")),
    "soft_delete": ("before", soft_delete),
    "stash_before": ("before", lambda: iff(True, stash_before(), set_field(from_="params.before.id", as_="data.was"))),
    "validate_data": ("before", lambda: validate_data(NoteSchema)),
    "validate_query": ("before", lambda: validate_query),
    "populate": ("after", lambda: populate("same", service="others", key="id", fields=("text",))),
    "resolve_external": ("after", lambda: resolve_external(resolve({"text": lambda *_: OMIT}))),
    "set_field of the result": ("after", lambda: set_field(from_="params.provider", as_="result.by")),
}


async def answers(place: str, hook: Any) -> list[Any]:
    """Return the answers of a service with a hook in one place, call by call, to callers outside and inside."""
    app = Apex().use("others", MemoryService(store={0: {"id": 0, "text": "x"}}))
    app.use("notes", MemoryService(), hooks={place: {"all": [hook]}})
    found: list[Any] = []
    for provider in (None, "rest"):
        outside: dict[str, Any] = {"provider": provider}
        calls: list[tuple[str, dict[str, Any]]] = [
            ("create", {"data": {"text": "a"}}),
            ("find", {"params": {**outside, "query": {"text": "a"}}}),
            ("get", {"id": "0"}),
            ("patch", {"id": 0, "data": {"text": "b"}}),
            ("patch", {"id": 0, "data": {"by": "c"}}),
            ("remove", {"id": 0}),
        ]
        for method, arguments in calls:
            try:
                context = await app.service("notes")._run(method, **{"params": outside, **arguments})
                found.append(context.external)
            except FeathersError as error:
                found.append(error.to_dict())
    return found


@pytest.mark.parametrize("name", SHIPPED)
async def test_a_shipped_hook_does_the_same_among_around_hooks(name: str) -> None:
    place, make = SHIPPED[name]
    expected, found = await answers(place, make()), await answers("around", make())
    assert strip(found) == strip(expected)
    if name != "validate_query":  # It only says earlier what the adapter would say.
        assert expected != await answers(place, lambda context: None)


def strip(found: Any) -> Any:
    """Return an answer without its timestamps."""
    if isinstance(found, list):
        return [strip(one) for one in found]
    moments = ("at", "deleted_at")
    return {name: bool(value) if name in moments else value for name, value in found.items()}


async def test_iff_holds_around_hooks_among_around_hooks() -> None:
    trace: list[str] = []

    async def timed(context: Context, next: Next) -> None:
        trace.append("begin")
        await next()
        trace.append("end")

    app = Apex().use("notes", MemoryService(start_id=1))
    hooks = [iff(is_provider("rest"), authenticate("jwt")).else_(timed, set_now("at"))]
    app.service("notes").hooks({"around": hooks, "before": lambda context: trace.append("before")})
    assert "at" in await app.service("notes").create({})
    assert trace == ["begin", "before", "end"]
    with pytest.raises(NotAuthenticated):
        await app.service("notes").create({}, {"provider": "rest"})


@pytest.mark.parametrize(
    ("listener", "expected"),
    [(lambda: "nothing", "nothing"), (lambda note: note["id"], 0), (lambda note, context: context.path, "notes"),
     (lambda note, context, more=1: more, 1), (lambda *args: len(args), 2), (lambda note, *, more=2: more, 2)],
)  # fmt: skip
async def test_a_listener_takes_as_many_arguments_as_it_likes(listener: Function, expected: Any) -> None:
    heard: list[Any] = []

    @wraps(listener)
    def listen(*args: Any) -> None:
        heard.append(listener(*args))

    app = Apex().use("notes", MemoryService())
    app.service("notes").on("created", listen)
    app.service("notes").once("created", listen)
    await app.service("notes").create({})
    assert (heard, app.callbacks.failed) == ([expected, expected], 0)


async def test_a_publisher_may_take_the_data_alone(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Any] = []
    app = Apex().use("notes", MemoryService()).publish(asked.append)
    app.events.connections.add(Connection())
    await app.service("notes").create({})
    assert (asked, app.callbacks.failed) == ([{"id": 0}], 0)


@pytest.mark.parametrize("wrong", [lambda: None, lambda one, two, three: None])
def test_a_publisher_that_cannot_be_called_is_refused(wrong: Function) -> None:
    with pytest.raises(TypeError, match=r"cannot be called with \(data, context\), or with \(data\)"):
        Apex().publish(wrong)
    with pytest.raises(TypeError, match=r"publish\('created'\) needs a function"):
        Apex().use("notes", MemoryService()).service("notes").publish("created", 1)  # type: ignore[arg-type]


async def test_a_channel_that_is_filtered_by_an_async_function_sends_nothing() -> None:
    async def allowed(connection: Connection) -> bool:
        return False

    sent: list[Any] = []
    app = Apex().use("notes", MemoryService())
    connection = Connection()
    app.events.connections.add(connection)
    app.channel("all").join(connection)
    app.on("publish", lambda context, recipients: sent.append(recipients))
    app.publish(lambda data: app.channel("all").filter(allowed))
    await app.service("notes").create({})
    assert (sent, app.callbacks.failed) == ([], 1)
    with pytest.raises(TypeError, match="A channel is filtered by a 'def' function"):
        app.channel("all").leave(allowed)


def test_a_handler_of_the_bus_is_no_async_function() -> None:
    async def handle(message: Any) -> None: ...

    with pytest.raises(TypeError, match="A handler of 'topic' must be a 'def' function, and handle is 'async def'"):
        Apex().bus.on("topic", handle)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("event", ["created", "updated", "patched", "removed", "typing"])
async def test_it_hears_events_of_every_type(event: str, kind: str) -> None:
    called: Called = []
    app = Apex().use("notes", MemoryService(store={0: {"id": 0}}, events=["typing"]))
    notes = app.service("notes")
    notes.on(event, kinds(called)[kind])
    await notes.create({"id": 1})
    await notes.update(0, {"text": "a"})
    await notes.patch(0, {"text": "b"})
    await notes.remove(0)
    notes.emit("typing", "c")
    await app.teardown()
    ((item, *_),) = called
    assert item == {"created": {"id": 1}, "updated": {"text": "a", "id": 0}, "typing": "c"}.get(
        event, {"text": "b", "id": 0}
    )


async def test_callbacks_of_an_app_that_another_one_uses_are_that_ones() -> None:
    heard: list[int] = []

    async def listen(note: Any) -> None:
        await asyncio.sleep(0)
        heard.append(note["id"])
        raise KeyError

    inner = Apex().use("notes", MemoryService())
    inner.service("notes").on("typing", listen)
    app = await Apex().use("v1", inner).setup()
    app.service("v1/notes").emit("typing", {"id": 1})
    await app.teardown()
    assert (heard, app.callbacks.failed) == ([1], 1)


async def test_a_listener_whose_own_task_was_cancelled_has_failed_and_changes_no_answer() -> None:
    heard: list[Any] = []

    async def listen(note: Any) -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    async def hear(note: Any) -> None:
        heard.append(note)

    app = Apex().use("notes", MemoryService())
    app.service("notes").on("created", listen)
    app.service("notes").on("created", hear)
    assert await app.service("notes").create({}) == {"id": 0}
    assert (heard, app.callbacks.failed) == ([{"id": 0}], 1)


async def test_a_function_with_yield_would_never_run_and_is_refused() -> None:
    def session(context: Context) -> Any:
        yield context

    async def later(context: Context) -> Any:
        yield context

    class Session:
        def __call__(self, context: Context) -> Any:
            yield context

    app = Apex().use("notes", MemoryService())
    for function in (session, later, Session(), partial(session)):
        for kind in ("before", "after", "error"):
            with pytest.raises(TypeError, match="has 'yield'"):
                app.service("notes").hooks({kind: {"create": function}})
        with pytest.raises(TypeError, match="must not have 'yield'"):
            app.service("notes").on("created", function)
