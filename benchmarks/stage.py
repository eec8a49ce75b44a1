"""A new database server with the contacts of many organizations, and tokens of their users."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tenants import Tenants, TokenFile, fill, token_file
from tests.support.databases import Server, new_database, start_server

MEMORY = "shared_buffers = 1GB\nmax_wal_size = 4GB\nautovacuum = off"
"""Settings with memory for the table and its indexes, and without background work."""
COLD = 150_000
"""The tokens of a run with a new token for each request, which are more than a round needs."""


@dataclass(frozen=True)
class Stage:
    """A filled database and its server."""

    url: str
    server: Server
    tenants: Tenants


@contextmanager
def stage(tenants: Tenants) -> Iterator[Stage]:
    server = start_server(MEMORY)
    try:
        with new_database(server.url) as url:
            fill(url, tenants)
            yield Stage(url, server, tenants)
    finally:
        server.stop()


@contextmanager
def stage_on_sqlite(tenants: Tenants) -> Iterator[str]:
    """Yield the URL of a filled SQLite database."""
    with tempfile.TemporaryDirectory(prefix="apex-sqlite-") as folder:
        url = f"sqlite:///{Path(folder) / 'apex.db'}"
        fill(url, tenants)
        yield url


@contextmanager
def tokens(tenants: Tenants, cold: bool = False) -> Iterator[TokenFile]:
    with token_file(tenants, COLD if cold else tenants.users) as file:
        yield file
