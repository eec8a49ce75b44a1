"""The adapter contract on SQLite, on PostgreSQL with the pipeline and without, and with an id of another name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text
from sqlalchemy.schema import DropTable

from apex.app import Apex
from apex.service import BoundService
from apex.sql import Json, SQLService, Timestamp, database
from apex.sql.drivers.pipeline import CONNECTIONS
from apex.sql.drivers.postgres import PostgresExecutor
from apex.testing import AdapterContract
from tests.conftest import BACKENDS
from tests.support.databases import new_database


def people(key: str) -> Table:
    return Table(
        "people",
        MetaData(),
        Column(key, Integer, primary_key=True),
        Column("name", Text),
        Column("age", Integer),
        Column("created", Boolean),
        Column("time", Timestamp),
        Column("extra", Json),
        Column("secret", Text),
        Column("organization_id", Integer),
    )


@pytest.fixture(scope="module")
def shared_url(postgres_server: str) -> Iterator[str]:
    """One database for all rules: to create one takes longer than to run a rule."""
    with new_database(postgres_server) as url:
        yield url


class TestSQL(AdapterContract):
    url: str
    pipeline_size = CONNECTIONS

    @pytest.fixture(autouse=True, params=BACKENDS)
    def database(self, request: pytest.FixtureRequest) -> None:
        self.url = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "shared_url"}[request.param])

    @asynccontextmanager
    async def make(self, **options: Any) -> AsyncIterator[BoundService]:
        table = people(self.key)
        app = Apex().configure(database(self.url)).use("people", SQLService(table, id=self.key, **options))
        executor = app.get("database").executor
        if isinstance(executor, PostgresExecutor):
            executor.pipeline.size = self.pipeline_size
        await app.setup()
        try:
            await app.get("database").execute(DropTable(table, if_exists=True))
            await app.get("database").create_all(table.metadata)
            yield app.service("people")
        finally:
            await app.teardown()


class TestSQLWithoutPipeline(TestSQL):
    """PostgreSQL on the pool alone, as while the pipeline has no connection."""

    pipeline_size = 0

    @pytest.fixture(autouse=True)
    def database(self, shared_url: str) -> None:
        self.url = shared_url


class TestSQLWithAnotherId(TestSQL):
    key = "_key"

    @pytest.fixture(autouse=True)
    def database(self, sqlite_url: str) -> None:
        self.url = sqlite_url
