"""Attempts of user 791 in organization 457 to reach organization 456, all of which fail."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from services import companies, contacts, tables
from tests.services.crm import SEARCH, Crm, refused
from tests.services.fixtures import SHARED

pytestmark = SHARED

EXAMPLES = int(os.environ.get("TENANCY_EXAMPLES", "80"))
"""Random queries to each database. More of them find more, and take longer."""
MALLORY = 791
OWN = 457
THEIRS = {"John", "Johnny", "Doe", "Smith", "Example Corp", "Sample Inc", "Admin", "Member"}
FIELDS = [
    "id", "first_name", "last_name", "email", "phone", "organization_id", "company_id", "created_at", "deleted_at",
    "owned_by_user_id", "created_by_user_id", "custom_fields_by_name", "system_type",
]  # fmt: skip
PRIVATE = ["uuid", "name_search", "email_search", "phone_search", "first_name_form", "last_name_form", "email_form"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def nothing_changes(shared: Crm) -> AsyncIterator[None]:
    """Assert that no attempt has changed a row."""
    everything = (contacts.contacts, companies.companies, tables.organizations, tables.users, tables.memberships)
    before = [await shared.rows(table) for table in everything]
    yield
    assert [await shared.rows(table) for table in everything] == before


def only_their_own(answer: tuple[int, Any]) -> list[Any]:
    """Assert that an answer is an error of the caller or a page of organization 457. Return its rows."""
    status, body = answer
    assert 200 <= status < 500, body
    if status != 200:
        assert set(body) <= {"name", "message", "code", "className", "errors", "data"}
        return []
    assert all(row.get("organization_id", OWN) == OWN and row["id"] in (201, 202) for row in body["data"])
    assert body["total"] <= 2
    return list(body["data"])


@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["contacts/123", "contacts/124", "companies/101"])
@pytest.mark.parametrize("query", ["", "?organization_id=456", "?organization_id=457", "?$or[0][organization_id]=456"])
async def test_by_the_id_of_a_record(shared: Crm, verb: str, path: str, query: str) -> None:
    data = None if verb != "PATCH" else {"name": "Mine"} if "companies" in path else {"first_name": "Mine"}
    body = refused(await shared.call(f"{verb} /{path}{query}", data, MALLORY), 403)
    assert not THEIRS & set(str(body).split())


@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("query", ["?id=123", "?id[$in][]=123", "?organization_id=456", "?$or[0][id]=123"])
async def test_by_a_query_beside_an_id_of_its_own(shared: Crm, verb: str, query: str) -> None:
    data = {"first_name": "Mine"} if verb == "PATCH" else None
    refused(await shared.call(f"{verb} /contacts/201{query}", data, MALLORY), 404)


ESCAPES: list[dict[str, Any]] = [
    {"id": 123},
    {"id": {"$in": [123, 124, 201]}},
    {"id": {"$nin": [201, 202]}},
    {"id": {"$lt": 200}},
    {"id": {"$ne": 201}},
    {"$or": [{"organization_id": 456}]},
    {"$or": [{"organization_id": 456}, {"organization_id": 457}]},
    {"$or": [{"organization_id": {"$ne": 457}}, {"id": {"$gt": 0}}]},
    {"$or": [{"$or": [{"$or": [{"organization_id": 456}]}]}]},
    {"$or": [{"$and": [{"organization_id": 456}, {"id": 123}]}, {"id": 124}]},
    {"$and": [{"organization_id": 456}]},
    {"$and": [{"$or": [{"organization_id": {"$in": [456, 457]}}]}]},
    {"company_id": 101},
    {"company_id": {"$in": [101, 102]}},
    {"owned_by_user_id": 789},
    {"created_by_user_id": {"$ne": 791}},
    {"deleted_at": None},
    {"email": {"$gte": ""}},
    {"first_name": {"$nin": []}},
    {"$select": ["organization_id", "first_name"], "$or": [{"organization_id": 456}, {}]},
    {"$sort": {"organization_id": 1}, "$limit": 100},
    {"$skip": 0, "$limit": -1},
]


@pytest.mark.parametrize("query", ESCAPES, ids=repr)
@pytest.mark.parametrize("join", [True, False])
async def test_by_a_query(shared: Crm, query: dict[str, Any], join: bool) -> None:
    data = {"query": {"organization_id": OWN, "fastJoinForContactList": join, **query}}
    only_their_own(await shared.call("GET /contacts", data, MALLORY))


NAMED: list[Any] = [
    456,
    "456",
    [456],
    [457, 456],
    {"$in": [457, 456]},
    {"$ne": 457},
    {"$gt": 0},
    {"$nin": []},
    {},
    None,
]


@pytest.mark.parametrize("organization", NAMED, ids=repr)
async def test_by_naming_the_organization(shared: Crm, organization: Any) -> None:
    status, _ = await shared.call("GET /contacts", {"query": {"organization_id": organization}}, MALLORY)
    assert status in (400, 403)
    status, _ = await shared.call("POST /contacts", {"organization_id": organization, "first_name": "Spy"}, MALLORY)
    assert status in (400, 403)
    status, _ = await shared.search("john", user=MALLORY, organization_id=organization)
    assert status in (400, 403)


@pytest.mark.parametrize(
    "url",
    [
        "organization_id=457&organization_id=456", "organization_id[]=457&organization_id[]=456",
        "organization_id[$in][]=456", "organization_id[$in][]=457&organization_id[$in][]=456",
        "organization_id[$ne]=457",
        "organization_id=457&$or[0][organization_id]=456", "organization_id=457&$and[0][organization_id]=456",
        "organization_id=457&$or[][organization_id]=456", "organization_id=457;organization_id=456",
        "organization_id=457%26organization_id=456", "Organization_id=456&organization_id=457", "organization_id=0x1C8",
        "organization_id=456%20", "organization_id=457%00456", "query[organization_id]=456",
        "provider=&organization_id=456",
        "scope[organization_id]=456&organization_id=457", "organization_id=457&$limit[scope]=456",
    ],
)  # fmt: skip
async def test_by_the_url(shared: Crm, url: str) -> None:
    only_their_own(await shared.call(f"GET /contacts?{url}", user=MALLORY))


async def test_by_the_url_against_the_body(shared: Crm) -> None:
    body = {"query": {"organization_id": OWN}}
    assert len(only_their_own(await shared.call("GET /contacts?organization_id=456", body, MALLORY))) == 2
    refused(await shared.call("GET /contacts?organization_id=457", {"query": {"organization_id": 456}}, MALLORY), 403)
    refused(await shared.search("john", user=MALLORY, organization_id=456, **{"$limit": 1}), 403)
    search = {"searchTerm": "john", "searchIn": "name", "organization_id": 456}
    refused(await shared.call("POST /contacts?organization_id=457", search, MALLORY, headers=SEARCH), 403)


async def test_by_creating_in_another_organization(shared: Crm) -> None:
    spy = {"organization_id": OWN, "first_name": "Spy"}
    foreign = spy | {"organization_id": 456}
    refused(await shared.call("POST /contacts", foreign, MALLORY), 403)
    refused(await shared.call("POST /contacts?organization_id=457", foreign, MALLORY), 403)
    for batch in ([foreign], [spy, foreign], [spy]):
        refused(await shared.call("POST /contacts", batch, MALLORY), 405)


@pytest.mark.parametrize(
    "foreign", [{"company_id": 101}, {"owned_by_user_id": 789}, {"owned_by_user_id": 790}], ids=repr
)
async def test_by_referring_to_a_record_of_theirs(shared: Crm, foreign: dict[str, int]) -> None:
    """Records of others and missing records get the same answer."""
    spy = {"organization_id": OWN, "first_name": "Spy"}
    nothing = dict.fromkeys(foreign, 99_999)
    for request, base in (("POST /contacts", spy), ("PATCH /contacts/201", {})):
        answer = await shared.call(request, base | foreign, MALLORY)
        refused(answer, 400, *foreign)
        assert answer == await shared.call(request, base | nothing, MALLORY)


@pytest.mark.parametrize(
    "data", [{"organization_id": 456}, {"organization_id": 458}, {"id": 123}, {"organizationId": 456}]
)
async def test_by_moving_a_record(shared: Crm, data: dict[str, int]) -> None:
    refused(await shared.call("PATCH /contacts/201", data, MALLORY), 400, *data)
    refused(await shared.call("PATCH /companies/201", data, MALLORY), 400, *data)


@pytest.mark.parametrize("field", [*PRIVATE, "password", "organization.name", "owner.password", "company_id.name"])
async def test_by_fields_that_no_caller_sees(shared: Crm, field: str) -> None:
    for asked in (
        {"$select": [field]},
        {"$sort": {field: 1}},
        {field: "a"},
        {field: {"$gt": ""}},
        {"$or": [{field: "a"}]},
    ):
        data = {"query": {"organization_id": OWN, **asked}}
        refused(await shared.call("GET /contacts", data, MALLORY), 400, field)
    assert refused(await shared.call(f"GET /contacts/201?$select={field}", user=MALLORY), 400, field)
    assert refused(await shared.call(f"PATCH /contacts/201?$select={field}", {"last_name": "X"}, MALLORY), 400, field)


async def test_no_answer_has_a_private_field(shared: Crm) -> None:
    requests = (
        "GET /contacts?organization_id=457&fastJoinForContactList=true",
        "GET /contacts/201",
        "GET /companies/201",
    )
    for request in (*requests, "GET /organizations"):
        text = (await shared.send(request, user=MALLORY)).text
        assert not any(f'"{name}"' in text for name in (*PRIVATE, "password")), request


async def test_by_search(shared: Crm) -> None:
    for term in ("john", "jo", "doe", "example.com", "%%", "er"):
        for where in ("name", "email"):
            only_their_own(await shared.search(term, where, MALLORY, organization_id=OWN))
    us = {"phone_country_iso": "US", "phone_country_code": "+1"}
    only_their_own(await shared.search("1234567890", "phone", MALLORY, organization_id=OWN, **us))
    assert len(only_their_own(await shared.search("other", user=MALLORY, organization_id=OWN))) == 2


async def test_by_the_organization_itself(shared: Crm) -> None:
    refused(await shared.call("GET /organizations/456", user=MALLORY), 403)
    _, page = await shared.call("GET /organizations?$or[0][id]=456&$or[1][id][$gt]=0", user=MALLORY)
    assert [organization["id"] for organization in page["data"]] == [OWN]


def asked(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a condition for a field: a value, or operators with values."""
    lists = st.lists(values, max_size=3)
    operators = {"$in": lists, "$nin": lists, "$ne": values, **dict.fromkeys(("$lt", "$lte", "$gt", "$gte"), values)}
    return values | st.fixed_dictionaries({}, optional=operators).filter(bool)


