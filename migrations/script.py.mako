"""${message}."""

from __future__ import annotations

revision = "${up_revision}"
down_revision = ${f'"{down_revision}"' if down_revision else None}


def upgrade() -> None:
    """What the database gains. Tables that are in use get indexes and constraints by ``apex.migrations.ddl``."""


def downgrade() -> None:
    """What undoes it."""
