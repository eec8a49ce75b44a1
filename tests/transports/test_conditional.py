"""Changes on a condition: ``If-Match`` on services of one's own, with hooks of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Service, rest
from apex.context import Params
from apex.sql import SQLService, database
from tests.support.serving import calling

TABLES = MetaData()
NOTES = Table("notes", TABLES, Column("id", Integer, primary_key=True), Column("text", String(20)))


async def pause(context: Context) -> None:
    """Let others run, as a hook that reads something does."""
    await asyncio.sleep(0)


class Forwarding(Service):
    """A service of one's own that keeps its records with another one."""

    def __init__(self, app: Apex) -> None:
        self.app = app

    async def get(self, id: Any, params: Params) -> Any:
        return await self.app.service("notes").get(id, {"adapter": params.adapter})

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return await self.app.service("notes").patch(id, data)


def on(url: str) -> Apex:
    app = Apex().configure(database(url)).configure(rest)
    app.use("notes", SQLService(NOTES), hooks={"after": {"get": [pause]}})
    return app.use("forwarded", Forwarding(app))


@asynccontextmanager
async def stocked(app: Apex) -> AsyncIterator[AsyncClient]:
    async with calling(app) as client:
        if app.get("database"):
            await app.get("database").create_all(TABLES)
        await app.service("notes").create({"text": "first"})
        yield client


async def tag_of(client: AsyncClient, path: str = "/notes/1") -> dict[str, str]:
    return {"If-Match": (await client.get(path)).headers["etag"]}


async def ten_changes(app: Apex, path: str = "/notes/1") -> list[int]:
    async with stocked(app) as client:
        known = await tag_of(client, path)
        changes = (client.patch(path, json={"text": str(n)}, headers=known) for n in range(10))
        return sorted(one.status_code for one in await asyncio.gather(*changes))


@pytest.mark.parametrize("path", ["/notes/1", "/forwarded/1"])
async def test_of_ten_changes_to_one_state_one_wins(empty_url: str, path: str) -> None:
    assert await ten_changes(on(empty_url), path) == [200, *[412] * 9]


async def test_of_ten_changes_in_memory_one_wins() -> None:
    app = Apex().configure(rest).use("notes", MemoryService(start_id=1), hooks={"after": {"get": [pause]}})
    assert await ten_changes(app) == [200, *[412] * 9]


async def test_the_tag_is_of_what_get_shows(empty_url: str) -> None:
    async def shout(context: Context) -> None:
        context.dispatch = {"text": context.result["text"].upper(), "for": context.params.headers["x-caller"]}

    app = on(empty_url)
    app.service("notes").hooks({"after": {"get": [shout]}})
    async with stocked(app) as client:
        client.headers["x-caller"] = "ann"
        known = await tag_of(client)
        for caller, status in (("ben", 412), ("ann", 200), ("ann", 412)):
            sent = known | {"x-caller": caller}
            assert (await client.patch("/notes/1", json={"text": "second"}, headers=sent)).status_code == status


async def test_a_hook_may_give_a_tag_of_its_own(empty_url: str) -> None:
    def tagged(context: Context) -> None:
        if context.http is not None:
            context.http["headers"] = {"ETag": f'"{context.result["text"]}"'}

    app = on(empty_url)
    app.service("notes").hooks({"after": {"get": [tagged]}})
    async with stocked(app) as client:
        assert await tag_of(client) == {"If-Match": '"first"'}
        for status in (200, 412):
            sent = await client.patch("/notes/1", json={"text": "second"}, headers={"If-Match": '"first"'})
            assert sent.status_code == status


async def test_hooks_that_replace_the_params_leave_the_condition(empty_url: str) -> None:
    async def anew(context: Context) -> None:
        context.params = Params({"query": context.params.query, "provider": "rest"})

    app = on(empty_url)
    app.service("notes").hooks({"before": {"patch": [anew]}})
    async with stocked(app) as client:
        assert (await client.patch("/notes/1", json={"text": "x"}, headers={"If-Match": '"y"'})).status_code == 412
        assert (await client.get("/notes/1")).json()["text"] == "first"


async def test_the_change_is_told_once_it_is_stored(empty_url: str) -> None:
    app, told = on(empty_url), []
    app.service("notes").on("patched", lambda note, context: told.append(note["text"]))
    assert await ten_changes(app) == [200, *[412] * 9]
    assert len(told) == 1
