"""Creating, changing and removing contacts."""

from __future__ import annotations

from typing import Any

import pytest

from apex.errors import BadRequest
from apex.testing import raises
from services import contacts
from tests.services.agentvoice.voice import call
from tests.services.crm import CONTACT, JANE, LIST, Crm, refused


async def test_a_new_contact_has_the_servers_defaults(crm: Crm) -> None:
    contact = await crm.create()
    given = {"id", "organization_id", "first_name", "created_at", "updated_at"}
    assert {name: value for name, value in contact.items() if value is not None and name not in given} == {
        "created_by_user_id": 789,
        "owned_by_user_id": 789,
        "system_type": "contact",
        "custom_fields_by_name": {},
    }


async def test_the_caller_owns_new_records_unless_it_names_another_owner(crm: Crm) -> None:
    status, mine = await crm.call("POST /contacts", JANE | {"owned_by_user_id": None}, 790)
    assert (status, mine["created_by_user_id"], mine["owned_by_user_id"]) == (201, 790, 790)
    _, others = await crm.call("POST /contacts", JANE | {"owned_by_user_id": 789}, 790)
    assert (others["created_by_user_id"], others["owned_by_user_id"]) == (790, 789)


async def test_text_is_trimmed_and_not_truncated(crm: Crm) -> None:
    contact = await crm.create(first_name="  Zoë 🎈 ", last_name='O\'Brien\\ "%_"', email=" Zoe@Example.COM ")
    assert contact["first_name"] == "Zoë 🎈"
    assert contact["last_name"] == 'O\'Brien\\ "%_"'
    assert contact["email"] == "Zoe@example.com"


@pytest.mark.parametrize("written", ["(202) 555-0101", "202.555.0101", "[202] 555 0101", " 2025550101 "])
async def test_a_phone_is_stored_as_digits(crm: Crm, written: str) -> None:
    assert (await crm.create(phone=written, phone_country_iso="US"))["phone"] == "2025550101"


async def test_a_patch_changes_only_its_fields(crm: Crm) -> None:
    _, before = await crm.call("GET /contacts/124")
    _, after = await crm.call("PATCH /contacts/124", {"last_name": None})
    assert after == before | {"last_name": None, "updated_at": after["updated_at"]}


async def test_an_empty_patch_changes_nothing_but_the_time(crm: Crm) -> None:
    _, before = await crm.call("GET /contacts/124")
    status, after = await crm.call("PATCH /contacts/124", {})
    assert (status, after) == (200, before | {"updated_at": after["updated_at"]})


async def test_custom_fields_merge_by_key_and_null_removes_one(crm: Crm) -> None:
    await crm.define(Text="text", Number="number", Yes="boolean", Gone="text", New="number")
    contact = await crm.create(custom_fields_by_name={"Text": "a", "Number": 1.5, "Yes": True, "Gone": "x"})
    changes = {"Text": "ä", "Gone": None, "New": 2}
    _, patched = await crm.call(f"PATCH /contacts/{contact['id']}", {"custom_fields_by_name": changes})
    assert patched["custom_fields_by_name"] == {"Text": "ä", "Number": 1.5, "Yes": True, "New": 2}
    _, read = await crm.call(f"GET /contacts/{contact['id']}")
    assert read["custom_fields_by_name"] == patched["custom_fields_by_name"]


async def test_a_null_custom_field_stays_until_a_patch_names_it(crm: Crm) -> None:
    await crm.define(Other="number", Empty="text")
    contact = await crm.create(custom_fields_by_name={"Empty": None})
    path = f"PATCH /contacts/{contact['id']}"
    _, patched = await crm.call(path, {"custom_fields_by_name": {"Other": 1}})
    assert patched["custom_fields_by_name"] == {"Empty": None, "Other": 1}
    _, patched = await crm.call(path, {"custom_fields_by_name": {"Empty": None}})
    assert patched["custom_fields_by_name"] == {"Other": 1}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", [0, -1, 2**63 - 1, 1.5, 1e300, 1e-300]),
        ("text", ["", "null", "é" * 500]),
        ("boolean", [True, False]),
    ],
)
async def test_a_custom_field_comes_back_as_it_was_sent(crm: Crm, kind: str, values: list[Any]) -> None:
    await crm.define(**{"a 'quoted\" key": kind})
    for value in values:
        contact = await crm.create(custom_fields_by_name={"a 'quoted\" key": value})
        assert contact["custom_fields_by_name"] == {"a 'quoted\" key": value}


