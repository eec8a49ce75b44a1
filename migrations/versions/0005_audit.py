"""The audit of changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import disable_row_level_security, enable_row_level_security
from apex.tenant import ROLE
from migrations.tables import IDENTIFIER, JSON, MOMENT

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("user_id", IDENTIFIER),
        sa.Column("key_id", IDENTIFIER),
        sa.Column("api", sa.String(40)),
        sa.Column("provider", sa.String(20)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("service", sa.String(100), nullable=False),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("record_id", IDENTIFIER, nullable=False),
        sa.Column("before", JSON),
        sa.Column("after", JSON),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_audit_organization_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_audit_user_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_list", "audit", ["organization_id", "id"])
    op.create_index("ix_audit_record", "audit", ["organization_id", "service", "record_id", "id"])
    enable_row_level_security("audit", "organization_id")
    if op.get_bind().dialect.name == "postgresql":
        # Nobody changes entries, not even the app.
        op.execute(f"REVOKE UPDATE, DELETE ON audit FROM {ROLE}")


def downgrade() -> None:
    disable_row_level_security("audit")
    op.drop_table("audit")
