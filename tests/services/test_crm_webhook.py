"""The webhook of the AgentVoice API: what other systems send makes or changes a contact, once."""

from __future__ import annotations

import hmac
import json
from asyncio import gather
from collections import Counter
from typing import Any

import pytest

from services import companies
from services.examples import uuid_of
from tests.services.crm import Crm, running
from tests.services.test_audience import connect, listen
from tests.services.voice import CONTACT, JOHN, PROOF, call, hook, send
from tests.serving import serving

INVALID = (400, {"error": "Invalid payload: source, data, and data.crm_id are required"})


async def test_a_contact_is_made_and_then_changed(crm: Crm) -> None:
    status, made = await hook(crm, first_name="John", phone="+1234567890", company="Example Corp")
    assert (status, list(made), made["message"]) == (201, ["message", "contact"], "Contact created successfully")
    contact = made["contact"]
    assert list(contact) == [name for name in CONTACT if name not in ("last_task_run", "total_tasks_run")]
    assert (contact["company"], contact["user_id"], contact["crm_source"]) == (
        "Example Corp", uuid_of(789), "salesforce",
    )  # fmt: skip
    status, changed = await hook(crm, last_name="Doe")
    assert (status, changed["message"]) == (200, "Contact updated successfully")
    assert changed["contact"] == contact | {"last_name": "Doe", "updated_at": changed["contact"]["updated_at"]}
    assert (await hook(crm, source="zoho"))[0] == 201


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"firstName": "A", "name": "B"}, {"first_name": "A"}),
        ({"name": "B", "first_name": "C"}, {"first_name": "C"}),
        ({"name": "B", "lastName": "L"}, {"first_name": "B", "last_name": "L"}),
        ({"emailAddress": "a@example.com", "phoneNumber": "+49301"}, {"email": "a@example.com", "phone": "+49301"}),
        ({"companyName": "Acme", "organization": "Other"}, {"company": "Acme"}),
        ({"organization": "Other"}, {"company": "Other", "first_name": "Unknown"}),
        ({"first_name": None, "last_name": "", "email": ""}, {"first_name": "Unknown", "last_name": None}),
        ({"first_name": "", "firstName": None, "name": "Ann"}, {"first_name": "Ann"}),
        (
            {"last_name": None, "lastName": "Lee", "companyName": "", "organization": "Acme"},
            {"last_name": "Lee", "company": "Acme"},
        ),
        ({"email": "", "emailAddress": ""}, {"email": None}),
    ],
)
async def test_other_systems_call_the_fields_otherwise(crm: Crm, sent: Any, stored: dict[str, Any]) -> None:
    _, body = await hook(crm, **sent)
    assert body["contact"].items() >= stored.items()


async def test_what_is_sent_empty_is_emptied_but_a_first_name(crm: Crm) -> None:
    _, made = await hook(crm, first_name="Jo", last_name="Doe", company="Acme", phone="+49301")
    _, changed = await hook(crm, first_name="", last_name="", company=None)
    emptied = {"last_name": None, "company": None, "updated_at": changed["contact"]["updated_at"]}
    assert changed["contact"] == made["contact"] | emptied


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"source": "salesforce"},
        {"data": {"crm_id": "1"}},
        {"source": "salesforce", "data": {}},
        {"source": "salesforce", "data": [{"crm_id": "1"}]},
        {"source": "salesforce", "data": {"crm_id": 1}},
        {"source": "salesforce", "data": {"crm_id": " "}},
        {"source": None, "data": {"crm_id": "1"}},
        {"source": {"a": 1}, "data": {"crm_id": "1"}},
        "{",
    ],
    ids=repr,
)
async def test_a_payload_without_what_is_required_gets_the_error_of_the_page(crm: Crm, payload: Any) -> None:
    content = payload if payload == "{" else json.dumps(payload)
    headers = PROOF | {"content-type": "application/json"}
    assert await call(crm, "POST /api/webhook/crm", content=content, headers=headers) == INVALID


async def test_other_mistakes_are_named(crm: Crm) -> None:
    status, body = await hook(crm, email="x", nme="Jo", crm_source="zoho")
    rules = {"data.email: Invalid email format", "data.nme: Unknown field", "data.crm_source: Unknown field"}
    assert (status, set(body["error"].split("; "))) == (400, rules)
    data = {"source": "salesforce", "data": {"crm_id": "1"}, "event": "created"}
    assert await call(crm, "POST /api/webhook/crm", data) == (400, {"error": "event: Unknown field"})
    assert len(await crm.rows()) == 4


@pytest.mark.parametrize("company", [{"company": "Brand New"}, {}], ids=["with a company", "without one"])
async def test_the_same_event_many_times_at_once_is_one_contact(migrated_url: str, company: dict[str, str]) -> None:
    event = {"source": "salesforce", "data": {"crm_id": "CRM9", "first_name": "John", **company}}
    async with running(migrated_url) as crm:
        await connect(crm)
        sent = listen(crm)
        async with serving(crm.app) as http:
            posts = [http.post("/api/webhook/crm", json=event, headers=PROOF, timeout=30) for _ in range(50)]
            answers = await gather(*posts)
            assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 49}
            assert len({answer.json()["contact"]["id"] for answer in answers}) == 1
            assert [row["crm_id"] for row in await crm.rows()].count("CRM9") == 1
            made = [row for row in await crm.rows(companies.companies) if row["name"] == "Brand New"]
            assert len(made) == len(company)
        events = Counter(event for event, _, _ in sent)
        assert events == {"contacts created": 1, "contacts patched": 49} | ({"companies created": 1} if company else {})


async def test_many_contacts_at_once_of_a_new_company_make_it_once(crm: Crm) -> None:
    answers = await gather(*(hook(crm, crm_id=str(number), company="Brand New") for number in range(50)))
    assert {status for status, _ in answers} == {201}
    assert [row["name"] for row in await crm.rows(companies.companies)].count("Brand New") == 1


async def test_a_contact_that_was_removed_is_made_anew(crm: Crm) -> None:
    _, first = await hook(crm)
    (id,) = [row["id"] for row in await crm.rows() if row["crm_id"] == "CRM123"]
    await crm.call(f"DELETE /contacts/{id}")
    status, again = await hook(crm)
    assert status == 201
    assert again["contact"]["id"] != first["contact"]["id"]


async def test_where_there_is_a_secret_webhooks_are_signed(crm: Crm) -> None:
    await crm.app.service("organizations").patch(456, {"webhook_secret": "a secret"})
    body = b'{"source": "salesforce",  "data": {"crm_id": "CRM123"}}'

    async def signed(signature: str | None, content: bytes = body) -> tuple[int, Any]:
        headers = PROOF | ({} if signature is None else {"x-webhook-signature": signature})
        return await call(crm, "POST /api/webhook/crm", content=content, headers=headers)

    digest = hmac.new(b"a secret", body, "sha256").hexdigest()
    for wrong in (None, "", digest, "sha256=" + digest[:-1], "sha256=" + "0" * 64, "sha1=" + digest):
        assert await signed(wrong) == (401, {"error": "Invalid signature"})
    assert await signed("sha256=" + digest, body + b" ") == (401, {"error": "Invalid signature"})
    assert (await signed("sha256=" + digest))[0] == 201
    assert (await send(crm, f"GET {JOHN}")).status_code == 200
