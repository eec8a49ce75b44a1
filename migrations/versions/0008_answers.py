"""The answers to writes with an Idempotency-Key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON, MOMENT

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "idempotent_answers",
        sa.Column("caller", sa.String(200), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("http", JSON),
        sa.Column("body", sa.Text()),
        sa.PrimaryKeyConstraint("caller", "key", name="pk_idempotent_answers"),
    )
    op.create_index("ix_idempotent_answers_created_at", "idempotent_answers", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotent_answers")
