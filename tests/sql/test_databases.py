"""The databases that the tests get."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg


def tables(url: str) -> int:
    """Count the tables of a database."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    return int(row[0]) if row else 0


def test_an_empty_database_has_no_tables(empty_url: str) -> None:
    assert tables(empty_url) == 0


def test_postgresql_does_not_run_as_root(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    assert Path(row[0]).stat().st_uid != 0


def test_postgresql_compares_letters_beyond_ascii(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT 'ÉMILE' ILIKE 'émile'").fetchone() == (True,)
