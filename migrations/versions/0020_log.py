"""The audit becomes the log of all events."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from apex.migrations import alter_table
from apex.tenant import ALL_TENANTS, ROLE, SETTING
from migrations.tables import IDENTIFIER

revision = "0020"
down_revision = "0019"

NEW = ("xid", "origin", "event", "record", "call")
OPTIONAL: dict[str, Any] = {
    "organization_id": IDENTIFIER,
    "service": sa.String(100),
    "method": sa.String(20),
    "record_id": IDENTIFIER,
}
"""Columns that messages between processes leave empty."""

HIDDEN = """
    CASE WHEN jsonb_typeof({side}) = 'object' THEN coalesce((
        SELECT jsonb_object_agg(key, CASE
            WHEN key = ANY (string_to_array(names, ',')) AND value <> 'null' THEN '"***"' ELSE value END)
        FROM jsonb_each({side})), '{{}}') ELSE {side} END
"""
FUNCTION = """
    CREATE OR REPLACE FUNCTION audit_erase(tenant text, path text, records text, names text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    DECLARE changed bigint;
    BEGIN
        UPDATE audit SET {changes}
        WHERE organization_id = tenant::bigint AND service = path
            AND record_id = ANY (string_to_array(records, ',')::bigint[])
            AND (current_setting('{setting}', true) = '{everyone}' OR organization_id = ANY (apex_tenants()));
        GET DIAGNOSTICS changed = ROW_COUNT;
        RETURN changed;
    END $$
"""
"""The only change that the app may make in entries. It hides fields, also in the events, and drops their calls."""


def upgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    # The former version of the app goes on writing entries, without the new columns.
    with alter_table("audit") as table:
        table.add_column(sa.Column("xid", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("origin", sa.String(40), nullable=False, server_default=""))
        table.add_column(sa.Column("event", sa.String(100), nullable=False, server_default=""))
        table.add_column(sa.Column("record", sa.JSON()))
        table.add_column(sa.Column("call", sa.JSON()))
        for name, type in OPTIONAL.items() if not is_postgresql else ():
            table.alter_column(name, existing_type=type, nullable=True)
    for name in OPTIONAL if is_postgresql else ():
        # The former version of the app reads no entry without them: it asks for those of an organization.
        op.execute(f"-- squawk-ignore ban-drop-not-null\nALTER TABLE audit ALTER COLUMN {name} DROP NOT NULL")
    if is_postgresql:
        # Only messages between processes are deleted: they have no service.
        op.execute(f"GRANT DELETE ON audit TO {ROLE}")
        op.execute(f"CREATE POLICY messages ON audit AS RESTRICTIVE FOR DELETE TO {ROLE} USING (service IS NULL)")
        _replace_function(f"record = CAST({HIDDEN.format(side='CAST(record AS jsonb)')} AS json)", "call = NULL")


def downgrade() -> None:
    op.execute("DELETE FROM audit WHERE organization_id IS NULL OR method IS NULL OR record_id IS NULL")
    if op.get_bind().dialect.name == "postgresql":
        _replace_function()
        op.execute("DROP POLICY messages ON audit")
        op.execute(f"REVOKE DELETE ON audit FROM {ROLE}")
    with alter_table("audit") as table:
        for name, type in OPTIONAL.items():
            table.alter_column(name, existing_type=type, nullable=False)
        for name in NEW:
            table.drop_column(name)


def _replace_function(*changes: str) -> None:
    bind = op.get_bind()
    schema = bind.dialect.identifier_preparer.quote(bind.scalar(sa.text("SELECT current_schema()")))
    made = ", ".join([*(f"{side} = {HIDDEN.format(side=side)}" for side in ("before", "after")), *changes])
    op.execute(FUNCTION.format(schema=schema, changes=made, setting=SETTING, everyone=ALL_TENANTS))