async def test_a_removed_contact_is_gone(crm: Crm) -> None:
    assert (await crm.call("DELETE /contacts/123"))[0] == 200
    assert [contact["id"] for contact in (await crm.call(LIST))[1]["data"]] == [124]
    assert await crm.found("john") == ["Johnny"]
    for request in ("GET /contacts/123", "PATCH /contacts/123", "DELETE /contacts/123"):
        data = {"first_name": "Back"} if request.startswith("PATCH") else None
        assert refused(await crm.call(request, data), 404)["name"] == "NotFound"


async def test_a_removed_contact_is_kept_in_the_table(crm: Crm) -> None:
    await crm.call("DELETE /contacts/123")
    kept = (await crm.rows())[0]
    assert (kept["id"], kept["first_name"]) == (123, "John")
    assert kept["deleted_at"] is not None


async def test_a_patch_of_the_company_and_owner(crm: Crm) -> None:
    changes = {"company_id": 102, "owned_by_user_id": 790}
    status, contact = await crm.call("PATCH /contacts/123", changes)
    assert status == 200
    assert contact.items() >= changes.items()
    status, contact = await crm.call("PATCH /contacts/123", {"company_id": None})
    assert (status, contact["company_id"]) == (200, None)


@pytest.mark.parametrize("request_line", ["POST /contacts", "PATCH /contacts/123"])
async def test_company_and_owner_must_exist_in_the_same_organization(crm: Crm, request_line: str) -> None:
    base = JANE if request_line.startswith("POST") else {}
    before = await crm.rows()
    for bad in ({"company_id": 201, "owned_by_user_id": 791}, {"company_id": 999, "owned_by_user_id": 999}):
        body = refused(await crm.call(request_line, base | bad), 400, "company_id", "owned_by_user_id")
        assert body["message"] == "Invalid contact data"
    assert await crm.rows() == before


async def test_a_removed_company_is_no_company(crm: Crm) -> None:
    await crm.call("DELETE /companies/102")
    refused(await crm.call("POST /contacts", JANE | {"company_id": 102}), 400, "company_id")


async def test_a_removed_user_is_no_owner(crm: Crm) -> None:
    await crm.app.service("users").remove(790)
    refused(await crm.call("POST /contacts", JANE | {"owned_by_user_id": 790}), 400, "owned_by_user_id")


async def test_a_join_of_a_missing_record_is_null(crm: Crm) -> None:
    await crm.create(first_name="Alone")
    await crm.app.service("contacts").patch(124, {"owned_by_user_id": None})
    await crm.call("DELETE /companies/102")
    _, page = await crm.call(LIST + "&fastJoinForContactList=true&$sort[id]=-1")
    joined = {contact["first_name"]: (contact["owner"], contact["company"]) for contact in page["data"]}
    admin = {"id": 789, "first_name": "Admin", "last_name": "User"}
    assert joined == {
        "Alone": (admin, None),
        "Johnny": (None, None),
        "John": (admin, {"id": 101, "name": "Example Corp"}),
    }


async def test_both_forms_of_a_name_are_stored_for_search(crm: Crm) -> None:
    await crm.create(first_name="José", last_name="Álvarez")
    row = (await crm.rows(contacts.contacts))[-1]
    assert row["name_search"] == "\njose\nalvarez\njose alvarez\n"


CRM = {"crm_id": "SF-1", "crm_source": "salesforce"}


async def test_calls_inside_store_the_id_in_another_system(crm: Crm) -> None:
    contacts = crm.app.service("contacts")
    stored = (await contacts.create(JANE | CRM))["id"]
    await contacts.patch(124, CRM | {"crm_id": "SF-2"})
    rows = {row["id"]: (row["crm_source"], row["crm_id"]) for row in await crm.rows()}
    assert (rows[stored], rows[124]) == (("salesforce", "SF-1"), ("salesforce", "SF-2"))


@pytest.mark.parametrize(("given", "missing"), [("crm_id", "crm_source"), ("crm_source", "crm_id")])
async def test_the_id_in_another_system_needs_the_system(crm: Crm, given: str, missing: str) -> None:
    with raises(BadRequest, "Invalid contact data") as raised:
        await crm.app.service("contacts").create(JANE | {given: "x"})
    assert raised.error.errors == {missing: f"Must be given together with {given}"}
    with raises(BadRequest, "Invalid contact data") as raised:
        await crm.app.service("contacts").patch(124, {given: None})
    assert raised.error.errors == {missing: f"Must be given together with {given}"}


