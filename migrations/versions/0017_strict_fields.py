"""The setting of organizations to accept only the custom fields that they have defined."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    no = sa.false()
    op.add_column("organizations", sa.Column("strict_custom_fields", sa.Boolean(), nullable=False, server_default=no))


def downgrade() -> None:
    op.drop_column("organizations", "strict_custom_fields")
