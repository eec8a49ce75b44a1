"""Tests of the limits of HTTP connections: sizes, times and numbers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from apex import Apex, MemoryService, Params, rest
from apex.errors import ConfigError
from apex.server.protocol import limits_of
from tests.support.serving import serving
from tests.support.waiting import SECONDS, until

HEAD = b"GET /notes HTTP/1.1\r\nHost: x\r\n"
BODY = b"POST /notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = BODY + b"Transfer-Encoding: chunked\r\n\r\n"


class Client:
    """A connection that can send any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answers(self, sent: bytes = b"") -> list[tuple[int, Any]]:
        """Return status and body of each response until the server closes the connection."""
        self.writer.write(sent)
        received = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(SECONDS):
                while piece := await self.reader.read(65536):
                    received += piece
        heads = re.findall(rb"HTTP/1.1 (\d+) .*?\r\n\r\n", received, re.DOTALL)
        bodies = [piece.rpartition(b"\r\n\r\n")[2] for piece in received.split(b"HTTP/1.1 ")[1:]]
        return [(int(status), json.loads(body or b"null")) for status, body in zip(heads, bodies, strict=True)]


class Site:
    """A server, and the connections to it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]

    async def answers(self, sent: bytes) -> list[tuple[int, Any]]:
        return await (await self.connect()).answers(sent)


@asynccontextmanager
async def site(app: Apex) -> AsyncIterator[Site]:
    async with serving(app) as client:
        opened = Site(client.base_url.port or 0)
        try:
            yield opened
        finally:
            for one in opened.clients:
                one.writer.close()


def notes(**limits: Any) -> Apex:
    return Apex({"http": limits}).configure(rest).use("notes", MemoryService())


def codes(answers: list[tuple[int, Any]]) -> list[tuple[int, str]]:
    """Return the status, and the name of the error in the body."""
    return [(status, body["name"] if isinstance(body, dict) and "name" in body else "") for status, body in answers]


REFUSED = [
    (HEAD + b"X: " + b"a" * 70_000, (431, "BadRequest")),
    (HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n", (431, "BadRequest")),
    (HEAD + b"X: " + b"a" * 300_000 + b"\r\n\r\n", (431, "BadRequest")),
    (HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(20_000)) + b"\r\n", (431, "BadRequest")),
    (HEAD + b"X: a\r\n" * 100 + b"\r\n", (431, "BadRequest")),
    (b"GET /notes?" + b"a" * 70_000, (414, "BadRequest")),
    (b"GET /notes?" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414, "BadRequest")),
    (CHUNKED + b'2\r\n{}\r\n0\r\nX: ' + b"a" * 700_000, (431, "BadRequest")),
    (CHUNKED + b"2;x=" + b"a" * 700_000, (431, "BadRequest")),
    (b"\r\n" * 200_000, (431, "BadRequest")),
    (b"GARBAGE\r\n\r\n", (400, "BadRequest")),
    (CHUNKED + b"xyz\r\n", (400, "BadRequest")),
]  # fmt: skip


async def test_a_head_that_is_too_large_is_refused() -> None:
    async with site(notes()) as server:
        for sent, answer in REFUSED:
            answers = await server.answers(sent)
            assert codes(answers) == [answer]
            assert set(answers[0][1]) == {"name", "message", "code", "className"}


async def test_a_head_within_the_limits_is_served() -> None:
    last = b"Connection: close\r\n\r\n"
    async with site(notes()) as server:
        for sent in (
            HEAD + b"X: " + b"a" * 65_000 + b"\r\n" + last,
            HEAD + b"X: a\r\n" * 98 + last,
            HEAD + b"\r\n" + HEAD + b"X: " + b"a" * 65_000 + b"\r\n" + last,
        ):
            assert {status for status, _ in await server.answers(sent)} == {200}


async def test_a_large_head_is_given_up_before_it_is_whole() -> None:
    sent = 0
    async with site(notes()) as server:
        client = await server.connect()
        client.writer.write(HEAD + b"X: ")
        with suppress(ConnectionError):
            while sent < 100_000_000:
                client.writer.write(b"a" * 65_536)
                sent += 65_536
                await client.writer.drain()
    assert sent < 20_000_000


async def test_trailers_do_not_become_headers() -> None:
    async def headers(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse(request.headers.get("authorization"))

    app = Apex().configure(lambda app: rest(app, routes=[Route("/headers", headers, methods=["POST"])]))
    async with site(app) as server:
        sent = CHUNKED.replace(b"/notes", b"/headers").replace(b"Host", b"Connection: close\r\nHost")
        assert await server.answers(sent + b"0\r\nAuthorization: mallory\r\n\r\n") == [(200, None)]


async def test_a_route_whose_client_is_too_slow_has_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def upload(request: Request) -> JSONResponse:
        return JSONResponse(len(await request.body()))

    routes = [Route("/upload", upload, methods=["POST"])]
    app = Apex({"http": {"requestSeconds": 1}}).configure(lambda app: rest(app, routes=routes))
    async with site(app) as server:
        sent = BODY.replace(b"/notes", b"/upload") + b"Content-Length: 9\r\n\r\n{"
        assert codes(await server.answers(sent)) == [(408, "Timeout")]
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "apex"))]


class Slow:
    """A service whose calls wait until ``go`` is set."""

    def __init__(self) -> None:
        self.calls, self.go = 0, asyncio.Event()

    async def find(self, params: Params) -> list[Any]:
        self.calls += 1
        await self.go.wait()
        return ["slow"]


SLOW = HEAD.replace(b"notes", b"slow")


@pytest.mark.parametrize(
    ("broken", "status"),
    [(HEAD + b"X: " + b"a" * 300_000, 431), (b"GARBAGE\r\n\r\n", 400), (CHUNKED + b"xyz\r\n", 400)],
)
async def test_an_error_waits_for_the_answers_before_it(broken: bytes, status: int) -> None:
    slow = Slow()
    async with site(notes().use("slow", slow)) as server:
        asking = asyncio.create_task(server.answers((SLOW + b"\r\n") * 2 + broken))
        await until(lambda: slow.calls)
        slow.go.set()
        assert [status for status, _ in await asking] == [200, 200, status]


UNFINISHED = [
    (b"", []),
    (b"\r\n", []),
    (b"GET /no", [(408, "Timeout")]),
    (HEAD, [(408, "Timeout")]),
    (HEAD + b"\r\n" + HEAD, [(200, ""), (408, "Timeout")]),
    (BODY + b"Content-Length: 9\r\n\r\n{", [(408, "Timeout")]),
    (CHUNKED + b"1\r\n{\r\n", [(408, "Timeout")]),
    (BODY.replace(b"/notes", b"/nowhere") + b"Content-Length: 9\r\n\r\n{", [(404, "NotFound")]),
    (BODY.replace(b"POST", b"DELETE") + b"Content-Length: 9\r\n\r\n{", [(405, "MethodNotAllowed")]),
    (HEAD + b"\r\n", [(200, "")]),
]


async def test_an_idle_connection_is_closed() -> None:
    async with site(notes(headerSeconds=1, requestSeconds=1, idleSeconds=1)) as server:
        answers = await asyncio.gather(*(server.answers(sent) for sent, _ in UNFINISHED))
    assert [codes(one) for one in answers] == [expected for _, expected in UNFINISHED]


async def test_a_request_in_drops_is_bounded() -> None:
    """Test that single bytes do not extend the time for a header or a body."""

    async def drip(server: Site, sent: bytes) -> list[tuple[int, str]]:
        client = await server.connect()
        client.writer.write(sent)
        answering = asyncio.create_task(client.answers())
        while not answering.done():
            client.writer.write(b"a")
            await asyncio.wait([answering], timeout=0.05)
        return codes(answering.result())

    sent = (HEAD + b"X: ", BODY + b"Content-Length: 90000\r\n\r\n", BODY + b"Content-Length: 9000000000\r\n\r\n")
    async with site(notes(headerSeconds=1, requestSeconds=1)) as server:
        answers = await asyncio.gather(*(drip(server, one) for one in sent))
    assert answers == [[(408, "Timeout")], [(408, "Timeout")], [(413, "BadRequest")]]


async def test_a_request_that_is_being_answered_has_time() -> None:
    slow = Slow()
    async with site(notes(headerSeconds=1, requestSeconds=1, idleSeconds=1).use("slow", slow)) as server:
        asking = asyncio.create_task(server.answers(SLOW + b"\r\n" + HEAD))
        # Another connection shows that the time is over.
        assert codes(await server.answers(HEAD)) == [(408, "Timeout")]
        slow.go.set()
        assert codes(await asking) == [(200, ""), (408, "Timeout")]


async def test_a_new_client_gets_in_however_many_are_silent() -> None:
    kinds = [b"", HEAD, HEAD + b"\r\n", BODY + b"Content-Length: 9\r\n\r\n{"]
    async with site(notes(maxConnections=20)) as server:
        for number in range(60):
            (await server.connect()).writer.write(kinds[number % 4])
        for _ in range(40):
            assert codes(await server.answers(HEAD + b"Connection: close\r\n\r\n")) == [(200, "")]


async def test_requests_under_way_are_not_closed_for_a_new_client() -> None:
    slow = Slow()
    asked = SLOW + b"Connection: close\r\n\r\n"
    async with site(notes(maxConnections=5).use("slow", slow)) as server:
        asking = [asyncio.create_task(server.answers(asked)) for _ in range(5)]
        await until(lambda: slow.calls == 5)
        assert codes(await server.answers(asked)) == [(503, "Unavailable")]
        slow.go.set()
        assert [await one for one in asking] == [[(200, ["slow"])]] * 5


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="'http' has no setting 'headerSecond': there are headerBytes, "):
        limits_of(notes(headerSecond=5))
