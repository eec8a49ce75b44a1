"""Tests of the server: calls whose client has disconnected."""

from __future__ import annotations

import asyncio
import gc
import re
from typing import Any

import psycopg
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from apex import Apex, Context, MemoryService, Params, rest
from apex.errors import ConfigError
from apex.server.uvicorn import listening
from apex.sql import database
from tests.support.serving import serving
from tests.support.waiting import SECONDS


class Slow:
    """A service whose statements take long."""

    def __init__(self, app: Apex, seconds: int) -> None:
        self.app, self.seconds = app, seconds
        self.done = asyncio.Event()

    async def sleep(self) -> None:
        text = "SELECT pg_sleep(%(seconds)s)"
        await self.app.get("database").executor.fetch(text, {"seconds": self.seconds}, plan="anew")

    async def find(self, params: Params) -> list[Any]:
        await self.sleep()
        return []

    async def create(self, data: Any, params: Params) -> Any:
        await self.sleep()
        self.done.set()
        return data


def slow(url: str, seconds: int) -> tuple[Apex, Slow]:
    app = Apex().configure(rest).configure(database(url))
    service = Slow(app, seconds)
    app.use("slow", service)
    return app, service


async def at_work(url: str, statements: int) -> None:
    """Wait until this many statements of the service run."""
    text = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection, asyncio.timeout(SECONDS):
        while await (await connection.execute(text)).fetchall() != [(statements,)]:
            await asyncio.sleep(0.02)


async def leave(port: int, url: str, request: str) -> None:
    """Send a request, and disconnect when its statement runs."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode())
    writer.write(b"Content-Length: 2\r\n\r\n{}" if request.startswith("POST") else b"\r\n")
    await at_work(url, 1)
    writer.close()


async def test_a_read_ends_when_its_client_has_gone(postgres_url: str, caplog: Any) -> None:
    app, _ = slow(postgres_url, 60)
    async with serving(app) as client:
        await leave(client.base_url.port or 0, postgres_url, "GET /slow")
        await at_work(postgres_url, 0)
        assert (await client.get("/nothing")).status_code == 404
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "apex"))]


async def test_a_write_goes_on_when_its_client_has_gone(postgres_url: str) -> None:
    app, service = slow(postgres_url, 1)
    async with serving(app) as client:
        await leave(client.base_url.port or 0, postgres_url, "POST /slow")
        async with asyncio.timeout(SECONDS):
            await service.done.wait()


async def test_a_read_whose_client_waits_is_answered(postgres_url: str) -> None:
    app, _ = slow(postgres_url, 0)
    async with serving(app) as client:
        for _ in range(3):
            assert (await client.get("/slow")).json() == []


async def talk(port: int, requests: str) -> str:
    """Return all bytes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(requests.replace("\n", "\r\n").encode())
    async with asyncio.timeout(SECONDS):
        answered = (await reader.read()).decode().lower()
    writer.close()
    return answered


LAST = "GET /notes/0 HTTP/1.1\nHost: x\nConnection: close\n\n"
NOTE = '{"text":"hi","id":0}'


@pytest.mark.parametrize(
    ("requests", "statuses", "bodies"),
    [
        (LAST, ["200 ok"], 1),
        ("GET /notes/0 HTTP/1.0\n\n", ["200 ok"], 1),
        ("GET /notes/0 HTTP/1.1\nHost: x\n\n" * 2 + LAST, ["200 ok"] * 3, 3),
        ("HEAD /notes/0 HTTP/1.1\nHost: x\n\n" + LAST, ["200 ok"] * 2, 1),
        ("OPTIONS /notes HTTP/1.1\nHost: x\n\n" + LAST, ["405 method not allowed", "200 ok"], 1),
        (
            "POST /notes HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 13\n"
            'Expect: 100-continue\n\n{"text":"hi"}' + LAST,
            ["100 continue", "201 created", "200 ok"],
            1,
        ),
        (
            "POST /notes HTTP/1.1\nHost: x\nContent-Length: 2000000\nExpect: 100-continue\n\n" + LAST,
            ["413 request entity too large"],
            0,
        ),
    ],
)
async def test_each_request_of_a_connection_gets_its_whole_response(
    requests: str, statuses: list[str], bodies: int
) -> None:
    app = Apex().configure(rest).use("notes", MemoryService())
    async with serving(app) as client:
        await app.service("notes").create({"text": "hi"})
        answered = await talk(client.base_url.port or 0, requests)
    assert re.findall("http/1.1 (.+)\r\n", answered) == statuses
    assert (answered.count(NOTE), answered.count("connection: close")) == (bodies, 1)
    assert answered.count("x-request-id: ") == len([status for status in statuses if status != "100 continue"])


@pytest.mark.parametrize(
    "header",
    [
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "keep-alive, Close"),
        ("Upgrade", "h2c"),
    ],
)
async def test_hooks_do_not_say_how_a_response_is_sent(header: tuple[str, str]) -> None:
    def pass_on(context: Context) -> None:
        context.http = {"headers": dict([header, ("X-Of-The-Other", "yes")])}

    app = Apex().configure(rest).use("notes", MemoryService(), hooks={"after": {"find": pass_on}})
    async with serving(app) as client:
        for _ in range(2):
            response = await client.get("/notes")
            assert (response.json(), response.headers["x-of-the-other"]) == ([], "yes")


async def test_a_client_that_pipelines_and_leaves_is_noticed(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, service = slow(postgres_url, 1)
    post = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(app) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port or 0)
        writer.write(post * 2)
        await at_work(postgres_url, 1)
        writer.close()
        async with asyncio.timeout(SECONDS):
            await service.done.wait()
        assert (await client.get("/nothing")).status_code == 404
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "apex"))]


async def test_a_request_leaves_nothing_for_the_garbage_collector() -> None:
    app = Apex().configure(rest).use("notes", MemoryService())
    async with serving(app) as client:
        gc.collect()
        gc.disable()
        before = {id(one) for one in gc.get_objects() if isinstance(one, RequestResponseCycle)}
        try:
            for _ in range(20):
                await client.get("/notes")
            alive = [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
        finally:
            gc.enable()
        assert len([one for one in alive if id(one) not in before]) == 1


def test_an_app_that_says_no_port_listens_at_3030() -> None:
    # Nobody has this address: it is for documentation.
    with pytest.raises(ConfigError, match=re.escape("192.0.2.1:3030")), listening(Apex(), "192.0.2.1"):
        pass
