"""Indexes for those who follow the log."""

from __future__ import annotations

import sqlalchemy as sa

from apex.migrations import create_index, drop_index

revision = "0021"
down_revision = "0020"

MESSAGES = sa.text("service IS NULL")


def upgrade() -> None:
    create_index("ix_audit_xid", "audit", ["xid"])
    create_index("ix_audit_messages", "audit", ["id"], postgresql_where=MESSAGES, sqlite_where=MESSAGES)
    create_index("ix_audit_organization_id_xid", "audit", ["organization_id", "xid"])


def downgrade() -> None:
    drop_index("ix_audit_organization_id_xid", "audit")
    drop_index("ix_audit_messages", "audit")
    drop_index("ix_audit_xid", "audit")
