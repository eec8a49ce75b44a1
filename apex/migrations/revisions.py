"""Whether a database is up to date, without Alembic: who serves asks that alone, and Alembic takes 9 MiB."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from apex.lazy import extra

FOLDER = Path("migrations")
CONNECT_SECONDS = 5
VERSION = "SELECT version_num FROM alembic_version"


def newest_of(folder: Path = FOLDER) -> tuple[set[str], set[str]]:
    """The revisions of a folder that no other one follows, and all of them; none where there is no such folder."""
    revisions, followed = _read(folder)
    return revisions - followed, revisions


def is_up_to_date(url: str, folder: Path = FOLDER) -> bool:
    """Whether the database has the newest revision, and no other.

    False, too, where that cannot be told: ``apex.migrations.migrate`` finds out why.
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
        said = dict(_assigned(file.read_text(encoding="utf-8")))
        revisions.update(_names(said.get("revision")) or [file.name])
        followed.update(_names(said.get("down_revision")))
    return revisions, followed


def _assigned(source: str) -> Iterator[tuple[str, Any]]:
    """The names that a module gives literals to, and these: one by one, several at once, or with their types."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            with suppress(ValueError):
                yield from _given(targets[0], ast.literal_eval(node.value))


def _given(target: ast.expr, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(target, ast.Tuple):
        for inner, part in zip(target.elts, value, strict=False):
            yield from _given(inner, part)
    elif isinstance(target, ast.Name):
        yield target.id, value


def _names(said: Any) -> set[str]:
    return {said} if isinstance(said, str) else set(said or ())
