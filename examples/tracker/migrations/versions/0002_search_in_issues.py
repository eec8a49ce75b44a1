"""Search in issues."""

from __future__ import annotations

from apex.migrations import create_search_index, drop_search_index

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_search_index("issues", "title", "body")


def downgrade() -> None:
    drop_search_index("issues")
