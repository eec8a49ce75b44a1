"""Observations: each call from outside is told of once, with its end, its caller and its parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from httpx2 import AsyncClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apex import Apex, Context, HookMap, MemoryService, Next, batch, database, rest, sockets
from apex.common import disallow, iff
from apex.errors import Conflict, Forbidden
from apex.observability.observations import Observation, time_database
from apex.observability.tracing import tracing
from tests.support.serving import serving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Asking:
    """Asks the database, or fails."""

    def __init__(self, app: Apex) -> None:
        self.app = app

    async def find(self, params: Any) -> list[Any]:
        async with self.app.get("database").transaction():
            return list(await self.app.get("database").executor.fetch("SELECT 1", {}))

    async def get(self, id: Any, params: Any) -> Any:
        raise Forbidden("The method's own")


def refuse(context: Context) -> None:
    raise Forbidden("The hook's")


def site(url: str, **settings: Any) -> Apex:
    app = Apex(settings).configure(database(url)).configure(time_database).configure(rest).configure(sockets)
    app.configure(batch)
    app.use("asking", Asking(app))
    return app.use("refusing", Asking(app), hooks={"before": {"find": [iff(True, refuse)]}})


def heard(app: Apex) -> list[Observation]:
    seen: list[Observation] = []
    app.on("observation", seen.append)
    return seen


async def test_calls_of_a_batch_are_told_each(sqlite_url: str) -> None:
    app = site(sqlite_url)
    seen = heard(app)
    async with serving(app) as client:
        calls = [["find", "asking"], ["get", "asking", 1], ["find", "nowhere"]]
        await client.post("/batch", json={"calls": calls}, headers={"X-Request-Id": "abc"})
    told = sorted((one.path, one.method, one.status, one.request_id) for one in seen)
    assert told == [
        ("", "", 404, "abc"), ("asking", "find", 200, "abc"), ("asking", "get", 403, "abc"),
        ("batch", "create", 201, "abc"),
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "hook"), [("/refusing", f"{__name__}.refuse"), ("/asking/1", None)])
async def test_an_error_names_the_hook_that_raised_it(sqlite_url: str, path: str, hook: str | None) -> None:
    app = site(sqlite_url, timing=True)
    async with serving(app) as client:
        assert (await client.get(path)).headers.get("x-apex-hook") == hook


class run_steps:
    """A hook with the name of what runs hooks."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def __call__(self, context: Context) -> None:
        raise self.error


class run:
    """An around hook with the name of what calls methods."""

    async def wrapped(self, context: Context, next: Next) -> None:
        await next()
        raise Forbidden("Too late")


async def replace(context: Context, next: Next) -> None:
    try:
        await next()
    except Forbidden:
        raise Conflict("Another error") from None


async def let_through(context: Context, next: Next) -> None:
    await next()


def fail(context: Context) -> None:
    raise Conflict("The error hook's")


async def ask(context: Context) -> None:
    await context.app.service("refusing").find()


HERE = f"{__name__}."


@pytest.mark.parametrize(
    ("path", "hooks", "expected"),
    [
        ("/1", {"before": refuse}, f"{HERE}refuse"), ("", {"after": [lambda context: None, refuse]}, f"{HERE}refuse"),
        ("/1", {"around": let_through, "before": refuse}, f"{HERE}refuse"), ("/1", {"around": let_through}, None),
        ("", {"before": run_steps(Forbidden("x"))}, f"{HERE}run_steps"),
        ("", {"around": run().wrapped}, f"{HERE}run.wrapped"),
        ("/1", {"around": [let_through, replace]}, f"{HERE}replace"),
        ("", {"before": partial(refuse)}, f"{HERE}refuse"),
        ("", {"before": refuse, "error": fail}, f"{HERE}fail"), ("/1", {"error": lambda context: None}, None),
        ("", {"before": refuse, "error": lambda context: None}, f"{HERE}refuse"),
        ("", {"before": ask}, f"{HERE}refuse"),
        ("", {"after": lambda context: 5}, f"{HERE}<lambda>"),
        ("", {"before": disallow()}, "apex.common.conditions.disallow"),
        ("", {"before": iff(True, iff(True, refuse))}, f"{HERE}refuse"), ("", {"around": [let_through]}, None),
    ],
)  # fmt: skip
async def test_the_hook_that_raised_is_known_whatever_it_is_called(
    sqlite_url: str, path: str, hooks: HookMap, expected: str | None
) -> None:
    app = site(sqlite_url)
    seen = heard(app)
    app.use("hooked", Asking(app), hooks=hooks)
    async with serving(app) as client:
        await client.get(f"/hooked{path}")
    assert [one.hook for one in seen] == [expected]


def durations(header: str) -> dict[str, float]:
    return {name: float(text) for name, text in (one.split(";dur=") for one in header.split(", "))}


async def test_a_developer_sees_where_the_time_went(empty_url: str) -> None:
    async with serving(site(empty_url, timing=True)) as client:
        taken = durations((await client.get("/asking")).headers["server-timing"])
    assert list(taken) == ["hooks", "database", "encode"]
    assert taken["database"] > 0


async def test_nobody_else_does(sqlite_url: str) -> None:
    async with serving(site(sqlite_url)) as client:
        for path in ("/asking", "/refusing"):
            headers = (await client.get(path)).headers
            assert not {"server-timing", "x-apex-hook"} & set(headers)


async def traced(app: Apex, path: str, **headers: str) -> list[Any]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing(app, provider)
    async with serving(app) as client:
        await _asked(client, path, headers)
    return list(exporter.get_finished_spans())


async def _asked(client: AsyncClient, path: str, headers: dict[str, str]) -> None:
    assert "server-timing" not in (await client.get(path, headers=headers)).headers


async def test_a_call_is_a_span_with_those_of_the_database(empty_url: str) -> None:
    *parts, call = await traced(site(empty_url, tracing=True), "/asking", traceparent=PARENT)
    assert call.name == "asking find"
    assert f"{call.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{call.parent.span_id:016x}" == PARENT.split("-")[2]
    asked = [part for part in parts if part.name == "database"]
    assert [part.attributes["db.query.text"] for part in asked] == ["BEGIN", "SELECT 1", "COMMIT"]
    assert {part.parent.span_id for part in parts} == {call.context.span_id}
    assert all(call.start_time <= part.start_time <= part.end_time for part in parts)


async def test_an_error_is_told_by_its_span(sqlite_url: str) -> None:
    (call,) = await traced(site(sqlite_url, tracing=True), "/refusing")
    assert call.attributes["error.type"] == "Forbidden"
    assert call.attributes["http.response.status_code"] == 403
    assert call.parent is None


async def test_a_call_whose_hooks_use_memory_alone_is_told_once() -> None:
    app = Apex().configure(rest).use("notes", MemoryService())
    seen = heard(app)
    async with serving(app) as client:
        await client.get("/notes")
    assert [(one.path, one.method, one.status, one.hook) for one in seen] == [("notes", "find", 200, None)]
