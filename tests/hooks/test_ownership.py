"""Who made a row and who owns it, and that what it refers to is in its organization."""

from __future__ import annotations

from typing import Any

import pytest

from apex import MemoryService
from apex.errors import BadRequest
from apex.service import BoundService
from apex.testing import raises
from hooks.ownership import refers_within, stamp_owner
from tests.hooks.apps import caller, known_user, notes

OWNED = {"before": {"all": [known_user], "create": [stamp_owner]}}


async def test_the_caller_makes_and_owns_a_row() -> None:
    service = notes(OWNED, multi=True)
    made = {"created_by_user_id": 1, "owned_by_user_id": 1}
    assert (await service.create({}, caller(1))).items() >= made.items()
    assert (await service.create({"owned_by_user_id": None}, caller(1))).items() >= made.items()
    assert all(row.items() >= made.items() for row in await service.create([{}, {}], caller(1)))


async def test_another_owner_stays() -> None:
    row = await notes(OWNED).create({"owned_by_user_id": 2}, caller(1))
    assert (row["created_by_user_id"], row["owned_by_user_id"]) == (1, 2)


async def test_a_row_made_from_inside_has_the_owner_it_is_given() -> None:
    assert await notes(OWNED).create({"text": "a"}) == {"id": 1, "text": "a"}


async def folders() -> BoundService:
    """Notes that refer to folders; folder 1 is in organization 10, folder 2 in organization 20."""
    refers = refers_within("Invalid note", folder_id=("folders", "id"), shelf_id=("folders", "id"))
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
async def test_all_references_to_other_organizations_are_named(given: dict[str, Any], wrong: list[str]) -> None:
    service = await folders()
    for call in (service.create({"organization_id": 10, **given}, caller(1)), service.patch(1, given, caller(1))):
        if not wrong:
            assert await call
            continue
        with raises(BadRequest, "Invalid note") as raised:
            await call
        assert raised.error.errors == dict.fromkeys(wrong, "Does not exist in this organization")


async def test_each_of_many_rows_is_looked_at() -> None:
    rows = [{"organization_id": 10, "folder_id": 1}, {"organization_id": 10, "folder_id": 2}]
    with raises(BadRequest) as raised:
        await (await folders()).create(rows, caller(1))
    assert raised.error.errors == {"1.folder_id": "Does not exist in this organization"}


async def test_calls_from_inside_are_trusted() -> None:
    assert (await (await folders()).create({"organization_id": 10, "folder_id": 2}))["folder_id"] == 2
