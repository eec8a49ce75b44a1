"""Deals without an amount, and the amount that a deal had before its first product."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

MONEY = sa.BigInteger().with_variant(sa.Numeric(18, 2), "postgresql")


def upgrade() -> None:
    op.add_column("deals", sa.Column("amount_without_products", MONEY))
    if op.get_bind().dialect.name == "postgresql":
        # The previous version of the app reads a null too.
        op.execute("-- squawk-ignore ban-drop-not-null\nALTER TABLE deals ALTER COLUMN amount DROP NOT NULL")
    else:
        _replace_on_sqlite(sa.Column("amount", MONEY))


def downgrade() -> None:
    op.drop_column("deals", "amount_without_products")
    op.execute("UPDATE deals SET amount = 0 WHERE amount IS NULL")
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("deals", "amount", nullable=False)
    else:
        _replace_on_sqlite(sa.Column("amount", MONEY, nullable=False, server_default="0"))


def _replace_on_sqlite(column: sa.Column[int]) -> None:
    """Replace the column, because SQLite cannot change it, and copying a table would lose its triggers."""
    op.alter_column("deals", "amount", new_column_name="amount_before")
    op.add_column("deals", column)
    op.execute("UPDATE deals SET amount = amount_before")
    op.drop_column("deals", "amount_before")
