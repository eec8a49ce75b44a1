"""Webhooks: events that are posted to URLs of organizations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import enable_row_level_security
from migrations.tables import JSON, MOMENT, identifier, refers, tenant_table, text

revision = "0022"
down_revision = "0021"

ENABLED = sa.text("enabled")
HAS_WORK = sa.text("enabled AND (due_at IS NOT NULL OR leased_until IS NOT NULL)")
WAITING = sa.text("state = 'waiting'")


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, MOMENT)


def upgrade() -> None:
    tenant_table(
        "webhooks",
        text("url", 2048, required=True),
        sa.Column("events", JSON, nullable=False),
        text("description", 200),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        identifier("user_id"),
        text("disabled_reason", 300),
        moment("failing_since"),
        moment("last_success_at"),
        text("secret", 300, required=True),
        text("previous_secret", 300),
        moment("grace_until"),
        sa.Column("position", sa.Text()),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        moment("due_at"),
        moment("paused_until"),
        text("holder", 40),
        moment("leased_until"),
        refers("webhooks", "user_id", "users"),
    )
    op.create_table(
        "webhook_deliveries",
        identifier("id", required=True),
        identifier("organization_id", required=True),
        identifier("webhook_id", required=True),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        text("type", 310, required=True),
        text("record_id", 255),
        sa.Column("created_at", MOMENT, nullable=False),
        text("state", 10, required=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        moment("sent_at"),
        moment("next_at"),
        moment("failing_since"),
        sa.Column("status", sa.Integer()),
        sa.Column("duration", sa.Integer()),
        text("answer", 500),
        text("error", 300),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_webhook_deliveries_webhook_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "webhook_progress",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_progress"),
    )
    for name, table, columns, where in (
        ("ix_webhooks_enabled", "webhooks", ["organization_id"], ENABLED),
        ("ix_webhooks_due", "webhooks", ["due_at"], HAS_WORK),
        ("ix_webhook_deliveries_waiting", "webhook_deliveries", ["webhook_id", "entry_id"], WAITING),
    ):
        op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
    op.create_index("ix_webhook_deliveries_webhook", "webhook_deliveries", ["webhook_id", "id"])
    enable_row_level_security("webhooks", "organization_id")
    enable_row_level_security("webhook_deliveries", "organization_id")


def downgrade() -> None:
    op.drop_table("webhook_progress")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
