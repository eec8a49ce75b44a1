"""Logs: a line for each call, one way out for all, and no secret in any of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import AsyncClient

from apex import Apex, Context, MemoryService, load_config, rest
from apex.errors import Forbidden
from apex.observability.logs import logs
from services.app import CONFIG, create_app
from tests.process.commands import server
from tests.process.test_serve import ADMIN, log_in
from tests.support.serving import calling, serving
from tests.support.sockets import connected, opened

CANARY = "canary-8f2c11d0"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOiJjYW5hcnkifQ.canary-canary"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Tests after this one have the handlers of before. What clients say of themselves is no line of the app."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    clients = [logging.getLogger(name) for name in ("httpx2", "httpcore2", "websockets.client")]
    for client in clients:
        client.setLevel("WARNING")
    yield
    for client in clients:
        client.setLevel("NOTSET")
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def site(**settings: Any) -> Apex:
    def fail(context: Context) -> None:
        raise Forbidden("Not you") if context.id == "1" else KeyError(context.params.headers.get("x-api-key"))

    app = Apex({"env": "production", **settings}).configure(rest)
    return app.use("notes", MemoryService(), hooks={"before": {"get": [fail]}})


async def test_each_call_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    app = site().configure(logs)
    async with serving(app) as client:
        await client.get("/notes", headers={"X-Request-Id": "abc"})
        await client.get("/notes/1")
        await client.get("/nothing")
    found, refused = lines(capsys.readouterr().err)
    assert found.pop("ms") > 0
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "call", "level": "info", "request_id": "abc", "provider": "rest", "service": "notes", "method": "find",
        "status": 200,
    }  # fmt: skip
    assert (refused["status"], refused["error"]) == (403, "Forbidden")
    assert refused["hook"] == "tests.observability.test_logs.site"


async def test_an_unexpected_error_is_told_with_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(site().configure(logs)) as client:
        await client.get("/notes/2", headers={"X-Request-Id": "abc", "x-api-key": CANARY})
    said = capsys.readouterr().err
    failed, call = lines(said)
    assert (failed["level"], failed["logger"], failed["request_id"]) == ("error", "apex", "abc")
    assert "KeyError" in failed["exception"]
    assert (call["level"], call["status"], call["error"]) == ("error", 500, "KeyError")
    assert CANARY not in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"level": "warning"}, False), ({"format": "text"}, True), ({"level": "debug"}, True)],
)
async def test_level_and_format_are_configured(
    settings: dict[str, str], said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    app = site(logs=settings).configure(logs)
    async with serving(app) as client:
        await client.get("/notes")
    text = capsys.readouterr().err
    assert ("notes" in text) is said
    assert text.startswith("{") is (settings.get("level") == "debug")


async def test_what_looks_like_a_secret_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    site().configure(logs)
    log = logging.getLogger("apex")
    log.warning("token %s of postgresql://me:%s@host/name", JWT, CANARY)
    log.warning("GET /contacts?token=%s&a=1&api_key=%s", CANARY, CANARY)
    log.warning("told", extra={"password": CANARY, "inner": {"apiKey": CANARY, "list": [f"Bearer {CANARY}"]}})
    logging.getLogger("of.a.library").error("key apex_0123456789ab_%s", CANARY)
    said = capsys.readouterr().err
    assert len(lines(said)) == 4
    assert "canary" not in said


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/contacts?organization_id=456", {"headers": {"authorization": f"Bearer {CANARY}"}}),
    ("GET", "/contacts?organization_id=456", {"headers": {"authorization": f"Bearer {JWT}"}}),
    ("GET", "/contacts", {"headers": {"x-api-key": CANARY}}),
    ("GET", "/contacts", {"headers": {"x-api-key": CANARY, "x-request-id": CANARY}}),
    ("GET", "/contacts", {"headers": {"x-request-id": JWT}}),
    ("GET", f"/contacts?token={CANARY}&password[$ne]={CANARY}", {}),
    ("POST", "/authentication", {"json": {"strategy": "local", "email": "admin@example.com", "password": CANARY}}),
    ("POST", "/authentication", {"json": {"strategy": "local", "email": 1, "password": {"a": CANARY}}}),
    ("POST", "/authentication", {"json": {"strategy": "jwt", "accessToken": CANARY}}),
    ("POST", "/authentication", {"content": f'{{"password": "{CANARY}"', "headers": {"content-type": "text/json"}}),
    ("DELETE", f"/authentication/{CANARY}", {}),
    ("POST", "/contacts", {"json": {"password": CANARY}, "headers": {"x-service-method": CANARY}}),
    ("PUT", "/contacts", {"json": {"secret": CANARY}}),
    ("POST", "/batch", {"json": {"calls": [["create", "authentication", {"strategy": "local", "password": CANARY}]]}}),
    ("POST", "/broken", {"json": {"password": CANARY}, "headers": {"x-api-key": CANARY}}),
    ("POST", "/api/webhook/crm", {"json": {}, "headers": {"x-signature": CANARY, "x-api-key": CANARY}}),
]


class Broken:
    """Fails with all that it was given."""

    async def create(self, data: Any, params: Any) -> Any:
        raise RuntimeError(f"{data!r} {params!r}")


async def test_no_secret_of_any_failing_request_is_logged(demo_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"APEX_ENV": "test", "DATABASE_URL": demo_url, "LOG_LEVEL": "debug", "LOG_FORMAT": "json"}
    app = create_app(load_config(CONFIG, given)).use("broken", Broken()).configure(logs)
    async with calling(app) as client:
        for verb, path, options in REQUESTS:
            response = await client.request(verb, path, **options)
            assert response.status_code >= 400 or path == "/batch", response.text
    said = capsys.readouterr().err
    assert len([line for line in lines(said) if line["event"] == "call"]) == len(REQUESTS) + 1
    assert "canary" not in said


FRAMES: list[str] = [
    f'["create","authentication",{{"strategy":"local","email":"admin@example.com","password":"{CANARY}"}}]',
    f'["create","authentication",{{"strategy":"jwt","accessToken":"{CANARY}"}}]',
    f'["create","authentication",{{"strategy":"jwt","accessToken":"{JWT}"}}]',
    f'["create","authentication",{{"password":"{CANARY}"',
    f'["remove","authentication","{CANARY}"]',
    f'["create","contacts",{{"organization_id":456,"first_name":"Jane","password":"{CANARY}"}}]',
    f'["find","contacts",{{"organization_id":456,"password":{{"$ne":"{CANARY}"}}}}]',
    f'["find","contacts",{{"organization_id":456,"token":"{CANARY}"}}]',
    f'["{CANARY}","contacts",{{"secret":"{CANARY}"}}]',
    f'["get","{CANARY}",1]',
    f'["create","batch",{{"calls":[["create","authentication",{{"strategy":"local","password":"{CANARY}"}}]]}}]',
    f'["create","broken",{{"password":"{CANARY}"}},{{"token":"{CANARY}"}}]',
]


async def test_no_secret_of_any_call_over_a_socket_is_logged(demo_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"APEX_ENV": "test", "DATABASE_URL": demo_url, "LOG_LEVEL": "debug", "LOG_FORMAT": "json"}
    app = create_app(load_config(CONFIG, given)).use("broken", Broken()).configure(logs)
    async with serving(app) as client:
        token = app.get("defaultAuthentication").tokens.create(789)[0]
        for headers in ({"Authorization": f"Bearer {CANARY}"}, {"x-api-key": CANARY}):
            async with opened(client, additional_headers=headers) as peer:
                await peer.send("40")
                assert (await peer.frames(2))[1].startswith("44")
        async with connected(client, additional_headers={"Authorization": f"Bearer {token}"}) as peer:
            for frame in FRAMES:
                error, *settled = await peer.ask(frame)
                assert error or settled[0][0]["status"] == "rejected"
    said = capsys.readouterr().err
    calls = [line for line in lines(said) if line["event"] == "call"]
    assert [line["provider"] for line in calls] == ["socketio"] * (2 + 1 + len(FRAMES) + 1)
    assert all(line.get("request_id", "x") for line in calls)
    assert "canary" not in said
    assert token not in said


async def test_calls_over_a_socket_are_told_with_their_caller(demo_sqlite_url: str) -> None:
    given = {"DATABASE_URL": demo_sqlite_url, "LOG_LEVEL": "info", "LOG_FORMAT": "json"}
    with server("serve", **given) as (process, url):
        async with AsyncClient(base_url=url) as client, connected(client) as peer:
            await peer.call("create", "authentication", ADMIN)
            await peer.call("find", "contacts", {"organization_id": 456})
            await peer.call("get", "contacts", 201)
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr is not None
        said = lines(process.stderr.read())
    assert [(line["provider"], line["service"], line["method"], line["status"]) for line in said] == [
        ("socketio", "authentication", "create", 201), ("socketio", "contacts", "find", 200),
        ("socketio", "contacts", "get", 403),
    ]  # fmt: skip
    assert [(line["user"], line["organization_id"]) for line in said[1:]] == [(789, 456), (789, 456)]
    assert len({line["request_id"] for line in said}) == 3
    assert said[2]["error"] == "Forbidden"


def test_a_server_logs_who_called(demo_sqlite_url: str) -> None:
    with server("serve", DATABASE_URL=demo_sqlite_url, LOG_LEVEL="info", LOG_FORMAT="json") as (process, url):
        with log_in(url) as client:
            client.get("/contacts?organization_id=456").raise_for_status()
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr is not None
        said = lines(process.stderr.read())
    assert [(line["service"], line["method"], line["status"]) for line in said] == [
        ("authentication", "create", 201), ("contacts", "find", 200),
    ]  # fmt: skip
    assert (said[1]["user"], said[1]["organization_id"]) == (789, 456)