async def test_an_empty_string_of_a_form_means_null(crm: Crm) -> None:
    optional = ("last_name", "email", "phone", "phone_country_code", "phone_country_iso", "company_id")
    empty: dict[str, Any] = dict.fromkeys(optional, "")
    full: dict[str, Any] = {
        "last_name": "Roe", "email": "a@example.com", "phone": "2025550143", "phone_country_iso": "US",
        "company_id": 101,
    }  # fmt: skip
    values = {"custom_fields_by_name": {"note": ""}}
    await crm.define(note="text")
    made = await crm.create(**empty, **values)
    _, patched = await crm.call(f"PATCH /contacts/{(await crm.create(**full))['id']}", empty | values)
    for contact in (made, patched):
        assert {contact[name] for name in optional} == {None}
        assert contact["custom_fields_by_name"] == {"note": ""}
    for request in ("POST /contacts", f"PATCH /contacts/{made['id']}"):
        refused(
            await crm.call(request, JANE | {"first_name": ""} if "POST" in request else {"first_name": ""}),
            400,
            "first_name",
        )
    _, voiced = await call(
        crm, "POST /api/contacts", {"first_name": "Ann", "last_name": "", "email": "", "company": "", "phone": ""}
    )
    assert (voiced["last_name"], voiced["email"], voiced["company"], voiced["phone"]) == (None, None, None, None)
    dates = {"organization_id": 456, "subject": "Hello", "activity_type": "call", "start_date": "", "deal_id": ""}
    assert (await crm.call("POST /activities", dates))[0] == 201


SELECTED = "$select[]=crm_id&$select[]=crm_source"


async def test_the_id_in_another_system_is_written_and_selected(crm: Crm) -> None:
    jane = await crm.create(**CRM)
    assert set(jane) == CONTACT
    assert (await crm.call(f"GET /contacts/{jane['id']}"))[1] == jane
    assert (await crm.call(f"GET /contacts/{jane['id']}?{SELECTED}"))[1] == CRM | {"id": jane["id"]}
    _, page = await crm.call(f"{LIST}&crm_source=salesforce&crm_id=SF-1&{SELECTED}")
    assert page["data"] == [CRM | {"id": jane["id"]}]
    _, made = await crm.call(f"POST /contacts?{SELECTED}", JANE | CRM | {"crm_id": "SF-3"})
    assert made == CRM | {"crm_id": "SF-3", "id": made["id"]}
    status, changed = await crm.call(f"PATCH /contacts/{made['id']}?{SELECTED}", dict.fromkeys(CRM))
    assert (status, changed) == (200, dict.fromkeys(CRM) | {"id": made["id"]})


async def test_the_id_in_another_system_goes_with_the_system(crm: Crm) -> None:
    jane = await crm.create(**CRM)
    for data, missing in (({"crm_id": "1"}, "crm_source"), ({"crm_source": "x"}, "crm_id")):
        refused(await crm.call("POST /contacts", JANE | data), 400, missing)
        refused(await crm.call(f"PATCH /contacts/{jane['id']}", data), 400, missing)
    for empty in (None, "", " "):
        refused(await crm.call(f"PATCH /contacts/{jane['id']}", {"crm_id": empty, "crm_source": "x"}), 400, "crm_id")
    refused(await crm.call("POST /contacts", JANE | CRM), 409)
    other = await crm.create()
    refused(await crm.call(f"PATCH /contacts/{other['id']}", CRM), 409)
    await crm.call(f"DELETE /contacts/{jane['id']}")
    assert (await crm.call(f"PATCH /contacts/{other['id']}", CRM))[0] == 200


async def test_events_have_no_more_than_a_contact(crm: Crm) -> None:
    heard: list[Any] = []
    for event in ("created", "patched", "removed"):
        crm.app.service("contacts").on(event, lambda data, context: heard.append(set(data)))
    _, made = await crm.call(f"POST /contacts?{SELECTED}", JANE | CRM)
    await crm.call(f"PATCH /contacts/{made['id']}?{SELECTED}", {"last_name": "Roe"})
    await crm.call(f"DELETE /contacts/{made['id']}?{SELECTED}")
    assert heard == [CONTACT] * 3
