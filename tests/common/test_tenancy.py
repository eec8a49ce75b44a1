"""Callers are limited to the records of their tenants."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, MemoryService
from apex.common import limit_to_tenants
from apex.errors import NotFound
from apex.service import BoundService
from apex.tenant import current_tenants, is_tenant_hook


def caller(*teams: int) -> dict[str, Any]:
    return {"provider": "rest", "user": {"team_ids": teams}}


limit = limit_to_tenants("team_id", lambda context: context.params.user["team_ids"])


@pytest.fixture
async def notes() -> BoundService:
    service = Apex().use("notes", MemoryService(start_id=1), hooks={"before": {"all": [limit]}}).service("notes")
    for team in (1, 2):
        await service.create({"team_id": team})
    return service


async def test_a_caller_reads_and_writes_records_of_its_tenants(notes: BoundService) -> None:
    assert [note["team_id"] for note in await notes.find(caller(2))] == [2]
    assert [note["team_id"] for note in await notes.find(caller(1, 2))] == [1, 2]
    assert (await notes.create({}, caller(2)))["team_id"] == 2
    with pytest.raises(NotFound):
        await notes.remove(1, caller(2))
    assert len(await notes.find()) == 3


async def test_statements_of_the_call_are_limited_too(notes: BoundService) -> None:
    seen = []
    notes.hooks({"after": {"find": [lambda context: seen.append(current_tenants.get())]}})
    for teams in ((), (2,), (1, 2)):
        await notes.find(caller(*teams))
    await notes.find()
    assert seen == ["", "2", "1,2", "*"]


async def test_one_id_is_one_tenant() -> None:
    hooks = {"before": {"all": [limit_to_tenants("team_id", lambda context: 7)]}}
    service = Apex().use("notes", MemoryService(), hooks=hooks).service("notes")
    assert (await service.create({}, {"provider": "rest"}))["team_id"] == 7


def test_the_hook_is_marked_for_the_check() -> None:
    assert is_tenant_hook(limit)
