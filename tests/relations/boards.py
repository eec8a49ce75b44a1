"""Boards of issues that write their related records, on each adapter: the app of the tests of writing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, SQLService, database
from apex.adapters import Adapter
from apex.common import soft_delete
from apex.query.coercion import integer, text, timestamp
from apex.relations import belongs_to, has_many, many_to_many
from apex.sql import Timestamp

metadata = MetaData()
Table("boards", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
Table(
    "issues",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(20)),
    Column("board_id", ForeignKey("boards.id")),
    Column("deleted_at", Timestamp),
)
Table(
    "comments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", String(20), nullable=False),
    Column("issue_id", Integer),
    Column("deleted_at", Timestamp),
)
Table("labels", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
links = Table(
    "links",
    metadata,
    Column("issue_id", ForeignKey("issues.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
)
ANN: dict[str, Any] = {"provider": "rest", "user": {"id": 1}}
"""A caller from outside."""

KINDS = {Integer: integer, String: text, Timestamp: timestamp}


@asynccontextmanager
async def boards(
    url: str | None, options: Mapping[str, Mapping[str, Any]] | None = None, *, trash: bool = False
) -> AsyncIterator[Apex]:
    """Give an app with boards, issues, comments and labels, on a database or, without a URL, in memory.

    ``options`` are those of adapters. With ``trash``, issues and comments keep removed records.
    """
    app = Apex()
    linked: dict[str, Any] = {"through": "links", "key": "issue_id", "other_key": "label_id"}
    if url is not None:
        app.configure(database(url))
        linked = {"through": links}
    relations: dict[str, Any] = {
        "issues": {
            "board": belongs_to("boards", write=True),
            "comments": has_many("comments", "issue_id", write=True, on_remove="cascade"),
            "labels": many_to_many("labels", write=True, **linked),
        },
        "comments": {"issue": belongs_to("issues")},
    }
    for name, table in metadata.tables.items():
        if name == "links" and url is not None:
            continue
        own = {"multi": ("patch", "remove"), "relations": relations.get(name, {}), **(options or {}).get(name, {})}
        hooks: Any = {}
        if trash and "deleted_at" in table.c:
            own["trash"], hooks = "deleted_at", {"before": {"all": [soft_delete()]}}
        app.use(name, adapter(table, url is None, own), hooks=hooks)
    await app.setup()
    if url is not None:
        await app.get("database").create_all(metadata)
    try:
        yield app
    finally:
        await app.teardown()


def adapter(table: Table, memory: bool, options: dict[str, Any]) -> Adapter[Any]:
    """Return the adapter of a table."""
    if not memory:
        return SQLService(table, **options)
    fields: dict[str, Any] = {"id": integer}
    fields |= {column.name: KINDS.get(type(column.type), integer) for column in table.columns}
    if table.name == "comments":
        fields["text"] = required
    return MemoryService(fields=fields, start_id=1, **options)


def required(value: Any) -> str:
    """Return a text. Raises ValueError for null."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


async def stored(app: Apex, *paths: str) -> list[list[dict[str, Any]]]:
    """Return the records of services, also the removed ones, past their hooks."""
    return [await app.service(path).service.find({"paginate": False}) for path in paths]


async def linked(app: Apex) -> list[tuple[int, int]]:
    """Return the pairs of issues and labels that are linked."""
    adapter = app.service("issues").service.related["labels"].link.adapter
    return sorted((row["issue_id"], row["label_id"]) for row in await adapter.find({"paginate": False}))


def hide(context: Context) -> None:
    """Hide the record with the id 2 from callers: before find and get."""
    if context.params.provider:
        context.params.scope["id"] = {"$ne": 2}
