"""Limits of API keys, and rotation with a period of grace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON, MOMENT, text

revision = "0014"
down_revision = "0013"

COLUMNS = ("read_only", "services", "previous_prefix", "previous_hash", "previous_expires_at")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("read_only", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("services", JSON))
    op.add_column("api_keys", text("previous_prefix", 20))
    op.add_column("api_keys", text("previous_hash", 64))
    op.add_column("api_keys", sa.Column("previous_expires_at", MOMENT))


def downgrade() -> None:
    for column in COLUMNS:
        op.drop_column("api_keys", column)
