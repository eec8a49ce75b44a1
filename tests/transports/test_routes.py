"""Plain routes next to the services, and the plug-ins that add them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from apex import Apex, MemoryService, batch, rest
from apex.observability import health, metrics
from apex.openapi import openapi, routes
from apex.transports import page
from tests.support.serving import serving

PATHS = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/", "/notes")


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.mark.parametrize("plugins", list(permutations([rest, health, metrics, openapi]))[::5])
async def test_plug_ins_may_come_before_or_after_the_transport(plugins: list[object]) -> None:
    app = Apex({"metrics": True}).use("notes", MemoryService())
    for plugin in plugins:
        app.configure(plugin)  # type: ignore[arg-type]
    async with serving(app.configure(batch)) as client:
        assert [(await client.get(path)).status_code for path in PATHS] == [200] * len(PATHS)
        assert (await client.post("/batch", json={"calls": [["find", "notes"]]})).status_code == 201


async def test_a_route_may_be_added_while_the_app_serves(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>Welcome")
    app = Apex().configure(rest)
    async with serving(app) as client:
        assert (await client.get("/hello")).status_code == 404
        app.routes.append(Route("/hello", hello))
        app.routes += page("/welcome", tmp_path)
        assert (await client.get("/hello")).text == "hello"
        assert (await client.get("/welcome/")).text == "<p>Welcome"


async def test_routes_that_the_transport_is_given_are_added_once() -> None:
    app = Apex({"metrics": True})
    app.configure(lambda app: rest(app, routes=[Route("/hello", hello), *health(app), *metrics(app), *routes(app)]))
    paths = [route.path for route in app.routes]
    assert sorted(paths) == ["/docs", "/docs", "/healthz", "/hello", "/metrics", "/openapi.json", "/readyz"]
    async with serving(app) as client:
        assert [(await client.get(path)).status_code for path in ("/hello", "/healthz", "/docs/")] == [200] * 3
