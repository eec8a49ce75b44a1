"""What changes tables that are in use: others write meanwhile, and what was interrupted is completed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

import apex.migrations.locks
from apex.errors import ConfigError
from apex.migrations.migrate import pending, upgrade
from apex.migrations.revisions import connect
from tests.support.migrating import NOTES, OTHERS, folder_of, migrating, one, until, waiting

INDEX = "ddl.create_index('ix_notes_text', 'notes', ['text'], unique=True)"
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_notes_text')"
TWO = "INSERT INTO notes (id, text) VALUES (1, 'a'), (2, 'b')"

CONSTRAINTS = {
    "foreign key": "ddl.add_foreign_key('fk_notes_id', 'notes', 'others', ['id'], ['id'])",
    "check": "ddl.add_check('ck_notes_text', 'notes', \"text <> 'b'\")",
    "not null": "ddl.set_not_null('notes', 'text')",
}
BREAKS = {"foreign key": "'a'", "check": "'b'", "not null": "NULL"}


def run(url: str, statement: str) -> None:
    with connect(url) as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON" if url.startswith("sqlite") else "SELECT 1")
        connection.execute(text(statement))
        connection.commit()


def texts(url: str) -> list[str | None]:
    with connect(url) as connection:
        return list(connection.scalars(text("SELECT text FROM notes ORDER BY id")))


# Indexes.


def test_others_write_while_an_index_is_built(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apex.migrations.locks, "LOCK_MILLISECONDS", 20_000)
    monkeypatch.setattr(apex.migrations.locks, "TRIES", 1)
    folder = folder_of(tmp_path, NOTES, INDEX)
    upgrade(postgres_url, "0001", folder)
    with psycopg.connect(postgres_url) as early:
        early.execute("INSERT INTO notes VALUES (1, 'a')")
        with migrating(postgres_url, folder) as thread:
            waiting(postgres_url, thread, "CREATE UNIQUE INDEX")
            one(postgres_url, "INSERT INTO notes VALUES (2, 'b')")
            assert thread.is_alive()
            early.commit()
    assert one(postgres_url, IS_VALID) is True
    assert pending(postgres_url, folder) == []


def test_an_index_whose_build_was_interrupted_is_built_anew(postgres_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES, INDEX)
    upgrade(postgres_url, "0001", folder)
    with psycopg.connect(postgres_url) as early:
        early.execute("INSERT INTO notes VALUES (1, 'a')")
        with pytest.raises(SQLAlchemyError), migrating(postgres_url, folder) as thread:
            one(postgres_url, "SELECT pg_terminate_backend(%s)", waiting(postgres_url, thread, "CREATE UNIQUE INDEX"))
    assert one(postgres_url, IS_VALID) is False
    upgrade(postgres_url, folder=folder)
    assert one(postgres_url, IS_VALID) is True


def test_a_migration_that_fails_behind_its_index_is_completed(empty_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES, f"{INDEX}\n{OTHERS}\nraise RuntimeError('broken')")
    with pytest.raises(RuntimeError, match="broken"):
        upgrade(empty_url, folder=folder)
    folder_of(folder, NOTES, f"{INDEX}\n{OTHERS}")
    upgrade(empty_url, folder=folder)
    run(empty_url, TWO)
    with pytest.raises(IntegrityError):
        run(empty_url, "INSERT INTO notes (id, text) VALUES (3, 'a')")


def test_an_index_comes_first_in_its_migration(postgres_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES, f"{OTHERS}\n{INDEX}")
    with pytest.raises(ConfigError, match="call functions of apex"):
        upgrade(postgres_url, folder=folder)
    assert one(postgres_url, "SELECT to_regclass('others')::text") is None
    assert pending(postgres_url, folder) == ["0002"]


def test_an_index_is_taken_away(empty_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES, INDEX, "ddl.drop_index('ix_notes_text', 'notes')")
    upgrade(empty_url, folder=folder)
    run(empty_url, "INSERT INTO notes (id, text) VALUES (1, 'a'), (2, 'a')")


# Constraints.


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_holds_for_the_rows_there_are_and_for_those_to_come(
    name: str, empty_url: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, f"{NOTES}\n{OTHERS}", CONSTRAINTS[name])
    upgrade(empty_url, "0001", folder)
    run(empty_url, "INSERT INTO others VALUES (1)")
    run(empty_url, "INSERT INTO notes (id, text) VALUES (1, 'a')")
    upgrade(empty_url, folder=folder)
    with pytest.raises(IntegrityError):
        run(empty_url, f"INSERT INTO notes (id, text) VALUES (2, {BREAKS[name]})")


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_that_a_row_breaks_is_added_once_the_row_is_mended(
    name: str, postgres_url: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, f"{NOTES}\n{OTHERS}", CONSTRAINTS[name])
    upgrade(postgres_url, "0001", folder)
    one(postgres_url, f"INSERT INTO notes VALUES (1, 'a'), (2, {BREAKS[name]})")
    one(postgres_url, "INSERT INTO others VALUES (1)")
    with pytest.raises(IntegrityError):
        upgrade(postgres_url, folder=folder)
    one(postgres_url, "DELETE FROM notes WHERE id = 2")
    upgrade(postgres_url, folder=folder)
    assert one(postgres_url, "SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0
    assert one(postgres_url, "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'ck_notes_text_is_there'") == 0


def test_a_table_of_sqlite_keeps_all_that_belongs_to_it(sqlite_url: str, tmp_path: Path) -> None:
    tables = """for statement in (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT DEFAULT 'a:b')",
    "CREATE INDEX ix_notes_text ON notes (text) WHERE id > 5",
    "CREATE TABLE others (text TEXT)",
    "CREATE TRIGGER copied AFTER INSERT ON notes BEGIN INSERT INTO others VALUES (new.text || ':d'); END",
): op.get_bind().exec_driver_sql(statement)"""
    folder = folder_of(tmp_path, tables, CONSTRAINTS["check"], CONSTRAINTS["not null"])
    upgrade(sqlite_url, "0001", folder)
    run(sqlite_url, "INSERT INTO notes (id) VALUES (7)")
    before = described(sqlite_url)
    upgrade(sqlite_url, folder=folder)
    assert described(sqlite_url) == before
    run(sqlite_url, "INSERT INTO notes (text) VALUES ('e')")
    with connect(sqlite_url) as connection:
        assert connection.execute(text("SELECT * FROM notes")).all() == [(7, "a:b"), (8, "e")]
        assert connection.scalars(text("SELECT * FROM others")).all() == ["a:b:d", "e:d"]
        assert "AUTOINCREMENT" in str(connection.scalar(text("SELECT sql FROM sqlite_schema WHERE name = 'notes'")))


def described(url: str) -> list[tuple[str, str]]:
    """What a database of SQLite has beside its tables."""
    with connect(url) as connection:
        found = connection.execute(text("SELECT name, sql FROM sqlite_schema WHERE type <> 'table' ORDER BY name"))
        return [(name, sql) for name, sql in found]


# Rows.

FILL = "UPDATE notes SET text = 'filled' WHERE id BETWEEN :first AND :last AND text IS NULL"
FIVE = "INSERT INTO notes (id) VALUES (1), (2), (3), (4), (50)"


def test_rows_are_filled_in_batches(empty_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES, f'ddl.backfill("notes", "{FILL}", size=2)')
    upgrade(empty_url, "0001", folder)
    run(empty_url, FIVE)
    upgrade(empty_url, folder=folder)
    assert texts(empty_url) == ["filled"] * 5


def test_a_table_without_rows_has_nothing_to_fill(empty_url: str, tmp_path: Path) -> None:
    upgrade(empty_url, folder=folder_of(tmp_path, NOTES, f'ddl.backfill("notes", "{FILL}")'))
    assert texts(empty_url) == []


def test_a_batch_is_done_and_seen_before_the_next_one(postgres_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES, f'ddl.backfill("notes", "{FILL}", size=2)')
    upgrade(postgres_url, "0001", folder)
    one(postgres_url, FIVE)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM notes WHERE id = 4 FOR UPDATE")
        with migrating(postgres_url, folder) as thread:
            until(thread, lambda: texts(postgres_url) == ["filled", "filled", None, None, None] or None)
            other.commit()
    assert texts(postgres_url) == ["filled"] * 5


SLUGS = (
    "op.create_table('notes', sa.Column('slug', sa.String(9), primary_key=True), sa.Column('text', sa.Text()))\n"
    "op.execute(\"INSERT INTO notes VALUES ('a', 'one'), ('b', 'two'), ('c', 'three')\")\n"
    "ddl.create_search_index('notes', 'text')\n"
    "op.execute(\"DELETE FROM notes WHERE slug = 'a'\")"
)
COPY = "with ddl.alter_table('notes') as table: table.alter_column('text', nullable=False)"
FOUND = {
    "sqlite": "SELECT slug FROM notes WHERE rowid IN (SELECT rowid FROM notes_search WHERE notes_search MATCH '{}')",
    "postgresql": "SELECT slug FROM notes WHERE search_document @@ CAST('{}' AS tsquery)",
}


def test_a_search_goes_on_after_a_change_of_its_table(empty_url: str, tmp_path: Path) -> None:
    upgrade(empty_url, folder=folder_of(tmp_path, SLUGS, COPY))
    with connect(empty_url) as connection:
        connection.execute(text("INSERT INTO notes (slug, text) VALUES ('d', 'four')"))
        connection.execute(text("UPDATE notes SET text = 'six' WHERE slug = 'b'"))
        found = FOUND[connection.dialect.name]
        words = {word: connection.scalar(text(found.format(word))) for word in ("one", "two", "six", "three", "four")}
    assert words == {"one": None, "two": None, "six": "b", "three": "c", "four": "d"}
