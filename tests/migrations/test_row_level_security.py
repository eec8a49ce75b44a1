"""Tests of row-level security for migrations: each function that undoes another leaves nothing of it."""

from __future__ import annotations

from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text

from apex.migrations import (
    disable_row_level_security,
    enable_row_level_security,
    prepare_row_level_security,
    remove_row_level_security,
    renew_row_level_security,
)
from apex.migrations.revisions import connect
from apex.tenant import ROLE

LEFT = f"""
    SELECT 'function ' || proname FROM pg_proc WHERE proname = 'apex_tenants'
    UNION ALL SELECT 'default for ' || defaclobjtype::text FROM pg_default_acl
    UNION ALL SELECT 'grant on ' || table_name FROM information_schema.table_privileges WHERE grantee = '{ROLE}'
"""


def read(connection: Connection, statement: str) -> list[Any]:
    return sorted(connection.execute(text(statement)).scalars())


def test_a_policy_is_renewed_and_disabled(postgres_url: str) -> None:
    with connect(postgres_url) as connection, Operations.context(MigrationContext.configure(connection)):
        connection.execute(text("CREATE TABLE notes (id int, team_id int)"))
        prepare_row_level_security()
        enable_row_level_security("notes", "id")
        renew_row_level_security("notes", "team_id")
        (rule,) = read(connection, "SELECT qual FROM pg_policies WHERE tablename = 'notes'")
        assert rule.startswith("((team_id = ")
        disable_row_level_security("notes")
        assert read(connection, "SELECT policyname FROM pg_policies") == []
        assert read(connection, "SELECT relrowsecurity FROM pg_class WHERE relname = 'notes'") == [False]


def test_what_was_prepared_is_removed(postgres_url: str) -> None:
    with connect(postgres_url) as connection, Operations.context(MigrationContext.configure(connection)):
        connection.execute(text("CREATE TABLE notes (id int)"))
        prepare_row_level_security()
        assert len(read(connection, LEFT)) == 1 + 2 + 4
        remove_row_level_security()
        assert read(connection, LEFT) == []
