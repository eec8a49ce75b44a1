"""Indexes for those who follow the log."""

from __future__ import annotations

from apex.migrations import create_index, drop_index

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    create_index("ix_audit_xid", "audit", ["xid"])
    create_index("ix_audit_organization_id_xid", "audit", ["organization_id", "xid"])


def downgrade() -> None:
    drop_index("ix_audit_organization_id_xid", "audit")
    drop_index("ix_audit_xid", "audit")
