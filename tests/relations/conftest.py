"""The stores that relations are tested on, and the tracker in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from apex import Apex
from tests.relations.tracker import tracker

Opened = Callable[..., AbstractAsyncContextManager[Apex]]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Return the URL of an empty database, and None for the memory."""
    fixtures = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    name = fixtures.get(request.param)
    return None if name is None else str(request.getfixturevalue(name))


@pytest.fixture
def opened(url: str | None) -> Opened:
    """Return a function that opens the tracker with options of its services."""
    return lambda **options: tracker(url, options)


@pytest.fixture
async def app(opened: Opened) -> Any:
    """The tracker with a few records."""
    async with opened() as app:
        await fill(app)
        yield app


async def fill(app: Apex) -> None:
    """Store two projects with three issues, eight comments and two labels."""
    s = app.service
    await s("projects").create([{"id": 1, "key": "APX"}, {"id": 2, "key": "OPS"}])
    await s("issues").create(
        [
            {"id": 1, "title": "one", "project_id": 1},
            {"id": 2, "title": "two", "project_id": 2, "parent_id": 1},
            {"id": 3, "title": "three"},
        ]
    )
    await s("comments").create([{"id": id, "issue_id": 2 - id % 2, "body": f"b{id}"} for id in range(1, 9)])
    await s("labels").create([{"id": 1, "name": "bug"}, {"id": 2, "name": "ui"}])
    await s("issue_labels").create([{"issue_id": i, "label_id": j} for i, j in [(1, 1), (1, 2), (2, 1), (2, 1)]])
