"""Who belongs where: user 1 to organization 10, user 2 to 20, user 3 to both, user 4 to none."""

from __future__ import annotations

from typing import Any

import pytest

from apex.errors import BadRequest, Forbidden, MethodNotAllowed, NotAuthenticated, NotFound
from apex.permissions import authorize
from apex.service import BoundService
from apex.testing import raises
from hooks.tenancy import forbid_foreign, membership, require_organization
from tests.hooks.apps import caller, notes

HOOKS = {"around": {"all": [forbid_foreign]}, "before": {"all": [require_organization, membership, authorize]}}


async def two_notes(**options: Any) -> BoundService:
    """Note 1 of organization 10 and note 2 of organization 20."""
    service = notes(HOOKS, **options)
    for organization in (10, 20):
        await service.create({"organization_id": organization})
    return service


async def test_a_list_holds_the_named_organization_alone() -> None:
    service = await two_notes()
    for user, organization, ids in ((1, 10, [1]), (2, 20, [2]), (3, 10, [1]), (3, 20, [2])):
        found = await service.find(caller(user, organization_id=organization))
        assert [row["id"] for row in found] == ids


async def test_a_list_must_name_an_organization_of_the_caller() -> None:
    service = await two_notes()
    with raises(BadRequest, "organization_id is required") as raised:
        await service.find(caller(1))
    assert raised.error.errors == {"organization_id": "Is required"}
    for user, organization in ((1, 20), (2, 10), (4, 10), (1, 99)):
        with raises(Forbidden):
            await service.find(caller(user, organization_id=organization))


@pytest.mark.parametrize("organization", ["10", [10], {"$in": [10]}, {"$ne": 0}, 10.0])
async def test_an_organization_is_one_id(organization: Any) -> None:
    with raises(BadRequest, "must be the id of one organization"):
        await (await two_notes()).find(caller(1, organization_id=organization))


@pytest.mark.parametrize("method", ["get", "patch", "update", "remove"])
async def test_a_record_is_reached_from_its_own_organization(method: str) -> None:
    service = await two_notes()
    call = getattr(service, method)
    mine, theirs = ([{"organization_id": id}] if method in ("patch", "update") else [] for id in (10, 20))
    with raises(Forbidden):
        await call(2, *mine, caller(1))
    with raises(NotFound):
        await call(99, *mine, caller(1))
    assert (await call(2, *theirs, caller(2)))["id"] == 2


async def test_a_record_stays_in_the_organizations_of_the_caller() -> None:
    service = await two_notes()
    with raises(Forbidden):
        await service.patch(1, {"organization_id": 20}, caller(1))
    assert (await service.get(1))["organization_id"] == 10


async def test_many_records_are_those_of_the_named_organization() -> None:
    service = await two_notes(multi=True)
    with raises(BadRequest):
        await service.remove(None, caller(3))
    assert [row["id"] for row in await service.remove(None, caller(3, organization_id=10))] == [1]
    assert [row["id"] for row in await service.find()] == [2]


async def test_many_new_records_name_the_same_organization() -> None:
    service = await two_notes(multi=True)
    rows = await service.create([{"organization_id": 10}, {"organization_id": 10}], caller(1))
    assert [row["organization_id"] for row in rows] == [10, 10]
    for wrong in ([{"organization_id": 10}, {"organization_id": 20}], [{"organization_id": 10}, {}], []):
        with raises(BadRequest):
            await service.create(wrong, caller(3))


async def test_many_new_records_are_refused_where_the_service_takes_one() -> None:
    with raises(MethodNotAllowed):
        await (await two_notes()).create([{"organization_id": 10}], caller(1))


@pytest.mark.parametrize("subject", ["99", "", "abc", "9" * 30, "1.0"])
async def test_a_user_that_is_not_there_is_not_authenticated(subject: str) -> None:
    params = caller(1, organization_id=10) | {"authentication": {"payload": {"sub": subject}}}
    with raises(NotAuthenticated):
        await (await two_notes()).find(params)


async def test_calls_from_inside_reach_everything() -> None:
    service = await two_notes()
    assert len(await service.find()) == 2
    assert (await service.patch(1, {"organization_id": 20}))["organization_id"] == 20


async def test_a_hook_after_it_finds_the_caller_and_its_roles() -> None:
    service = await two_notes()
    seen: list[Any] = []
    service.hooks(
        {"before": {"find": [lambda context: seen.append((context.params.user, context.params.memberships))]}}
    )
    await service.find(caller(1, organization_id=10))
    assert seen == [({"id": 1}, {10: "admin"})]
