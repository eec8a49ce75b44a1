"""The configuration of Alembic: one history of migrations for SQLite and PostgreSQL."""

from __future__ import annotations

from apex.migrations import run_migrations
from services.app import metadata


def is_managed(name: str | None, kind: str, parents: object) -> bool:
    """Return False for the tables in which SQLite keeps a search index."""
    return not (kind == "table" and name is not None and "_search" in name)


run_migrations(metadata, is_managed)
