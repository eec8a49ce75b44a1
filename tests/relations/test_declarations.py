"""The declarations of relations: what is accepted, and what is refused when it is registered or set up."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table

from apex import Apex, MemoryService, Service
from apex.query.coercion import integer, text
from apex.relations import Relation, belongs_to, has_many, many_to_many
from tests.relations.tracker import issue_labels, metadata, tracker


async def test_the_key_of_belongs_to_is_its_name_with_id() -> None:
    async with tracker(None) as app:
        adapter = app.service("issues").service
        assert {name: one.key for name, one in adapter.relations.items()} == {
            "project": "project_id", "parent": "parent_id", "children": "parent_id", "comments": "issue_id",
            "labels": "issue_id",
        }  # fmt: skip
        assert not adapter.relations["project"].many
        assert adapter.relations["comments"].many


async def test_the_foreign_keys_of_a_link_table_are_its_keys(sqlite_url: str) -> None:
    async with tracker(sqlite_url) as app:
        link = app.service("issues").service.related["labels"].link
        assert (link.key, link.other_key) == ("issue_id", "label_id")


@pytest.mark.parametrize(
    ("relations", "message"),
    [
        ({"project": belongs_to("projets")}, "the app does not have. Did you mean 'projects'?"),
        ({"project": belongs_to("projects", "projekt_id")}, "does not have. Did you mean 'project_id'?"),
        ({"project": belongs_to("clock")}, "which is no adapter"),
        ({"comments": has_many("projects", "issue_id")}, "needs the key 'issue_id', which service 'projects' does not"),
        ({"project": belongs_to("projects", fields=("nam",))}, "which is no field of its service. Did you mean 'name'"),
        ({"projects": has_many("projects", "secret")}, "hides (private or on_demand)"),
        ({"links": many_to_many("projects", through=issue_labels)}, "which only a SQLService can do"),
        ({"links": many_to_many("projects", through="x", key="a", other_key="b")}, "which is no adapter of the app"),
    ],
)
async def test_what_the_app_cannot_have_is_refused_at_setup(relations: dict[str, Relation], message: str) -> None:
    class Clock(Service):
        async def find(self, params: Any) -> Any: ...

    app = Apex()
    app.use("issues", MemoryService(fields={"id": integer, "project_id": integer}, relations=relations))
    app.use("projects", MemoryService(fields={"id": integer, "name": text, "secret": text}, private=["secret"]))
    app.use("clock", Clock())
    with pytest.raises(TypeError) as raised:
        await app.setup()
    assert message in str(raised.value)


def test_a_name_of_a_field_is_refused_at_registration() -> None:
    notes = MemoryService(fields={"id": integer, "author": text}, relations={"author": belongs_to("users")})
    with pytest.raises(TypeError, match="Relation 'author' of service 'notes' has the name of a field"):
        Apex().use("notes", notes)


@pytest.mark.parametrize(
    ("relations", "message"),
    [
        ([belongs_to("projects")], "relations takes a dict"),
        ({"project": "projects"}, "takes belongs_to, has_many or many_to_many"),
        ({"a.b": belongs_to("projects")}, "A relation needs a name without"),
    ],
)
def test_what_is_no_relation_is_refused(relations: Any, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        MemoryService(relations=relations)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("make", "arguments", "options", "message"),
    [
        (belongs_to, ["users"], {"trusted": True}, "name the fields that everybody may see"),
        (belongs_to, ["users"], {"fields": "name"}, r"such as \['name'\]"),
        (has_many, ["users", "a"], {"limit": -1}, "a number of records"),
        (has_many, ["users", "a"], {"sort": {"a": 2}}, "a dict such as"),
        (has_many, ["users", "a"], {"on_remove": "explode"}, "cascade, restrict, set_null"),
        (many_to_many, ["users"], {"through": "links"}, "needs through=<table>"),
        (belongs_to, [7], {}, "the path of a service"),
    ],
)
def test_options_that_do_not_go_together_are_refused(make: Any, arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(*arguments, **options)


async def test_a_link_table_with_two_keys_to_one_side_needs_their_names(sqlite_url: str) -> None:
    blocks = Table(
        "blocks", metadata, Column("id", Integer, primary_key=True), Column("by", ForeignKey("issues.id")),
        Column("issue", ForeignKey("issues.id")), extend_existing=True,
    )  # fmt: skip
    try:
        with pytest.raises(TypeError, match="has 2 foreign keys to 'issues': name its columns with key"):
            async with tracker(
                sqlite_url, {"issues": {"relations": {"blocked": many_to_many("issues", through=blocks)}}}
            ):
                raise AssertionError
        named = many_to_many("issues", through=blocks, key="by", other_key="issue")
        async with tracker(sqlite_url, {"issues": {"relations": {"blocked": named}}}) as app:
            assert app.service("issues").service.related["blocked"].key == "by"
    finally:
        metadata.remove(blocks)
