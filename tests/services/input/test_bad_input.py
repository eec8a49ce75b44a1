"""Bad input: an error that names the wrong fields, nothing stored, and no statement if the request alone is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.services.crm import JANE, LIST, SEARCH, Crm, refused
from tests.services.fixtures import SHARED, sqlite_alone

pytestmark = SHARED
shared_url = sqlite_alone

BIG = 2**63
JSON = {"content-type": "application/json"}

FIELDS: list[tuple[str, list[Any]]] = [
    ("first_name", [None, "", "   ", 5, True, ["a"], {}, "x" * 101, "a\0b"]),
    ("last_name", [5, False, [], "x" * 101, "\0"]),
    ("email", ["x", "a@", "@b.com", "a b@example.com", "a@b@example.com", 5, [], "a\0@b.com"]),
    ("email", ["a@" + "x" * 300 + ".com", "a" * 250 + "@example.com", "a@example.com, b@example.com"]),
    ("phone", ["abc", "12a4", "+12025550101", 2025550101, [], "1" * 21, "()", "١٢٣٤٥٦٧", "1\0"]),
    ("phone_country_code", [1, [], "1" * 6, "\0", "abc", "1", "+", "+0"]),
    ("phone_country_iso", [1, [], "ZZ", "USA", "us", "\0"]),
    ("company_id", ["101", 1.5, True, [101], {}, "abc", BIG, -BIG - 1, 10**30, 0, -1]),
    ("owned_by_user_id", ["789", 1.5, True, [789], {}, BIG, 10**30, 0, -1]),
    ("custom_fields_by_name", [None, "x", 5, [], {"a": {}}, {"a": []}, {"": 1}, {"x" * 101: 1}]),
    ("custom_fields_by_name", [{"a\0": 1}, {"a": "\0"}, {"a": "x" * 5001}, {"value": []}, {"key": {}}]),
]  # fmt: skip

ORGANIZATIONS = [None, "456", 456.5, True, [456], {}, {"$in": [456]}, BIG, 10**30]

SERVERS = (
    "id", "created_at", "updated_at", "deleted_at", "created_by_user_id", "system_type", "avatar_url",
    "channel_whatsapp_wa_id", "channel_instagram_user_id",
)  # fmt: skip

UNKNOWN = ("name", "uuid", "password", "first_name_form", "name_search", "__class__", "__proto__", "$set", "a.b", "é")


def each(table: list[tuple[str, list[Any]]]) -> list[Any]:
    """Return a case for each value."""
    return [pytest.param(name, value, id=f"{name}-{repr(value)[:20]}") for name, values in table for value in values]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def nothing_is_stored(shared: Crm) -> AsyncIterator[None]:
    """Assert that the requests of this module have changed no rows."""
    before = await shared.rows()
    yield
    assert await shared.rows() == before


async def refused_without_a_trace(crm: Crm, status: int, *fields: str, request: str, **options: Any) -> dict[str, Any]:
    """Assert that a request is refused before any statement runs. Return the error."""
    crm.statements.clear()
    error = refused(await crm.call(request, **options), status, *fields)
    assert crm.statements == []
    return error


@pytest.mark.parametrize("request_line", ["POST /contacts", "PATCH /contacts/123"])
@pytest.mark.parametrize(("field", "value"), each(FIELDS))
async def test_a_value_that_does_not_fit_its_field_is_refused(
    shared: Crm, request_line: str, field: str, value: Any
) -> None:
    data = (JANE if request_line.startswith("POST") else {}) | {field: value}
    error = await refused_without_a_trace(shared, 400, request=request_line, data=data)
    assert error["message"] == "Invalid contact data"
    assert [name.partition(".")[0] for name in error["errors"]] == [field]


@pytest.mark.parametrize("value", ORGANIZATIONS, ids=repr)
async def test_a_wrong_organization_id_is_refused(shared: Crm, value: Any) -> None:
    data = JANE | {"organization_id": value}
    await refused_without_a_trace(shared, 400, "organization_id", request="POST /contacts", data=data)
    query = {"query": {"organization_id": value}}
    if value != "456":
        await refused_without_a_trace(shared, 400, "organization_id", request="GET /contacts", data=query)
    search = {"searchTerm": "john", "searchIn": "name", "organization_id": value}
    await refused_without_a_trace(shared, 400, "organization_id", request="POST /contacts", data=search, headers=SEARCH)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_field_of_the_server_is_refused(shared: Crm, name: str) -> None:
    error = await refused_without_a_trace(shared, 400, name, request="POST /contacts", data=JANE | {name: None})
    assert error["errors"] == {name: "Is set by the server: leave it out"}
    error = refused(await shared.call("PATCH /contacts/123", {name: "x"}), 400, name)
    assert error["errors"] == {name: "Is set by the server: leave it out"}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_an_unknown_field_is_refused(shared: Crm, name: str) -> None:
    for request, data in (("POST /contacts", JANE), ("PATCH /contacts/123", {})):
        error = await refused_without_a_trace(shared, 400, name, request=request, data=data | {name: "x"})
        assert list(error["errors"]) == [name]


async def test_the_organization_of_a_contact_stays(shared: Crm) -> None:
    error = refused(await shared.call("PATCH /contacts/123", {"organization_id": 457}), 400, "organization_id")
    assert error["errors"] == {"organization_id": "Can only be set on create"}


async def test_all_errors_are_reported_at_once(shared: Crm) -> None:
    data = {
        "first_name": "", "last_name": 5, "email": "x", "phone": "1-x", "phone_country_iso": "ZZ", "company_id": "a",
        "phone_country_code": "+x", "custom_fields_by_name": {"a": []}, "nickname": "J", "id": 1,
    }  # fmt: skip
    error = await refused_without_a_trace(shared, 400, request="POST /contacts", data=data)
    assert error["message"] == "Invalid contact data"
    assert {name.partition(".")[0] for name in error["errors"]} == {*data, "organization_id"}
    assert all(isinstance(sentence, str) for sentence in error["errors"].values())


@pytest.mark.parametrize(
    ("phone", "code", "iso", "wrong"),
    [
        ("123", "+1", "US", {"phone"}),
        ("12345678901234", "+1", "US", {"phone"}),
        ("2025550101", "+44", "US", {"phone_country_code"}),
        ("123", "+44", "US", {"phone", "phone_country_code"}),
        ("2025550101", "+1", "XX", {"phone_country_iso"}),
    ],
)
async def test_a_phone_goes_by_the_rules_of_its_country(
    shared: Crm, phone: str, code: str, iso: str, wrong: set[str]
) -> None:
    number = {"phone": phone, "phone_country_code": code, "phone_country_iso": iso}
    error = await refused_without_a_trace(shared, 400, request="POST /contacts", data=JANE | number)
    assert set(error["errors"]) == wrong


BODIES = {
    "nothing": b"",
    "malformed": b'{"organization_id": 456, ',
    "not UTF-8": b'{"organization_id": 456, "first_name": "\xff\xfe"}',
    "overlong UTF-8": b'{"organization_id": 456, "first_name": "\xc0\xaf"}',
    "lone surrogate": b'{"organization_id": 456, "first_name": "\\ud800"}',
    "NaN": b'{"organization_id": NaN, "first_name": "J"}',
    "Infinity": b'{"organization_id": 456, "first_name": "J", "custom_fields_by_name": {"a": Infinity}}',
    "1e999": b'{"organization_id": 456, "first_name": "J", "custom_fields_by_name": {"a": 1e999}}',
    "100,000 digits": b'{"organization_id": 456, "first_name": "J", "company_id": ' + b"9" * 100_000 + b"}",
    "10,000 deep": b'{"organization_id": 456, "first_name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "list": b'[{"organization_id": 456, "first_name": "J"}]',
    "empty list": b"[]",
    "list of numbers": b"[1, 2]",
    "list of lists": b"[[], []]",
    "number": b"5",
    "string": b'"x"',
    "null": b"null",
    "two values": b"{} {}",
    "single quotes": b"{'a': 1}",
}


@pytest.mark.parametrize("request_line", ["POST /contacts", "PATCH /contacts/123", "POST /companies"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_is_not_an_object_is_refused(shared: Crm, request_line: str, body: bytes) -> None:
    shared.statements.clear()
    status, error = await shared.call(request_line, content=body, headers=JSON)
    assert (status, shared.statements) == (error["code"], [])
    assert status in (400, 405)
    refused((status, error), status)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_search_with_a_body_that_is_not_an_object_is_refused(shared: Crm, body: bytes) -> None:
    await refused_without_a_trace(shared, 400, request="POST /contacts", content=body, headers=JSON | SEARCH)


@pytest.mark.parametrize("body", [b"[]", b"{", b"5", b'{"query": []}', b'{"query": 5}', b'{"query": null}', b"\xff"])
async def test_a_get_with_a_malformed_body_is_refused(shared: Crm, body: bytes) -> None:
    await refused_without_a_trace(shared, 400, request=LIST, content=body, headers=JSON)


@pytest.mark.parametrize("request_line", ["POST /contacts", "PATCH /contacts/123", "GET /contacts"])
async def test_a_body_of_two_megabytes(shared: Crm, request_line: str) -> None:
    body = b'{"first_name": "' + b"x" * 2_000_000 + b'"}'
    await refused_without_a_trace(shared, 413, request=request_line, content=body, headers=JSON)


async def test_a_body_that_is_not_json_is_refused(shared: Crm) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    await refused_without_a_trace(shared, 415, request="POST /contacts", content=b"first_name=J", headers=form)


QUERIES = {
    "$skip=-1": "$skip", "$skip=abc": "$skip", "$skip=1e3": "$skip", "$skip=99999999999999999999": "$skip",
    "$total=": "$total", "$total=maybe": "$total", "$total=1": "$total", "$total[]=exact&$total[]=false": "$total",
    "$after=x&$skip=1": "$after", "$before=x&$skip=1": "$before", "$after=x&$before=y": "$after",
    "$after=x&$before=": "$after", "$after[]=": "$after", "$before[a]=b": "$before", "$aftr=": "$aftr",
    "$sort[x]=2": "x", "$sort[x]=1": "x", "$sort[created_at]=2": "$sort[created_at]", "$sort[id]=up": "$sort[id]",
    "$sort[name_search]=1": "name_search", "$sort[uuid]=1": "uuid", "$sort=uuid": "uuid", "$sort[]=uuid": "uuid",
    "$or=notalist": "$or", "$or[]=x": "$or", "$or[0]=x": "$or", "$and=5": "$and", "$or[0][x]=1": "x",
    "$select[]=password": "password", "$select=name_search": "name_search", "$select[a]=b": "$select",
    "nickname=x": "nickname", "uuid=x": "uuid", "name_search=x": "name_search",
    "first_name_form[$gt]=a": "first_name_form",
    "id=abc": "id", "id=1.5": "id", "id=9999999999999999999": "id", "id[$in][]=x": "id", "id[]=1&id[]=2": "id",
    "company_id=true": "company_id", "created_at=yesterday": "created_at", "created_at[$gt]=99999-01-01": "created_at",
    "first_name[$in][0][a]=b": "first_name", "first_name[$regex]=x": None, "first_name[$like]=%25": None,
    "first_name[$contains]=x": None, "first_name[__class__]=x": None, "first_name[first_name]=x": None,
    "$where=1": None, "$limitt=1": "$limitt", "__proto__[a]=b": "__proto__",
    "fastJoinForContactList=yes": "fastJoinForContactList", "first_name=%00": None, "first_name=%ff": None,
    "first_name=%ed%a0%80": None, "%00=1": None, "a[b=1": None, "a]=1": None,
    "first_name=a&first_name[$ne]=b": None, "$or" + "[0][$or]" * 5 + "[0][id]=1": None, "a" + "[b]" * 20 + "=1": None,
}  # fmt: skip


@pytest.mark.parametrize(("query", "field"), [pytest.param(q, f, id=q[:40]) for q, f in QUERIES.items()])
async def test_a_wrong_query_is_refused(shared: Crm, query: str, field: str | None) -> None:
    named = [] if field is None else [field]
    await refused_without_a_trace(shared, 400, *named, request=f"{LIST}&{query}")


CURSORS = ["x", "null", "1", "====", "-_-_", "é", "%2527", "a" * 5000, "AAAAAAAAAAAAAAAAAAAAAA", "Ww", "..", "%00x"]


@pytest.mark.parametrize("cursor", CURSORS, ids=lambda cursor: cursor[:20])
@pytest.mark.parametrize("name", ["$after", "$before"])
async def test_a_wrong_cursor_is_refused(shared: Crm, name: str, cursor: str) -> None:
    error = refused(await shared.call(f"{LIST}&{name}={cursor}"), 400)
    if "%00" not in cursor:
        assert "use it with the query that it came from" in error["errors"][name]


@pytest.mark.parametrize("query", ["$total=false", "$after=", "$before=x"])
@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
async def test_parameters_of_lists_are_refused_elsewhere(shared: Crm, verb: str, query: str) -> None:
    data = {"first_name": "X"} if verb == "PATCH" else None
    name = query.partition("=")[0]
    error = await refused_without_a_trace(shared, 400, name, request=f"{verb} /contacts/123?{query}", data=data)
    assert error["errors"] == {name: "is for lists alone"}


async def test_a_walk_in_pages_of_nothing(shared: Crm) -> None:
    refused(await shared.call(f"{LIST}&$after=&$limit=0"), 400, "$limit")


TYPED = [
    {"first_name": 5}, {"first_name": ["a"]}, {"id": {"$in": "x"}}, {"id": {"$gt": None}}, {"id": 10**30}, {"id": True},
    {"$limit": 1, "$skip": 1.5}, {"$skip": 2**63}, {"$skip": -1}, {"$sort": []}, {"$sort": {"id": True}},
    {"$sort": "id"}, {"$total": None}, {"$total": 1}, {"$total": "EXACT"}, {"$after": None}, {"$before": 5},
    {"$after": ["a"]}, {"$before": {"$gt": ""}}, {"$after": "", "$skip": None},
    {"$select": [1]}, {"$select": {}}, {"$or": []}, {"$or": {}}, {"$or": "x"}, {"$or": [[]]}, {"$or": [None]},
    {"$and": [{"$limit": 1}]}, {"$or": [{"organization_id": {"$ne": 456}, "x": 1}]}, {"first_name": "a\0b"},
    {"id": {"$in": [1] * 10_001}}, {"custom_fields_by_name": {"a": 1}}, {"email": {"$gt": {}}}, {"deleted_at": 5},
    {"fastJoinForContactList": "perhaps"}, {"fastJoinForContactList": 2}, {"fastJoinForContactList": None},
]  # fmt: skip


@pytest.mark.parametrize("query", TYPED, ids=lambda query: repr(query)[:50])
async def test_a_query_in_a_body_with_values_of_the_wrong_type(shared: Crm, query: dict[str, Any]) -> None:
    data = {"query": {"organization_id": 456, **query}}
    await refused_without_a_trace(shared, 400, request="GET /contacts", data=data)


@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/contacts", "/contacts/", "/contacts?organization_id=456", "/contacts?id=123"])
async def test_many_contacts_are_not_changed_without_organization_and_condition(
    shared: Crm, verb: str, path: str
) -> None:
    status, error = await shared.call(f"{verb} {path}", {"first_name": "X"} if verb == "PATCH" else None)
    refused((status, error), 400)


SEARCHES: list[tuple[str, list[Any]]] = [
    ("searchTerm", [None, "", "a", " a ", 5, ["jo"], {}, True, "x" * 201, "jo\0"]),
    ("searchIn", [None, "", "id", "name_search", "Name", 5, ["name"], {}, "password"]),
    ("$skip", [-1, "x", 1.5, None, [], 2**63]),
    ("$sort", ["id", [], {"id": 2}, None, 5]),
    ("$select", [5, {}, None]),
    ("$total", [False, "estimated", None]),
    ("$after", ["", "x", None]),
    ("$before", [""]),
    ("$or", [[{"organization_id": 457}]]),
    ("$where", ["1"]),
    ("first_name", ["John"]),
    ("phone_country_iso", [5, []]),
    ("phone_country_code", [5, []]),
]


@pytest.mark.parametrize(("field", "value"), each(SEARCHES))
async def test_a_wrong_search_is_refused(shared: Crm, field: str, value: Any) -> None:
    data = {"searchTerm": "john", "searchIn": "name", "organization_id": 456} | {field: value}
    error = await refused_without_a_trace(shared, 400, request="POST /contacts", data=data, headers=SEARCH)
    assert [name.partition("[")[0] for name in error["errors"]] == [field]


@pytest.mark.parametrize("field", ["nickname", "password", "name_search", "uuid", "first_name_form"])
async def test_a_search_cannot_sort_by_or_select_private_fields(shared: Crm, field: str) -> None:
    for more in ({"$sort": {field: 1}}, {"$select": [field]}):
        data = {"searchTerm": "john", "searchIn": "name", "organization_id": 456} | more
        await refused_without_a_trace(shared, 400, field, request="POST /contacts", data=data, headers=SEARCH)
