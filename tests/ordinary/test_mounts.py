"""An app below a path of another ASGI application, behind a proxy's prefix and inside of ASGI middleware."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
from httpx2 import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.routing import Mount

from apex import Apex, MemoryService, Params, Service, rest, sockets
from apex.cli.loading import load_app
from apex.errors import ConfigError
from apex.observability.health import health
from apex.openapi import routes
from tests.process.commands import COMMAND, QUICK, ROOT, environment, lines, printed_url
from tests.support.serving import serving
from tests.support.sockets import Peer, opened
from tests.support.waiting import SECONDS


class Echo(Service):
    async def find(self, params: Params) -> Any:
        return params.query

    async def get(self, id: Any, params: Params) -> Any:
        return {"id": id, "route": params.route}


def inner() -> Apex:
    app = Apex()
    app.configure(lambda app: rest(app, routes=[*routes(app), *health(app)])).configure(sockets)
    app.use("notes", MemoryService()).use("echo", Echo()).use("groups/:group/echo", Echo())
    app.on("connection", app.channel("all").join)
    return app.publish(lambda data, context: app.channel("all"))


def mounted(path: str, app: Apex) -> Starlette:
    return Starlette(routes=[Mount(path, app)], lifespan=app.lifespan)


async def connected(peer: Peer) -> Peer:
    await peer.frame()
    await peer.send("40")
    assert (await peer.frame()).startswith('40{"sid":"')
    return peer


@pytest.mark.parametrize("path", ["/api", "/a/b/c", "/with space", "/{tenant}", "/{tenant:path}/api"])
async def test_services_are_below_the_path_of_a_mount(path: str) -> None:
    at = path.replace("{tenant}", "acme").replace("{tenant:path}", "a%2Fb").replace(" ", "%20")
    async with serving(mounted(path, inner())) as http:
        assert (await http.post(f"{at}/notes", json={"text": "a"})).json() == {"text": "a", "id": 0}
        assert (await http.get(f"{at}/notes/0")).json()["text"] == "a"
        assert (await http.get(f"{at}/groups/7/echo/a%2Fb")).json() == {"id": "a/b", "route": {"group": "7"}}
        assert (await http.get(f"{at}/echo?a=1")).json() == {"a": "1"}
        assert (await http.get(f"{at}/nope")).json()["name"] == "NotFound"
        assert (await http.get(f"{at}/healthz")).status_code == 200


async def test_a_mount_within_a_mount() -> None:
    app = inner()
    outer = Starlette(routes=[Mount("/one", Starlette(routes=[Mount("/two", app)]))], lifespan=app.lifespan)
    async with serving(outer) as http:
        assert (await http.get("/one/two/notes")).json() == []
        assert (await http.get("/one/notes")).status_code == 404


async def test_the_document_and_its_page_say_where_they_are() -> None:
    async with serving(mounted("/api", inner())) as http:
        page = await http.get("/api/docs", follow_redirects=True)
        assert (page.status_code, page.url.path) == (200, "/api/docs/")
        document = (await http.get("/api/openapi.json")).json()
        assert (document["servers"], "/notes" in document["paths"]) == ([{"url": f"{http.base_url}/api"}], True)


async def test_one_app_says_where_it_is_at_each_of_its_places() -> None:
    app = inner()
    outer = Starlette(routes=[Mount("/api", app), Mount("/", app)], lifespan=app.lifespan)
    async with serving(outer) as http:
        places = [(await http.get(f"{at}/openapi.json")).json().get("servers") for at in ("/api", "", "/api")]
    root = str(http.base_url)
    assert places == [[{"url": f"{root}/api"}], [{"url": root}], [{"url": f"{root}/api"}]]


async def test_sockets_are_below_the_path_of_a_mount() -> None:
    async with serving(mounted("/api", inner())) as http:
        below = AsyncClient(base_url=f"{http.base_url}/api")
        async with below, opened(below) as peer:
            await connected(peer)
            assert (await http.post("/api/notes", json={"text": "a"})).status_code == 201
            assert await peer.event() == ["notes created", {"text": "a", "id": 0}]
            assert (await peer.call("find", "notes"))[1] == [{"text": "a", "id": 0}]
        assert (await http.get("/api/socket.io/socket.io.js")).status_code == 200
        assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 404


async def test_a_root_path_of_the_server_is_no_part_of_a_service() -> None:
    async with serving(inner(), root_path="/prefix") as http, opened(http) as peer:
        await connected(peer)
        assert (await http.get("/notes")).json() == []
        assert (await http.get("/openapi.json")).json()["servers"] == [{"url": f"{http.base_url}/prefix"}]
        assert (await http.get("/docs")).headers["location"] == "/prefix/docs/"


async def test_a_server_may_leave_the_root_path_out_of_the_path() -> None:
    app = inner()
    async with (
        app.lifespan(),
        AsyncClient(transport=ASGITransport(app, root_path="/prefix"), base_url="http://apex") as http,
    ):
        assert (await http.get("/notes")).json() == []


async def test_lifespan_sets_up_and_tears_down() -> None:
    done: list[str] = []

    class Heard(Echo):
        async def setup(self, app: Apex, path: str) -> None:
            done.append("setup")

        async def teardown(self, app: Apex, path: str) -> None:
            done.append("teardown")

    async with serving(mounted("/api", Apex().configure(rest).use("heard", Heard()))):
        assert done == ["setup"]
    assert done == ["setup", "teardown"]


WRAPPED = """
from apex import Apex, rest, sockets

class Words:
    async def find(self, params):
        return ["WORD"]

class Stamp:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"yes")]
            await send(message)
        await self.app(scope, receive, stamped)

def create_app():
    return Stamp(Stamp(Apex({"port": 0}).configure(rest).configure(sockets).use("words", Words())))

def closed():
    app = Apex().configure(rest)
    return lambda scope, receive, send: app(scope, receive, send)
"""


@pytest.mark.parametrize("options", [[], ["--reload"]])
def test_an_app_inside_of_middleware_is_served(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "wrapped.py").write_text(WRAPPED)
    command = [*COMMAND, "--app", "wrapped:create_app", "serve", *options]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(**QUICK, PYTHONPATH=str(ROOT)), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            url = printed_url(process)
            answer = httpx2.get(f"{url}/words")
            assert (answer.json(), answer.headers.get_list("x-stamp")) == (["WORD"], ["yes", "yes"])
            if options:
                (tmp_path / "wrapped.py").write_text(WRAPPED.replace("WORD", "changed"))
                assert process.stdout is not None
                assert any(line == "All workers are replaced.\n" for line in lines(process.stdout))
                assert httpx2.get(f"{url}/words").json() == ["changed"]
        finally:
            process.terminate()
            process.wait(SECONDS)


def test_commands_find_the_app_inside_of_middleware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrapped_for_commands.py").write_text(WRAPPED)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(load_app("wrapped_for_commands:create_app").services) == ["words"]
    with pytest.raises(ConfigError, match=r"'wrapped_for_commands:closed' makes a function: .* as its attribute 'app'"):
        load_app("wrapped_for_commands:closed")


def test_a_command_takes_the_name_of_an_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named_for_commands.py").write_text(f"{WRAPPED}\n\nwrapped, words = create_app(), ['a list']\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = load_app("named_for_commands:wrapped")
    assert (list(app.services), app.get("isCommand")) == (["words"], True)
    with pytest.raises(ConfigError, match="'named_for_commands:words' makes a list: it must make an Apex"):
        load_app("named_for_commands:words")
