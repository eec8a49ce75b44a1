"""Erasure of personal data in the audit, which is the only change that the app may make there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.tenant import ALL_TENANTS, ROLE, SETTING

revision = "0015"
down_revision = "0014"

HIDDEN = """
    CASE WHEN jsonb_typeof({side}) = 'object' THEN coalesce((
        SELECT jsonb_object_agg(key, CASE
            WHEN key = ANY (string_to_array(names, ',')) AND value <> 'null' THEN '"***"' ELSE value END)
        FROM jsonb_each({side})), '{{}}') ELSE {side} END
"""
FUNCTION = """
    CREATE FUNCTION audit_erase(tenant text, path text, records text, names text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    DECLARE changed bigint;
    BEGIN
        UPDATE audit SET before = {before}, after = {after}
        WHERE organization_id = tenant::bigint AND service = path
            AND record_id = ANY (string_to_array(records, ',')::bigint[])
            AND (current_setting('{setting}', true) = '{everyone}' OR organization_id = ANY (apex_tenants()));
        GET DIAGNOSTICS changed = ROW_COUNT;
        RETURN changed;
    END $$
"""
SIGNATURE = "audit_erase(text, text, text, text)"


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    schema = bind.dialect.identifier_preparer.quote(bind.scalar(sa.text("SELECT current_schema()")))
    before, after = (HIDDEN.format(side=side) for side in ("before", "after"))
    op.execute(FUNCTION.format(schema=schema, before=before, after=after, setting=SETTING, everyone=ALL_TENANTS))
    op.execute(f"REVOKE ALL ON FUNCTION {SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {SIGNATURE} TO {ROLE}")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION {SIGNATURE}")
