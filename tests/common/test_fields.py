"""Timestamps and owners: the fields that hooks set in records."""

from __future__ import annotations

from datetime import UTC, datetime

from apex.common import now, set_owner, timestamps
from apex.service import BoundService
from tests.hooks.apps import caller, known_user, notes

OWNED = {"before": {"all": [known_user], "create": [set_owner("owned_by_user_id", creator="created_by_user_id")]}}


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


def stamped() -> BoundService:
    return notes({"before": {method: [timestamps()] for method in ("create", "update", "patch")}}, multi=True)


async def test_a_new_row_has_both_moments() -> None:
    before = now()
    row = await stamped().create({"text": "a"})
    assert before <= row["created_at"] == row["updated_at"] <= now()


async def test_a_change_moves_the_second_alone() -> None:
    service = stamped()
    old = datetime(2023, 1, 1, tzinfo=UTC)
    await service.create({"created_at": old, "updated_at": old})
    row = await service.patch(1, {"text": "b"})
    assert row["created_at"] == old < row["updated_at"]


async def test_moments_that_are_given_stay() -> None:
    old = datetime(2023, 1, 1, tzinfo=UTC)
    row = await stamped().create({"created_at": old})
    assert row["created_at"] == old < row["updated_at"]


async def test_many_rows_get_the_same_moment() -> None:
    rows = await stamped().create([{"text": "a"}, {"text": "b"}])
    assert len({row["created_at"] for row in rows}) == 1


def test_a_moment_is_cut_to_milliseconds() -> None:
    assert now().microsecond % 1000 == 0
    assert now().tzinfo is UTC


async def test_fields_have_the_names_that_they_are_given() -> None:
    hooks = {"before": {"all": [known_user], "create": [timestamps("made", "changed"), set_owner("owner")]}}
    row = await notes(hooks).create({"text": "a"}, caller(1))
    assert sorted(row) == ["changed", "id", "made", "owner", "text"]
    assert row["owner"] == 1
