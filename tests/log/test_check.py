"""The findings of ``apex check`` about the log."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, SQLService, database
from apex.cli.checks import event_log
from apex.log import log, log_table
from services.accounts.audit import audit


def test_a_table_that_no_migration_makes_is_found(sqlite_url: str) -> None:
    app = Apex().configure(database(sqlite_url)).configure(log(log_table(MetaData(), name="own")))
    [found] = event_log(app)
    assert found == "no migration makes its table 'own': give log_table the metadata of the other tables"


def test_services_whose_tenant_the_log_lacks_and_visible_secrets_are_found(sqlite_url: str) -> None:
    own = MetaData()
    names = ("api_key", "password", "pass_key")
    columns: list[Column[Any]] = [Column("team_id", Integer), *(Column(name, String) for name in names)]
    teams = Table("teams", own, Column("id", Integer, primary_key=True), *columns, info={"tenant": "team_id"})
    app = Apex().configure(database(sqlite_url)).configure(log(log_table(own)))
    app.use("teams", SQLService(teams, private=["password"]))
    found = [one for one in event_log(app) if "migration" not in one]
    assert found == [
        "the entries of 'teams' have no tenant, as the log has no 'team_id': "
        "name the column: log_table(metadata, Column('team_id', ...), tenant='team_id')",
        "the entries of 'teams' would have 'api_key': list it in private, or in answer_only",
    ]


def test_a_table_may_have_its_tenant_under_another_name(sqlite_url: str) -> None:
    own = MetaData()
    columns = [Column("id", Integer, primary_key=True), Column("crew_id", Integer)]
    crew = Table("crew", own, *columns, info={"tenant": "crew_id"})
    table = log_table(own, Column("team_id", Integer), tenant="team_id")
    app = Apex().configure(database(sqlite_url)).configure(log(table)).use("crew", SQLService(crew))
    assert [one for one in event_log(app) if "migration" not in one] == []


def test_the_table_of_the_log_is_one_of_the_migrations(sqlite_url: str) -> None:
    app = Apex().configure(database(sqlite_url)).configure(log(audit))
    assert list(event_log(app)) == []


def test_another_table_is_refused() -> None:
    with pytest.raises(TypeError, match="log_table"):
        log(Table("notes", MetaData(), Column("id", Integer, primary_key=True)))
