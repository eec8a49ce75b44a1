"""The revisions of a project and of a database, read without Alembic.

A server only has to know whether its database is up to date. Alembic would cost it 9 MiB of memory.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from apex._lazy import extra

FOLDER: Path = Path("migrations")
CONNECT_SECONDS: int = 5
VERSION: str = "SELECT version_num FROM alembic_version"


class Revisions(NamedTuple):
    """The revisions of a project: all of them, and the newest, which no other revision follows."""

    all: frozenset[str] = frozenset()
    newest: frozenset[str] = frozenset()

    @classmethod
    def of(cls, folder: Path = FOLDER) -> Revisions:
        """Return the revisions of a folder, or none if the folder does not exist."""
        revisions: set[str] = set()
        followed: set[str] = set()
        for file in (folder / "versions").glob("*.py"):
            assigned = _assigned(file.read_text(encoding="utf-8"))
            # A file without a revision is one that the database cannot have.
            revisions.update(_names(assigned.get("revision")) or [file.name])
            followed.update(_names(assigned.get("down_revision")))
        return cls(frozenset(revisions), frozenset(revisions - followed))

    def unknown(self, current: Iterable[str]) -> list[str]:
        """Return the revisions of a database that the project does not have: a later version has migrated it."""
        return sorted({*current} - self.all)


def is_up_to_date(url: str, folder: Path = FOLDER) -> bool:
    """Return True if the database has the newest revision and no other.

    The answer is False if the database cannot be read. ``apex.migrations.migrate.pending`` then raises the reason.
    """
    try:
        with connect(url) as connection:
            current = set(connection.scalars(text(VERSION)))
    except (DatabaseError, OSError):
        return False
    return bool(current) and current == Revisions.of(folder).newest


def connect(url: str) -> Connection:
    """Return a connection to a database. Closing it closes the socket. Raises ConfigError if the driver is missing."""
    with extra("postgres", "PostgreSQL"):
        engine = create_engine(engine_url(url), poolclass=NullPool)
    return engine.connect()


def engine_url(url: str) -> URL:
    """Return the URL for an engine of SQLAlchemy, with psycopg as the driver for PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return parsed
    query = {"connect_timeout": str(CONNECT_SECONDS), **parsed.query}
    return parsed.set(drivername="postgresql+psycopg", query=query)


@cache
def _assigned(source: str) -> Mapping[str, Any]:
    """Return the names and values of a module's assignments of literals: ``a = 1``, ``a, b = 1, 2``, ``a: int = 1``.

    A process asks several times for the same files: when it looks if the database is up to date, and at each setup.
    """
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            with suppress(ValueError):
                found.update(_unpacked(targets[0], ast.literal_eval(node.value)))
    return found


def _unpacked(target: ast.expr, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(target, ast.Tuple):
        for inner, part in zip(target.elts, value, strict=False):
            yield from _unpacked(inner, part)
    elif isinstance(target, ast.Name):
        yield target.id, value


def _names(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value or ())
