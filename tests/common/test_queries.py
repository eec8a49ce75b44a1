"""Hooks for queries: many records at once, and selections that hooks do not see."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context, MemoryService, validate_query
from apex.common import apply_select, check_multi, defer_select, disable_pagination, discard_query, keep_query
from apex.errors import MethodNotAllowed
from apex.query.coercion import integer, text
from apex.service import BoundService

FIELDS = {"id": integer, "text": text, "size": integer, "draft": text}
CALLER = {"provider": "rest"}


def notes(seen: list[Any], **options: Any) -> BoundService:
    def see(context: Context) -> None:
        seen.append(context.result)

    before, after = [validate_query, defer_select()], [see, apply_select]
    hooks = {"before": {"get": before, "patch": before}, "after": {"get": after, "patch": after}}
    service = MemoryService(fields=FIELDS, start_id=1, **options)
    return Apex().use("notes", service, hooks=hooks).service("notes")


async def test_hooks_see_the_whole_record_and_the_caller_what_it_selects() -> None:
    seen: list[Any] = []
    service = notes(seen)
    await service.create({"text": "a", "size": 1})
    context = await service._run("patch", id=1, data={"size": 2}, params={**CALLER, "query": {"$select": ["text"]}})
    assert seen == [{"text": "a", "size": 2, "id": 1, "draft": None}]
    assert context.external == {"text": "a", "id": 1}


async def test_hooks_see_fields_on_demand_and_callers_only_where_they_select_them() -> None:
    seen: list[Any] = []
    service = notes(seen, on_demand=["draft"])
    await service.create({"text": "a", "size": 1, "draft": "b"})
    context = await service._run("get", id=1, params={**CALLER})
    assert (seen[0]["draft"], context.external) == ("b", {"text": "a", "size": 1, "id": 1})
    context = await service._run("get", id=1, params={**CALLER, "query": {"$select": ["draft"]}})
    assert context.external == {"draft": "b", "id": 1}
    assert context.result == {"text": "a", "size": 1, "id": 1}


async def test_many_records_are_refused_before_the_hooks_that_follow() -> None:
    reached: list[str] = []
    hooks = {"before": {"all": [check_multi, lambda context: reached.append(context.method)]}}
    service = Apex().use("notes", MemoryService(multi=["patch"]), hooks=hooks).service("notes")
    await service.patch(None, {"text": "a"})
    for call in (service.remove(None), service.create([{}])):
        with pytest.raises(MethodNotAllowed):
            await call
    assert reached == ["patch"]


@pytest.mark.parametrize("validated", [False, True])
async def test_keys_of_the_query_are_kept_and_discarded(validated: bool) -> None:
    def listed(*hooks: Any) -> BoundService:
        before = [*([validate_query] if validated else []), *hooks]
        service = MemoryService(fields=FIELDS, multi=True)
        return Apex().use("notes", service, hooks={"before": {"find": before}}).service("notes")

    rows = [{"text": "a", "size": 1}, {"text": "a", "size": 2}, {"text": "b", "size": 3}]
    query = {"query": {"text": "a", "size": {"$gt": 1, "$lt": 9}, "$limit": 1}}
    for hook, sizes in ((discard_query("size", "$limit"), [1, 2]), (discard_query("size.$gt", "text"), [1]),
                        (keep_query("text"), [1, 2]), (keep_query("$limit", "size"), [2])):  # fmt: skip
        service = listed(hook)
        await service.create(rows)
        assert [row["size"] for row in await service.find(query)] == sizes
    assert query == {"query": {"text": "a", "size": {"$gt": 1, "$lt": 9}, "$limit": 1}}


async def test_a_caller_may_ask_for_the_whole_list() -> None:
    service = MemoryService(paginate={"default": 1, "max": 1}, multi=True)
    hooks = {"before": {"all": [disable_pagination]}}
    found = Apex().use("notes", service, hooks=hooks).service("notes")
    await found.create([{}, {}])
    for limit in ("-1", -1):
        assert len(await found.find({"query": {"$limit": limit}})) == 2
    assert (await found.find({"query": {"$limit": 5}}))["limit"] == 1
    wrong = Apex().use("notes", MemoryService(), hooks={"before": [validate_query, disable_pagination]})
    with pytest.raises(TypeError, match="has to come before validate_query"):
        await wrong.service("notes").find({"query": {"$limit": -1}})
