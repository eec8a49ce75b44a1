"""Batches of the client, over each transport."""

from __future__ import annotations

import pytest

from apex import Apex, MemoryService, batch, rest, sockets
from apex.client import Client
from apex.errors import NotFound
from tests.client.sites import TRANSPORTS, talking

NOTE = ("create", "messages", {"text": "a"})


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def app_of() -> Apex:
    return Apex().configure(rest).configure(sockets).configure(batch).use("messages", MemoryService())


async def test_a_batch_returns_results_and_errors(transport: str) -> None:
    async with talking(app_of(), transport) as client:
        created, missing = await client.batch(NOTE, ("get", "messages", 99))
        assert (created["text"], type(missing)) == ("a", NotFound)


async def test_an_atomic_batch_is_made_as_a_whole(transport: str) -> None:
    async with talking(app_of(), transport) as client:
        assert await total(client) == 0
        with pytest.raises(NotFound, match=r"^Call 1 \(get messages\): ") as raised:
            await client.batch(NOTE, ("get", "messages", 99), atomic=True)
        assert (raised.value.data, await total(client)) == ({"call": 1}, 0)
        first, second = await client.batch(NOTE, ("get", "messages", {"$ref": "0.id"}), atomic=True)
        assert (first, await total(client)) == (second, 1)


async def total(client: Client) -> int:
    return len(await client.service("messages").find())
