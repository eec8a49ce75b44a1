"""Indexes for the keys that an import finds records by: phones of contacts, names of companies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

NOT_DELETED = sa.text("deleted_at IS NULL")
INDEXES = {"ix_contacts_phone": ("contacts", "phone"), "ix_companies_name": ("companies", "name")}


def upgrade() -> None:
    for name, (table, column) in INDEXES.items():
        op.create_index(
            name, table, ["organization_id", column], postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED
        )


def downgrade() -> None:
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
