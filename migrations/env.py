"""The configuration of Alembic: one history of migrations for SQLite and PostgreSQL."""

from __future__ import annotations

from apex.migrations import run_migrations
from services.app import metadata

SEARCH_INDEXES = ("_search", "ix_support_tickets_tags")


def is_managed(name: str | None, kind: str, parents: object) -> bool:
    """Return False for the indexes of the search, which each database has in its own form."""
    return not (kind in ("table", "index") and any(mark in (name or "") for mark in SEARCH_INDEXES))


run_migrations(metadata, is_managed)
