"""Organizations, users, memberships, companies, contacts and revoked tokens."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(24).with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
NOT_DELETED = sa.text("deleted_at IS NULL")

FIRST, LAST = "coalesce(first_name_form, '')", "coalesce(last_name_form, '')"
NAME = f"'\n' || {FIRST} || '\n' || {LAST} || '\n' || {FIRST} || ' ' || {LAST} || '\n'"
EMAIL = "'\n' || coalesce(email_form, '') || '\n'"
PHONE = (
    "'\n' || coalesce(phone, '') || '\n' || "
    "replace(coalesce(phone_country_code, ''), '+', '') || coalesce(phone, '') || '\n'"
)
SEARCHED = ("name_search", "email_search", "phone_search")


def keys(table: str) -> list[Any]:
    return [
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("uuid", name=f"uq_{table}_uuid"),
    ]


def times() -> list[Any]:
    return [
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
    ]


def refers(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")


def partial_index(name: str, table: str, columns: list[str]) -> None:
    op.create_index(name, table, columns, postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED)


def upgrade() -> None:
    _create_accounts()
    _create_companies()
    _create_contacts()
    _create_revoked_tokens()
    if op.get_bind().dialect.name == "postgresql":
        _index_search_on_postgresql()
    else:
        _index_search_on_sqlite()


def _create_accounts() -> None:
    op.create_table(
        "organizations",
        *keys("organizations"),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("subscription_status", sa.String(40), nullable=False),
        *times(),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "users",
        *keys("users"),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("password", sa.String(200)),
        sa.Column("first_name", sa.String(100), nullable=False),
        sa.Column("last_name", sa.String(100)),
        sa.Column("avatar_url", sa.String(2048)),
        *times(),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "memberships",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_memberships"),
        refers("memberships", "organization_id", "organizations"),
        refers("memberships", "user_id", "users"),
        sa.UniqueConstraint("organization_id", "user_id", name="uq_memberships_organization_id_user_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])


def _create_companies() -> None:
    op.create_table(
        "companies",
        *keys("companies"),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        *times(),
        sa.Column("created_by_user_id", IDENTIFIER),
        sa.Column("owned_by_user_id", IDENTIFIER),
        sa.Column("description", sa.String(5000)),
        sa.Column("website", sa.String(2048)),
        sa.Column("industry", sa.String(200)),
        sa.Column("size", sa.String(100)),
        sa.Column("custom_fields_by_name", JSON, nullable=False),
        refers("companies", "organization_id", "organizations"),
        refers("companies", "created_by_user_id", "users"),
        refers("companies", "owned_by_user_id", "users"),
        sa.UniqueConstraint("organization_id", "id", name="uq_companies_organization_id_id"),
        sqlite_autoincrement=True,
    )
    partial_index("ix_companies_list", "companies", ["organization_id", "id"])


def _create_contacts() -> None:
    op.create_table(
        "contacts",
        *keys("contacts"),
        sa.Column("first_name", sa.String(100), nullable=False),
        sa.Column("last_name", sa.String(100)),
        sa.Column("email", sa.String(254)),
        sa.Column("phone", sa.String(20)),
        sa.Column("phone_country_code", sa.String(5)),
        sa.Column("phone_country_iso", sa.String(2)),
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        *times(),
        sa.Column("created_by_user_id", IDENTIFIER),
        sa.Column("owned_by_user_id", IDENTIFIER),
        sa.Column("company_id", IDENTIFIER),
        sa.Column("channel_whatsapp_wa_id", sa.String(100)),
        sa.Column("channel_instagram_user_id", sa.String(100)),
        sa.Column("system_type", sa.String(40), nullable=False),
        sa.Column("avatar_url", sa.String(2048)),
        sa.Column("custom_fields_by_name", JSON, nullable=False),
        sa.Column("first_name_form", sa.Text()),
        sa.Column("last_name_form", sa.Text()),
        sa.Column("email_form", sa.Text()),
        sa.Column("name_search", sa.Text(), sa.Computed(NAME, persisted=True)),
        sa.Column("email_search", sa.Text(), sa.Computed(EMAIL, persisted=True)),
        sa.Column("phone_search", sa.Text(), sa.Computed(PHONE, persisted=True)),
        refers("contacts", "organization_id", "organizations"),
        refers("contacts", "created_by_user_id", "users"),
        refers("contacts", "owned_by_user_id", "users"),
        sa.UniqueConstraint("organization_id", "id", name="uq_contacts_organization_id_id"),
        sa.ForeignKeyConstraint(
            ["organization_id", "company_id"],
            ["companies.organization_id", "companies.id"],
            name="fk_contacts_organization_id_company_id",
        ),
        sqlite_autoincrement=True,
    )
    partial_index("ix_contacts_count", "contacts", ["organization_id"])
    partial_index("ix_contacts_list", "contacts", ["organization_id", "id"])
    partial_index("ix_contacts_created", "contacts", ["organization_id", "created_at", "id"])
    partial_index("ix_contacts_email", "contacts", ["organization_id", "email"])
    op.create_index("ix_contacts_company", "contacts", ["organization_id", "company_id"])
    op.create_index("ix_contacts_owner", "contacts", ["organization_id", "owned_by_user_id"])


def _create_revoked_tokens() -> None:
    op.create_table(
        "revoked_tokens",
        sa.Column("jti", sa.String(64), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("jti", name="pk_revoked_tokens"),
    )
    op.create_index("ix_revoked_tokens_expires_at", "revoked_tokens", ["expires_at"])


def _index_search_on_postgresql() -> None:
    """Create trigram indexes if the server has pg_trgm. Without them a search is correct, but slower."""
    bind = op.get_bind()
    if bind.scalar(sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")) == 0:
        return
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for column in SEARCHED:
        op.execute(
            f"CREATE INDEX ix_contacts_{column} ON contacts USING gin ({column} gin_trgm_ops) WHERE deleted_at IS NULL"
        )


def _index_search_on_sqlite() -> None:
    """Create a trigram index in a table of its own, which triggers keep up to date."""
    columns = ", ".join(SEARCHED)
    new = ", ".join(f"new.{column}" for column in SEARCHED)
    old = ", ".join(f"old.{column}" for column in SEARCHED)
    insert = f"INSERT INTO contacts_search (rowid, {columns}) VALUES (new.id, {new});"
    delete = f"INSERT INTO contacts_search (contacts_search, rowid, {columns}) VALUES ('delete', old.id, {old});"
    op.execute(
        f"CREATE VIRTUAL TABLE contacts_search USING fts5"
        f"({columns}, content='contacts', content_rowid='id', tokenize='trigram case_sensitive 1')"
    )
    op.execute(f"CREATE TRIGGER contacts_search_insert AFTER INSERT ON contacts BEGIN {insert} END")
    op.execute(f"CREATE TRIGGER contacts_search_delete AFTER DELETE ON contacts BEGIN {delete} END")
    op.execute(
        "CREATE TRIGGER contacts_search_update AFTER UPDATE OF "
        "first_name_form, last_name_form, email_form, phone, phone_country_code "
        f"ON contacts BEGIN {delete} {insert} END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE contacts_search")
    for table in ("revoked_tokens", "contacts", "companies", "memberships", "users", "organizations"):
        op.drop_table(table)
