"""Tests of the published npm clients of Feathers with a server of apex."""

from __future__ import annotations

import sys

import pytest

from apex import load_config
from services.app import CONFIG, create_app
from tests.interop.golden import golden
from tests.interop.node import needs_node, passes
from tests.process.commands import QUICK, ROOT
from tests.support.databases import free_port
from tests.support.serving import serving

pytestmark = needs_node


@pytest.mark.parametrize("check", ["rest", "statuses", "sockets", "channels", "authentication"])
async def test_golden(check: str) -> None:
    async with golden() as url:
        await passes(f"{check}.mjs", URL=url)


async def test_expiry() -> None:
    async with golden(expiresIn=2) as url:
        await passes("expiry.mjs", URL=url)


async def test_crm(demo_sqlite_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_sqlite_url}))
    async with serving(app) as client:
        await passes("crm.mjs", URL=str(client.base_url).rstrip("/"))


async def test_restart(demo_sqlite_url: str) -> None:
    port = free_port()
    served = {**QUICK, "PYTHON": sys.executable, "DATABASE_URL": demo_sqlite_url, "PORT": str(port)}
    await passes("restart.mjs", URL=f"http://localhost:{port}", **served)


async def test_returning(postgres_url: str) -> None:
    served = {**QUICK, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    await passes("returning.mjs", DATABASE_URL=postgres_url, **served)
