"""Search: the matches of a term and their order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.services.crm import CONTACT, SEARCH, Crm, refused
from tests.services.fixtures import SHARED

pytestmark = SHARED

US: dict[str, Any] = {"phone_country_iso": "US", "phone_country_code": "+1"}

PEOPLE: list[dict[str, Any]] = [
    {"first_name": "José", "last_name": "Álvarez", "email": "jose@example.com"},
    {"first_name": "50% off_", "last_name": "Back\\slash"},
    {"first_name": "Say \"hi\"", "last_name": "O'Neil*"},
    {"first_name": "Rock AND Roll", "last_name": "NEAR(x)"},
    {"first_name": "name_search : x", "last_name": "^a-b"},
    {"first_name": "Straße", "last_name": "ﬁn", "email": "strasse@example.com"},
    {"first_name": "李", "last_name": "小龍"},
    {"first_name": "Ann", "last_name": "Lee"},
    {"first_name": "Lee", "last_name": "Ann"},
    {"first_name": "Annabel", "last_name": None},
    {"first_name": "Joanne", "last_name": "Low"},
    {"first_name": "Phone", "phone": "2025550199", **US},
    {"first_name": "Homeless", "phone": "2025550188"},
    {"first_name": "British", "phone": "2025550177", "phone_country_code": "+44", "phone_country_iso": "GB"},
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(shared: Crm) -> AsyncIterator[Crm]:
    """Run the CRM with people to search, created in this order."""
    for person in PEOPLE:
        await shared.create(**person)
    yield shared


@pytest.mark.parametrize(
    ("term", "names"),
    [
        ("jose", ["José"]),
        ("JOSÉ", ["José"]),
        ("alvarez", ["José"]),
        ("  álv ", ["José"]),
        ("sé ál", ["José"]),
        ("jose   alvarez", ["José"]),
        ("alvarez jose", []),
        ("strasse", ["Straße"]),
        ("STRASSE", ["Straße"]),
        ("fin", ["Straße"]),
        ("小龍", ["李"]),
        ("李 小龍", ["李"]),
        ("zz", []),
        ("nobody at all", []),
    ],
)
async def test_case_and_accents_do_not_matter(people: Crm, term: str, names: list[str]) -> None:
    assert await people.found(term) == names


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("0%", "50% off_"), ("50%", "50% off_"), ("%%", ""), ("__", ""), ("f_", "50% off_"), ("off_", "50% off_"),
        ("k\\s", "50% off_"), ("k\\", "50% off_"), ("ack\\sl", "50% off_"), ("\\\\", ""), ("o%f", ""),
        ('"hi', 'Say "hi"'), ('"hi"', 'Say "hi"'), ('i"', 'Say "hi"'), ('""', ""), ('"""', ""), ("l*", 'Say "hi"'),
        ("neil*", 'Say "hi"'), ("nei*", ""), ("o'n", 'Say "hi"'), ("o'", 'Say "hi"'), ("';--", ""),
        ("rock and", "Rock AND Roll"), ("AND", "Rock AND Roll"), ("rock OR zz", ""), ("NOT", ""),
        ("near(", "Rock AND Roll"),
        ("(x", "Rock AND Roll"), ("x)", "Rock AND Roll"), ("a-b", "name_search : x"), ("-b", "name_search : x"),
        ("^a", "name_search : x"), ("^a-b", "name_search : x"), ("name_search :", "name_search : x"),
        (": x", "name_search : x"),
        ("{name}", ""), ("+-", ""), ("**", ""), ("NEAR(x y)", ""),
    ],
)  # fmt: skip
async def test_a_term_is_plain_characters(people: Crm, term: str, name: str) -> None:
    assert await people.found(term) == ([name] if name else [])


@pytest.mark.parametrize("line_break", ["ann\nlee", "\nann", "\tann lee\r\n"])
async def test_a_line_break_in_a_term_is_a_space(people: Crm, line_break: str) -> None:
    assert "Ann" in await people.found(line_break)


async def test_the_best_match_comes_first_then_the_newest(people: Crm) -> None:
    assert await people.found("ann") == ["Lee", "Ann", "Annabel", "Joanne"]
    assert await people.found("an") == ["Annabel", "Lee", "Ann", "Joanne", "Rock AND Roll"]
    assert await people.found("ann lee") == ["Ann"]


