"""Every service and method of the registry, attacked by a member of another organization: none gives anything away.

A new service is attacked from the day it is registered; ``stage`` and ``attacks`` make all they need from the tables
and schemas.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from apex import Params, SQLService, authenticate, load_config, validate_query
from services import activities
from services.app import CONFIG, create_app
from services.tenant import TenantService
from tests.security.attacks import BATCH, OPEN, attack, body, is_dialect
from tests.security.stage import ATTACKER, MARK, VICTIM, Stage, staged
from tests.services.fixtures import SHARED

pytestmark = SHARED

APP = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": "sqlite:///nothing.db"}))
OF_ONESELF = ("users", "change_password")
"""A method that is about the caller alone, and ends its logins; it has tests of its own."""
METHODS = [
    (path, method)
    for path, bound in APP.services.items()
    if path not in (*OPEN, BATCH)
    for method in bound._options.methods
    if (path, method) != OF_ONESELF
]
INTERNAL = [path for path, bound in APP.services.items() if not bound._options.methods]
WITH_DATA = [(path, method) for path, method in METHODS if method not in ("find", "get", "remove", "patch")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(shared_url: str) -> AsyncIterator[Stage]:
    """The stage; after all attacks the victim's records are as they were."""
    async with staged(shared_url) as stage:
        before = await stage.victims_rows()
        yield stage
        assert await stage.victims_rows() == before


@pytest.mark.parametrize(("path", "method"), METHODS)
async def test_a_method_gives_nothing_away(stage: Stage, path: str, method: str) -> None:
    assert await attack(stage, path, method) >= 4


@pytest.mark.parametrize(("path", "method"), WITH_DATA)
async def test_what_is_refused_would_be_taken_from_a_member(stage: Stage, path: str, method: str) -> None:
    """The attacks are refused for what is the victim's in them, and not for something else that is wrong."""
    valid = body(stage, stage.app.service(path), method)
    if valid is not None:
        who = "key" if is_dialect(stage.app.service(path)) else "user"
        headers = stage.proofs[who] | ({} if method == "create" else {"x-service-method": method})
        headers["x-organization-id"] = str(stage.rows[ATTACKER]["organizations"]["uuid"])
        response = await stage.http.post(f"/{path}", json=valid, headers=headers)
        taken = response.status_code == 409  # The attacks have made this very record.
        assert taken or response.status_code in (200, 201), f"{valid}: {response.text}"


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
    """Each record of the victim's changes; then one of the attacker's own does, and that alone is heard of."""
    for organization in (VICTIM, ATTACKER):
        for bound in stage.app.services.values():
            row = stage.rows[organization].get(getattr(getattr(bound.service, "table", None), "name", ""))
            if isinstance(bound.service, TenantService) and row is not None and "patch" in bound._options.methods:
                for event in ("created", "patched", "removed"):
                    bound.emit(event, await bound.service.get(row["id"], Params()))
    stage.app.service("contacts").emit("removed", {"id": "the last one", "organization_id": ATTACKER})
    for peer in stage.sockets.values():
        heard: list[Any] = []
        while not heard or heard[-1][1]["id"] != "the last one":
            heard.append(await peer.event())
        assert MARK not in str(heard)
        assert {event[1]["organization_id"] for event in heard} == {ATTACKER}


class Leaky(SQLService):
    """A service that somebody forgot to seal."""

    table = activities.activities


async def test_the_suite_finds_a_service_that_is_not_sealed(migrated_url: str) -> None:
    """On SQLite the attack succeeds, and the suite says so; on PostgreSQL row-level security holds all the same."""
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
