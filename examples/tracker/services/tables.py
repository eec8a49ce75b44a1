"""All tables of the tracker."""

from typing import Any

from sqlalchemy import Column, Enum, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

from apex.auth import revoked_tokens_table
from apex.common import answers_table
from apex.sql import Timestamp

metadata = MetaData()
answers, revoked_tokens = answers_table(metadata), revoked_tokens_table(metadata)

ROLES = ("viewer", "member", "admin", "owner")
"""The roles in a project, the lowest first. Each may do what the ones before it may."""
WORKFLOW = {
    "open": ("started", "closed"), "started": ("open", "review"), "review": ("started", "closed"), "closed": ("open",),
}  # fmt: skip
"""The states that may follow each state of an issue."""


def table(name: str, *columns: Column[Any] | UniqueConstraint, tenant: str | None = "project_id") -> Table:
    """Return a table with an id. ``tenant`` names the column with the project of a row."""
    info = {} if tenant is None else {"tenant": tenant}
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns, info=info)


def reference(name: str, to: str, nullable: bool = False) -> Column[Any]:
    """Return a column with the id of a row of another table. The row goes with that one."""
    return Column(name, Integer, ForeignKey(f"{to}.id", ondelete="CASCADE"), nullable=nullable, index=True)


users = table(
    "users",
    Column("email", String(254), nullable=False, unique=True),
    Column("name", String(100), nullable=False),
    Column("password", String(200), nullable=False),
    tenant=None,
)
projects = table(
    "projects",
    Column("key", String(10), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    tenant="id",
)
members = table(
    "members",
    reference("project_id", "projects"),
    reference("user_id", "users"),
    Column("role", Enum(*ROLES, name="role"), nullable=False, default="member"),
    UniqueConstraint("project_id", "user_id"),
)
labels = table(
    "labels",
    reference("project_id", "projects"),
    Column("name", String(50), nullable=False),
    UniqueConstraint("project_id", "name"),
)
issues = table(
    "issues",
    reference("project_id", "projects"),
    Column("title", String(200), nullable=False),
    Column("body", Text),
    Column("status", Enum(*WORKFLOW, name="status"), nullable=False, default="open"),
    reference("author_id", "users"),
    reference("assignee_id", "users", nullable=True),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Column("deleted_at", Timestamp),
)
issue_labels = Table(
    "issue_labels",
    metadata,
    Column("issue_id", Integer, ForeignKey("issues.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", Integer, ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True, index=True),
)
comments = table(
    "comments",
    reference("project_id", "projects"),
    reference("issue_id", "issues"),
    reference("author_id", "users"),
    Column("text", String(5_000), nullable=False),
    Column("created_at", Timestamp, nullable=False),
)
