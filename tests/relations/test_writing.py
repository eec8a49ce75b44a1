"""Related records and links in the data of a record: stored together, or not at all."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, select

from apex import Apex, Context, MemoryService, Schema, SQLService, database, validate_data
from apex.common import Limit, limit_rate
from apex.errors import BadRequest, Forbidden, TooManyRequests
from apex.limits import rates
from apex.query.coercion import integer, text
from apex.relations import belongs_to, has_many, many_to_many
from apex.schema import IdField, TextField
from apex.testing import raises
from tests.relations.boards import ANN, boards, hide, linked, stored


async def labelled(app: Apex, *names: str) -> None:
    for name in names:
        await app.service("labels").create({"name": name})


async def test_a_record_its_children_and_its_links_are_stored_by_one_call(url: str | None) -> None:
    async with boards(url) as app:
        await labelled(app, "bug", "old")
        data = {"title": "Login", "board": {"name": "Web"}, "labels": [2, 1, 2],
                "comments": [{"text": "First"}, {"text": "Second"}]}  # fmt: skip
        issue = await app.service("issues").create(data, ANN)
        assert (issue["title"], issue["board_id"]) == ("Login", 1)
        comments = await app.service("comments").find({"query": {"issue_id": issue["id"]}})
        assert [comment["text"] for comment in comments] == ["First", "Second"]
        assert await linked(app) == [(1, 1), (1, 2)]


async def test_a_wrong_child_leaves_nothing_behind(url: str | None) -> None:
    async with boards(url) as app:
        await labelled(app, "bug")
        heard: list[str] = []
        for path in ("issues", "comments", "boards"):
            app.service(path).on("created", lambda row, context: heard.append(context.path))
        data = {"title": "Login", "board": {"name": "Web"}, "labels": [1], "comments": [{"text": "a"}, {"text": None}]}
        with raises(BadRequest) as raised:
            await app.service("issues").create(data, ANN)
        assert list(raised.error.errors) == ["comments.1.text"]
        assert await stored(app, "issues", "comments", "boards") == [[], [], []]
        assert (await linked(app), heard) == ([], [])


async def test_the_events_of_children_follow_that_of_their_parent(url: str | None) -> None:
    async with boards(url) as app:
        heard: list[str] = []
        for path in ("comments", "issues"):
            app.service(path).on("created", lambda row, context: heard.append(f"{context.path} {row['id']}"))
        await app.service("issues").create({"title": "Login", "comments": [{"text": "a"}, {"text": "b"}]}, ANN)
        assert heard == ["issues 1", "comments 1", "comments 2"]


async def test_a_caller_refers_only_to_records_that_it_can_read(url: str | None) -> None:
    async with boards(url) as app:
        app.service("boards").hooks({"before": {"find": [hide], "get": [hide]}})
        for name in ("Web", "Secret"):
            await app.service("boards").create({"name": name})
        issues = app.service("issues")
        await issues.create({"title": "a", "board_id": 1}, ANN)
        for id in (2, 99, 2**70, "x", [1], True):
            with raises(BadRequest) as raised:
                await issues.create({"title": "b", "board_id": id}, ANN)
            assert list(raised.error.errors) == ["board_id"], id
        assert (await issues.create({"title": "c", "board_id": 2}))["board_id"] == 2


async def test_a_patch_may_send_back_the_reference_that_its_caller_cannot_read(url: str | None) -> None:
    async with boards(url) as app:
        app.service("boards").hooks({"before": {"find": [hide]}})
        for name in ("Web", "Secret"):
            await app.service("boards").create({"name": name})
        issues = app.service("issues")
        await issues.create({"title": "a", "board_id": 2})
        assert (await issues.patch(1, {"title": "b", "board_id": 2}, ANN))["title"] == "b"
        assert (await issues.patch(1, {"board_id": 1}, ANN))["board_id"] == 1
        with raises(BadRequest) as raised:
            await issues.patch(1, {"board_id": 2}, ANN)
        assert raised.error.errors == {"board_id": "Does not exist"}


async def test_all_wrong_references_of_many_records_are_named_at_once(url: str | None) -> None:
    async with boards(url, {"issues": {"multi": True}}) as app:
        await labelled(app, "bug")
        asked: list[Any] = []
        app.service("boards").hooks({"before": {"find": [lambda context: asked.append(context.params.query)]}})
        rows = [{"board_id": 7, "labels": [1]}, {"title": "b"}, {"board_id": 8, "labels": [1, 5]}]
        with raises(BadRequest) as raised:
            await app.service("issues").create(rows, ANN)
        assert set(raised.error.errors) == {"0.board_id", "2.board_id", "2.labels.1"}
        assert len(asked) == 1


async def test_links_are_replaced_kept_and_removed(url: str | None) -> None:
    async with boards(url) as app:
        await labelled(app, "a", "b", "c")
        issues = app.service("issues")
        await issues.create({"title": "x", "labels": [1, 2]}, ANN)
        await issues.create({"title": "y", "labels": [3]}, ANN)
        await issues.patch(1, {"labels": [2, 3]}, ANN)
        assert await linked(app) == [(1, 2), (1, 3), (2, 3)]
        await issues.patch(1, {"title": "z"}, ANN)
        assert await linked(app) == [(1, 2), (1, 3), (2, 3)]
        await issues.patch(None, {"labels": [1]}, ANN)
        assert await linked(app) == [(1, 1), (2, 1)]
        assert await issues.patch(None, {"labels": [3]}, {**ANN, "query": {"title": "nobody's"}}) == []
        await issues.update(1, {"title": "z", "labels": []}, ANN)
        assert await linked(app) == [(2, 1)]


async def test_links_go_with_the_records_of_both_sides(url: str | None) -> None:
    async with boards(url) as app:
        await labelled(app, "a", "b")
        issues = app.service("issues")
        for labels in ([1, 2], [1, 2]):
            await issues.create({"title": "x", "labels": labels}, ANN)
        await issues.remove(1, ANN)
        await app.service("labels").remove(2, ANN)
        assert await linked(app) == [(2, 1)]


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        ({"labels": 1}, {"labels": "Must be a list of at most 1,000 ids such as [1, 2]"}),
        ({"labels": None}, {"labels": "Must be a list of at most 1,000 ids such as [1, 2]"}),
        ({"labels": [{"id": 1}]}, {"labels": "Must be a list of at most 1,000 ids such as [1, 2]"}),
        ({"labels": [1] * 1001}, {"labels": "Must be a list of at most 1,000 ids such as [1, 2]"}),
        ({"comments": {"text": "a"}}, {"comments": "Must be a list of objects"}),
        ({"comments": ["a"]}, {"comments": "Must be a list of objects"}),
        ({"comments": [{"text": "a", "issue_id": 1}]},
         {"comments": "Must leave out issue_id, which is the id of the new record"}),
        ({"comments": [{"text": "a"}] * 1001},
         {"comments": "Must not bring the related records of one call to more than 1,000"}),
        ({"board": 1}, {"board": "Must be an object"}),
        ({"board": {"name": "a"}, "board_id": 1}, {"board": "Must not be given together with board_id"}),
    ],
)  # fmt: skip
async def test_related_data_of_a_wrong_form_is_refused(data: dict[str, Any], errors: dict[str, str]) -> None:
    async with boards(None) as app:
        with raises(BadRequest) as raised:
            await app.service("issues").create({"title": "x", **data}, ANN)
        assert raised.error.errors == errors


async def test_related_records_are_created_with_their_parent_alone() -> None:
    async with boards(None) as app:
        await app.service("issues").create({"title": "x"}, ANN)
        with raises(BadRequest) as raised:
            await app.service("issues").patch(1, {"comments": [{"text": "a"}]}, ANN)
        assert raised.error.errors == {"comments": "Can only be set on create: use 'comments'"}


async def test_children_are_created_with_the_rights_of_the_caller(url: str | None) -> None:
    def refuse(context: Context) -> None:
        if context.params.provider and context.params.user["id"] == 1:
            raise Forbidden("You may not comment")

    async with boards(url) as app:
        app.service("comments").hooks({"before": {"create": [refuse]}})
        with raises(Forbidden, "You may not comment") as raised:
            await app.service("issues").create({"title": "x", "comments": [{"text": "a"}]}, ANN)
        assert raised.error.errors == {"comments.0": "You may not comment"}
        assert await stored(app, "issues") == [[]]


async def test_records_inside_of_records_end_at_five_levels() -> None:
    app = Apex()
    app.use("nodes", MemoryService(start_id=1, relations={"nodes": has_many("nodes", "node_id", write=True)}))
    await app.setup()
    tree: dict[str, Any] = {"nodes": []}
    for _ in range(4):
        tree = {"nodes": [tree]}
    await app.service("nodes").create(tree)
    tree = {"nodes": [{"nodes": [tree]}]}
    with raises(BadRequest) as raised:
        await app.service("nodes").create(tree)
    assert list(raised.error.errors.values()) == ["Must not be nested deeper than 5 levels"]
    assert len(await app.service("nodes").find()) == 5


async def test_a_relation_that_is_not_declared_as_writable_is_an_unknown_field() -> None:
    async with boards(None, {"issues": {"relations": {"board": belongs_to("boards")}}}) as app:
        with raises(BadRequest) as raised:
            await app.service("issues").create({"title": "x", "board": {"name": "Web"}}, ANN)
        assert list(raised.error.errors) == ["board"]


async def test_a_call_with_related_records_counts_once() -> None:
    async with boards(None) as app:
        app.configure(rates)
        limit = limit_rate(lambda context: Limit("all", requests=2, window=60))
        for path in ("issues", "comments", "boards"):
            app.service(path).hooks({"around": {"all": [limit]}})
        data = {"title": "x", "board": {"name": "Web"}, "comments": [{"text": "a"}, {"text": "b"}]}
        for _ in range(2):
            await app.service("issues").create(data, ANN)
        with raises(TooManyRequests):
            await app.service("issues").create(data, ANN)


@pytest.mark.parametrize("method", ["create", "remove"])
async def test_a_process_that_dies_leaves_nothing_half_written(empty_url: str, method: str) -> None:
    async with boards(empty_url) as app:
        await labelled(app, "bug")
        if method == "remove":
            await app.service("issues").create({"title": "x", "labels": [1], "comments": [{"text": "a"}]})
        before = [await stored(app, "issues", "comments"), await linked(app)]
    died = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.relations.dying", empty_url, method)
    assert await died.wait() == -signal.SIGKILL
    async with boards(empty_url) as app:
        assert [await stored(app, "issues", "comments"), await linked(app)] == before


class IssueSchema(Schema):
    title = TextField(required=True, max=20)
    board_id = IdField(required=True)


def checked(app: Apex) -> None:
    app.service("issues").hooks(
        {"before": {"create": [validate_data(IssueSchema)], "patch": [validate_data(IssueSchema)]}}
    )


async def test_a_schema_lets_related_records_pass() -> None:
    async with boards(None) as app:
        checked(app)
        data = {"title": " x ", "board": {"name": "Web"}, "comments": [{"text": "a"}], "labels": []}
        assert await app.service("issues").create(data, ANN) == {
            "id": 1,
            "title": "x",
            "board_id": 1,
            "deleted_at": None,
        }
        assert (await app.service("issues").patch(1, {"labels": []}, ANN))["id"] == 1


async def test_a_schema_reports_its_errors_and_those_of_the_form_at_once() -> None:
    async with boards(None) as app:
        checked(app)
        with raises(BadRequest) as raised:
            await app.service("issues").create({"title": "", "labels": 1, "label": 2}, ANN)
        assert set(raised.error.errors) == {"title", "board_id", "labels", "label"}
        with raises(BadRequest) as raised:
            await app.service("issues").create({"title": "x", "board_id": 1, "comments": 1}, ANN)
        assert raised.error.errors == {"comments": "Must be a list of objects"}


@pytest.mark.parametrize("data", [[], [1], "x", None, [None, {"labels": [1]}]])
async def test_data_that_is_no_record_is_refused_as_before(data: Any) -> None:
    async with boards(None, {"issues": {"multi": True}}) as app:
        if data == []:
            assert await app.service("issues").create(data, ANN) == []
            return
        with raises(BadRequest, "The data must be an object"):
            await app.service("issues").create(data, ANN)


async def test_a_client_may_send_back_what_a_relation_always_shows() -> None:
    relations = {"board": belongs_to("boards", fields=("name",), always=True)}
    async with boards(None, {"issues": {"relations": relations}}) as app:
        checked(app)
        await app.service("boards").create({"name": "Web"})
        issue = await app.service("issues").create({"title": "x", "board_id": 1}, ANN)
        assert issue["board"] == {"name": "Web"}
        assert (await app.service("issues").patch(1, {**issue, "title": "y"}, ANN))["title"] == "y"
        with raises(BadRequest) as raised:
            await app.service("issues").patch(1, {**issue, "board": {"name": "Other"}}, ANN)
        assert list(raised.error.errors) == ["board"]


async def test_a_record_refers_to_records_of_its_own_tenant(empty_url: str) -> None:
    tables, info = MetaData(), {"tenant": "team_id"}
    keys: dict[str, list[Column[Any]]] = {"folders": [], "notes": [Column("folder_id", ForeignKey("folders.id"))]}
    folders, notes = (
        Table(name, tables, Column("id", Integer, primary_key=True), Column("team_id", Integer), *own, info=info)
        for name, own in keys.items()
    )

    def limit(context: Context) -> None:
        if context.params.provider:
            context.params.scope["team_id"] = [1, 2]

    app = Apex().configure(database(empty_url)).use("folders", SQLService(folders))
    app.use("notes", SQLService(notes, relations={"folder": belongs_to("folders")}))
    app.hooks({"before": {"all": [limit]}})
    async with app.lifespan():
        await app.get("database").create_all(tables)
        for team in (1, 2, 3):
            await app.service("folders").create({"team_id": team})
        notes_of = app.service("notes")
        await notes_of.create({"team_id": 1, "folder_id": 1}, ANN)
        for folder in (2, 3):
            wrong = {"folder_id": folder}
            for call in (notes_of.create({"team_id": 1, **wrong}, ANN), notes_of.patch(1, wrong, ANN)):
                with raises(BadRequest) as raised:
                    await call
                assert raised.error.errors == {"folder_id": "Does not exist"}
        assert await notes_of.patch(1, {"folder_id": 1}, ANN) == {"id": 1, "team_id": 1, "folder_id": 1}


async def test_links_have_the_tenant_of_their_record(sqlite_url: str) -> None:
    tables = MetaData()
    info = {"tenant": "team_id"}
    notes = Table("notes", tables, Column("id", Integer, primary_key=True), Column("team_id", Integer), info=info)
    tags = Table("tags", tables, Column("id", Integer, primary_key=True), Column("team_id", Integer), info=info)
    pairs = Table(
        "pairs", tables, Column("note_id", ForeignKey("notes.id"), primary_key=True),
        Column("tag_id", ForeignKey("tags.id"), primary_key=True), Column("team_id", Integer), info=info,
    )  # fmt: skip
    app = Apex().configure(database(sqlite_url)).use("tags", SQLService(tags))
    app.use("notes", SQLService(notes, relations={"tags": many_to_many("tags", through=pairs, write=True)}))
    async with app.lifespan():
        await app.get("database").create_all(tables)
        await app.service("tags").create({"team_id": 7})
        await app.service("notes").create({"team_id": 7, "tags": [1]}, {**ANN, "query": {"$select": ["id"]}})
        assert await app.get("database").execute(select(pairs)) == [{"note_id": 1, "tag_id": 1, "team_id": 7}]


async def test_a_child_in_a_record_refers_to_no_other_record_that_its_caller_cannot_read() -> None:
    relations = {
        "parent": belongs_to("issues", "board_id"),
        "twin": belongs_to("issues"),
        "children": has_many("issues", "board_id", write=True),
    }
    fields = {"id": integer, "title": text, "board_id": integer, "twin_id": integer}
    app = Apex().use("issues", MemoryService(fields=fields, start_id=1, relations=relations))
    async with app.lifespan():
        issues = app.service("issues").hooks({"before": {"find": [hide]}})
        for title in ("a", "hidden"):
            await issues.create({"title": title})
        with raises(BadRequest) as raised:
            await issues.create({"title": "b", "children": [{"title": "c", "twin_id": 2}]}, ANN)
        assert raised.error.errors == {"children.0.twin_id": "Does not exist"}
        await issues.create({"title": "b", "children": [{"title": "c", "twin_id": 1}]}, ANN)
