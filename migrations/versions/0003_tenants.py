"""Row-level security for tenants, API keys, and settings of organizations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import (
    disable_row_level_security,
    enable_row_level_security,
    prepare_row_level_security,
    remove_row_level_security,
)
from apex.tenant import ALL_TENANTS, ROLE, SETTING
from migrations.tables import MOMENT, identifier, refers, tenant_table, text

revision = "0003"
down_revision = "0002"

TABLES = (
    "memberships", "counters", "companies", "contacts", "custom_fields", "pipelines", "pipeline_stages", "products",
    "deals", "deal_products", "activities", "support_tickets", "support_ticket_messages", "api_keys",
)  # fmt: skip
SEARCHED = ("contacts", "companies")


def upgrade() -> None:
    op.add_column("organizations", sa.Column("rate_limit", sa.Integer()))
    op.add_column("organizations", sa.Column("rate_window", sa.Integer()))
    op.add_column("organizations", sa.Column("webhook_secret", sa.String(200)))
    _create_api_keys()
    prepare_row_level_security()
    enable_row_level_security("organizations", "id")
    for table in TABLES:
        enable_row_level_security(table, "organization_id")
    if op.get_bind().dialect.name == "postgresql":
        for table in SEARCHED:
            _search_inside(table)


def _create_api_keys() -> None:
    tenant_table(
        "api_keys",
        identifier("user_id", required=True),
        text("name", 100),
        text("prefix", 20, required=True),
        text("hash", 64, required=True),
        sa.Column("last_used_at", MOMENT),
        sa.UniqueConstraint("prefix", name="uq_api_keys_prefix"),
        refers("api_keys", "user_id", "users"),
    )


def _search_inside(table: str) -> None:
    """The ids of the records whose form holds a term, within the reach of the call.

    Under row-level security PostgreSQL takes an index only for operators that cannot leak what they compare, and LIKE
    is none of them. So the function looks past the policies, and holds to the reach by itself.
    """
    op.execute(f"""
        CREATE FUNCTION {table}_search(form text, pattern text) RETURNS SETOF bigint
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
        DECLARE mine text := CASE current_setting('{SETTING}', true)
            WHEN '{ALL_TENANTS}' THEN '' ELSE 'organization_id = ANY ($2) AND ' END;
        BEGIN
            RETURN QUERY EXECUTE
                format('SELECT id FROM {table} WHERE %s deleted_at IS NULL AND %I LIKE $1', mine, form)
                USING pattern, apex_tenants();
        END $$
    """)
    op.execute(f"REVOKE ALL ON FUNCTION {table}_search FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {table}_search TO {ROLE}")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in SEARCHED:
            op.execute(f"DROP FUNCTION {table}_search")
    for table in ("organizations", *TABLES):
        disable_row_level_security(table)
    remove_row_level_security()
    op.drop_table("api_keys")
    for column in ("rate_limit", "rate_window", "webhook_secret"):
        op.drop_column("organizations", column)
