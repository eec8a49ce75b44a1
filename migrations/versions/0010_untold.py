"""The records in stored answers to writes, and the events of those writes that may not have been sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON, MOMENT

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("idempotent_answers", sa.Column("about", JSON))
    op.add_column("idempotent_answers", sa.Column("untold", sa.Text()))
    op.add_column("idempotent_answers", sa.Column("telling_at", MOMENT))


def downgrade() -> None:
    for column in ("about", "untold", "telling_at"):
        op.drop_column("idempotent_answers", column)
