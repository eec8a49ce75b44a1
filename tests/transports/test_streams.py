"""Results that are made while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from apex import Apex, Params, Service, rest, sockets
from apex.encoding import Stream
from apex.errors import Conflict
from tests.support.serving import serving
from tests.support.sockets import connected
from tests.support.waiting import SECONDS

CHUNK = b"x" * 65536


class Files(Service):
    """Streams as many chunks as asked for; ``sent`` counts those that were made, ``closed`` is set at the end."""

    methods = ("export",)

    def __init__(self) -> None:
        self.sent, self.closed = 0, asyncio.Event()

    async def export(self, data: Any, params: Params) -> Stream:
        return Stream(self.chunks(data["chunks"], data.get("fails_after")), "text/plain; charset=utf-8")

    async def chunks(self, count: int, fails_after: int | None) -> AsyncGenerator[bytes, None]:
        try:
            for self.sent in range(1, count + 1):
                if fails_after is not None and self.sent > fails_after:
                    raise Conflict("broken")
                yield CHUNK
        finally:
            self.closed.set()


def files() -> tuple[Apex, Files]:
    service = Files()
    return Apex().configure(rest).configure(sockets).use("files", service), service


EXPORT = {"X-Service-Method": "export"}


@pytest.mark.parametrize("chunks", [0, 1, 3])
async def test_a_stream_arrives_whole(chunks: int) -> None:
    app, service = files()
    async with serving(app) as http:
        response = await http.post("/files", json={"chunks": chunks}, headers=EXPORT)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert "content-length" not in response.headers
    assert response.content == CHUNK * chunks
    assert service.closed.is_set()


async def test_what_fails_before_the_first_chunk_is_answered_with_the_error() -> None:
    app, _ = files()
    async with serving(app) as http:
        response = await http.post("/files", json={"chunks": 1, "fails_after": 0}, headers=EXPORT)
    assert (response.status_code, response.json()["message"]) == (409, "broken")


async def test_an_error_in_the_middle_breaks_the_connection() -> None:
    app, _ = files()
    async with serving(app) as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.post("/files", json={"chunks": 9, "fails_after": 2}, headers=EXPORT)


async def test_nothing_more_is_made_for_a_client_that_has_gone() -> None:
    app, service = files()
    async with serving(app) as http:
        async with http.stream("POST", "/files", json={"chunks": 10_000}, headers=EXPORT) as response:
            await anext(response.aiter_raw())
        async with asyncio.timeout(SECONDS):
            await service.closed.wait()
    assert service.sent < 1_000


async def test_a_client_that_does_not_read_holds_the_stream_up() -> None:
    app, service = files()
    async with serving(app) as http, http.stream("POST", "/files", json={"chunks": 10_000}, headers=EXPORT):
        seen = -1
        while seen != service.sent:
            seen = service.sent
            await http.get("/nothing")
        assert 0 < service.sent < 1_000


async def test_over_a_socket_a_stream_is_refused() -> None:
    app, service = files()
    async with serving(app) as http, connected(http) as peer:
        (error,) = await peer.call("export", "files", {"chunks": 1}, {})
    assert (error["code"], error["message"]) == (400, "'export' of 'files' answers with a file: call it over REST")
    assert service.sent == 0
