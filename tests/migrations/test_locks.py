"""Migrations that need a lock which others hold: nobody waits long for them, and who is in the way is named."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

import apex.migrations.locks
from apex.errors import Unavailable
from apex.migrations.migrate import pending, upgrade
from tests.support.migrating import NOTES, folder_of, migrating, one, until

WHEN_THE_CALL_WAITS = """op.execute('''DO $$ BEGIN LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'users'::regclass);
    EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock');
END LOOP; END $$''')"""
HAS_LOCKED = "SELECT 1 FROM pg_locks WHERE relation = 'notes'::regclass AND mode = 'AccessExclusiveLock' AND granted"
ADD = "op.add_column('notes', sa.Column('more', sa.Text()))"


@pytest.fixture
def folder(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A migration that needs a table for itself, still to come."""
    monkeypatch.setattr(apex.migrations.locks, "LOCK_MILLISECONDS", 20)
    monkeypatch.setattr(apex.migrations.locks, "PAUSE_SECONDS", 0)
    folder = folder_of(tmp_path, NOTES, f"op.execute('CREATE TABLE others (id integer)')\n{ADD}")
    upgrade(postgres_url, "0001", folder)
    return folder


@pytest.mark.parametrize("change", [ADD, "ddl.add_check('more', 'notes', 'true')"])
def test_it_gives_up_its_place_and_has_it_when_it_is_free(
    change: str, postgres_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apex.migrations.locks, "TRIES", 1_000_000)
    folder_of(folder, NOTES, change)
    with psycopg.connect(postgres_url) as report:
        report.execute("SELECT * FROM notes")
        with migrating(postgres_url, folder) as thread:
            until(thread, lambda: "tries again" in caplog.text or None)
            assert one(postgres_url, "SELECT count(*) FROM notes") == 0
            assert thread.is_alive()
            report.commit()
    assert pending(postgres_url, folder) == []


def test_a_migration_and_a_call_that_wait_for_each_other_both_end(
    postgres_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apex.migrations.locks, "LOCK_MILLISECONDS", 0)
    folder_of(folder, NOTES, f"{ADD}\n{WHEN_THE_CALL_WAITS}\nop.execute('LOCK TABLE users')")
    one(postgres_url, "CREATE TABLE users (id integer)")
    with psycopg.connect(postgres_url) as call:
        call.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")
        call.execute("SET LOCAL deadlock_timeout = '1h'")
        with migrating(postgres_url, folder) as thread:
            until(thread, lambda: one(postgres_url, HAS_LOCKED))
            call.execute("SELECT * FROM notes")
            call.commit()
    assert pending(postgres_url, folder) == []


def test_who_holds_the_lock_is_named_and_nothing_is_stored(postgres_url: str, folder: Path) -> None:
    with psycopg.connect(postgres_url, application_name="report") as reader:
        reader.execute("SELECT * FROM notes")
        holder = rf"process {reader.info.backend_pid} \(postgres, idle in transaction, for \d+ seconds\)"
        with pytest.raises(Unavailable, match=f"'ALTER TABLE notes ADD COLUMN more TEXT' did not .* {holder}"):
            upgrade(postgres_url, folder=folder)
    assert one(postgres_url, "SELECT count(*) FROM pg_tables WHERE tablename = 'others'") == 0
    assert pending(postgres_url, folder) == ["0002"]
