"""Tests of the client over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apex import Apex, Service, rest
from apex.client import Client
from apex.client import rest as over_rest
from apex.errors import BadGateway, FeathersError, GeneralError, Unavailable
from tests.client.sites import plain_app, talking
from tests.support.serving import listening


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with talking(plain_app(), "rest", headers={"X-Of-Client": "1", "X-Both": "client"}) as client:
        yield client


async def test_headers_name_the_sent_and_the_accepted_type(client: Client) -> None:
    heard = client.service("heard")
    read, written, custom = await heard.find(), await heard.create({}), await heard.shout({})
    assert read["headers"]["accept"] == written["headers"]["accept"] == "application/json"
    assert written["headers"]["content-type"] == custom["headers"]["content-type"] == "application/json"
    assert custom["headers"]["x-service-method"] == "shout"
    assert "content-type" not in read["headers"]


async def test_headers_of_the_call_win(client: Client) -> None:
    answer = await client.service("heard").find({"headers": {"x-both": "call", "ACCEPT": "application/json+x"}})
    headers = answer["headers"]
    assert (headers["x-of-client"], headers["x-both"], headers["accept"]) == ("1", "call", "application/json+x")


async def test_a_path_may_hold_anything(client: Client) -> None:
    answer = await client.service("groups/:groupId/members").find({"route": {"groupId": "a b/c?"}})
    assert answer["route"] == {"groupId": "a b/c?"}


async def test_the_url_may_have_a_path() -> None:
    app = Apex().configure(rest).use("api", plain_app())
    async with listening(app) as url, Client(over_rest(f"{url}/api/")) as client:
        assert await client.service("messages").get(0) == {"text": "a", "id": 0}


@pytest.mark.parametrize(
    ("status", "cls"), [(502, BadGateway), (503, Unavailable), (500, GeneralError), (418, FeathersError)]
)
async def test_an_error_without_json_has_the_class_of_its_status(
    client: Client, status: int, cls: type[FeathersError]
) -> None:
    with pytest.raises(cls, match=f"The server answered {status} .* without JSON") as caught:
        await client.service("status").get(status)
    assert (type(caught.value), caught.value.code) == (cls, status)


async def test_an_answer_without_json_is_an_error(client: Client) -> None:
    with pytest.raises(GeneralError, match="The server answered 200 OK without JSON"):
        await client.service("status").get(200)


async def test_a_redirect_is_followed() -> None:
    class Moved(Service):
        async def find(self, params: Any) -> Any:
            return []

    async def move(context: Any) -> None:
        context.http["location"] = "/messages/1"

    app = plain_app().use("moved", Moved(), hooks={"after": {"find": [move]}})
    async with talking(app, "rest") as client:
        assert await client.service("moved").find() == {"text": "b", "id": 1}


async def test_a_server_that_hangs_up_is_unavailable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(over_rest(f"http://127.0.0.1:{port}")) as client:
            with pytest.raises(Unavailable, match="may have been carried out: Server disconnected"):
                await client.service("messages").find()


async def test_a_connection_is_used_again() -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(over_rest(f"http://127.0.0.1:{port}")) as client:
            assert [await client.service("messages").find() for _ in range(3)] == [[], [], []]
    assert connections == 1


async def test_events_need_a_socket(client: Client) -> None:
    with pytest.raises(RuntimeError, match=r"The REST transport has no events: use Client\(socketio\(url\)\)"):
        client.service("messages").on("created", print)
