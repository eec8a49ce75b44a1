"""The console in a Chromium. If there is none, the tests are skipped, and fail on CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.console.visitor import Visitor, chromium
from tests.process.commands import server

MISSING = "there is no Chromium: install the package chromium"

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For a module, not for the session: while it is open, no test of another kind can run an event loop.
    with chromium() as found:
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
        yield found


@pytest.fixture
def url(demo_sqlite_url: str) -> Iterator[str]:
    """Return the URL of a CRM with the demo data."""
    with server("serve", DATABASE_URL=demo_sqlite_url) as (_, url):
        yield url


@pytest.fixture(scope="module")
def shared_url(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a CRM with the demo data, for the tests of a module."""
    path = tmp_path_factory.mktemp("console") / "shared.db"
    shutil.copyfile(demo_file, path)
    with server("serve", DATABASE_URL=f"sqlite:///{path}") as (_, url):
        yield url


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Return a function that opens windows for visitors. At the end, none of them may have had an error."""
    visitors: list[Visitor] = []

    def visit(url: str, **options: object) -> Visitor:
        visitors.append(Visitor(browser, url, **options))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


@pytest.fixture
def visitor(visit: Visit, url: str) -> Visitor:
    """Return a visitor of a CRM of its own."""
    return visit(url)


@pytest.fixture
def reader(visit: Visit, shared_url: str) -> Visitor:
    """Return a visitor who leaves the contacts as they are."""
    return visit(shared_url)