async def test_sort_replaces_the_order_of_matches(people: Crm) -> None:
    by_name: dict[str, Any] = {"$sort": {"first_name": 1}}
    assert await people.found("ann", **by_name) == ["Ann", "Annabel", "Joanne", "Lee"]


async def test_a_search_is_a_page(people: Crm) -> None:
    asked: dict[str, Any] = {"$limit": 2, "$skip": 1}
    status, page = await people.search("ann", **asked)
    assert status == 200
    assert [contact["first_name"] for contact in page.pop("data")] == ["Ann", "Annabel"]
    assert page == {"total": 4, "limit": 2, "skip": 1}


@pytest.mark.parametrize(
    ("limit", "given"), [(None, 10), (-1, 10), ("abc", 10), (1000, 100), ("3", 3), (0, 0), (2.7, 2), ([], 10)]
)
async def test_a_search_has_the_limit_of_a_list(people: Crm, limit: Any, given: int) -> None:
    asked: dict[str, Any] = {"$limit": limit}
    status, page = await people.search("ann", **asked)
    assert (status, page["limit"], page["total"]) == (200, given, 4)


async def test_a_found_contact_has_the_keys_of_a_contact(people: Crm) -> None:
    _, page = await people.search("ann")
    assert {frozenset(contact) for contact in page["data"]} == {frozenset(CONTACT)}


@pytest.mark.parametrize("term", ["JOSE@", "jose@example.com", "se@ex", "e@", " Jose@Example.com "])
async def test_an_email_is_found_by_any_part(people: Crm, term: str) -> None:
    assert (await people.found(term, "email"))[0] in ("José", "Straße")
    assert "José" in await people.found(term, "email")


async def test_each_search_looks_in_its_own_field(people: Crm) -> None:
    assert await people.found("alvarez", "email") == []
    assert await people.found("jose@example.com") == []


@pytest.mark.parametrize("term", ["2025550199", "(202) 555-0199", "0199", "+1 202 555 01 99", "12025550199", "99"])
async def test_a_phone_is_found_by_its_digits(people: Crm, term: str) -> None:
    assert await people.found(term, "phone", **US) == ["Phone"]


async def test_a_phone_counts_in_its_country_or_where_none_is_stored(people: Crm) -> None:
    assert await people.found("20255501", "phone", **US) == ["Homeless", "Phone"]
    great_britain: dict[str, Any] = {"phone_country_iso": "GB", "phone_country_code": "+44"}
    assert await people.found("20255501", "phone", **great_britain) == ["British", "Homeless"]


async def test_a_search_by_phone_needs_country_and_code(people: Crm) -> None:
    refused(await people.search("202555", "phone"), 400, "phone_country_iso", "phone_country_code")
    refused(await people.search("202555", "phone", phone_country_iso="US"), 400, "phone_country_code")
    refused(await people.search("202555", "phone", phone_country_code="+1"), 400, "phone_country_iso")
    wrong: dict[str, Any] = {"phone_country_iso": "US", "phone_country_code": "+49"}
    refused(await people.search("202555", "phone", **wrong), 400, "phone_country_code")
    refused(await people.search("abc", "phone", **US), 400, "searchTerm")


@pytest.mark.parametrize("term", ["", " ", "a", " a ", "́", "á", "\n"])
async def test_a_term_needs_two_characters(people: Crm, term: str) -> None:
    refused(await people.search(term), 400, "searchTerm")


async def test_search_follows_a_change_of_either_name(people: Crm) -> None:
    contact = await people.create(first_name="Before", last_name="Wedding")
    await people.call(f"PATCH /contacts/{contact['id']}", {"last_name": "Bride"})
    assert await people.found("before bride") == ["Before"]
    assert await people.found("wedding") == []
    await people.call(f"DELETE /contacts/{contact['id']}")
    assert await people.found("before bride") == []


async def test_the_companies_of_the_demo_are_found(shared: Crm) -> None:
    data = {"searchTerm": "example", "organization_id": 456}
    _, page = await shared.call("POST /companies", data, headers=SEARCH)
    assert [company["name"] for company in page["data"]] == ["Example Corp"]
