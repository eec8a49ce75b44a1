"""The attacks of ``apex.testing``, on apps with two teams: they pass on a safe app, and find each kind of leak."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.schema import CreateTable

from apex import Apex, Context, Params, SQLService, batch, database, rest, validate_query
from apex.common import check_references, limit_to_tenants
from apex.errors import NotAuthenticated
from apex.hooks import AnyHook
from apex.sql import Database
from apex.testing import Attacks, attackable

TEAMS = {"ann": 7_000_001, "bob": 8_000_001}
RECORDS = {
    "folders": lambda made, text: {"name": text},
    "notes": lambda made, text: {"text": text, "folder_id": made["folders"]["id"]},
}

metadata = MetaData()
folders = Table(
    "folders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100)),
    Column("team_id", Integer),
)
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", String(100)),
    Column("team_id", Integer),
    Column("folder_id", ForeignKey("folders.id")),
)


def log_in(context: Context) -> None:
    name = (context.params.headers or {}).get("x-user", "")
    if context.params.provider and name not in TEAMS:
        raise NotAuthenticated("Who are you?")
    context.params.user = {"team_id": TEAMS.get(name)}


def same_team(context: Context) -> int:
    return int(context.params.user["team_id"])


class Notes(SQLService):
    table = notes
    methods = ("find", "get", "create", "update", "patch", "remove", "shout")
    multi = ("patch", "remove")

    async def shout(self, data: Any, params: Params) -> Any:
        """Return a note in capitals."""
        note = await self.get(data.get("id", 0), Params({"query": {}, "scope": params.scope}))
        return {"text": note["text"].upper()}


class Folders(SQLService):
    table = folders


async def _team_of_call(context: Context) -> dict[str, Any]:
    return {"team_id": same_team(context)}


SAFE: list[AnyHook] = [
    log_in,
    validate_query,
    limit_to_tenants("team_id", same_team),
    check_references({"folder_id": ("folders", "id")}, within=_team_of_call),
]
OWN_FOLDERS: list[AnyHook] = SAFE[:-1]


@asynccontextmanager
async def attacking(folder: Path, service: type[Notes], hooks: list[AnyHook]) -> AsyncIterator[Attacks]:
    """Yield the attacks on an app whose notes have these hooks."""
    app = Apex().configure(rest).configure(database(f"sqlite:///{folder}/test.db")).configure(batch)
    app.use("folders", Folders(), hooks={"before": {"all": OWN_FOLDERS}})
    app.use("notes", service(), hooks={"before": {"all": hooks}})
    async with app.lifespan():
        await _create_tables(app.get("database"))
        async with _client(app, "bob") as bob, _client(app, "ann") as ann:
            yield await Attacks.prepare(app, victim=bob, attacker=ann, records=RECORDS, tenant="team_id")


def _client(app: Apex, name: str) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://test", headers={"x-user": name})


async def _create_tables(database: Database) -> None:
    for table in metadata.sorted_tables:
        await database.execute(CreateTable(table))


async def test_a_safe_app_gives_nothing_away(tmp_path: Path) -> None:
    async with attacking(tmp_path, Notes, SAFE) as attacks:
        for path, method in attackable(attacks.app):
            assert await attacks.run(path, method) >= 4


class Counting(Notes):
    async def find(self, params: Params) -> Any:
        return await super().find(Params({**params, "scope": {}}))


class Shouting(Notes):
    async def shout(self, data: Mapping[str, Any], params: Params) -> Any:
        return await self.get(data.get("id", 0), Params())


class Dropping(Notes):
    async def shout(self, data: Mapping[str, Any], params: Params) -> Any:
        await self.remove(data.get("id", 0), Params())
        return {}


@pytest.mark.parametrize(
    ("service", "hooks", "method"),
    [
        (Counting, SAFE, "find"), (Shouting, SAFE, "shout"), (Dropping, SAFE, "shout"),
        (Notes, [log_in], "find"), (Notes, [log_in], "get"), (Notes, [log_in], "patch"), (Notes, [log_in], "remove"),
        (Notes, [log_in], "update"), (Notes, OWN_FOLDERS, "create"), (Notes, OWN_FOLDERS, "patch"),
    ],
)  # fmt: skip
async def test_a_leak_is_found(tmp_path: Path, service: type[Notes], hooks: list[AnyHook], method: str) -> None:
    async with attacking(tmp_path, service, hooks) as attacks:
        with pytest.raises(AssertionError, match="notes"):
            await attacks.run("notes", method)


async def test_records_that_their_owner_may_not_make_prove_nothing(tmp_path: Path) -> None:
    def refuse(context: Context) -> None:
        raise NotAuthenticated("Nobody")

    with pytest.raises(AssertionError, match="notes could not be made"):
        async with attacking(tmp_path, Notes, [refuse]):
            pass
