"""The service of the documentation: its code is complete, and it is as safe as the other services."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine

import services.app
from apex.migrations.revisions import engine_url
from services.tables import metadata
from tests.docs.blocks import blocks_of
from tests.process.commands import ROOT
from tests.security.attacks import attack
from tests.security.stage import staged
from tests.services.crm import refused, running

PAGE = ROOT / "docs" / "crm-tenancy.md"
MODULE, MIGRATION = (block.text for block in blocks_of(PAGE) if "vehicles.py" in block.head)


@pytest.fixture
def vehicles_url(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a database with the migration of the documentation, and add its service to the app."""
    if "vehicles" in metadata.tables:
        pytest.skip("the service of the documentation exists already")
    module = ModuleType("services.vehicles")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(MODULE, "vehicles.py", "exec"), module.__dict__)
    monkeypatch.setattr(services.app, "SERVICES", (*services.app.SERVICES, module))
    engine = create_engine(engine_url(migrated_url))
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migration: dict[str, object] = {}
        exec(compile(MIGRATION, "migration.py", "exec"), migration)
        migration["upgrade"]()  # type: ignore[operator]
    engine.dispose()
    yield migrated_url
    metadata.remove(metadata.tables["vehicles"])


def test_the_service_takes_less_than_sixty_lines() -> None:
    assert len([line for line in (MODULE + MIGRATION).splitlines() if line]) < 60


async def test_the_service_works_like_the_others(vehicles_url: str) -> None:
    async with running(vehicles_url) as crm:
        status, made = await crm.call("POST /vehicles", {"organization_id": 456, "plate": "AB 12", "driver_id": 123})
        assert (status, made["fuel"], made["driver"]["first_name"]) == (201, "electric", "John")
        refused(
            await crm.call("POST /vehicles", {"organization_id": 456, "plate": "x", "driver_id": 201}), 400, "driver_id"
        )
        refused(await crm.call(f"GET /vehicles/{made['id']}", user=791), 403)
        assert (await crm.call(f"DELETE /vehicles/{made['id']}"))[1]["deleted_at"]
        _, page = await crm.call("GET /audit?organization_id=456&service=vehicles")
        assert [entry["method"] for entry in page["data"]] == ["remove", "create"]


async def test_the_service_withstands_the_attacks_on_the_others(vehicles_url: str) -> None:
    async with staged(vehicles_url) as stage:
        for method in ("find", "get", "create", "patch", "remove"):
            assert await attack(stage, "vehicles", method) >= 4
