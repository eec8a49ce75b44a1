"""When a row was made and last changed."""

from __future__ import annotations

from datetime import UTC, datetime

from apex.common.hooks import now
from apex.service import BoundService
from hooks.timestamps import timestamps
from tests.hooks.apps import notes


def stamped() -> BoundService:
    return notes({"before": {method: [timestamps] for method in ("create", "update", "patch")}}, multi=True)


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
