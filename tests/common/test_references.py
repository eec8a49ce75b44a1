"""References between services: a field holds the key of a record that the caller may name."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Context, MemoryService
from apex.common import check_references, stash_before
from apex.errors import BadRequest
from apex.service import BoundService
from apex.testing import raises
from tests.hooks.apps import caller, notes

MISSING = "Does not exist in this team"


async def same_team(context: Context) -> dict[str, Any]:
    """Return the condition that a record is of the team of the note."""
    note = context.data if context.method == "create" else await context.service.get(context.id)
    return {"organization_id": (note if isinstance(note, dict) else note[0])["organization_id"]}


async def folders() -> BoundService:
    """Return notes that refer to folders. Folder 1 is in organization 10, folder 2 in organization 20."""
    references = {"folder_id": ("folders", "id"), "shelf_id": ("folders", "id")}
    refers = check_references(references, within=same_team, message="Invalid note", missing=MISSING)
    service = notes({"before": {"create": [refers], "patch": [refers]}}, multi=True)
    service._app.use("folders", MemoryService(start_id=1))
    for organization in (10, 20):
        await service._app.service("folders").create({"organization_id": organization})
    await service.create({"organization_id": 10})
    return service


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, []),
        ({"folder_id": 1, "shelf_id": None}, []),
        ({"folder_id": 2}, ["folder_id"]),
        ({"folder_id": 99}, ["folder_id"]),
        ({"folder_id": 1, "shelf_id": 2}, ["shelf_id"]),
        ({"folder_id": 2, "shelf_id": 99}, ["folder_id", "shelf_id"]),
    ],
)
async def test_all_references_to_other_teams_are_named(given: dict[str, Any], wrong: list[str]) -> None:
    service = await folders()
    for call in (service.create({"organization_id": 10, **given}, caller(1)), service.patch(1, given, caller(1))):
        if not wrong:
            assert await call
            continue
        with raises(BadRequest, "Invalid note") as raised:
            await call
        assert raised.error.errors == dict.fromkeys(wrong, MISSING)


async def test_each_of_many_rows_is_looked_at() -> None:
    rows = [{"organization_id": 10, "folder_id": 1}, {"organization_id": 10, "folder_id": 2}]
    with raises(BadRequest) as raised:
        await (await folders()).create(rows, caller(1))
    assert raised.error.errors == {"1.folder_id": MISSING}


async def test_calls_from_inside_are_trusted() -> None:
    assert (await (await folders()).create({"organization_id": 10, "folder_id": 2}))["folder_id"] == 2


async def test_without_a_condition_any_record_will_do() -> None:
    hooks = {"before": {"create": [check_references({"folder_id": ("folders", "id")})]}}
    service = notes(hooks)
    service._app.use("folders", MemoryService(start_id=1))
    await service._app.service("folders").create({"organization_id": 20})
    assert (await service.create({"organization_id": 10, "folder_id": 1}, caller(1)))["folder_id"] == 1
    with raises(BadRequest, "Invalid data") as raised:
        await service.create({"folder_id": 2}, caller(1))
    assert raised.error.errors == {"folder_id": "Does not exist"}


async def test_a_reference_that_stays_is_not_checked() -> None:
    check = check_references({"folder_id": ("folders", "id")})
    service = notes({"before": {"patch": [stash_before(), check]}})
    service._app.use("folders", MemoryService(start_id=1))
    await service.create({"folder_id": 7})
    assert (await service.patch(1, {"folder_id": 7, "text": "a"}, caller(1)))["text"] == "a"
    with raises(BadRequest):
        await service.patch(1, {"folder_id": 8}, caller(1))
