"""Helpers for migrations that create tables of organizations: their common columns, references and indexes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(24).with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
NOT_DELETED = sa.text("deleted_at IS NULL")


def text(name: str, size: int, required: bool = False) -> Any:
    return sa.Column(name, sa.String(size), nullable=not required)


def identifier(name: str, required: bool = False) -> Any:
    return sa.Column(name, IDENTIFIER, nullable=not required)


def within(table: str, column: str, target: str) -> Any:
    return sa.ForeignKeyConstraint(
        ["organization_id", column],
        [f"{target}.organization_id", f"{target}.id"],
        name=f"fk_{table}_organization_id_{column}",
    )


def refers(table: str, column: str, target: str) -> Any:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")


def partial_index(name: str, table: str, columns: list[str], unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, postgresql_where=NOT_DELETED, sqlite_where=NOT_DELETED)


def tenant_table(name: str, *parts: Any) -> None:
    op.create_table(
        name,
        identifier("id", required=True),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        *parts,
        identifier("organization_id", required=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        identifier("created_by_user_id"),
        identifier("owned_by_user_id"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sa.UniqueConstraint("uuid", name=f"uq_{name}_uuid"),
        refers(name, "organization_id", "organizations"),
        refers(name, "created_by_user_id", "users"),
        refers(name, "owned_by_user_id", "users"),
        sa.UniqueConstraint("organization_id", "id", name=f"uq_{name}_organization_id_id"),
        sqlite_autoincrement=True,
    )
    partial_index(f"ix_{name}_list", name, ["organization_id", "id"])
    partial_index(f"ix_{name}_created", name, ["organization_id", "created_at", "id"])
