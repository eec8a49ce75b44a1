"""The values of custom fields in records that were stored before the triggers existed.

If ``0004`` has copied them already, this migration copies the values that were written meanwhile.
"""

from __future__ import annotations

from alembic import op

from apex.migrations import backfill

revision = "0009"
down_revision = "0008"

TABLES = {"contact_values": "contacts", "company_values": "companies"}

# Locked records cannot change while their values are copied.
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
    """Keep the values, which are correct."""
