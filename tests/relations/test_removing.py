"""The fate of related records when a record is removed and restored."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from apex import Apex, Context, MemoryService
from apex.common import now
from apex.errors import BadRequest, Conflict, FeathersError, Forbidden
from apex.query.coercion import integer
from apex.relations import belongs_to, has_many
from apex.relations.declarations import OnRemove
from apex.testing import raises
from tests.relations.boards import ANN, boards, stored


def declared(on_remove: OnRemove | None, **more: Any) -> dict[str, Any]:
    """Return the options of issues whose comments have this fate."""
    return {"issues": {"relations": {"comments": has_many("comments", "issue_id", on_remove=on_remove, write=True)}}}


async def commented(app: Apex, *texts: str) -> int:
    data = {"title": "x", "comments": [{"text": text} for text in texts]}
    return int((await app.service("issues").create(data))["id"])


async def texts(app: Apex) -> list[Any]:
    return [(row["text"], row["issue_id"], row["deleted_at"] is None) for row in (await stored(app, "comments"))[0]]


@pytest.mark.parametrize("trash", [False, True])
async def test_related_records_are_removed_with_theirs(url: str | None, trash: bool) -> None:
    async with boards(url, declared("cascade"), trash=trash) as app:
        first, second = await commented(app, "a", "b"), await commented(app, "c")
        heard: list[str] = []
        for path in ("comments", "issues"):
            app.service(path).on("removed", lambda row, context: heard.append(f"{context.path} {row['id']}"))
        await app.service("issues").remove(first, ANN)
        assert heard == ["comments 1", "comments 2", "issues 1"]
        assert [row["text"] for row in await app.service("comments").find()] == ["c"]
        assert len(await texts(app)) == (3 if trash else 1)
        await app.service("issues").remove(None, ANN)
        assert (await app.service("comments").find(), second) == ([], 2)


async def test_related_records_come_back_with_theirs(url: str | None) -> None:
    async with boards(url, declared("cascade"), trash=True) as app:
        issues, comments = app.service("issues"), app.service("comments")
        first, _ = await commented(app, "alone", "b", "c"), await commented(app, "d")
        await comments.remove(1)
        await issues.remove(first, ANN)
        with raises(Conflict, "The issue 1 is removed: restore that first") as raised:
            await comments.restore({"id": 2}, ANN)
        assert raised.error.errors == {"issue_id": "Is removed"}
        heard: list[str] = []
        for path in ("comments", "issues"):
            app.service(path).on("created", lambda row, context: heard.append(f"{context.path} {row['id']}"))
        await issues.restore({"id": first}, ANN)
        assert [row["text"] for row in await comments.find({"query": {"$sort": {"id": 1}}})] == ["b", "c", "d"]
        assert heard == ["issues 1", "comments 2", "comments 3"]
        assert (await comments.restore({"id": 1}, ANN))["text"] == "alone"


async def test_a_child_removed_in_the_same_moment_does_not_come_back(url: str | None) -> None:
    async with boards(url, declared("cascade"), trash=True) as app:
        issue = await commented(app, "alone", "b")
        await app.service("comments").remove(1, {"removed_at": now() + timedelta(days=1)})
        await app.service("issues").remove(issue, ANN)
        await app.service("issues").restore({"id": issue}, ANN)
        assert [row["text"] for row in await app.service("comments").find()] == ["b"]


async def test_a_record_that_is_deleted_for_good_leaves_no_removed_children(url: str | None) -> None:
    async with boards(url, declared("cascade"), trash=True) as app:
        issue = await commented(app, "alone", "b")
        await app.service("comments").remove(1)
        await app.service("issues").remove(issue, {"permanent": True})
        assert await texts(app) == []


async def test_a_record_with_restricting_children_stays(url: str | None) -> None:
    async with boards(url, declared("restrict")) as app:
        issue = await commented(app, "a", "b")
        with raises(Conflict, "There are still 2 comments: remove them first") as raised:
            await app.service("issues").remove(issue, ANN)
        assert raised.error.errors == {"comments": "Must be removed first"}
        await app.service("comments").remove(None)
        await app.service("issues").remove(issue, ANN)


async def test_a_refusal_tells_only_of_the_children_that_the_caller_can_read() -> None:
    def refuse(context: Context) -> None:
        if context.params.provider:
            raise Forbidden("No")

    async with boards(None, declared("restrict")) as app:
        app.service("comments").hooks({"before": {"find": [refuse]}})
        issue = await commented(app, "a")
        with raises(Conflict, "There are still comments: remove them first"):
            await app.service("issues").remove(issue, ANN)


async def test_the_keys_of_related_records_are_emptied(url: str | None) -> None:
    async with boards(url, declared("set_null")) as app:
        issue = await commented(app, "a", "b")
        heard: list[int] = []
        app.service("comments").on("patched", lambda row, context: heard.append(row["id"]))
        await app.service("issues").remove(issue, ANN)
        assert await texts(app) == [("a", None, True), ("b", None, True)]
        assert heard == [1, 2]


async def test_a_removal_that_fails_leaves_everything(url: str | None) -> None:
    def fail(context: Context) -> None:
        raise BadRequest("Not now")

    async with boards(url, declared("cascade")) as app:
        issue = await commented(app, "a", "b")
        app.service("comments").hooks({"after": {"remove": [fail]}})
        with raises(BadRequest, "Not now"):
            await app.service("issues").remove(issue, ANN)
        assert (len(await texts(app)), len((await stored(app, "issues"))[0])) == (2, 1)


async def test_a_cascade_takes_one_call_for_each_relation(url: str | None) -> None:
    async with boards(url, declared("cascade")) as app:
        calls: list[Any] = []
        for _ in range(3):
            await commented(app, *"abcde")
        app.service("comments").hooks({"before": {"all": [lambda context: calls.append(context.method)]}})
        await app.service("issues").remove(None, {**ANN, "adapter": {"multi": True}})
        assert calls == ["remove"]


@pytest.mark.parametrize("on_remove", ["cascade", "restrict", "set_null"])
@pytest.mark.parametrize("trash", [False, True])
async def test_no_child_of_a_removed_record_is_created(url: str | None, on_remove: OnRemove, trash: bool) -> None:
    """Create children while their parents are removed, many times at once."""

    async with boards(url, declared(on_remove), trash=trash) as app:
        issues, comments = app.service("issues"), app.service("comments")
        ids = [(await issues.create({"title": "x"}))["id"] for _ in range(8)]
        for id in ids:
            calls = [comments.create({"text": "a", "issue_id": id}, ANN) for _ in range(5)]
            ended = await asyncio.gather(*calls[:2], issues.remove(id, ANN), *calls[2:], return_exceptions=True)
            assert {error.code for error in ended if isinstance(error, FeathersError)} <= {400, 404, 409}, ended
        living = {row["id"] for row in await issues.find()} | {None}
        assert {row["issue_id"] for row in await comments.find()} <= living


async def test_a_child_moves_only_to_a_record_that_is_there(url: str | None) -> None:
    async with boards(url, declared("cascade"), trash=True) as app:
        issue, other = await commented(app, "a"), await commented(app)
        await app.service("issues").remove(other)
        with raises(BadRequest) as raised:
            await app.service("comments").patch(1, {"issue_id": other}, ANN)
        assert raised.error.errors == {"issue_id": "Does not exist"}
        assert (await app.service("comments").patch(1, {"issue_id": issue, "text": "b"}, ANN))["text"] == "b"


async def test_a_fate_needs_the_relation_of_the_children_too() -> None:
    app = Apex()
    app.use("issues", MemoryService(relations={"comments": has_many("comments", "issue_id", on_remove="cascade")}))
    app.use("comments", MemoryService(fields={"id": integer, "issue_id": integer}))
    with pytest.raises(TypeError, match=r"on_remove needs the relation of 'comments' too: .*belongs_to\('issues'"):
        await app.setup()
    app.service("comments").service.relations = {"issue": belongs_to("issues", "issue_id")}
    await app.setup()
