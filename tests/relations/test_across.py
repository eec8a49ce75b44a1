"""Filters and orders across relations."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context
from apex.errors import BadRequest, Forbidden
from apex.relations import belongs_to
from apex.schema import validate_query
from tests.relations.conftest import Opened, fill


async def found(app: Apex, service: str, query: dict[str, Any], **params: Any) -> list[int]:
    rows = await app.service(service).find({"query": {"$sort": {"id": 1}, **query}, **params})
    return [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("service", "query", "ids"),
    [
        ("issues", {"project.key": "APX"}, [1]),
        ("issues", {"project.key": {"$in": ["APX", "OPS"]}}, [1, 2]),
        ("issues", {"project.key": {"$ne": "APX"}}, [2]),
        ("issues", {"project.id": {"$gt": 1}}, [2]),
        ("issues", {"$or": [{"project.key": "APX"}, {"title": "three"}]}, [1, 3]),
        ("issues", {"$and": [{"project.key": "APX"}, {"title": "two"}]}, []),
        ("issues", {"labels.name": "bug"}, [1, 2]),
        ("issues", {"labels.name": "ui", "project.key": "APX"}, [1]),
        ("issues", {"labels.name": {"$ne": "ui"}}, [2, 3]),
        ("issues", {"labels.name": {"$nin": ["ui", "bug"]}}, [3]),
        ("issues", {"labels.name": {"$nin": []}}, [1, 2, 3]),
        ("issues", {"labels.name": {"$ne": "ui", "$in": ["bug"]}}, [2]),
        ("issues", {"labels.name": "bug", "labels.id": 2}, []),
        ("issues", {"$and": [{"labels.name": "bug"}, {"labels.id": 2}]}, [1]),
        ("issues", {"labels.name": "bug", "$and": [{"labels.name": "ui"}]}, [1]),
        ("issues", {"comments.body": "b3"}, [1]),
        ("issues", {"comments.id": {"$gt": 7, "$lt": 9}}, [2]),
        ("issues", {"children.title": "two"}, [1]),
        ("issues", {"parent.title": "one"}, [2]),
        ("issues", {"parent.project.key": "APX"}, [2]),
        ("issues", {"children.project.key": {"$ne": "OPS"}}, [2, 3]),
        ("labels", {"issues.project.key": "OPS"}, [1]),
        ("labels", {"issues.comments.body": {"$in": ["b1", "b2"]}}, [1, 2]),
        ("projects", {"issues.labels.name": "ui"}, [1]),
        ("comments", {"issue.labels.name": "ui", "id": {"$lt": 5}}, [1, 3]),
    ],
)
async def test_a_filter_finds_records_by_their_related_ones(app: Apex, service: str, query: Any, ids: Any) -> None:
    assert await found(app, service, query) == ids


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"project.keyy": "a"}, "Unknown field 'keyy'. Did you mean 'key'? (project.keyy)"),
        ({"project.id": "x"}, "must be an integer"),
        ({"project": 1}, "is a relation: ask for one of its fields, as in project.id"),
        ({"project.key": {"$like": "a"}}, "Invalid query parameter $like (project.key)"),
        ({"parent.parent.parent.parent.parent.id": 1}, "must not go across more than 4 relations"),
        ({"$sort": {"labels.name": 1}}, "has no order: 'labels' are many records"),
        ({"$sort": {"project.keyy": 1}}, "Did you mean 'key'"),
        ({"$or": [{f"project.{name}": 1} for name in ("id", "key", "hidden")] * 70}, "must be"),
        ({"$after": "", "$sort": {"project.key": 1}}, "does not go with an order by project.key: use $skip"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused(app: Apex, query: Any, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        await app.service("issues").find({"query": query, "paginate": {"default": 5}})
    assert message in str(raised.value)


async def test_only_a_list_is_asked_across(app: Apex) -> None:
    app.service("issues").hooks({"before": {"all": [validate_query]}})
    with pytest.raises(BadRequest, match=r"project\.key can be asked for and sorted by in a list alone"):
        await app.service("issues").get(1, {"query": {"project.key": "APX"}})
    assert await found(app, "issues", {"project.key": "APX"}) == [1]


async def test_a_page_counts_what_a_filter_finds(opened: Opened) -> None:
    async with opened(issues={"paginate": {"default": 1, "max": 5}}) as app:
        await fill(app)
        page = await app.service("issues").find({"query": {"labels.name": "bug", "$skip": 1}, "provider": "rest"})
        assert (page["total"], [row["id"] for row in page["data"]]) == (2, [2])
        first = await app.service("issues").find({"query": {"labels.name": "bug", "$after": ""}})
        after = {"labels.name": "bug", "$after": first["next"]}
        assert [row["id"] for row in (await app.service("issues").find({"query": after}))["data"]] == [2]


@pytest.mark.parametrize(
    ("service", "sort", "ids"),
    [
        ("issues", {"project.key": 1}, [3, 1, 2]),
        ("issues", {"project.key": -1}, [2, 1, 3]),
        ("issues", {"parent.project.key": -1, "id": -1}, [2, 3, 1]),
        ("comments", {"issue.project.key": -1, "id": 1}, [2, 4, 6, 8, 1, 3, 5, 7]),
    ],
)
async def test_a_list_is_sorted_by_a_related_field(app: Apex, service: str, sort: Any, ids: Any) -> None:
    assert await found(app, service, {"$sort": sort, "$limit": 8}) == ids
    query = {"$sort": sort, "id": {"$in": [1, 2, 3]}}
    assert await found(app, service, query) == [id for id in ids if id < 4]


async def test_a_caller_learns_nothing_of_records_that_it_may_not_read(opened: Opened) -> None:
    def public(context: Context) -> None:
        if context.params.provider:
            context.params.scope["hidden"] = False

    async with opened(projects={"private": ["secret"]}) as app:
        await fill(app)
        await app.service("projects").patch(2, {"hidden": False, "secret": "s"})
        app.service("projects").hooks({"before": {"all": [public]}})
        for query, ids in (
            ({"project.key": {"$in": ["APX", "OPS"]}}, [2]),
            ({"project.key": {"$ne": "OPS"}}, []),
            ({"$sort": {"project.key": -1, "id": 1}}, [2, 1, 3]),
            ({"$sort": {"project.key": 1, "id": 1}}, [1, 3, 2]),
        ):
            assert await found(app, "issues", query, provider="rest") == ids
        with pytest.raises(BadRequest, match="Unknown field 'secret'"):
            await found(app, "issues", {"project.secret": "s"}, provider="rest")

        def closed(context: Context) -> None:
            raise Forbidden("Not for you")

        app.service("projects").hooks({"before": {"find": [closed]}})
        with pytest.raises(Forbidden):
            await found(app, "issues", {"project.key": "OPS"}, provider="rest")


async def test_of_trusted_records_only_the_shown_fields_can_be_asked_for(opened: Opened) -> None:
    relations = {"project": belongs_to("projects", trusted=True, fields=("key",))}
    async with opened(issues={"relations": relations}) as app:
        await fill(app)
        assert await found(app, "issues", {"project.key": "APX"}, provider="rest") == [1]
        with pytest.raises(BadRequest, match=r"Unknown field 'project\.secret'"):
            await found(app, "issues", {"project.secret": "s"}, provider="rest")


async def test_related_records_are_filtered_across_too(app: Apex) -> None:
    query = {"$populate": {"issues": {"labels.name": "ui", "$sort": {"parent.title": 1}, "$limit": 1}}}
    rows = await app.service("projects").find({"query": query})
    assert [[issue["id"] for issue in row["issues"]] for row in rows] == [[1], []]
    query = {"$populate": {"issues": {"project.key": "OPS", "$sort": {"project.key": 1}}}}
    rows = await app.service("labels").find({"query": query})
    assert [[issue["id"] for issue in row["issues"]] for row in rows] == [[2], []]
