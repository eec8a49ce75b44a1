"""Whether a database is up to date, without Alembic: who serves asks that alone, and Alembic takes 9 MiB."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from apex.extras import extra

FOLDER = Path("migrations")
CONNECT_SECONDS = 5
VERSION = "SELECT version_num FROM alembic_version"

_ASSIGNED = re.compile(r"^(revision|down_revision)\b[^=\n]*=(.*)", re.MULTILINE)
_QUOTED = re.compile(r"[\"'](.*?)[\"']")


def newest_of(folder: Path = FOLDER) -> tuple[set[str], set[str]]:
    """The revisions of a folder that no other one follows, and all of them; none where there is no such folder."""
    revisions, followed = _read(folder)
    return revisions - followed, revisions


def is_up_to_date(url: str, folder: Path = FOLDER) -> bool:
    """Whether the database has the newest revision, and no other.

    False, too, where that cannot be told: ``apex.migrate`` finds out why.
    """
    try:
        with connect(url) as connection:
            current = set(connection.scalars(text(VERSION)))
    except (DatabaseError, OSError):
        return False
    return bool(current) and current == newest_of(folder)[0]


def connect(url: str) -> Connection:
    """A connection to a database, of an engine that keeps none. Raises ConfigError where its driver is missing."""
    with extra("postgres", "PostgreSQL"):
        engine = create_engine(engine_url(url), poolclass=NullPool)
    return engine.connect()


def engine_url(url: str) -> URL:
    """The URL as SQLAlchemy's engines want it: psycopg for PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return parsed
    query = {"connect_timeout": str(CONNECT_SECONDS), **parsed.query}
    return parsed.set(drivername="postgresql+psycopg", query=query)


def _read(folder: Path) -> tuple[set[str], set[str]]:
    """The revisions, and those that another one follows; a file that says nothing counts as one of its own."""
    revisions: set[str] = set()
    followed: set[str] = set()
    for file in (folder / "versions").glob("*.py"):
        assigned = dict(_ASSIGNED.findall(file.read_text(encoding="utf-8")))
        revisions.update(_QUOTED.findall(assigned.get("revision", "")) or [file.name])
        followed.update(_QUOTED.findall(assigned.get("down_revision", "")))
    return revisions, followed
