"""Faster policies for calls that read one organization."""

from __future__ import annotations

from apex.migrations import renew_row_level_security

revision = "0007"
down_revision = "0006"

TABLES = (
    "memberships", "counters", "companies", "contacts", "custom_fields", "pipelines", "pipeline_stages", "products",
    "deals", "deal_products", "activities", "support_tickets", "support_ticket_messages", "api_keys",
    "contact_values", "company_values", "audit",
)  # fmt: skip


def upgrade() -> None:
    renew_row_level_security("organizations", "id")
    for table in TABLES:
        renew_row_level_security(table, "organization_id")


def downgrade() -> None:
    """Keep the policies, which have the same meaning as before."""
