"""Fixtures with the CRM: one for each test that writes, and a shared one for tests that change nothing for others."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import BACKENDS
from tests.services.crm import Crm, running
from tests.support.databases import new_database

SHARED = pytest.mark.asyncio(loop_scope="module")
"""Marks a module whose tests use ``shared``: they run in the loop that it lives in."""


@pytest.fixture
async def crm(demo_url: str) -> AsyncIterator[Crm]:
    """Run a CRM for one test."""
    async with running(demo_url) as crm:
        yield crm


@pytest.fixture(scope="module", params=BACKENDS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a database with the demo data for the tests of a module."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("shared") / "test.db"
        shutil.copyfile(request.getfixturevalue("demo_file"), path)
        yield f"sqlite:///{path}"
        return
    server, template = (request.getfixturevalue(name) for name in ("postgres_server", "postgres_template"))
    with new_database(server, template) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_url: str) -> AsyncIterator[Crm]:
    """Run the CRM for tests that only read, whose requests are refused, or that look at a record of their own alone.

    It reads the roles of its users once.
    """
    async with running(shared_url) as crm:
        roles = crm.app.service("memberships").service.roles
        roles.clock = lambda: 0.0
        await roles.get(789)
        yield crm


@pytest.fixture(scope="module", name="shared_url")
def sqlite_alone(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a SQLite database, for a module whose requests are refused before any statement runs."""
    path = tmp_path_factory.mktemp("shared") / "test.db"
    shutil.copyfile(demo_file, path)
    return f"sqlite:///{path}"
