"""The tables. The keys of a table of organizations begin with the organization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from apex.common import answers_table, signatures_table
from apex.sql import Timestamp

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

LONGEST_VALUE = 500
"""The characters of a custom field's text that fit into an entry of PostgreSQL's index, with four bytes each."""


def lines(*expressions: str) -> str:
    """Return SQL for a searched form: each expression on its own line, with a line break at both ends."""
    return "'\n' || " + " || '\n' || ".join(expressions) + " || '\n'"


def keys() -> list[Column[Any]]:
    """Return the two ids of a row: an integer for the AchieveApex API, a UUID for the AgentVoice API."""
    return [
        Column("id", Identifier, primary_key=True),
        Column("uuid", Uuid, default=uuid4, unique=True, nullable=False),
    ]


def times() -> list[Column[Any]]:
    """Return the columns with the moments at which a row was created, updated and removed."""
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
    Column("rate_limit", Integer),
    Column("rate_window", Integer),
    Column("webhook_secret", String(200)),
    Column("strict_custom_fields", Boolean, nullable=False, default=False, server_default=false()),
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

counters = Table(
    "counters",
    metadata,
    Column("organization_id", Identifier, ForeignKey("organizations.id"), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires_at", Timestamp, nullable=False, index=True),
)


answers = answers_table(metadata)

signatures = signatures_table(
    metadata, Column("organization_id", Identifier, ForeignKey("organizations.id"), nullable=False)
)


def partial_index(name: str, *columns: Column[Any], unique: bool = False) -> Index:
    """Return an index of the rows that are not removed, as most queries ask only for these."""
    return Index(name, *columns, unique=unique, postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED)


def within(column: str, target: str) -> ForeignKeyConstraint:
    """Return a foreign key to a row of the same organization."""
    return ForeignKeyConstraint(["organization_id", column], [f"{target}.organization_id", f"{target}.id"])


def tenant_parts(*parts: Any) -> list[Any]:
    """Return the columns and constraints of a table of rows that belong to organizations, around its own ``parts``."""
    return [
        *keys(),
        Column("organization_id", Identifier, ForeignKey("organizations.id"), nullable=False),
        *parts,
        *times(),
        Column("created_by_user_id", Identifier, ForeignKey("users.id")),
        Column("owned_by_user_id", Identifier, ForeignKey("users.id")),
        UniqueConstraint("organization_id", "id"),
    ]


def tenant_table(name: str, *parts: Any, info: Mapping[str, Any] | None = None) -> Table:
    """Return a table of rows that belong to organizations, with the indexes for its lists.

    ``parts`` are its own columns and constraints.
    """
    info = {"tenant": "organization_id", "live": "deleted_at", **(info or {})}
    table = Table(name, metadata, *tenant_parts(*parts), info=info, sqlite_autoincrement=True)
    index_lists(table)
    return table


def index_lists(table: Table) -> None:
    """Add the indexes for the lists of a table of rows that belong to organizations."""
    c = table.c
    partial_index(f"ix_{table.name}_list", c.organization_id, c.id)
    partial_index(f"ix_{table.name}_created", c.organization_id, c.created_at, c.id)


def code_points(size: int) -> String:
    """Return the type of a text that is compared by code point, whatever the collation of the database."""
    return String(size).with_variant(String(size, collation="C"), "postgresql")


def values_table(name: str) -> Table:
    """Return the table with the values of custom fields, for the option ``paths`` of ``SQLService``.

    Triggers fill it with each value of the records that are not removed. Of a text it has the first 500 characters.
    """
    table = Table(
        name,
        metadata,
        Column("organization_id", Identifier, nullable=False),
        Column("record_id", Identifier, primary_key=True, autoincrement=False),
        Column("name", code_points(100), primary_key=True),
        Column("number", Double),
        Column("text", code_points(LONGEST_VALUE)),
        info={"live": "deleted_at"},
    )
    c = table.c
    Index(f"ix_{name}_sorted", c.organization_id, c.name, c.number, c.text, c.record_id)
    return table
