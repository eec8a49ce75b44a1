"""The application: the registry of services, settings, setup and teardown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from apex.app import Apex
from apex.context import Context
from apex.errors import Unavailable
from apex.sql import database
from apex.transports.rest import rest

Next = Callable[[], Awaitable[None]]


class Echo:
    """Notes when it is set up and torn down."""

    def __init__(self, trace: list[Any] | None = None) -> None:
        self.trace = [] if trace is None else trace

    async def get(self, id: Any, params: Any) -> Any:
        return id

    async def setup(self, app: Apex, path: str) -> None:
        await asyncio.sleep(0)
        self.trace.append(("setup", path))

    async def teardown(self, app: Apex, path: str) -> None:
        await asyncio.sleep(0)
        self.trace.append(("teardown", path))


async def test_a_service_is_found_by_its_path() -> None:
    app = Apex().use("/chat/rooms/", Echo())
    for path in ("chat/rooms", "/chat/rooms", "chat/rooms/"):
        assert await app.service(path).get(1) == 1
    assert app.service("chat/rooms")._path == "chat/rooms"


def test_the_root_is_a_path() -> None:
    app = Apex().use("/", Echo())
    assert app.service("/") is app.service("") is app.services["/"]


def test_an_unknown_path_is_a_lookup_error() -> None:
    for path in ("nothing", "__class__", "toString", ""):
        with pytest.raises(LookupError, match="Can not find service"):
            Apex().service(path)


def test_a_path_is_a_text() -> None:
    path: Any
    for path in (None, 5, ["a"]):
        with pytest.raises(ValueError, match="is not a valid service path"):
            Apex().use(path, Echo())


def test_a_path_is_taken_once() -> None:
    app = Apex().use("notes", Echo())
    first = app.service("notes")
    with pytest.raises(ValueError, match="Path notes already exists"):
        app.use("/notes/", Echo())
    assert app.service("notes") is first


def test_paths_are_looked_up_with_placeholders_and_id() -> None:
    app = Apex().use("groups/:group/members", Echo())
    match = app.lookup(["groups", "7", "members", "9"])
    assert match is not None
    assert (match.target._path, match.route, match.id) == ("groups/:group/members", {"group": "7"}, "9")
    assert app.lookup(["groups"]) is None


async def test_a_removed_service_is_torn_down_and_gone() -> None:
    trace: list[Any] = []
    app = Apex().use("notes", Echo(trace))
    service = app.service("notes")
    assert await app.unuse("/notes/") is service
    assert (trace, app.lookup(["notes"]), dict(app.services)) == ([("teardown", "notes")], None, {})
    app.use("notes", Echo())
    with pytest.raises(LookupError):
        await app.unuse("other")


async def test_a_default_service_is_made_when_it_is_asked_for() -> None:
    app = Apex()
    app.default_service = lambda path: Echo([path])
    service = app.service("/made/up/")
    assert (service.trace, await service.get(1)) == (["made/up"], 1)
    assert app.service("made/up") is service


def test_settings_are_flat() -> None:
    app = Apex({"port": 1}).set("name", "x")
    assert (app.get("port"), app.get("name"), app.get("missing")) == (1, "x", None)


def test_configure_hands_over_the_app() -> None:
    app = Apex()
    assert app.configure(lambda configured: configured.set("done", configured)) is app
    assert app.get("done") is app


async def test_services_are_set_up_and_torn_down_in_their_order() -> None:
    trace: list[Any] = []
    app = Apex()
    for path in ("b", "a", "c"):
        app.use(path, Echo(trace))
    assert await app.setup() is app
    assert await app.teardown() is app
    assert trace == [(step, path) for step in ("setup", "teardown") for path in ("b", "a", "c")]


async def test_a_service_registered_after_setup_is_set_up() -> None:
    trace: list[Any] = []
    app = await Apex().setup()
    app.use("late", Echo(trace))
    while not trace:
        await asyncio.sleep(0)
    assert trace == [("setup", "late")]


async def test_a_service_registered_by_a_setup_hook_is_set_up_once() -> None:
    trace: list[Any] = []

    async def register(context: Context, next: Next) -> None:
        context.app.use("early", Echo(trace))
        await next()

    await Apex().hooks({"setup": [register]}).setup()
    await asyncio.sleep(0)
    assert trace == [("setup", "early")]


async def test_a_service_registered_after_teardown_waits_for_setup() -> None:
    trace: list[Any] = []
    app = await (await Apex().setup()).teardown()
    app.use("later", Echo(trace))
    await asyncio.sleep(0)
    assert trace == []


async def test_lifecycle_hooks_run_around_all_services() -> None:
    trace: list[Any] = []

    async def hook(context: Context, next: Next) -> None:
        trace.append(f"{context.method} >")
        await next()
        trace.append(f"< {context.method}")

    app = Apex().use("a", Echo(trace)).hooks({"setup": [hook], "teardown": hook})
    await (await app.setup()).teardown()
    assert trace == ["setup >", ("setup", "a"), "< setup", "teardown >", ("teardown", "a"), "< teardown"]


async def test_a_setup_that_fails_is_told() -> None:
    class Broken(Echo):
        async def setup(self, app: Apex, path: str) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await Apex().use("a", Broken()).setup()


async def test_a_setup_that_fails_midway_closes_what_it_has_opened(empty_url: str) -> None:
    trace: list[Any] = []

    class Broken(Echo):
        async def setup(self, app: Apex, path: str) -> None:
            raise RuntimeError("broken")

    app = Apex().configure(database(empty_url)).use("a", Echo(trace)).use("b", Broken(trace)).use("c", Echo(trace))
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="broken"):
        await app.setup()
    assert trace == [("setup", "a"), ("teardown", "a")]
    with pytest.raises(Exception, match=r"closed|cannot schedule|shutdown|cannot be reached"):
        await app.get("database").execute(select(1))
    assert threading.active_count() <= threads


async def test_a_database_that_cannot_be_opened_is_the_error_that_is_told(tmp_path: Path) -> None:
    app = Apex().configure(database(f"sqlite:///{tmp_path}")).use("a", Echo())
    with pytest.raises(Exception, match=r"open"):
        await app.setup()


async def test_a_teardown_that_fails_too_does_not_hide_why_the_setup_failed(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Echo):
        async def setup(self, app: Apex, path: str) -> None:
            raise RuntimeError("broken")

    async def teardown(context: Context, next: Next) -> None:
        raise ValueError("broken too")

    with pytest.raises(RuntimeError, match=r"^broken$"):
        await Apex().use("a", Broken()).hooks({"teardown": [teardown]}).setup()
    assert "The teardown after a setup that failed has failed too" in caplog.text


async def test_an_app_can_be_set_up_again_after_a_setup_that_failed() -> None:
    trace: list[Any] = []

    class Once(Echo):
        async def setup(self, app: Apex, path: str) -> None:
            self.trace.append("tried")
            if self.trace.count("tried") == 1:
                raise RuntimeError("broken")

    app = Apex().use("a", Once(trace))
    with pytest.raises(RuntimeError, match="broken"):
        await app.setup()
    await (await app.setup()).teardown()
    assert trace == ["tried", "tried", ("teardown", "a")]


class Late(Echo):
    """Takes its time to be set up, and calls itself as it is."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.begun, self.go, self.error = asyncio.Event(), asyncio.Event(), error

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        self.trace.append(await asyncio.gather(app.service(path).get(1), asyncio.create_task(app.service(path).get(2))))
        self.begun.set()
        await self.go.wait()
        if self.error:
            raise self.error


