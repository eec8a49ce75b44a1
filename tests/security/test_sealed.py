"""Every service and method of the registry, attacked by a member of another organization.

A new service is attacked from the day it is registered; ``stage`` and ``attacks`` make all they need from the tables
and schemas.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import delete

from apex import Params, Schema, SQLService, authenticate, load_config, validate_query
from apex.cli import checks
from apex.permissions import can
from apex.schema.validation import Id
from services import activities
from services.app import CONFIG, create_app
from services.shared.tenant import TenantService, serve
from tests.security.attacks import BATCH, OPEN, Attempt, answers, attack, body, in_batch, is_dialect
from tests.security.stage import ATTACKER, MARK, USERS, VICTIM, Row, Stage, staged
from tests.services.fixtures import SHARED
from tests.support.sockets import Peer

pytestmark = SHARED

APP = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": "sqlite:///nothing.db"}))
APART = (("users", "change_password"), ("contacts", "erase"))
"""Methods that end the attacker's login, or its only record. They have tests of their own."""
METHODS = [
    (path, method)
    for path, bound in APP.services.items()
    if path not in (*OPEN, BATCH)
    for method in bound._options.methods
    if (path, method) not in APART
]
INTERNAL = [path for path, bound in APP.services.items() if not bound._options.methods]
TRASH = [path for path, bound in APP.services.items() if getattr(bound.service, "trash", None) is not None]
WITH_DATA = [(path, method) for path, method in METHODS if method not in ("find", "get", "remove", "patch")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(shared_url: str) -> AsyncIterator[Stage]:
    """Prepare the stage. After all attacks, assert that the victim's records have not changed."""
    async with staged(shared_url) as stage:
        before = await stage.victims_rows()
        yield stage
        assert await stage.victims_rows() == before


@pytest.mark.parametrize(("path", "method"), METHODS)
async def test_a_method_gives_nothing_away(stage: Stage, path: str, method: str) -> None:
    assert await attack(stage, path, method) >= 4


@pytest.mark.parametrize(("path", "method"), WITH_DATA)
async def test_what_is_refused_would_be_taken_from_a_member(stage: Stage, path: str, method: str) -> None:
    """The attacks are refused because of the victim's records, not because of other errors."""
    valid = body(stage, stage.app.service(path), method)
    if method == "restore":
        await stage.remove_again(path)
    if valid is not None:
        who = "key" if is_dialect(stage.app.service(path)) else "user"
        headers = stage.proofs[who] | ({} if method == "create" else {"x-service-method": method})
        headers["x-organization-id"] = str(stage.rows[ATTACKER]["organizations"]["uuid"])
        response = await stage.http.post(f"/{path}", json=valid, headers=headers)
        taken = response.status_code == 409  # The attacks have made this very record.
        assert taken or response.status_code in (200, 201), f"{valid}: {response.text}"


@pytest.mark.parametrize("path", TRASH)
async def test_a_role_below_reaches_no_removed_record(stage: Stage, path: str) -> None:
    """A member who may not restore records of its organization does not see removed ones."""
    await stage.remove_again(path)
    valid = body(stage, stage.app.service(path), "restore")
    memberships = stage.app.service("memberships")
    mine = {"organization_id": ATTACKER, "user_id": USERS[ATTACKER]}
    [membership] = await memberships.find({"query": mine, "paginate": False})
    await memberships.patch(membership["id"], {"role": "member"})
    await stage.connect()
    strategies: Any = stage.app.get("defaultAuthentication").strategies
    strategies["api-key"].forget()
    try:
        for attempt in (
            Attempt("restore", data=valid, must_fail=True),
            Attempt("find", query={"organization_id": ATTACKER, "$deleted": True}, must_fail=True),
        ):
            for turn in range(2):
                async for way, status, text in answers(stage, path, attempt, turn):
                    assert status == 403, f"{attempt} over {way}: {text}"
                async for _, way, status, text in in_batch(stage, path, [attempt], turn):
                    assert status == 403, f"{attempt} over {way}: {text}"
    finally:
        await memberships.patch(membership["id"], {"role": membership["role"]})
        await stage.connect()
        strategies["api-key"].forget()


@pytest.mark.parametrize("path", INTERNAL)
async def test_an_internal_service_is_not_there(stage: Stage, path: str) -> None:
    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        response = await stage.http.request(verb, f"/{path}", headers=stage.proofs["user"])
        assert response.status_code == 405
    for method in ("find", "get", "create", "patch", "remove", "setup", "of_user", "_find"):
        for peer in stage.sockets.values():
            (error,) = await peer.call(method, path, {}, {})
            assert error["code"] == 405


async def test_no_event_reaches_another_organization(stage: Stage) -> None:
    """Every record of the victim changes, then one of the attacker. The attacker gets only the event of its own."""
    say(stage, "what the attacks have changed")
    for organization in (VICTIM, ATTACKER):
        for bound in stage.app.services.values():
            row = stage.rows[organization].get(getattr(getattr(bound.service, "table", None), "name", ""))
            if isinstance(bound.service, TenantService) and row is not None and "patch" in bound._options.methods:
                for event in ("created", "patched", "removed"):
                    bound.emit(event, await bound.service.get(row["id"], Params()))
    say(stage, "the last one")
    for peer in stage.sockets.values():
        before, after = [await heard(peer, id) for id in ("what the attacks have changed", "the last one")]
        assert {event[1]["organization_id"] for event in before + after} == {ATTACKER}
        assert MARK not in str(after)


def say(stage: Stage, id: str) -> None:
    stage.app.service("contacts").emit("removed", {"id": id, "organization_id": ATTACKER})


async def heard(peer: Peer, last: str) -> list[Any]:
    """Return the events until the one about a record with this id."""
    events: list[Any] = []
    while not events or events[-1][1]["id"] != last:
        event = await peer.event()
        if isinstance(event[1], dict):  # Others tell only where the client is in the log.
            events.append(event)
    return events


async def test_every_method_confines_its_callers() -> None:
    assert list(checks.services(APP)) == []


class Leaky(SQLService):
    """A service without the hooks of tenancy."""

    table = activities.activities


async def test_the_suite_finds_a_service_that_is_not_sealed(migrated_url: str) -> None:
    """On SQLite the attack succeeds and is reported. On PostgreSQL row-level security prevents it."""
    async with staged(migrated_url) as stage:
        app = stage.app
        app.use("leaky", Leaky(), hooks={"before": {"all": [authenticate("jwt", "api-key"), validate_query]}})
        await app.service("leaky").setup(app, "leaky")
        before = await stage.victims_rows()
        for method in ("find", "get", "patch", "remove"):
            if app.get("database").dialect.name == "postgresql":
                assert await attack(stage, "leaky", method) >= 4
                assert await stage.victims_rows() == before
            else:
                with pytest.raises(AssertionError, match="leaky"):
                    await attack(stage, "leaky", method)


class Peek(Schema):
    id = Id(required=True)
    organization_id = Id(required=True)


class Careless(activities.Activities):
    """A service with the hooks of tenancy, whose methods ignore the scope of their caller."""

    methods = (*activities.Activities.methods, "peek", "drop", "undescribed")
    custom = {"peek": Peek, "drop": Peek}
    permissions = {**activities.Activities.permissions, "member": can("*")}

    async def peek(self, data: Row, params: Params) -> Any:
        return await self.get(data["id"], Params())

    async def drop(self, data: Row, params: Params) -> Any:
        async with self.database.transaction():
            await self.database.execute(delete(self.table).where(self.table.c.id == data["id"]))
        return {"dropped": True}

    async def undescribed(self, data: Row, params: Params) -> Any:
        return await self.find(Params())

    async def find(self, params: Params) -> Any:
        return await super().find(Params({**params, "scope": {}}))


async def test_the_suite_finds_a_method_that_forgets_the_scope(migrated_sqlite_url: str) -> None:
    async with staged(migrated_sqlite_url) as stage:
        serve(stage.app, "careless", Careless)
        await stage.app.service("careless").setup(stage.app, "careless")
        for method in ("find", "peek", "drop"):
            with pytest.raises(AssertionError, match="careless"):
                await attack(stage, "careless", method)
        assert await attack(stage, "careless", "undescribed") == 0  # Of each method four attacks are asked for.
        assert await attack(stage, "careless", "get") >= 4
