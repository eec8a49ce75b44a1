"""Custom fields, pipelines, deals, products, activities and support tickets.

Companies can be searched, and contacts have ids in other systems.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON, MOMENT, identifier, partial_index, refers, tenant_table, text, within

revision = "0002"
down_revision = "0001"

NAME = "'\n' || coalesce(name_form, '') || '\n'"

TABLES = (
    "custom_fields",
    "pipelines",
    "pipeline_stages",
    "products",
    "deals",
    "deal_products",
    "activities",
    "support_tickets",
    "support_ticket_messages",
)


def fixed(places: int) -> Any:
    return sa.BigInteger().with_variant(sa.Numeric(16 + places, places), "postgresql")


def upgrade() -> None:
    op.create_table(
        "counters",
        identifier("organization_id", required=True),
        text("name", 100, required=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "name", name="pk_counters"),
        refers("counters", "organization_id", "organizations"),
    )
    _create_custom_fields()
    _create_pipelines()
    _create_products()
    _create_deals()
    _create_activities()
    _create_support_tickets()
    _widen_contacts()
    _search_companies()


def _create_custom_fields() -> None:
    tenant_table(
        "custom_fields",
        text("entity", 40, required=True),
        text("name", 100, required=True),
        text("type", 20, required=True),
        sa.Column("options", JSON),
    )
    partial_index("uq_custom_fields_name", "custom_fields", ["organization_id", "entity", "name"], unique=True)


def _create_pipelines() -> None:
    def position() -> Any:
        return sa.Column("position", sa.Integer(), nullable=False)

    tenant_table("pipelines", text("name", 200, required=True), position())
    tenant_table(
        "pipeline_stages",
        text("name", 200, required=True),
        identifier("pipeline_id", required=True),
        position(),
        within("pipeline_stages", "pipeline_id", "pipelines"),
        sa.UniqueConstraint(
            "organization_id", "pipeline_id", "id", name="uq_pipeline_stages_organization_id_pipeline_id_id"
        ),
    )


def _create_products() -> None:
    tenant_table(
        "products",
        text("name", 200, required=True),
        text("description", 5000),
        text("status", 20, required=True),
        text("type", 20, required=True),
        sa.Column("price", fixed(2), nullable=False),
        identifier("parent_id"),
        text("sku", 100),
        sa.Column("stock_quantity", sa.Integer()),
        sa.Column("is_variant", sa.Boolean(), nullable=False),
        identifier("product_category_id"),
        within("products", "parent_id", "products"),
    )
    partial_index("uq_products_sku", "products", ["organization_id", "sku"], unique=True)


def _create_deals() -> None:
    tenant_table(
        "deals",
        text("name", 200, required=True),
        sa.Column("amount", fixed(2), nullable=False),
        text("currency", 3, required=True),
        text("status", 10, required=True),
        identifier("pipeline_id", required=True),
        identifier("pipeline_stage_id", required=True),
        identifier("contact_id"),
        identifier("company_id"),
        sa.Column("won_date", MOMENT),
        sa.Column("lost_date", MOMENT),
        sa.Column("expected_close_date", sa.Date()),
        within("deals", "pipeline_id", "pipelines"),
        within("deals", "contact_id", "contacts"),
        within("deals", "company_id", "companies"),
        sa.ForeignKeyConstraint(
            ["organization_id", "pipeline_id", "pipeline_stage_id"],
            ["pipeline_stages.organization_id", "pipeline_stages.pipeline_id", "pipeline_stages.id"],
            name="fk_deals_organization_id_pipeline_id_pipeline_stage_id",
        ),
    )
    tenant_table(
        "deal_products",
        sa.Column("quantity", fixed(4), nullable=False),
        sa.Column("price", fixed(2), nullable=False),
        text("description", 5000),
        text("discount_type", 10, required=True),
        sa.Column("discount_amount", fixed(2)),
        sa.Column("discount_percentage", fixed(4)),
        sa.Column("tax_percentage", fixed(4)),
        sa.Column("total_amount_with_tax", fixed(2), nullable=False),
        sa.Column("total_amount_without_tax", fixed(2), nullable=False),
        identifier("product_id"),
        identifier("deal_id", required=True),
        text("name", 200, required=True),
        text("sku", 100),
        text("main_media_path", 2048),
        within("deal_products", "product_id", "products"),
        within("deal_products", "deal_id", "deals"),
    )
    partial_index("ix_deal_products_deal", "deal_products", ["organization_id", "deal_id", "id"])


def _create_activities() -> None:
    tenant_table(
        "activities",
        identifier("assigned_to_user_id"),
        text("subject", 500, required=True),
        text("note", 20_000),
        text("public_description", 20_000),
        text("location", 500),
        sa.Column("location_geocoded", JSON),
        sa.Column("start_date", sa.Date()),
        text("start_time", 8),
        sa.Column("end_date", sa.Date()),
        text("end_time", 8),
        sa.Column("duration", sa.Integer()),
        identifier("deal_id"),
        identifier("contact_id"),
        identifier("company_id"),
        text("activity_type", 40, required=True),
        sa.Column("done", sa.Boolean(), nullable=False),
        refers("activities", "assigned_to_user_id", "users"),
        within("activities", "deal_id", "deals"),
        within("activities", "contact_id", "contacts"),
        within("activities", "company_id", "companies"),
    )
    agenda = ["organization_id", "assigned_to_user_id", "done", "start_date", "start_time", "id"]
    partial_index("ix_activities_agenda", "activities", agenda)


def _create_support_tickets() -> None:
    tenant_table(
        "support_tickets",
        identifier("inbox_channel_id"),
        text("channel", 40),
        text("meta_inbox_channel_email", 254),
        identifier("contact_id"),
        text("meta_contact_first_name", 100),
        text("meta_contact_last_name", 100),
        text("meta_contact_email", 254),
        text("reference_number", 40, required=True),
        text("subject", 500, required=True),
        text("status", 20, required=True),
        text("priority", 20, required=True),
        sa.Column("tags", JSON, nullable=False),
        identifier("assigned_user_id"),
        identifier("assigned_ai_assistant_id"),
        text("thread_id", 200),
        sa.Column("last_message_at", MOMENT),
        text("handoff_reason", 2000),
        refers("support_tickets", "assigned_user_id", "users"),
        within("support_tickets", "contact_id", "contacts"),
        sa.UniqueConstraint(
            "organization_id", "reference_number", name="uq_support_tickets_organization_id_reference_number"
        ),
    )
    tenant_table(
        "support_ticket_messages",
        identifier("support_ticket_id", required=True),
        text("direction", 10, required=True),
        text("body", 20_000, required=True),
        within("support_ticket_messages", "support_ticket_id", "support_tickets"),
    )
    ticket = ["organization_id", "support_ticket_id", "created_at", "id"]
    partial_index("ix_support_ticket_messages_ticket", "support_ticket_messages", ticket)


def _widen_contacts() -> None:
    op.add_column("contacts", text("crm_id", 200))
    op.add_column("contacts", text("crm_source", 100))
    op.add_column("contacts", sa.Column("last_task_run", MOMENT))
    op.add_column("contacts", sa.Column("total_tasks_run", sa.Integer(), nullable=False, server_default="0"))
    partial_index("uq_contacts_crm", "contacts", ["organization_id", "crm_source", "crm_id"], unique=True)


def _search_companies() -> None:
    """Set the searched form of existing names to their lower case. The next write stores the exact form."""
    op.add_column("companies", sa.Column("name_form", sa.Text()))
    op.execute("UPDATE companies SET name_form = lower(name)")
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("companies", sa.Column("name_search", sa.Text(), sa.Computed(NAME, persisted=True)))
        if op.get_bind().scalar(sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'")):
            op.execute(
                "CREATE INDEX ix_companies_name_search ON companies USING gin (name_search gin_trgm_ops) "
                "WHERE deleted_at IS NULL"
            )
        partial_index("ix_companies_created", "companies", ["organization_id", "created_at", "id"])
        return
    _search_companies_on_sqlite()
    partial_index("ix_companies_created", "companies", ["organization_id", "created_at", "id"])


def _search_companies_on_sqlite() -> None:
    """Add a virtual column, because SQLite cannot add a stored one to an existing table."""
    op.add_column("companies", sa.Column("name_search", sa.Text(), sa.Computed(NAME, persisted=False)))
    form = "char(10) || coalesce({0}.name_form, '') || char(10)"
    insert = f"INSERT INTO companies_search (rowid, name_search) VALUES (new.id, {form.format('new')});"
    delete = (
        "INSERT INTO companies_search (companies_search, rowid, name_search) "
        f"VALUES ('delete', old.id, {form.format('old')});"
    )
    op.execute(
        "CREATE VIRTUAL TABLE companies_search USING fts5"
        "(name_search, content='companies', content_rowid='id', tokenize='trigram case_sensitive 1')"
    )
    op.execute("INSERT INTO companies_search (companies_search) VALUES ('rebuild')")
    op.execute(f"CREATE TRIGGER companies_search_insert AFTER INSERT ON companies BEGIN {insert} END")
    op.execute(f"CREATE TRIGGER companies_search_delete AFTER DELETE ON companies BEGIN {delete} END")
    op.execute(
        f"CREATE TRIGGER companies_search_update AFTER UPDATE OF name_form ON companies BEGIN {delete} {insert} END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for event in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER companies_search_{event}")
        op.execute("DROP TABLE companies_search")
    op.drop_index("ix_companies_created", "companies")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX IF EXISTS ix_companies_name_search")
    op.drop_column("companies", "name_search")
    op.drop_column("companies", "name_form")
    op.drop_index("uq_contacts_crm", "contacts")
    for column in ("crm_id", "crm_source", "last_task_run", "total_tasks_run"):
        op.drop_column("contacts", column)
    for table in (*reversed(TABLES), "counters"):
        op.drop_table(table)