async def test_calls_wait_until_a_service_registered_after_setup_is_set_up() -> None:
    app, late = await Apex().setup(), Late()
    app.use("late", late).service("late").hooks({"before": lambda context: late.trace.append("hook")})
    calls = [asyncio.create_task(app.service("late").get(3)) for _ in range(2)]
    await late.begun.wait()
    assert late.trace == [("setup", "late"), "hook", "hook", [1, 2]]
    late.go.set()
    assert await asyncio.gather(*calls) == [3, 3]
    assert await app.service("late").get(4) == 4
    await app.teardown()
    assert late.trace[-1] == ("teardown", "late")


async def test_a_service_whose_late_setup_fails_refuses_its_calls(caplog: pytest.LogCaptureFixture) -> None:
    app, late = await Apex().setup(), Late(RuntimeError("broken"))
    call = asyncio.create_task(app.use("late", late).service("late").get(3))
    late.go.set()
    for refused in (call, app.service("late").get(4)):
        with pytest.raises(Unavailable, match="The service 'late' could not be set up") as raised:
            await refused
        assert isinstance(raised.value.__cause__, RuntimeError)
    assert "The setup of 'late' failed: its calls are refused" in caplog.text
    assert "RuntimeError: broken" in caplog.text
    await app.teardown()
    assert ("teardown", "late") not in late.trace


async def test_an_app_that_ends_waits_for_late_setups() -> None:
    app, late = await Apex().setup(), Late()
    app.use("late", late)
    await late.begun.wait()
    asyncio.get_running_loop().call_soon(late.go.set)
    await app.teardown()
    assert late.trace[-1] == ("teardown", "late")


def test_lifecycle_hooks_are_registered_apart() -> None:
    with pytest.raises(ValueError, match="'before' is not a lifecycle hook"):
        Apex().hooks({"setup": [], "before": []})


async def test_another_app_brings_its_services_along() -> None:
    trace: list[Any] = []
    inner = Apex().use("notes", Echo(trace)).use("/", Echo(trace))
    app = Apex().use("v1", inner)
    assert app.service("v1/notes") is inner.service("notes")
    assert app.service("v1") is inner.service("/")
    await app.setup()
    assert trace == [("setup", "v1/notes"), ("setup", "v1")]


async def test_an_app_inside_another_shares_hooks_and_events() -> None:
    heard: list[str] = []
    inner = Apex().use("notes", Echo()).hooks({"before": lambda context: heard.append("inner")})
    app = Apex().use("v1", inner).hooks({"before": lambda context: heard.append("outer")})
    inner.service("notes").on("shouted", heard.append)
    await app.service("v1/notes").get(1)
    app.service("v1/notes").emit("shouted", "event")
    assert heard == ["inner", "event"]


async def test_an_app_without_a_transport_says_so() -> None:
    async def nothing(*args: Any) -> Any: ...

    with pytest.raises(RuntimeError, match="The app has no transport"):
        await Apex()({"type": "http"}, nothing, nothing)


async def test_an_app_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    app = Apex().configure(database(f"sqlite:///{tmp_path}")).configure(rest)
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with pytest.raises(Unavailable):
        await app({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in said] == ["lifespan.startup.failed"]
    assert said[0]["message"].startswith(f"The database file {tmp_path} cannot be opened")
    assert "\n" not in said[0]["message"]
