"""Row-level security for users, revoked tokens and answers, and functions with a fixed search path."""

from __future__ import annotations

from alembic import op

from apex.migrations import disable_row_level_security, enable_row_level_security_where, pin_search_path
from apex.tenant import ROLE

revision = "0016"
down_revision = "0015"

SHARED = "EXISTS (SELECT FROM memberships WHERE memberships.user_id = users.id)"
"""A user belongs to an organization within reach: memberships have a policy of their own."""

SEARCHES = ("contacts_search(text, text)", "companies_search(text, text)")


def upgrade() -> None:
    enable_row_level_security_where("users", SHARED)
    enable_row_level_security_where("revoked_tokens")
    enable_row_level_security_where("idempotent_answers")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {ROLE}")
        for function in SEARCHES:
            pin_search_path(function)


def downgrade() -> None:
    for table in ("users", "revoked_tokens", "idempotent_answers"):
        disable_row_level_security(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"GRANT INSERT, UPDATE, DELETE ON alembic_version TO {ROLE}")
        for function in SEARCHES:
            op.execute(f"ALTER FUNCTION {function} SET search_path FROM CURRENT")
