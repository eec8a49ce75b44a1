"""Lists by ids, which read the records of all organizations of the caller."""

from __future__ import annotations

from typing import Any

import pytest

from services.commands.demo_data import KEY
from tests.services.accounts.test_api_keys import LISTS
from tests.services.crm import Crm, refused
from tests.services.fixtures import SHARED

ALL = "id[$in]=123&id[$in]=124&id[$in]=201&id[$in]=202"


def ids(answer: tuple[int, Any]) -> list[int]:
    status, page = answer
    assert (status, page["total"]) == (200, len(page["data"])), page
    return sorted(row["id"] for row in page["data"])


@SHARED
async def test_each_caller_reaches_its_own(shared: Crm) -> None:
    assert ids(await shared.call(f"GET /contacts?{ALL}")) == [123, 124]
    assert ids(await shared.call(f"GET /contacts?{ALL}", user=791)) == [201, 202]
    assert ids(await shared.call("GET /contacts?id=123")) == [123]
    assert ids(await shared.call("GET /contacts?id=201")) == []
    assert ids(await shared.call("GET /contacts", {"query": {"id": {"$in": []}}})) == []
    assert ids(await shared.call(f"GET /contacts?{ALL}", user=None, headers={"x-api-key": KEY})) == [123, 124]


async def test_a_member_of_two_organizations_reads_both(crm: Crm) -> None:
    memberships = crm.app.service("memberships")
    joined = await memberships.create({"organization_id": 457, "user_id": 789, "role": "viewer"})
    assert ids(await crm.call(f"GET /contacts?{ALL}&fastJoinForContactList=true")) == [123, 124, 201, 202]
    assert ids(await crm.call(f"GET /contacts?{ALL}&$sort[id]=-1&first_name[$ne]=Olga")) == [123, 124, 202]
    _, page = await crm.call(f"GET /contacts?{ALL}&$limit=3&$sort[id]=1")
    assert (page["total"], [row["id"] for row in page["data"]]) == (4, [123, 124, 201])
    # As a viewer it may not read the other organization's audit.
    await crm.call("PATCH /contacts/201", {"last_name": "Theirs"}, 791)
    await crm.call("PATCH /contacts/123", {"last_name": "Ours"})
    query = "GET /audit?" + "&".join(f"id[$in]={id}" for id in range(1, 9))
    assert {row["organization_id"] for row in (await crm.call(query))[1]["data"]} == {456}
    await memberships.remove(joined["id"])
    assert ids(await crm.call(f"GET /contacts?{ALL}")) == [123, 124]


@pytest.mark.parametrize("path", [*LISTS, "audit"])
@SHARED
async def test_every_list_can_be_asked_for_by_ids(shared: Crm, path: str) -> None:
    status, page = await shared.call(f"GET /{path}?id[$in]=1&id[$in]=123")
    assert status == 200, page
    assert {row["organization_id"] for row in page["data"]} <= {456}


@pytest.mark.parametrize(
    "query",
    [
        "", "id[$gt]=0", "id[$nin]=1", "id[$ne]=1", "id=null", "$or[0][id]=123", "$and[0][id]=123", "uuid=x",
        "id=123&custom_fields_by_name.Industry=x", "id=123&$sort[custom_fields_by_name.Industry]=1",
    ],
)  # fmt: skip
@SHARED
async def test_a_list_without_ids_names_its_organization(shared: Crm, query: str) -> None:
    answer = await shared.call(f"GET /contacts?{query}")
    refused(answer, 400)
    assert answer[1]["errors"]


@pytest.mark.parametrize(
    "query", ["organization_id[$in]=456", "organization_id[$gt]=0", "organization_id[$ne]=457", "organization_id=null"]
)
@SHARED
async def test_a_list_names_one_organization(shared: Crm, query: str) -> None:
    refused(await shared.call(f"GET /contacts?id=123&{query}"), 400, "organization_id")


@SHARED
async def test_a_foreign_organization_is_refused_with_ids_too(shared: Crm) -> None:
    refused(await shared.call("GET /contacts?id=201&organization_id=457"), 403)
