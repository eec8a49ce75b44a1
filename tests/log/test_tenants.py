"""The log of tenants under row-level security, which limits each statement to the tenants of its call."""

from __future__ import annotations

from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, MemoryService, SQLService, database
from apex.log import log, log_table
from apex.migrations import connect, enable_row_level_security, prepare_row_level_security
from apex.tenant import ROLE, set_tenants
from tests.log.apps import entries_of

metadata = MetaData()
columns: list[Any] = [Column("team_id", Integer, nullable=False), Column("text", String(50))]
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), *columns, info={"tenant": "team_id"})
entries = log_table(metadata, Column("team_id", Integer), tenant="team_id")


def limit(context: Any) -> None:
    set_tenants([7])


async def test_entries_of_tenants_of_others_and_of_none_are_written(postgres_url: str) -> None:
    plain = Apex().configure(database(postgres_url))
    await plain.setup()
    await plain.get("database").create_all(metadata)
    await plain.teardown()
    with connect(postgres_url) as connection, Operations.context(MigrationContext.configure(connection)):
        prepare_row_level_security()
        for table in ("notes", "log"):
            enable_row_level_security(table, "team_id")
        connection.commit()
    app = Apex().configure(database(postgres_url, role=ROLE)).configure(log(entries))
    limited = {"before": {"all": [limit]}}
    app.use("notes", SQLService(notes, multi=True), hooks=limited).use("people", MemoryService(), hooks=limited)
    await app.setup()
    try:
        outside = {"provider": "rest"}
        await app.service("notes").create({"team_id": 7}, outside)
        await app.service("notes").patch(1, {"text": "a"}, outside)
        await app.service("people").create({"team_id": 8}, outside)
        await app.service("people").create({"team_id": None}, outside)
        found = await entries_of(app, "service", "event", "team_id")
    finally:
        await app.teardown()
    assert found == [
        ("notes", "created", 7),
        ("notes", "patched", 7),
        ("people", "created", 8),
        ("people", "created", None),
    ]


async def test_the_entry_of_a_tenant_itself_belongs_to_it(empty_url: str) -> None:
    own = MetaData()
    name: list[Any] = [Column("name", String(50))]
    teams = Table("teams", own, Column("id", Integer, primary_key=True), *name, info={"tenant": "id"})
    table = log_table(own, Column("team_id", Integer), tenant="team_id")
    app = Apex().configure(database(empty_url)).configure(log(table)).use("teams", SQLService(teams, multi=True))
    async with app.lifespan():
        await app.get("database").create_all(own)
        await app.service("teams").create([{"name": "a"}, {"name": "b"}])
        await app.service("teams").patch(1, {"name": "c"})
        await app.service("teams").remove(2)
        found = await entries_of(app, "event", "team_id")
    assert found == [("created", 1), ("created", 2), ("patched", 1), ("removed", 2)]
