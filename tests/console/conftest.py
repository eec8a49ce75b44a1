"""The console in a Chromium. If there is none, the tests are skipped, and fail on CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser

from apex import load_config
from services.app import CONFIG, create_app
from tests.console.visitor import Visitor, chromium
from tests.support.serving import listening

MISSING = "there is no Chromium: install the package chromium"

Visit = Callable[..., Visitor]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # For this folder, not for the session: while it is open, no test of another kind can run an event loop.
    with chromium() as found:
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
        yield found


@contextmanager
def crm(database: str) -> Iterator[str]:
    """Serve a CRM in a thread, which takes a twentieth of the time of a process, and yield its URL."""
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": database}))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(listening(app)) as url:
        yield url


@pytest.fixture
def url(demo_sqlite_url: str) -> Iterator[str]:
    """Return the URL of a CRM with the demo data."""
    with crm(demo_sqlite_url) as url:
        yield url


@pytest.fixture(scope="package")
def shared_url(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a CRM with the demo data, for all tests that leave its records as they are."""
    path = tmp_path_factory.mktemp("console") / "shared.db"
    shutil.copyfile(demo_file, path)
    with crm(f"sqlite:///{path}") as url:
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
