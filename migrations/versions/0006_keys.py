"""Indexes for the keys that an import finds records by: phones of contacts, names of companies."""

from __future__ import annotations

from alembic import op

from migrations.tables import partial_index

revision = "0006"
down_revision = "0005"

INDEXES = {"ix_contacts_phone": ("contacts", "phone"), "ix_companies_name": ("companies", "name")}


def upgrade() -> None:
    for name, (table, column) in INDEXES.items():
        partial_index(name, table, ["organization_id", column])


def downgrade() -> None:
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