ids = st.sampled_from([456, 457, "456", 123, 124, 201, 202, 789, 790, 791, 101, 201, 0, -1])
words = st.sampled_from(["John", "Doe", "Other", "john.doe@example.com", "contact", "1234567890", "", "A", "z", "%"])
moments = st.sampled_from(["2023-01-01T00:00:00.000Z", "2023-01-02", "1970-01-01T00:00:00+14:00"])
fields = {
    **dict.fromkeys(("id", "organization_id", "created_by_user_id"), asked(ids)),
    **dict.fromkeys(("company_id", "owned_by_user_id"), st.none() | asked(ids)),
    **dict.fromkeys(("first_name", "system_type"), asked(words)),
    **dict.fromkeys(("last_name", "email", "phone", "avatar_url"), st.none() | asked(words)),
    **dict.fromkeys(("created_at", "updated_at"), asked(moments)),
    "deleted_at": st.none() | asked(moments),
}
groups = st.recursive(
    st.fixed_dictionaries({}, optional=fields),
    lambda inner: st.dictionaries(
        st.sampled_from(["$or", "$and"]), st.lists(inner, min_size=1, max_size=3), min_size=1
    ),
    max_leaves=6,
)
lists = st.lists(groups, min_size=1, max_size=3)
queries = st.fixed_dictionaries(
    {},
    optional=fields
    | {
        "$or": lists,
        "$and": lists,
        "$limit": st.integers(-1, 3),
        "$skip": st.integers(0, 2),
        "$sort": st.dictionaries(st.sampled_from(FIELDS[:-2]), st.sampled_from([1, -1]), max_size=2),
        "$select": st.lists(st.sampled_from(FIELDS), max_size=3),
        "fastJoinForContactList": st.booleans(),
    },
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
keys = st.sampled_from([*FIELDS, *PRIVATE, "$or", "$and", "$limit", "$skip", "$sort", "$select", "$eq", "$in", "x"])


@settings(max_examples=EXAMPLES)
@given(query=queries)
async def test_by_any_query(shared: Crm, query: dict[str, Any]) -> None:
    data = {"query": {**query, "organization_id": OWN}}
    answer = await shared.call("GET /contacts", data, MALLORY)
    assert answer[0] == 200 or "more than 200 conditions" in answer[1]["message"]
    only_their_own(answer)
    status, page = await shared.call("GET /contacts", {"query": query}, MALLORY)
    only_their_own((status, page))


@settings(max_examples=EXAMPLES)
@given(query=st.dictionaries(keys, anything, max_size=3))
async def test_by_any_nonsense(shared: Crm, query: dict[str, Any]) -> None:
    for own in ({}, {"organization_id": OWN}):
        only_their_own(await shared.call("GET /contacts", {"query": query | own}, MALLORY))
        only_their_own(await shared.call("GET /contacts", {"query": own | query}, MALLORY))
