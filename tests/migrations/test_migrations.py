"""Migrations: the way up, the way down, and a schema equal to the tables in the code."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect, text

from apex.errors import ConfigError, Unavailable
from apex.migrations import differences
from apex.migrations.migrate import current, downgrade, pending, unknown_revision, upgrade
from apex.migrations.revisions import FOLDER, connect, engine_url
from tests.process.commands import COMMAND, QUICK, ROOT, environment
from tests.support.migrating import migrating, waiting
from tests.support.waiting import SECONDS

DESCRIPTIONS = {
    "sqlite": "SELECT name, sql FROM sqlite_schema",
    "postgresql": """
        SELECT table_name || '.' || column_name AS name, concat_ws(' ', data_type, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
    """,
}


def described(url: str) -> list[tuple[str, str]]:
    """All that a database knows of its tables. The order of the parts of a table means nothing."""
    with connect(url) as connection:
        rows = connection.execute(text(DESCRIPTIONS[connection.dialect.name])).all()
    return sorted((name, _ordered(str(definition))) for name, definition in rows)


def _ordered(definition: str) -> str:
    return "\n".join(sorted(line.strip().rstrip(",") for line in definition.splitlines()))


def tables(url: str) -> set[str]:
    with connect(url) as connection:
        return set(inspect(connection).get_table_names())


def test_up_down_and_up_again_ends_where_it_began(empty_url: str) -> None:
    upgrade(empty_url)
    first = described(empty_url)
    downgrade(empty_url, "base")
    assert tables(empty_url) == {"alembic_version"}
    upgrade(empty_url)
    assert described(empty_url) == first


def test_going_up_twice_changes_nothing(migrated_url: str) -> None:
    before = described(migrated_url)
    upgrade(migrated_url)
    assert described(migrated_url) == before


def test_what_is_pending_is_told_oldest_first(empty_url: str) -> None:
    left = pending(empty_url)
    assert left == sorted(left) != []
    upgrade(empty_url, left[0])
    assert pending(empty_url) == left[1:]
    upgrade(empty_url)
    assert pending(empty_url) == []


def test_the_tables_in_the_code_are_those_of_the_database(migrated_url: str) -> None:
    assert differences(migrated_url) == []


def test_going_down_leaves_nothing_behind(migrated_url: str) -> None:
    downgrade(migrated_url, "base")
    with connect(migrated_url) as connection:
        if connection.dialect.name == "sqlite":
            left = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' AND tbl_name <> 'alembic_version'"
        else:
            left = (
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relname NOT LIKE 'alembic%'"
            )
        assert connection.execute(text(left)).all() == []


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((ROOT / "migrations" / "env.py").read_text())
    (folder / "versions" / "0001_broken.py").write_text(
        "from alembic import op\nrevision, down_revision = '0001', None\n"
        "def upgrade():\n    op.execute('CREATE TABLE a (id INTEGER)')\n    raise RuntimeError('broken')\n"
    )
    with pytest.raises(RuntimeError, match="broken"):
        upgrade(empty_url, folder=folder)
    assert tables(empty_url) == set()
    assert pending(empty_url) != []


def test_processes_that_migrate_at_once_take_turns(empty_url: str) -> None:
    command = [*COMMAND, "migrate"]
    variables = environment(**QUICK, DATABASE_URL=empty_url)
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=SECONDS) for process in processes]
    assert said == [("The database is up to date.\n", "")] * 3
    assert [process.returncode for process in processes] == [0] * 3


OLD_CONTACT = """
    INSERT INTO contacts (id, uuid, first_name, organization_id, created_at, updated_at, system_type,
        custom_fields_by_name, total_tasks_run)
    VALUES ({id}, '{id:032}', 'Ann', 1, '2023-01-02', '2023-01-02', 'contact', '{{"Size": {id}, "Tier": "gold"}}', 0)
"""
OLD_ORGANIZATION = """
    INSERT INTO organizations (id, uuid, name, subscription_status, created_at, updated_at)
    VALUES (1, '00000000000000000000000000000001', 'Old', 'active', '2023-01-02', '2023-01-02')
"""


def values(url: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        rows = connection.execute(text("SELECT record_id, name, number, text FROM contact_values ORDER BY 1, 2"))
        return [tuple(row) for row in rows]


def test_the_values_of_records_that_were_there_are_found(empty_url: str) -> None:
    upgrade(empty_url, "0003")
    with connect(empty_url) as connection:
        for statement in (OLD_ORGANIZATION, OLD_CONTACT.format(id=7)):
            connection.exec_driver_sql(statement)
        connection.commit()
    upgrade(empty_url)
    assert values(empty_url) == [(7, "Size", 7, None), (7, "Tier", None, "gold")]


def test_the_values_of_a_record_that_is_written_meanwhile_are_found(postgres_url: str) -> None:
    upgrade(postgres_url, "0003")
    with psycopg.connect(postgres_url) as call:
        call.execute(OLD_ORGANIZATION)
        call.execute(OLD_CONTACT.format(id=7).encode())
        with migrating(postgres_url, FOLDER) as thread:
            waiting(postgres_url, thread, "CREATE TRIGGER")
            call.commit()
    assert values(postgres_url) == [(7, "Size", 7, None), (7, "Tier", None, "gold")]


OLD_TICKET = """
    INSERT INTO support_tickets (id, uuid, organization_id, created_at, updated_at, reference_number, subject, status,
        priority, tags)
    VALUES ({id}, '{id:032}', 1, '2023-01-02', '2023-01-02', 'TK-2023-00{id}', 'Où est  ma Commande?', 'open', 'low',
        '[]')
"""


def test_records_that_were_there_are_searched(empty_url: str) -> None:
    upgrade(empty_url, "0010")
    with connect(empty_url) as connection:
        for statement in (OLD_ORGANIZATION, OLD_TICKET.format(id=1), OLD_TICKET.format(id=7)):
            connection.exec_driver_sql(statement)
        connection.commit()
    upgrade(empty_url)
    with connect(empty_url) as connection:
        rows = connection.execute(text("SELECT subject_search, reference_search FROM support_tickets ORDER BY id"))
        assert [tuple(row) for row in rows] == [("\nou est ma commande?\n", f"\ntk-2023-00{id}\n") for id in (1, 7)]


def test_a_folder_for_the_file_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/folder/apex.db"
    upgrade(url)
    assert pending(url) == []


def test_a_folder_without_migrations_is_named(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot migrate: there is no folder '.*/nowhere'"):
        upgrade(sqlite_url, folder=tmp_path / "nowhere")


def test_a_migration_that_is_missing_is_named(sqlite_url: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "migrations")
    next((tmp_path / "migrations" / "versions").glob("0003_*.py")).unlink()
    for work in (upgrade, pending):
        with pytest.raises(ConfigError, match="a migration follows '0003', which is missing"):
            work(sqlite_url, folder=tmp_path / "migrations")


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    for url in ("postgresql://user:p4ss@127.0.0.1:1/name", "sqlite:////proc/nowhere/apex.db"):
        for work in (upgrade, pending):
            with pytest.raises(Unavailable, match="cannot be reached") as caught:
                work(url)
            assert "p4ss" not in str(caught.value)


def test_a_missing_folder_of_a_sqlite_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        pending(f"sqlite:///{tmp_path}/var/app.db")
    reason = f"there is no folder '{tmp_path}/var'; 'apex migrate' makes it"
    assert str(caught.value) == f"The database sqlite:///{tmp_path}/var/app.db cannot be reached: {reason}"


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://h/n", "postgresql+psycopg"),
        ("postgresql+psycopg://h/n", "postgresql+psycopg"),
        ("sqlite:///a.db", "sqlite"),
    ],
)
def test_the_driver_is_the_one_that_is_installed(url: str, driver: str) -> None:
    assert engine_url(url).drivername == driver


def test_what_a_later_version_has_migrated_is_left_as_it_is(migrated_url: str) -> None:
    with connect(migrated_url) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    upgrade(migrated_url)
    assert (pending(migrated_url), current(migrated_url), unknown_revision(migrated_url)) == ([], "9999", "9999")
    for move in (downgrade, upgrade):
        with pytest.raises(ConfigError, match="is at 9999, which this version does not have; use the version that"):
            move(migrated_url, "0001")
