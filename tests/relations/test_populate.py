"""``$populate``: related records in the answers of calls."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context
from apex.errors import BadRequest, Forbidden
from apex.relations import belongs_to, has_many
from tests.relations.conftest import Opened, fill


async def ask(app: Apex, service: str, populate: Any, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await app.service(service).find({"query": {"$populate": populate, **query}})
    return found


def ids(records: list[dict[str, Any]]) -> list[int]:
    return [record["id"] for record in records]


@pytest.mark.parametrize("populate", ["project,labels", ["project", "labels"], {"project": "", "labels": {}}])
async def test_each_record_has_what_belongs_to_it(app: Apex, populate: Any) -> None:
    rows = await ask(app, "issues", populate)
    assert [row["project"] and row["project"]["key"] for row in rows] == ["APX", "OPS", None]
    assert [ids(row["labels"]) for row in rows] == [[1, 2], [1], []]
    assert rows[0] == {**await app.service("issues").get(1), "project": rows[0]["project"], "labels": rows[0]["labels"]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [[1, 3, 5, 7], [2, 4, 6, 8], []]),
        ({"$limit": 2}, [[1, 3], [2, 4], []]),
        ({"$limit": 2, "$skip": 1}, [[3, 5], [4, 6], []]),
        ({"$skip": 3}, [[7], [8], []]),
        ({"$limit": 1, "$sort": {"id": -1}}, [[7], [8], []]),
        ({"body": {"$in": ["b3", "b8"]}}, [[3], [8], []]),
        ({"issue_id": 1}, [[1, 3, 5, 7], [], []]),
        ({"$and": [{"issue_id": {"$ne": 1}}], "$limit": 1}, [[], [2], []]),
        ({"$limit": 0}, [[], [], []]),
    ],
)
async def test_the_query_for_many_counts_for_each_record(app: Apex, query: Any, found: Any) -> None:
    assert [ids(row["comments"]) for row in await ask(app, "issues", {"comments": query})] == found


async def test_a_link_that_is_stored_twice_shows_a_record_once(app: Apex) -> None:
    for limit in ({}, {"$limit": 2}):
        assert [ids(row["issues"]) for row in await ask(app, "labels", {"issues": limit})] == [[1, 2], [1]]


async def test_relations_nest_in_two_spellings(app: Apex) -> None:
    nested = {"comments": {"$limit": 1, "$select": ["body"], "$populate": {"issue": {"$populate": ["project"]}}}}
    [row, *_] = await ask(app, "issues", nested, **{"$select": ["title"]})
    assert row["comments"][0].pop("issue")["project"]["key"] == "APX"
    assert row == {"id": 1, "title": "one", "comments": [{"id": 1, "body": "b1"}]}
    [row, *_] = await ask(app, "issues", "comments.issue.project")
    assert row["comments"][0]["issue"]["project"]["key"] == "APX"


async def test_a_selection_needs_no_key_and_shows_none(app: Apex) -> None:
    assert (await ask(app, "issues", "project", **{"$select": "title"}))[0].keys() == {"id", "title", "project"}
    [row, *_] = await ask(app, "issues", "project", **{"$select": ["project_id"]})
    assert row.keys() == {"id", "project_id", "project"}


async def test_get_and_the_answers_of_writes_have_them_too(app: Apex) -> None:
    issues, asked = app.service("issues"), {"query": {"$populate": "project"}}
    assert (await issues.get(1, asked))["project"]["key"] == "APX"
    assert (await issues.create({"id": 10, "title": "new", "project_id": 2}, asked))["project"]["key"] == "OPS"
    assert (await issues.patch(1, {"project_id": 2}, asked))["project"]["key"] == "OPS"
    assert (await issues.update(1, {"title": "new"}, asked))["project"] is None
    created = await issues.create([{"id": 11, "project_id": 1}, {"id": 12, "project_id": 2}], asked)
    assert [row["project"]["key"] for row in created] == ["APX", "OPS"]


@pytest.mark.parametrize(
    ("populate", "message"),
    [
        ("projct", "Unknown relation 'projct'. Did you mean 'project'?"),
        ("x", "Unknown relation 'x'. The relations are project, parent"),
        ({"project": {"$limit": 1}}, "takes $select and $populate, as it is one record, not $limit"),
        ({"comments": {"$total": "exact"}}, "does not take $total"),
        ({"comments": {"bodi": 1}}, "Unknown field 'bodi'. Did you mean 'body'?"),
        ({"comments": 7}, "takes a query such as"),
        (7, "takes names with commas"),
        ("children.children.children.children.children", "must not be nested deeper than 4 levels"),
        ([f"children.{name}" for name in "abcdefghijklmnopqrstuvw"], "Unknown relation 'a'"),
        ({"project": "", "parent": {"$populate": dict.fromkeys("abc", "")}}, "Unknown relation 'a'"),
    ],
)
@pytest.mark.parametrize("method", ["find", "create"])
async def test_what_cannot_be_populated_is_refused_before_anything_is_stored(
    app: Apex, method: str, populate: Any, message: str
) -> None:
    service = app.service("issues")
    params = {"query": {"$populate": populate}}
    with pytest.raises(BadRequest) as raised:
        await (service.create({"title": "x"}, params) if method == "create" else service.find(params))
    assert message in str(raised.value)
    assert len(await service.find()) == 3


async def test_a_page_is_populated_with_one_statement_a_relation(app: Apex) -> None:
    called: list[str] = []
    app.hooks({"before": {"find": [lambda context: called.append(context.path)]}})
    await ask(app, "issues", "project,children,comments,labels")
    assert [path for path in called if path != "issue_labels"] == ["issues", "projects", "issues", "comments", "labels"]


async def test_records_that_the_caller_may_not_read_are_left_out(opened: Opened) -> None:
    def public(context: Context) -> None:
        if context.params.provider:
            context.params.scope["hidden"] = False

    def closed(context: Context) -> None:
        if context.params.provider:
            raise Forbidden("Not for you")

    async with opened() as app:
        await fill(app)
        await app.service("projects").patch(2, {"hidden": False})
        app.service("projects").hooks({"before": {"all": [public]}})
        app.service("comments").hooks({"before": {"find": [closed]}})
        asked = {"$populate": "project,comments"}
        rows = await app.service("issues").find({"query": asked, "provider": "rest"})
        assert [row["project"] and row["project"]["key"] for row in rows] == [None, "OPS", None]
        assert [row["comments"] for row in rows] == [[], [], []]
        rows = await app.service("issues").find({"query": asked})
        assert [len(row["comments"]) for row in rows] == [4, 4, 0]


async def test_a_caller_who_cannot_read_the_key_does_not_learn_what_it_refers_to(app: Apex) -> None:
    def hide(context: Context) -> None:
        context.items = [{k: v for k, v in item.items() if k != "project_id"} for item in context.items]

    app.service("issues").hooks({"after": {"find": [hide]}})
    assert all("project" not in row for row in await ask(app, "issues", "project"))


async def test_options_of_a_relation_are_its_defaults(opened: Opened) -> None:
    relations = {
        "project": belongs_to("projects", always=True, fields=("key",)),
        "comments": has_many("comments", "issue_id", limit=2, sort={"id": -1}, fields=lambda row: {"b": row["body"]}),
    }
    async with opened(issues={"relations": relations}) as app:
        await fill(app)
        [row, *_] = await app.service("issues").find()
        assert row["project"] == {"key": "APX"}
        [row, *_] = await app.service("issues").find({"query": {"$select": ["title"]}})
        assert row == {"id": 1, "title": "one"}
        [row, *_] = await ask(app, "issues", "comments")
        assert row["comments"] == [{"b": "b7"}, {"b": "b5"}]
        assert row["project"] == {"key": "APX"}
        [row, *_] = await ask(app, "comments", "issue")
        assert "project" not in row["issue"]
        with pytest.raises(BadRequest, match="has no field 'secret'"):
            await ask(app, "issues", {"project": {"$select": ["secret"]}})


async def test_a_trusted_relation_shows_its_fields_to_everybody(opened: Opened) -> None:
    def closed(context: Context) -> None:
        if context.params.provider:
            raise Forbidden("Not for you")

    trusted = {"project": belongs_to("projects", trusted=True, fields=("key",))}
    async with opened(issues={"relations": trusted}) as app:
        await fill(app)
        app.service("projects").hooks({"before": {"all": [closed]}})
        rows = await app.service("issues").find({"query": {"$populate": "project"}, "provider": "rest"})
        assert [row["project"] for row in rows] == [{"key": "APX"}, {"key": "OPS"}, None]


async def test_an_event_has_the_plain_record(app: Apex) -> None:
    heard: list[Any] = []
    issues = app.service("issues")
    issues.on("created", heard.append)
    made = await issues.create({"id": 10, "title": "new", "project_id": 1}, {"query": {"$populate": "project"}})
    assert made["project"]["key"] == "APX"
    assert heard == [{name: value for name, value in made.items() if name != "project"}]


async def test_the_limit_of_a_service_holds_for_each_record(opened: Opened) -> None:
    async with opened(comments={"paginate": {"default": 1, "max": 3}}) as app:
        await fill(app)
        for query, count in (({}, 1), ({"$limit": 2}, 2), ({"$limit": 9}, 3)):
            rows = await ask(app, "issues", {"comments": query})
            assert [len(row["comments"]) for row in rows] == [count, count, 0]


async def test_one_call_from_outside_gets_a_bounded_number_of_records(
    app: Apex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex.relations.populate.MOST_ROWS", 7)
    query = {"$populate": "comments"}
    assert len(await app.service("issues").find({"query": query})) == 3
    with pytest.raises(BadRequest, match="records of a relation: ask for fewer with"):
        await app.service("issues").find({"query": query, "provider": "rest"})
    await app.service("issues").find({"query": {**query, "id": 1}, "provider": "rest"})


async def test_a_service_without_relations_says_so(opened: Opened) -> None:
    async with opened(labels={"relations": {}}) as app:
        with pytest.raises(BadRequest, match=r"Unknown relation .x.\. There are no relations\."):
            await app.service("issues").find({"query": {"$populate": "labels.x"}})
