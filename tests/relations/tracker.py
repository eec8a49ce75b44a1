"""An issue tracker on each adapter: the app of the tests of relations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Integer, MetaData, String, Table

from apex import Apex, MemoryService, SQLService, database
from apex.adapters import Adapter
from apex.query.coercion import boolean, integer, text
from apex.relations import belongs_to, has_many, many_to_many

metadata = MetaData()
projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(20)),
    Column("hidden", Boolean),
    Column("secret", String(20)),
)
issues = Table(
    "issues",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(50)),
    Column("project_id", ForeignKey("projects.id")),
    Column("parent_id", ForeignKey("issues.id")),
)
comments = Table(
    "comments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("issue_id", ForeignKey("issues.id")),
    Column("body", String(50)),
    Column("points", Integer),
)
labels = Table(
    "labels", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)), Column("color", String(9))
)
issue_labels = Table(
    "issue_labels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("issue_id", ForeignKey("issues.id")),
    Column("label_id", ForeignKey("labels.id")),
)
TABLES = {table.name: table for table in metadata.sorted_tables}
KINDS = {Integer: integer, String: text, Boolean: boolean}


def relations(memory: bool) -> dict[str, dict[str, Any]]:
    """Return the relations of the tracker by service."""
    links: dict[str, Any] = {"through": issue_labels}
    if memory:
        links = {"through": "issue_labels", "key": "issue_id", "other_key": "label_id"}
    back = {"through": links["through"], "key": "label_id", "other_key": "issue_id"} if memory else links
    return {
        "projects": {"issues": has_many("issues", "project_id")},
        "issues": {
            "project": belongs_to("projects"),
            "parent": belongs_to("issues"),
            "children": has_many("issues", "parent_id"),
            "comments": has_many("comments", "issue_id"),
            "labels": many_to_many("labels", **links),
        },
        "comments": {"issue": belongs_to("issues")},
        "labels": {"issues": many_to_many("issues", **back)},
    }


def adapter(name: str, memory: bool, **options: Any) -> Adapter[Any]:
    """Return the adapter of one table of the tracker."""
    if not memory:
        return SQLService(TABLES[name], **options)
    fields = {column.name: KINDS.get(type(column.type), integer) for column in TABLES[name].columns}
    return MemoryService(fields=fields, start_id=1, **options)


@asynccontextmanager
async def tracker(url: str | None, options: Mapping[str, Mapping[str, Any]] | None = None) -> AsyncIterator[Apex]:
    """Give an app with the tracker, on a database or, without a URL, in memory. ``options`` are those of adapters."""
    app, memory = Apex(), url is None
    if url is not None:
        app.configure(database(url))
    declared = relations(memory)
    for name in TABLES:
        own = {"multi": True, "relations": declared.get(name, {}), **(options or {}).get(name, {})}
        app.use(name, adapter(name, memory, **own))
    await app.setup()
    if url is not None:
        await app.get("database").create_all(metadata)
    try:
        yield app
    finally:
        await app.teardown()
