"""A database server of its own with the contacts of many organizations, and the tokens of their users."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tenants import Tenants, TokenFile, fill, token_file
from tests.support.databases import Server, new_database, start_server

MEMORY = "shared_buffers = 1GB\nmax_wal_size = 4GB\nautovacuum = off"
"""Room for the table and its indexes; nothing happens but what is measured."""
COLD = 150_000
"""Tokens of a run in which each request has another one: more than a round takes."""


@dataclass(frozen=True)
class Stage:
    """A filled database, and the server that it is in."""

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
    """The URL of a filled SQLite database."""
    with tempfile.TemporaryDirectory(prefix="apex-sqlite-") as folder:
        url = f"sqlite:///{Path(folder) / 'apex.db'}"
        fill(url, tenants)
        yield url


@contextmanager
def tokens(tenants: Tenants, cold: bool = False) -> Iterator[TokenFile]:
    with token_file(tenants, COLD if cold else tenants.users) as file:
        yield file
