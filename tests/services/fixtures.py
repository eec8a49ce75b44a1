"""The CRM as a fixture: one of its own for a test that writes, a shared one for tests that leave no trace."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conftest import BACKENDS
from tests.services.crm import Crm, running
from tests.support.databases import new_database

SHARED = pytest.mark.asyncio(loop_scope="module")
"""Marks a module whose tests use ``shared``: they run in the loop that it lives in."""


@pytest.fixture
async def crm(migrated_url: str) -> AsyncIterator[Crm]:
    """A CRM of its own."""
    async with running(migrated_url) as crm:
        yield crm


@pytest.fixture(scope="module", params=BACKENDS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a migrated database for the tests of a module."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("shared") / "test.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server, template = (request.getfixturevalue(name) for name in ("postgres_server", "postgres_template"))
    with new_database(server, template) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_url: str) -> AsyncIterator[Crm]:
    """The CRM for tests that only read, or whose requests are refused."""
    async with running(shared_url) as crm:
        yield crm
