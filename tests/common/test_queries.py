"""Hooks for queries: many records at once, and selections that hooks do not see."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context, MemoryService, validate_query
from apex.common import apply_select, check_multi, defer_select
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
