"""The searched forms of existing records, and the indexes for search and tags on PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import create_index, drop_index, fill
from hooks.search_forms import line
from migrations.tables import NOT_DELETED

revision = "0012"
down_revision = "0011"

FORMS = {
    "deals": {"name_search": "name"},
    "activities": {"subject_search": "subject", "note_search": "note"},
    "support_tickets": {"subject_search": "subject", "reference_search": "reference_number"},
}
HAS_TRIGRAMS = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"
TAGS = "ix_support_tickets_tags"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, forms in FORMS.items():
        fill(table, {column: (source, line) for column, source in forms.items()})
        if op.get_bind().scalar(sa.text(HAS_TRIGRAMS)):
            for column in forms:
                _create_index(f"ix_{table}_{column}", table, f"{column} gin_trgm_ops")
    _create_index(TAGS, "support_tickets", "tags jsonb_path_ops")


def _create_index(name: str, table: str, column: str) -> None:
    create_index(name, table, [sa.text(column)], postgresql_using="gin", postgresql_where=NOT_DELETED)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        drop_index(TAGS, "support_tickets")
        for table, forms in FORMS.items():
            for column in forms:
                drop_index(f"ix_{table}_{column}", table)
