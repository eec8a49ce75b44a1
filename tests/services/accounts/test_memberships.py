"""The cache of memberships, in which a change counts at once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from apex import load_config
from services.app import CONFIG, create_app
from tests.services.crm import JANE, LIST, Crm
from tests.support.serving import serving

MEMBER = 790


@pytest.fixture
def still(crm: Crm) -> Crm:
    """Run the CRM with memberships that do not expire."""
    stop(crm)
    return crm


def stop(crm: Crm, seconds: float = 0) -> None:
    """Stop the clock of the memberships."""
    crm.app.service("memberships").service.roles.clock = lambda: seconds


def reads(crm: Crm) -> int:
    return sum("LEFT OUTER JOIN memberships" in text for text in crm.statements)


async def membership(crm: Crm) -> Any:
    (mine,) = await crm.app.service("memberships").find({"query": {"user_id": MEMBER}, "paginate": False})
    return mine


async def statuses(crm: Crm) -> list[int]:
    """Return the statuses of a list and a create by the member."""
    return [(await crm.call(LIST, user=MEMBER))[0], (await crm.call("POST /contacts", JANE, MEMBER))[0]]


async def test_the_calls_of_a_user_read_its_memberships_once(still: Crm) -> None:
    for _ in range(3):
        assert await statuses(still) == [200, 201]
    assert reads(still) == 1
    assert (await still.call(LIST, user=789))[0] == 200
    assert reads(still) == 2


async def test_a_change_counts_with_the_next_call(still: Crm) -> None:
    memberships = still.app.service("memberships")
    mine = await membership(still)
    assert await statuses(still) == [200, 201]
    await memberships.patch(mine["id"], {"role": "viewer"})
    assert await statuses(still) == [200, 403]
    await memberships.remove(mine["id"])
    assert await statuses(still) == [403, 403]
    await memberships.create({"user_id": MEMBER, "organization_id": 456})
    assert await statuses(still) == [200, 201]


async def test_a_removed_user_is_refused_at_the_next_call(still: Crm) -> None:
    await still.app.service("memberships").remove((await membership(still))["id"])
    assert await statuses(still) == [403, 403]
    await still.app.service("users").remove(MEMBER)
    assert await statuses(still) == [401, 401]


async def test_memberships_of_a_rolled_back_transaction_are_not_cached(still: Crm) -> None:
    memberships, mine = still.app.service("memberships"), await membership(still)
    with suppress(RuntimeError):
        async with still.app.get("database").transaction():
            await memberships.patch(mine["id"], {"role": "viewer"})
            assert await memberships.of_user(MEMBER) == {456: "member"}
            raise RuntimeError
    assert await statuses(still) == [200, 201]


async def test_cached_memberships_cannot_be_changed(crm: Crm) -> None:
    mine = await crm.app.service("memberships").of_user(MEMBER)
    with pytest.raises(TypeError):
        mine[457] = "owner"


async def test_a_change_by_another_process_counts_once_the_log_is_read(crm: Crm, demo_url: str) -> None:
    other = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(other) as http:
        there = Crm(other, http)
        assert await statuses(there) == [200, 201]
        await crm.app.service("memberships").remove((await membership(crm))["id"])
        assert other.log is not None
        await other.log.catch_up()
        assert await statuses(there) == [403, 403]
