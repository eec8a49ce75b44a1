"""Services that override or call methods of an adapter: they get rows in every kind of call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Params, Service, rest, sockets
from apex.encoding import decode, encode
from apex.query.coercion import integer, nullable, optional, text, timestamp
from apex.sql import SQLService, Timestamp, database
from apex.transports.batch import batch
from tests.conftest import BACKENDS
from tests.support.serving import serving
from tests.support.sockets import connected

NOTES = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(50)),
    Column("made_at", Timestamp),
)
FIELDS = {"id": integer, "name": optional(text), "made_at": nullable(timestamp)}
WAYS = ["rest", "sockets", "batch", "in process"]
NEW_YEAR = "2024-01-01T00:00:00.000Z"

Ask = Callable[..., Awaitable[Any]]


class Looking(Service):
    """A mixin that checks the results of the adapter's methods and calls methods of its own."""

    async def find(self, params: Params) -> Any:
        page = await super().find(params)  # type: ignore[misc]
        return page | {"names": [loud(row) for row in page["data"]]}

    async def get(self, id: Any, params: Params) -> Any:
        row = await super().get(id, params)  # type: ignore[misc]
        return row | {"loud": loud(row)}

    async def create(self, data: Any, params: Params) -> Any:
        made = await super().create(data, params)  # type: ignore[misc]
        if isinstance(made, list):
            return [row | {"loud": loud(row)} for row in made]
        return made | {"loud": loud(made), "again": (await self.get(made["id"], params))["loud"]}

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        row = await super().update(id, data, params)  # type: ignore[misc]
        return row | {"loud": loud(row)}

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        before = await self.get(id, params)
        row = await super().patch(id, data, params)  # type: ignore[misc]
        return row | {"before": before["name"], "loud": loud(row)}

    async def remove(self, id: Any, params: Params) -> Any:
        row = await super().remove(id, params)  # type: ignore[misc]
        return row | {"loud": loud(row)}

    async def run(self, data: Any, params: Params) -> Any:
        made = await self.create({"name": data["name"], "made_at": NEW_YEAR}, params)
        page = await self.find(params)
        row = await self.get(made["id"], params)
        return {"made": loud(made), "found": page["names"], "got": loud(row)}


def loud(row: Mapping[str, Any]) -> str:
    """Raise for anything but a row with the types of a row."""
    made_at = row["made_at"]
    assert made_at is None or isinstance(made_at, datetime)
    return str(row["name"]).upper()


class Memory(MemoryService):
    def __init__(self, **options: Any) -> None:
        super().__init__(fields=FIELDS, start_id=1, **options)


class Stored(SQLService):
    table = NOTES


