"""All tables."""

import sqlalchemy as sa
from alembic import op

from apex.migrations import enable_row_level_security, prepare_row_level_security
from apex.sql import Json, Timestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    prepare_row_level_security()
    op.create_table(
        "idempotent_answers",
        sa.Column("caller", sa.String(200), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("http", Json),
        sa.Column("body", sa.Text()),
        sa.Column("about", Json),
        sa.Column("untold", sa.Text()),
        sa.Column("telling_at", Timestamp()),
    )
    op.create_index("ix_idempotent_answers_created_at", "idempotent_answers", ["created_at"])
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("key", sa.String(10), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
    )
    enable_row_level_security("projects", "id")
    op.create_table(
        "revoked_tokens",
        sa.Column("jti", sa.String(100), primary_key=True),
        sa.Column("expires_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False, unique=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("password", sa.String(200), nullable=False),
    )
    op.create_table(
        "issues",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("body", sa.Text()),
        sa.Column("status", sa.Enum("open", "started", "review", "closed", name="status"), nullable=False),
        sa.Column("author_id", sa.Integer(), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("assignee_id", sa.Integer(), sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("deleted_at", Timestamp()),
    )
    enable_row_level_security("issues", "project_id")
    op.create_index("ix_issues_assignee_id", "issues", ["assignee_id"])
    op.create_index("ix_issues_author_id", "issues", ["author_id"])
    op.create_index("ix_issues_project_id", "issues", ["project_id"])
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(50), nullable=False),
        sa.UniqueConstraint("project_id", "name"),
    )
    enable_row_level_security("labels", "project_id")
    op.create_index("ix_labels_project_id", "labels", ["project_id"])
    op.create_table(
        "members",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("user_id", sa.Integer(), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("role", sa.Enum("viewer", "member", "admin", "owner", name="role"), nullable=False),
        sa.UniqueConstraint("project_id", "user_id"),
    )
    enable_row_level_security("members", "project_id")
    op.create_index("ix_members_project_id", "members", ["project_id"])
    op.create_index("ix_members_user_id", "members", ["user_id"])
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("issue_id", sa.Integer(), sa.ForeignKey("issues.id", ondelete="CASCADE"), nullable=False),
        sa.Column("author_id", sa.Integer(), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("text", sa.String(5000), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    enable_row_level_security("comments", "project_id")
    op.create_index("ix_comments_author_id", "comments", ["author_id"])
    op.create_index("ix_comments_issue_id", "comments", ["issue_id"])
    op.create_index("ix_comments_project_id", "comments", ["project_id"])
    op.create_table(
        "issue_labels",
        sa.Column("issue_id", sa.Integer(), sa.ForeignKey("issues.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("label_id", sa.Integer(), sa.ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("ix_issue_labels_label_id", "issue_labels", ["label_id"])


def downgrade() -> None:
    op.drop_table("issue_labels")
    op.drop_table("comments")
    op.drop_table("members")
    op.drop_table("labels")
    op.drop_table("issues")
    op.drop_table("users")
    op.drop_table("revoked_tokens")
    op.drop_table("projects")
    op.drop_table("idempotent_answers")
