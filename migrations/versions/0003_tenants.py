"""Tenants sealed by the database; API keys; what an organization may set for itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from apex.seals import prepare_seals, remove_seals, seal, unseal
from apex.tenant import EVERYONE, ROLE, SETTING

revision = "0003"
down_revision = "0002"

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(24).with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")
NOT_DELETED = sa.text("deleted_at IS NULL")

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
    prepare_seals()
    seal("organizations", "id")
    for table in TABLES:
        seal(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in SEARCHED:
            _search_inside(table)


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("name", sa.String(100)),
        sa.Column("prefix", sa.String(20), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("last_used_at", MOMENT),
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.Column("created_by_user_id", IDENTIFIER),
        sa.Column("owned_by_user_id", IDENTIFIER),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("uuid", name="uq_api_keys_uuid"),
        sa.UniqueConstraint("prefix", name="uq_api_keys_prefix"),
        sa.UniqueConstraint("organization_id", "id", name="uq_api_keys_organization_id_id"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_api_keys_organization_id"),
        *(
            sa.ForeignKeyConstraint([column], ["users.id"], name=f"fk_api_keys_{column}")
            for column in ("user_id", "created_by_user_id", "owned_by_user_id")
        ),
        sqlite_autoincrement=True,
    )
    for name, columns in (("list", ["organization_id", "id"]), ("created", ["organization_id", "created_at", "id"])):
        op.create_index(
            f"ix_api_keys_{name}", "api_keys", columns, postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED
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
            WHEN '{EVERYONE}' THEN '' ELSE 'organization_id = ANY ($2) AND ' END;
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
        unseal(table)
    remove_seals()
    op.drop_table("api_keys")
    for column in ("rate_limit", "rate_window", "webhook_secret"):
        op.drop_column("organizations", column)
