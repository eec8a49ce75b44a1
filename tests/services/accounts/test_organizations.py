"""Organizations and companies."""

from __future__ import annotations

import pytest

from tests.services.accounts.test_members import joined
from tests.services.crm import Crm, refused
from tests.services.fixtures import SHARED
from tests.support.serving import serving
from tests.support.sockets import connected

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


async def test_another_organization_is_forbidden(crm: Crm) -> None:
    for other in ("457", "999999"):
        refused(await crm.call(f"GET /organizations/{other}"), 403)
    foreign = refused(await crm.call("GET /contacts?organization_id=457"), 403)
    assert foreign["message"] == "You are not a member of organization 457"
    refused(await crm.call("GET /organizations/x"), 404)
    assert (await crm.call("GET /organizations?id=457"))[1]["data"] == []
    assert (await crm.call("GET /organizations?$or[0][id]=457&$or[1][id]=456"))[1]["total"] == 1


@SHARED
@pytest.mark.parametrize("verb", ["POST", "PATCH", "PUT", "DELETE"])
async def test_an_organization_is_only_read(shared: Crm, verb: str) -> None:
    path = "/organizations" if verb == "POST" else "/organizations/456"
    refused(await shared.call(f"{verb} {path}", {"name": "Mine"}), 405)


async def test_an_insufficient_role_is_named(crm: Crm) -> None:
    await joined(crm, 790, "viewer")
    told = "Your role in organization 456 is viewer: it does not allow"
    for request, what in (
        ("PATCH /contacts/123", "patch"),
        ("GET /contacts?organization_id=456&$deleted=true", "$deleted"),
    ):
        data = {"last_name": "Roe"} if what == "patch" else None
        assert refused(await crm.call(request, data, 790), 403)["message"] == f"{told} {what} here"


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


async def test_a_wrong_company_is_refused(crm: Crm) -> None:
    data = {"name": "", "size": 5, "owned_by_user_id": "x", "deleted_at": None, "foo": 1}
    error = refused(await crm.call("POST /companies", data), 400, *data, "organization_id")
    assert error["message"] == "Invalid company data"
    refused(await crm.call("POST /companies", NEW | {"owned_by_user_id": 791}), 400, "owned_by_user_id")
    refused(await crm.call("PATCH /companies/101", {"organization_id": 457}), 400, "organization_id")


async def test_a_website_is_an_address_of_the_web(crm: Crm) -> None:
    for website in (
        "https://example.com",
        "HTTP://example.com:8080/a?b=c#d",
        "http://localhost/",
        "example.com",
        "www.bücher.example/a",
    ):
        assert (await crm.call("PATCH /companies/101", {"website": website}))[1]["website"] == website


@SHARED
@pytest.mark.parametrize(
    "website",
    ["javascript:alert(1)", "javascript:1", "data:text/html,x", "ftp://example.com", "//example.com", "example",
     "https://", "http://a b.com", "https://user@example.com", "example.com\njavascript:alert(1)"],
)  # fmt: skip
async def test_a_wrong_website_is_refused(shared: Crm, website: str) -> None:
    error = refused(await shared.call("PATCH /companies/101", {"website": website}), 400)
    assert error["errors"] == {"website": "Must be a domain or an http(s) URL such as https://example.com"}


async def test_a_removed_company_leaves_its_contacts(crm: Crm) -> None:
    await crm.call("DELETE /companies/101")
    status, contact = await crm.call("GET /contacts/123")
    assert (status, contact["company_id"]) == (200, 101)


async def found(crm: Crm, query: str) -> list[str]:
    status, page = await crm.call(f"GET /organizations?{query}")
    assert (status, page["total"]) == (200, len(page["data"])), page
    return [organization["name"] for organization in page["data"]]


