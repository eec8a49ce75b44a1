"""The index by which an API key is found with its previous secret."""

from __future__ import annotations

from apex.migrations import create_index, drop_index

revision = "0019"
down_revision = "0018"

NAME = "uq_api_keys_previous_prefix"


def upgrade() -> None:
    create_index(NAME, "api_keys", ["previous_prefix"], unique=True)


def downgrade() -> None:
    drop_index(NAME, "api_keys")
