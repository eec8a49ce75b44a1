"""Lists of contacts: filters, totals, order and joins."""

from __future__ import annotations

import pytest

from tests.services.crm import CONTACT, LIST, Crm, refused
from tests.services.fixtures import SHARED

pytestmark = SHARED


async def test_a_list_is_a_page_of_ten(shared: Crm) -> None:
    status, page = await shared.call(LIST)
    assert status == 200
    assert set(page) == {"total", "limit", "skip", "data"}
    assert (page["total"], page["limit"], page["skip"]) == (2, 10, 0)
    assert all(set(contact) == CONTACT for contact in page["data"])


@pytest.mark.parametrize(
    ("asked", "given"),
    [("25", 25), ("100", 100), ("101", 100), ("99999", 100), ("-1", 10), ("abc", 10), ("", 10), ("5x", 5), ("0", 0)],
)
async def test_limit_is_clamped_and_nonsense_falls_back_to_the_default(shared: Crm, asked: str, given: int) -> None:
    status, page = await shared.call(f"{LIST}&$limit={asked}")
    assert (status, page["limit"], page["total"]) == (200, given, 2)
    assert len(page["data"]) == min(given, 2)


async def test_skip_and_sort_page_through_all(shared: Crm) -> None:
    pages = [await shared.call(f"{LIST}&$limit=1&$skip={skip}&$sort[first_name]=-1") for skip in range(3)]
    assert [[contact["first_name"] for contact in page["data"]] for _, page in pages] == [["Johnny"], ["John"], []]
    assert [(page["total"], page["skip"]) for _, page in pages] == [(2, 0), (2, 1), (2, 2)]


@pytest.mark.parametrize("join", ["true", "1"])
async def test_a_url_turns_the_join_on_with_a_string(shared: Crm, join: str) -> None:
    _, page = await shared.call(f"{LIST}&fastJoinForContactList={join}")
    assert [set(contact["owner"]) for contact in page["data"]] == [{"id", "first_name", "last_name"}] * 2
    assert [contact["company"]["name"] for contact in page["data"]] == ["Example Corp", "Sample Inc"]


@pytest.mark.parametrize("join", ["", "&fastJoinForContactList=false", "&fastJoinForContactList=0"])
async def test_without_the_join_a_list_has_no_owner_and_company(shared: Crm, join: str) -> None:
    _, page = await shared.call(LIST + join)
    assert all(set(contact) == CONTACT for contact in page["data"])


async def test_the_body_of_a_get_wins_over_the_url(shared: Crm) -> None:
    query = {"query": {"organization_id": 456, "$limit": 1}}
    _, page = await shared.call("GET /contacts?organization_id=457&$limit=2&$skip=1", query)
    assert (page["limit"], page["skip"]) == (1, 1)
    assert [contact["id"] for contact in page["data"]] == [124]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("email=john.doe@example.com", [123]),
        ("company_id=102", [124]),
        ("company_id[$in][]=101&company_id[$in][]=102", [123, 124]),
        ("id[$gt]=123", [124]),
        ("id[$ne]=123", [124]),
        ("created_at[$lt]=2023-01-02T00:00:00.000Z", [123]),
        ("$or[0][id]=123&$or[1][first_name]=Johnny", [123, 124]),
        ("deleted_at=null", [123, 124]),
        ("deleted_at[$ne]=null", []),
        ("avatar_url[$ne]=x", [123]),
    ],
)
async def test_a_list_can_be_filtered(shared: Crm, query: str, ids: list[int]) -> None:
    status, page = await shared.call(f"{LIST}&{query}")
    assert (status, [contact["id"] for contact in page["data"]]) == (200, ids)


async def test_select_gives_the_named_fields_and_the_id(shared: Crm) -> None:
    _, page = await shared.call(f"{LIST}&$select[]=first_name&$select[]=email&fastJoinForContactList=true")
    assert [set(contact) for contact in page["data"]] == [{"id", "first_name", "email"}] * 2


async def test_every_member_of_the_organization_sees_its_contacts(shared: Crm) -> None:
    assert (await shared.call(LIST, user=790))[1] == (await shared.call(LIST))[1]


async def test_the_organization_is_required(shared: Crm) -> None:
    for request in ("GET /contacts", "GET /contacts?organization_id=null", "GET /contacts?organization_id="):
        refused(await shared.call(request), 400, "organization_id")
    refused(await shared.call("POST /contacts", {"first_name": "Jane"}), 400, "organization_id")
    refused(await shared.search("john", organization_id=None), 400, "organization_id")


async def test_the_organization_must_be_one_of_the_callers(shared: Crm) -> None:
    refused(await shared.call("GET /contacts?organization_id=457"), 403)
    refused(await shared.call("GET /contacts?organization_id=1"), 403)
    refused(await shared.call("POST /contacts", {"organization_id": 457, "first_name": "Jane"}), 403)
    refused(await shared.search("john", organization_id=457), 403)


@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
async def test_a_record_of_others_is_forbidden_and_a_missing_one_is_not_found(shared: Crm, verb: str) -> None:
    data = {"first_name": "Mine"} if verb == "PATCH" else None
    assert refused(await shared.call(f"{verb} /contacts/201", data), 403)["name"] == "Forbidden"
    assert refused(await shared.call(f"{verb} /contacts/999", data), 404)["name"] == "NotFound"


async def test_methods_that_are_not_allowed_are_named(shared: Crm) -> None:
    refused(await shared.call("PUT /contacts/123", {"first_name": "All"}), 405)
    for method in ("setup", "_find", "find", "create", "syntax", "nothing"):
        refused(await shared.call("POST /contacts", {}, headers={"X-Service-Method": method}), 405)
