"""The signatures of received webhooks, each of which is accepted once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import enable_row_level_security
from migrations.tables import IDENTIFIER, MOMENT

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "webhook_signatures",
        sa.Column("signature", sa.String(64), nullable=False),
        sa.Column("used_at", MOMENT, nullable=False),
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        sa.PrimaryKeyConstraint("signature", name="pk_webhook_signatures"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_webhook_signatures_organization_id"
        ),
    )
    op.create_index("ix_webhook_signatures_used_at", "webhook_signatures", ["used_at"])
    enable_row_level_security("webhook_signatures", "organization_id")


def downgrade() -> None:
    op.drop_table("webhook_signatures")
