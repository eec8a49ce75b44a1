"""Indexes for the keys with which an import finds records: phone numbers of contacts and names of companies."""

from __future__ import annotations

from apex.migrations import create_index, drop_index
from migrations.tables import NOT_DELETED

revision = "0006"
down_revision = "0005"

INDEXES = {"ix_contacts_phone": ("contacts", "phone"), "ix_companies_name": ("companies", "name")}


def upgrade() -> None:
    for name, (table, column) in INDEXES.items():
        create_index(name, table, ["organization_id", column], postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED)


def downgrade() -> None:
    for name, (table, _) in INDEXES.items():
        drop_index(name, table)
