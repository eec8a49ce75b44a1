"""Databases for the tests: empty ones, migrated ones and ones with the demo data, in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpcore2
import pytest
from hypothesis import settings

from tests.process.commands import VARIABLES
from tests.support.databases import Server, ServerError, memory_folder, new_database, start_server
from tests.support.recycled import Emptied, Recycled

# A property holds however long an example takes.
settings.register_profile("apex", deadline=None)
settings.load_profile("apex")

# Each client would read the certificates of the system again, for 20 ms. The tests hardly use TLS.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)

BACKENDS = ["sqlite", "postgresql"]
SERVER = pytest.StashKey[Server]()
COLLECT_AFTER = (50_000, 20, 50)
"""The thresholds of garbage collection. By default, it looks several times at the objects of each app."""
LENT = "APEX_TEST_POSTGRES"
"""The variable with the URL of a server that is to be used instead of one of the session's own."""


class Worker(Protocol):
    """The part of a pytest-xdist worker that is used here."""

    config: pytest.Config
    workerinput: dict[str, Any]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Worker) -> None:
    """Tell a worker where the server is that all workers share."""
    node.workerinput["postgres"] = running_server(node.config).url


def pytest_configure() -> None:
    """Remove what is set outside and would change what the tests show."""
    for name in VARIABLES:
        os.environ.pop(name, None)
    # A shell lets its background jobs ignore SIGINT, and they would pass that on to the processes of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave the modules and the collected tests out of garbage collections: they stay, and looking at them is slow."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, also after an interrupt."""
    if server := config.stash.get(SERVER, None):
        server.stop()


def running_server(config: pytest.Config) -> Server:
    """Return the server of this session; the first call starts it."""
    if SERVER not in config.stash:
        # A plain SIGTERM would end pytest before it has stopped the server.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            config.stash[SERVER] = start_server()
        except (OSError, ServerError) as error:
            pytest.exit(f"PostgreSQL does not start: {error}", returncode=1)
    return config.stash[SERVER]


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> str:
    """URL of the PostgreSQL server, without a database."""
    worker: dict[str, str] | None = getattr(pytestconfig, "workerinput", None)
    return worker["postgres"] if worker else os.environ.get(LENT) or running_server(pytestconfig).url


@pytest.fixture(scope="session")
def empty_database(postgres_server: str) -> Iterator[Emptied]:
    """Return an empty PostgreSQL database, which tests use one after the other."""
    with new_database(postgres_server) as url:
        yield Emptied(url)


@pytest.fixture
def postgres_url(empty_database: Emptied) -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    yield empty_database.url
    empty_database.restore()


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """URL of an empty SQLite database."""
    # Each commit waits for the disk.
    with tempfile.TemporaryDirectory(prefix="apex-sqlite-", dir=memory_folder()) as folder:
        yield f"sqlite:///{folder}/test.db"


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database."""
    # Asked for by name, so that a SQLite test needs no PostgreSQL.
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy."""
    from apex.migrations.migrate import upgrade

    path = tmp_path_factory.mktemp("template") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """Name of a migrated PostgreSQL database to copy."""
    from apex.migrations.migrate import upgrade

    with new_database(postgres_server) as url:
        upgrade(url)
        yield url.rpartition("/")[2]


@pytest.fixture
def migrated_sqlite_url(sqlite_template: Path, sqlite_url: str) -> str:
    """URL of a migrated SQLite database."""
    shutil.copyfile(sqlite_template, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """URL of a migrated PostgreSQL database."""
    with new_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def migrated_url(request: pytest.FixtureRequest) -> str:
    """URL of a migrated database."""
    fixtures = {"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}
    return str(request.getfixturevalue(fixtures[request.param]))


@pytest.fixture(scope="session")
def demo_file(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite database with the demo data, to be copied."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    shutil.copyfile(sqlite_template, path)
    fill(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def demo_database(postgres_server: str, postgres_template: str) -> Iterator[Recycled]:
    """Return a PostgreSQL database with the demo data, which tests use one after the other."""
    with new_database(postgres_server, postgres_template) as url:
        fill(url)
        yield Recycled(url)


def fill(url: str) -> None:
    """Store the demo data in a thread, because the loop of this one belongs to the tests."""
    from tests.services.crm import running

    async def run() -> None:
        async with running(url):
            pass

    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, run()).result()


@pytest.fixture
def demo_sqlite_url(demo_file: Path, sqlite_url: str) -> str:
    """Return the URL of a SQLite database with the demo data."""
    shutil.copyfile(demo_file, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def demo_postgres_url(demo_database: Recycled) -> Iterator[str]:
    """Return the URL of a PostgreSQL database with the demo data. Tests must not change its tables."""
    yield demo_database.url
    demo_database.restore()


@pytest.fixture(params=BACKENDS)
def demo_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a database with the demo data. Tests must not change its tables."""
    return str(request.getfixturevalue({"sqlite": "demo_sqlite_url", "postgresql": "demo_postgres_url"}[request.param]))
