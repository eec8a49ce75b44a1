"""${message}."""

from __future__ import annotations

revision = "${up_revision}"
down_revision = ${f'"{down_revision}"' if down_revision else None}


def upgrade() -> None:
    """Upgrade the database. For tables in use, create indexes and constraints with ``apex.migrations``."""


def downgrade() -> None:
    """Undo the upgrade."""
