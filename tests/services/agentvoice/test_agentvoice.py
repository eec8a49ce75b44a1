"""The AgentVoice API: its shapes, and its changes to the same contacts."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from services import companies, tables
from services.shared.examples import uuid_of
from tests.services.accounts.test_audience import connect, listen
from tests.services.agentvoice.voice import CONTACT, GONE, JOHN, PROOF, SALESFORCE, call, send
from tests.services.crm import JANE, LIST, Crm, refused
from tests.services.fixtures import SHARED

# The demo's John, as the page shows a contact.
SHOWN = {
    "id": uuid_of(123), "user_id": uuid_of(789), "first_name": "John", "last_name": "Doe",
    "email": "john.doe@example.com", "phone": "+11234567890", "company": "Example Corp",
    "created_at": "2023-01-01T00:00:00Z", "updated_at": "2023-01-01T00:00:00Z", "last_task_run": None,
    "total_tasks_run": 0, "organization_id": uuid_of(456), "crm_id": None, "crm_source": None,
}  # fmt: skip


async def test_a_contact_looks_as_on_the_page(crm: Crm) -> None:
    status, contact = await call(crm, f"GET {JOHN}")
    assert (status, contact, list(contact)) == (200, SHOWN, CONTACT)


async def test_a_list_is_an_array_newest_first_with_its_total(crm: Crm) -> None:
    response = await send(crm, "GET /api/contacts")
    assert [contact["first_name"] for contact in response.json()] == ["Johnny", "John"]
    assert response.json()[1] == SHOWN
    assert response.headers["x-total-count"] == "2"
    assert response.headers["ratelimit-limit"] == "1000"


@SHARED
@pytest.mark.parametrize(
    ("query", "names"), [("limit=1", ["Johnny"]), ("limit=1&offset=1", ["John"]), ("offset=2", []), ("limit=1000", 2)]
)
async def test_a_list_is_read_in_parts(shared: Crm, query: str, names: Any) -> None:
    response = await send(shared, f"GET /api/contacts?{query}")
    found = [contact["first_name"] for contact in response.json()]
    assert (found if isinstance(names, list) else len(found)) == names
    assert response.headers["x-total-count"] == "2"


async def test_a_list_links_to_the_pages_around_it(crm: Crm) -> None:
    for number in range(3):
        await call(crm, "POST /api/contacts", {"first_name": str(number)})
    found: list[str] = []
    path = "/api/contacts?limit=2"
    while path:
        response = await send(crm, f"GET {path}")
        found += [contact["first_name"] for contact in response.json()]
        path = response.links.get("next", {}).get("url", "")
    assert found == ["2", "1", "0", "Johnny", "John"]
    assert response.links["prev"]["url"] == "/api/contacts?limit=2&offset=2"
    assert response.links["first"]["url"] == "/api/contacts?limit=2&offset=0"
    assert "link" not in (await send(crm, "GET /api/contacts")).headers
    assert (await send(crm, "GET /api/contacts?offset=9&limit=3")).links["prev"][
        "url"
    ] == "/api/contacts?limit=3&offset=6"


async def test_links_lead_to_where_the_app_is_mounted(crm: Crm) -> None:
    mounted = Starlette(routes=[Mount("/crm", crm.app)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(mounted), base_url="http://crm") as http:
        first = await http.get("/crm/api/contacts?limit=1", headers=PROOF)
        second = await http.get(first.links["next"]["url"], headers=PROOF)
    assert [contact["first_name"] for contact in second.json()] == ["John"]
    assert second.links["prev"]["url"] == "/crm/api/contacts?limit=1&offset=0"


async def test_both_apis_show_the_same_contacts(crm: Crm) -> None:
    _, jane = await call(crm, "POST /api/contacts", {"first_name": "Jane", "phone": "+49 30 1234", "company": "New"})
    _, page = await crm.call(LIST + "&first_name=Jane&fastJoinForContactList=true")
    (found,) = page["data"]
    assert (found["phone_country_code"], found["phone"], found["company"]["name"]) == ("+49", "301234", "New")
    assert (found["owned_by_user_id"], found["created_by_user_id"]) == (789, 789)
    await crm.call(f"PATCH /contacts/{found['id']}", {"last_name": "Müller", "company_id": 101})
    _, changed = await call(crm, f"GET /api/contacts/{jane['id']}")
    assert (changed["last_name"], changed["company"], changed["phone"]) == ("Müller", "Example Corp", "+49301234")
    await call(crm, f"PATCH /api/contacts/{jane['id']}", {"first_name": "José"})
    assert await crm.found("jose") == ["José"]
    await crm.call(f"DELETE /contacts/{found['id']}")
    assert await call(crm, f"GET /api/contacts/{jane['id']}") == GONE
    assert await call(crm, f"DELETE /api/contacts/{jane['id']}") == GONE


async def test_both_apis_send_the_same_events(crm: Crm) -> None:
    await connect(crm)
    sent = listen(crm)
    crm.app.publish(lambda data, context: crm.app.channel("organizations/456"))  # Of what has no publisher.
    _, jane = await crm.call("POST /contacts", JANE)
    await crm.call(f"PATCH /contacts/{jane['id']}", {"last_name": "Doe"})
    await crm.call(f"DELETE /contacts/{jane['id']}")
    theirs = [(event, set(contact)) for event, contact, _ in sent]
    sent.clear()
    _, jane = await call(crm, "POST /api/contacts", {"first_name": "Jane"})
    await call(crm, f"PATCH /api/contacts/{jane['id']}", {"last_name": "Doe"})
    await call(crm, f"DELETE /api/contacts/{jane['id']}")
    assert [(event, set(contact)) for event, contact, _ in sent] == theirs
    assert [event for event, _ in theirs] == ["contacts created", "contacts patched", "contacts removed"]


@pytest.mark.parametrize("phone", ["+1234567890", "+999123", "2025550143", "+390612345", "+4412", None])
async def test_a_phone_number_comes_back_as_it_was_given(crm: Crm, phone: str | None) -> None:
    status, contact = await call(crm, f"PATCH {JOHN}", {"phone": phone})
    if phone == "+999123":  # No country has this code.
        assert (status, contact) == (400, {"error": "phone: Must be digits, or + with a calling code and digits"})
    else:
        # Digits alone are a number of the same calling code.
        shown = "+1" + phone if phone is not None and not phone.startswith("+") else phone
        assert (status, contact["phone"]) == (200, shown)


async def test_null_clears_a_field_and_missing_fields_stay(crm: Crm) -> None:
    await call(crm, f"PATCH {JOHN}", SALESFORCE)
    empty: dict[str, Any] = dict.fromkeys(("last_name", "email", "phone", "company", "crm_id", "crm_source"))
    _, contact = await call(crm, f"PATCH {JOHN}", {"email": None})
    assert contact == SHOWN | SALESFORCE | {"email": None, "updated_at": contact["updated_at"]}
    _, contact = await call(crm, f"PATCH {JOHN}", empty)
    assert contact == SHOWN | empty | {"updated_at": contact["updated_at"]}
    answer = await call(crm, f"PATCH {JOHN}", {"first_name": None, "crm_id": None})
    sentence = "first_name: Must not be null; crm_source: Must be given together with crm_id"
    assert answer == (400, {"error": sentence})


async def test_an_id_in_another_system_is_unique(crm: Crm) -> None:
    taken = (409, {"error": "A contact with this CRM ID already exists"})
    status, contact = await call(crm, "POST /api/contacts", SALESFORCE)
    assert (status, contact["first_name"], contact["crm_id"]) == (201, "Unknown", "CRM123")
    assert await call(crm, "POST /api/contacts", SALESFORCE | {"company": "Brand New"}) == taken
    assert await call(crm, f"PATCH {JOHN}", SALESFORCE) == taken
    assert "Brand New" not in [row["name"] for row in await crm.rows(companies.companies)]
    lookup = "GET /api/contacts/crm/lookup?crm_id=CRM123&crm_source=salesforce"
    assert await call(crm, lookup) == (200, contact)
    await call(crm, f"DELETE /api/contacts/{contact['id']}")
    assert await call(crm, lookup) == GONE
    assert (await call(crm, f"PATCH {JOHN}", SALESFORCE))[0] == 200


async def test_a_company_is_found_by_its_name(crm: Crm) -> None:
    before = await crm.rows(companies.companies)
    for name, number in (("Sample Inc", 0), ("Elsewhere Ltd", 1), ("Elsewhere Ltd", 1)):
        _, contact = await call(crm, f"PATCH {JOHN}", {"company": name})
        assert contact["company"] == name
        assert len(await crm.rows(companies.companies)) == len(before) + number
    made = (await crm.rows(companies.companies))[-1]
    assert (made["organization_id"], made["created_by_user_id"]) == (456, 789)


async def test_a_removed_company_is_not_shown(crm: Crm) -> None:
    await crm.call("DELETE /companies/101")
    assert await call(crm, f"GET {JOHN}") == (200, SHOWN | {"company": None})
    _, contacts = await call(crm, "GET /api/contacts")
    assert "Example Corp" not in [contact["company"] for contact in contacts]
    _, contact = await call(crm, f"PATCH {JOHN}", {"company": "Example Corp"})
    assert contact["company"] == "Example Corp"
    assert [row["name"] for row in await crm.rows(companies.companies)].count("Example Corp") == 2


async def test_a_deleted_contact_leaves_no_references(crm: Crm) -> None:
    ours = {"organization_id": 456, "contact_id": 123, "subject": "Hello"}
    for path, data in (("activities", ours | {"activity_type": "call"}), ("support-tickets", ours)):
        kept, lost = [(await crm.call(f"POST /{path}", data))[1]["id"] for _ in range(2)]
        await crm.call(f"DELETE /{path}/{lost}")
    assert await call(crm, f"DELETE {JOHN}") == (200, {"message": "Contact deleted successfully"})
    assert 123 not in [row["id"] for row in await crm.rows()]
    for name in ("activities", "support_tickets"):
        assert [row["contact_id"] for row in await crm.rows(tables.metadata.tables[name])] == [None, None]
    assert (await crm.call(f"GET /support-tickets/{kept}"))[0] == 200
    refused(await crm.call("GET /contacts/123"), 404)


# The requests of the page, as they are printed there.
PAGE = """
GET /contacts
GET /contacts/:id
POST /contacts
{
"first_name": "Jane", // Required unless crm_id and crm_source are provided
"last_name": "Smith", // Optional
"email": "jane@example.com", // Optional
"phone": "+1987654321", // Optional
"company": "New Corp", // Optional
"crm_id": "CRM456", // Optional - ID in external CRM system
"crm_source": "hubspot" // Optional - Source CRM system (required if crm_id is provided)
}
PATCH /contacts/:id
{
"first_name": "Janet", // Optional
"last_name": "Smith", // Optional
"email": "janet@example.com", // Optional
"phone": "+1987654321", // Optional
"company": "Updated Corp", // Optional
"crm_id": "CRM789", // Optional
"crm_source": "zoho" // Optional (required if crm_id is provided)
}
POST /api/webhook/crm
{
"source": "salesforce", // Required - CRM system identifier
"data": { // Required - Contact data
"crm_id": "CRM123", // Required - Unique ID in the CRM system
"first_name": "John", // Optional (default: "Unknown" if not provided)
"last_name": "Doe", // Optional
"email": "john@example.com", // Optional
"phone": "+1234567890", // Optional
"company": "Example Corp" // Optional
}
}
GET /contacts/crm/lookup?crm_id=CRM123&crm_source=salesforce
DELETE /contacts/:id
"""


async def test_the_requests_of_the_page_are_answered(crm: Crm) -> None:
    requests = re.findall(r"^([A-Z]+ )(?:/api)?(/\S+)\n((?:[^A-Z].*\n)*)", PAGE, re.MULTILINE)
    statuses = []
    for verb, path, body in requests:
        content = re.sub(r" *//.*", "", body).encode()
        request = f"{verb}/api{path.replace(':id', uuid_of(123))}"
        headers = PROOF | {"content-type": "application/json"}
        statuses.append((await send(crm, request, content=content, headers=headers)).status_code)
    assert statuses == [200, 200, 201, 200, 201, 200, 200]
