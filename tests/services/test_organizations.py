"""Organizations and companies."""

from __future__ import annotations

import pytest

from tests.services.crm import Crm, refused

ORGANIZATION = {"id", "name", "subscription_status", "created_at", "updated_at"}

COMPANY = {
    "id", "name", "organization_id", "created_at", "updated_at", "deleted_at", "created_by_user_id",
    "owned_by_user_id", "description", "website", "industry", "size", "custom_fields_by_name",
}  # fmt: skip

NEW = {"organization_id": 456, "name": "New Corp"}


async def test_a_caller_sees_its_own_organizations(crm: Crm) -> None:
    status, page = await crm.call("GET /organizations")
    assert (status, page["total"], [row["id"] for row in page["data"]]) == (200, 1, [456])
    assert set(page["data"][0]) == ORGANIZATION
    assert page["data"][0]["name"] == "Example Organization"
    assert (await crm.call("GET /organizations/456"))[1] == page["data"][0]


async def test_another_organization_is_not_there(crm: Crm) -> None:
    refused(await crm.call("GET /organizations/457"), 404)
    assert (await crm.call("GET /organizations?id=457"))[1]["data"] == []
    assert (await crm.call("GET /organizations?$or[0][id]=457&$or[1][id]=456"))[1]["total"] == 1


@pytest.mark.parametrize("verb", ["POST", "PATCH", "PUT", "DELETE"])
async def test_an_organization_is_only_read(crm: Crm, verb: str) -> None:
    path = "/organizations" if verb == "POST" else "/organizations/456"
    refused(await crm.call(f"{verb} {path}", {"name": "Mine"}), 405)


async def test_a_removed_organization_has_no_members(crm: Crm) -> None:
    await crm.app.service("organizations").remove(456)
    refused(await crm.call("GET /contacts?organization_id=456"), 403)
    refused(await crm.call("GET /contacts/123"), 403)
    assert (await crm.call("GET /organizations"))[1]["data"] == []


async def test_companies_are_listed_and_read(crm: Crm) -> None:
    status, page = await crm.call("GET /companies?organization_id=456&$sort[name]=-1")
    assert (status, page["total"], page["limit"]) == (200, 2, 10)
    assert [company["name"] for company in page["data"]] == ["Sample Inc", "Example Corp"]
    assert all(set(company) == COMPANY for company in page["data"])
    assert await crm.call("GET /companies/102") == (200, page["data"][0])


async def test_a_company_is_created_changed_and_removed(crm: Crm) -> None:
    status, company = await crm.call("POST /companies", NEW | {"website": "https://example.com", "size": "1-10"}, 790)
    assert (status, set(company), company["created_by_user_id"]) == (201, COMPANY, 790)
    path = f"/companies/{company['id']}"
    status, company = await crm.call(f"PATCH {path}", {"name": "Newer", "owned_by_user_id": 789})
    assert (status, company["name"], company["owned_by_user_id"]) == (200, "Newer", 789)
    status, removed = await crm.call(f"DELETE {path}")
    assert (status, removed["deleted_at"] is None) == (200, False)
    refused(await crm.call(f"GET {path}"), 404)


async def test_a_company_of_others_is_forbidden(crm: Crm) -> None:
    for verb in ("GET", "PATCH", "DELETE"):
        refused(await crm.call(f"{verb} /companies/201", {"name": "Mine"} if verb == "PATCH" else None), 403)
    refused(await crm.call("GET /companies?organization_id=457"), 403)
    refused(await crm.call("POST /companies", {"organization_id": 457, "name": "Mine"}), 403)


async def test_a_company_that_is_wrong_is_refused(crm: Crm) -> None:
    data = {"name": "", "size": 5, "owned_by_user_id": "x", "deleted_at": None, "foo": 1}
    error = refused(await crm.call("POST /companies", data), 400, *data, "organization_id")
    assert error["message"] == "Invalid company data"
    refused(await crm.call("POST /companies", NEW | {"owned_by_user_id": 791}), 400, "owned_by_user_id")
    refused(await crm.call("PATCH /companies/101", {"organization_id": 456}), 400, "organization_id")


async def test_a_removed_company_leaves_its_contacts(crm: Crm) -> None:
    await crm.call("DELETE /companies/101")
    status, contact = await crm.call("GET /contacts/123")
    assert (status, contact["company_id"]) == (200, 101)
