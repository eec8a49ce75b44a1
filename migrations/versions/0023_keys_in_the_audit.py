"""No texts of API keys in the audit, where entries of new keys had them for some days."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    without = "CAST(CAST(call AS jsonb) - 'dispatch' AS json)" if is_postgresql else "json_remove(call, '$.dispatch')"
    op.execute(f"UPDATE audit SET call = {without} WHERE service = 'api-keys' AND call IS NOT NULL")


def downgrade() -> None:
    """The texts are gone."""
