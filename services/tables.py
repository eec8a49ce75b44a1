"""The tables. Every key of a tenant's table begins with its organization."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from apex.sql import Json, Timestamp

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Identifier = BigInteger().with_variant(Integer(), "sqlite")
NOT_DELETED = text("deleted_at IS NULL")


def lines(*expressions: str) -> str:
    """SQL for a form that is searched: each expression on a line of its own, with a line break at both ends."""
    return "'\n' || " + " || '\n' || ".join(expressions) + " || '\n'"


FIRST, LAST = "coalesce(first_name_form, '')", "coalesce(last_name_form, '')"
NAME_SEARCH = lines(FIRST, LAST, f"{FIRST} || ' ' || {LAST}")
EMAIL_SEARCH = lines("coalesce(email_form, '')")
PHONE_SEARCH = lines("coalesce(phone, '')", "replace(coalesce(phone_country_code, ''), '+', '') || coalesce(phone, '')")


def keys() -> list[Column[Any]]:
    """The two ids of a row: an integer for one API, a UUID for the other."""
    return [
        Column("id", Identifier, primary_key=True),
        Column("uuid", Uuid, default=uuid4, unique=True, nullable=False),
    ]


def times() -> list[Column[Any]]:
    return [
        Column("created_at", Timestamp, nullable=False),
        Column("updated_at", Timestamp, nullable=False),
        Column("deleted_at", Timestamp),
    ]


organizations = Table(
    "organizations",
    metadata,
    *keys(),
    Column("name", String(200), nullable=False),
    Column("subscription_status", String(40), nullable=False, default="active"),
    *times(),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    *keys(),
    Column("email", String(254), nullable=False, unique=True),
    Column("password", String(200)),
    Column("first_name", String(100), nullable=False),
    Column("last_name", String(100)),
    Column("avatar_url", String(2048)),
    *times(),
    sqlite_autoincrement=True,
)

memberships = Table(
    "memberships",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("organization_id", Identifier, ForeignKey("organizations.id"), nullable=False),
    Column("user_id", Identifier, ForeignKey("users.id"), nullable=False, index=True),
    Column("role", String(20), nullable=False, default="member"),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    UniqueConstraint("organization_id", "user_id"),
    sqlite_autoincrement=True,
)

companies = Table(
    "companies",
    metadata,
    *keys(),
    Column("name", String(200), nullable=False),
    Column("organization_id", Identifier, ForeignKey("organizations.id"), nullable=False),
    *times(),
    Column("created_by_user_id", Identifier, ForeignKey("users.id")),
    Column("owned_by_user_id", Identifier, ForeignKey("users.id")),
    Column("description", String(5000)),
    Column("website", String(2048)),
    Column("industry", String(200)),
    Column("size", String(100)),
    Column("custom_fields_by_name", Json, nullable=False, default=dict),
    UniqueConstraint("organization_id", "id"),
    sqlite_autoincrement=True,
)

contacts = Table(
    "contacts",
    metadata,
    *keys(),
    Column("first_name", String(100), nullable=False),
    Column("last_name", String(100)),
    Column("email", String(254)),
    Column("phone", String(20)),
    Column("phone_country_code", String(5)),
    Column("phone_country_iso", String(2)),
    Column("organization_id", Identifier, ForeignKey("organizations.id"), nullable=False),
    *times(),
    Column("created_by_user_id", Identifier, ForeignKey("users.id")),
    Column("owned_by_user_id", Identifier, ForeignKey("users.id")),
    Column("company_id", Identifier),
    Column("channel_whatsapp_wa_id", String(100)),
    Column("channel_instagram_user_id", String(100)),
    Column("system_type", String(40), nullable=False, default="contact"),
    Column("avatar_url", String(2048)),
    Column("custom_fields_by_name", Json, nullable=False, default=dict),
    Column("first_name_form", Text),
    Column("last_name_form", Text),
    Column("email_form", Text),
    Column("name_search", Text, Computed(NAME_SEARCH, persisted=True)),
    Column("email_search", Text, Computed(EMAIL_SEARCH, persisted=True)),
    Column("phone_search", Text, Computed(PHONE_SEARCH, persisted=True)),
    UniqueConstraint("organization_id", "id"),
    ForeignKeyConstraint(["organization_id", "company_id"], ["companies.organization_id", "companies.id"]),
    info={"search_index": "contacts_search"},
    sqlite_autoincrement=True,
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires_at", Timestamp, nullable=False, index=True),
)


def partial_index(name: str, *columns: Column[Any]) -> Index:
    """An index of the rows that are not deleted: the only ones that callers reach."""
    return Index(name, *columns, postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED)


partial_index("ix_contacts_count", contacts.c.organization_id)
partial_index("ix_contacts_list", contacts.c.organization_id, contacts.c.id)
partial_index("ix_contacts_created", contacts.c.organization_id, contacts.c.created_at, contacts.c.id)
partial_index("ix_contacts_email", contacts.c.organization_id, contacts.c.email)
Index("ix_contacts_company", contacts.c.organization_id, contacts.c.company_id)
Index("ix_contacts_owner", contacts.c.organization_id, contacts.c.owned_by_user_id)
partial_index("ix_companies_list", companies.c.organization_id, companies.c.id)
