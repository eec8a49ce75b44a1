"""The values of custom fields that records had before there were triggers for them.

Where ``0004`` has copied them itself, those are found that were written while it did.
"""

from __future__ import annotations

from alembic import op

from apex.migrations import backfill

revision = "0009"
down_revision = "0008"

TABLES = {"contact_values": "contacts", "company_values": "companies"}

# A record that is locked is the one that its next change will find, with the values that are copied here.
COPY = """
    WITH locked AS (
        SELECT id, organization_id, custom_fields_by_name FROM {records}
        WHERE id BETWEEN :first AND :last AND deleted_at IS NULL ORDER BY id FOR SHARE
    )
    INSERT INTO {values} (organization_id, record_id, name, number, text)
    SELECT organization_id, id, key,
        CASE jsonb_typeof(value) WHEN 'number' THEN value::double precision END,
        CASE jsonb_typeof(value) WHEN 'number' THEN NULL ELSE left(value #>> '{{}}', 500) END
    FROM locked, jsonb_each(custom_fields_by_name)
    WHERE jsonb_typeof(value) IN ('number', 'string', 'boolean') AND length(key) <= 100
    ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for values, records in TABLES.items():
            backfill(records, COPY.format(values=values, records=records))


def downgrade() -> None:
    """They are right as they are."""
