"""A client of a server without a login, over each transport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from apex.client import Client
from tests.client.sites import TRANSPORTS, plain_app, talking


@pytest.fixture(params=TRANSPORTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with talking(plain_app(), request.param) as client:
        yield client