@pytest.fixture(params=["memory", *BACKENDS])
def url(request: pytest.FixtureRequest) -> str | None:
    """Return the URL of an empty database, or None for the memory."""
    name = {"memory": None, "sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return None if name is None else str(request.getfixturevalue(name))


@asynccontextmanager
async def asking(url: str | None, mixin: type, way: str, **registered: Any) -> AsyncIterator[Ask]:
    """Call methods of a service of the adapter with the mixin, and return the answers to callers."""
    app = Apex().configure(rest).configure(sockets).configure(batch)
    base: Any = Memory if url is None else Stored
    if url is not None:
        app.configure(database(url))
    paginated: Any = type("Notes", (mixin, base), {})(paginate={"default": 10, "max": 10}, multi=True)
    app.use("notes", paginated, **registered)
    async with serving(app) as http:
        if url is not None:
            await app.get("database").create_all(NOTES.metadata)
        if way == "in process":
            yield lambda method, *values: in_process(app, method, *values)
        elif way == "batch":
            yield lambda method, *values: in_batch(http, method, *values)
        elif way == "rest":
            yield lambda method, *values: over_rest(http, method, *values)
        else:
            async with connected(http) as peer:
                yield lambda method, *values: over_socket(peer, method, *values)


async def in_process(app: Apex, method: str, *values: Any) -> Any:
    return decode(encode(await getattr(app.service("notes"), method)(*values)))


async def in_batch(http: Any, method: str, *values: Any) -> Any:
    (settled,) = (await http.post("/batch", json={"calls": [[method, "notes", *values]]})).json()
    assert settled["status"] == "fulfilled", settled
    return settled["value"]


async def over_socket(peer: Any, method: str, *values: Any) -> Any:
    error, result = await peer.call(method, "notes", *values)
    assert error is None
    return result


async def over_rest(http: Any, method: str, *values: Any) -> Any:
    verb = {"find": "GET", "get": "GET", "update": "PUT", "patch": "PATCH", "remove": "DELETE"}.get(method, "POST")
    *id, data = values if method in ("create", "update", "patch", "run") else (*values, None)
    headers = {"x-service-method": method} if method == "run" else {}
    path = "/".join(["/notes", *map(str, id)])
    response = await http.request(verb, path, headers=headers, **({} if data is None else {"json": data}))
    assert response.status_code < 300, response.text
    return response.json()


@pytest.mark.parametrize("way", WAYS)
async def test_every_method_can_be_overridden_and_called(url: str | None, way: str) -> None:
    methods = ["find", "get", "create", "update", "patch", "remove", "run"]
    row = {"id": 1, "name": "a", "made_at": NEW_YEAR}
    async with asking(url, Looking, way, methods=methods) as ask:
        made = await ask("create", {"name": "a", "made_at": NEW_YEAR})
        assert made == row | {"loud": "A", "again": "A"}
        assert await ask("get", 1) == row | {"loud": "A"}
        assert (await ask("find"))["names"] == ["A"]
        assert await ask("patch", 1, {"name": "b"}) == row | {"name": "b", "before": "a", "loud": "B"}
        assert (await ask("update", 1, {"name": "c"}))["loud"] == "C"
        assert await ask("run", {"name": "d"}) == {"made": "D", "found": ["C", "D"], "got": "D"}
        assert [made["loud"] for made in await ask("create", [{"name": "e"}, {"name": "f"}])] == ["E", "F"]
        assert (await ask("remove", 1))["loud"] == "C"


class CreatesAlone(Service):
    """A service that overrides one method. The others are those of the adapter."""

    async def create(self, data: Any, params: Params) -> Any:
        made = await super().create(data, params)  # type: ignore[misc]
        return await self.patch(made["id"], {"name": loud(made)}, params)  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", WAYS)
async def test_one_method_can_be_overridden(url: str | None, way: str) -> None:
    async with asking(url, CreatesAlone, way) as ask:
        row = {"id": 1, "name": "A", "made_at": NEW_YEAR}
        assert await ask("create", {"name": "a", "made_at": NEW_YEAR}) == row == await ask("get", 1)
        assert (await ask("find"))["data"] == [row]


class Untouched(Service):
    """A service that overrides nothing."""


@pytest.mark.parametrize("way", ["rest", "sockets"])
async def test_hooks_see_rows_before_and_after_methods_of_an_adapter(url: str | None, way: str) -> None:
    def look(context: Context) -> None:
        loud((context.external["data"] if context.method == "find" else [context.external])[0])
        rows = context.result["data"] if context.method == "find" else [context.result]
        context.params.names = [loud(row) for row in rows]

    async def past_the_hooks(context: Context) -> None:
        if context.method != "create":
            (row,) = (await context.service.service.find(context.params))["data"]
            context.params.found = loud(row)

    async with asking(url, Untouched, way, hooks={"before": past_the_hooks, "after": look}) as ask:
        row = {"id": 1, "name": "a", "made_at": NEW_YEAR}
        assert await ask("create", {"name": "a", "made_at": NEW_YEAR}) == row == await ask("get", 1)
        assert (await ask("find"))["data"] == [row]