async def test_organizations_are_found_by_name(crm: Crm) -> None:
    for name in ("Société Générale", "100% Løsning", "Elsewhere"):
        made = await crm.app.service("organizations").create({"name": name})
        if name != "Elsewhere":
            await crm.app.service("memberships").create({"organization_id": made["id"], "user_id": 789})
    assert await found(crm, "searchTerm=societe g") == ["Société Générale"]
    assert await found(crm, "searchTerm=LOSN") == ["100% Løsning"]
    assert await found(crm, "searchTerm=0%25") == ["100% Løsning"]
    assert await found(crm, "searchTerm=%25%25") == await found(crm, "searchTerm=__") == []
    assert await found(crm, "searchTerm=elsewhere") == []
    assert await found(crm, "searchTerm=organization&id=457") == []
    assert await found(crm, "searchTerm=le&$sort[name]=-1") == ["Société Générale", "Example Organization"]
    _, page = await crm.call("GET /organizations?searchTerm=le&$limit=1&$select=name")
    assert (page["total"], page["data"]) == (2, [{"name": "Example Organization", "id": 456}])


@SHARED
@pytest.mark.parametrize("term", ["a", "%20a%20", "", "%CC%81%CC%81", "a" * 201])
async def test_a_term_of_the_wrong_length_is_refused(shared: Crm, term: str) -> None:
    refused(await shared.call(f"GET /organizations?searchTerm={term}"), 400, "searchTerm")


@SHARED
@pytest.mark.parametrize("term", [None, 5, ["ab"], {"$ne": "ab"}, "a\0b"], ids=repr)
async def test_a_term_of_the_wrong_type_is_refused(shared: Crm, term: object) -> None:
    refused(await shared.call("GET /organizations", {"query": {"searchTerm": term}}), 400, "searchTerm")


ADMIN = {"id": 789, "first_name": "Admin", "last_name": "User", "email": "admin@example.com", "role": "admin"}
MEMBER = {"id": 790, "first_name": "Member", "last_name": "User", "email": "member@example.com", "role": "member"}
USERS = "GET /organizations/456/users"


@SHARED
async def test_the_users_of_an_organization_are_listed_for_its_members(shared: Crm) -> None:
    for user in (789, 790):
        page = {"total": 2, "limit": 10, "skip": 0, "data": [ADMIN, MEMBER]}
        assert await shared.call(USERS, user=user) == (200, page)


@SHARED
@pytest.mark.parametrize(
    ("query", "users"),
    [
        ("role=admin", [ADMIN]),
        ("$sort[email]=-1", [MEMBER, ADMIN]),
        ("$limit=1&$skip=1", [MEMBER]),
        ("email[$in][]=member@example.com&$select[]=email", [{"email": "member@example.com", "id": 790}]),
        ("last_name[$ne]=User", []),
        ("$limit=1&$total=estimated", [ADMIN]),
    ],
)
async def test_users_are_asked_for_as_other_records_are(
    shared: Crm, query: str, users: list[dict[str, object]]
) -> None:
    status, page = await shared.call(f"{USERS}?{query}")
    assert (status, page["data"]) == (200, users)


async def test_users_are_listed_over_a_socket(crm: Crm) -> None:
    proof = {"Authorization": f"Bearer {crm.token(790)}"}
    async with serving(crm.app) as http, connected(http, additional_headers=proof) as peer:
        error, page = await peer.call("find", "organizations/456/users", {"role": "member"})
        assert (error, page["data"]) == (None, [MEMBER])
        assert (await peer.call("find", "organizations/457/users", {}))[0]["code"] == 403


@SHARED
async def test_users_of_other_organizations_are_not_listed(shared: Crm) -> None:
    for path in ("457", "999999"):
        refused(await shared.call(f"GET /organizations/{path}/users"), 403)
    refused(await shared.call("GET /organizations/x/users"), 404)
    refused(await shared.call(USERS, user=791), 403)
    refused(await shared.call(USERS, user=None), 401)
    for query in ("organization_id=457", "password=x", "$select[]=password", "$sort[uuid]=1", "deleted_at=null"):
        refused(await shared.call(f"{USERS}?{query}"), 400)
    for request in ("POST /organizations/456/users", "GET /organizations/456/users/789"):
        refused(await shared.call(request, {} if "POST" in request else None), 405)


async def test_removed_users_are_not_listed(crm: Crm) -> None:
    await crm.app.service("users").remove(790)
    (mine,) = await crm.app.service("memberships").find({"query": {"user_id": 789}, "paginate": False})
    await crm.app.service("memberships").patch(mine["id"], {"role": "viewer"})
    assert (await crm.call(USERS))[1]["data"] == [ADMIN | {"role": "viewer"}]
