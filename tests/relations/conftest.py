"""The stores that relations are tested on."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Return the URL of an empty database, and None for the memory."""
    fixtures = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    name = fixtures.get(request.param)
    return None if name is None else str(request.getfixturevalue(name))
