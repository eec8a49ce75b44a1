"""The webhook of the AgentVoice API: each event of another system creates or changes a contact once."""

from __future__ import annotations

import json
from asyncio import gather
from collections import Counter
from typing import Any

import pytest

from apex.common.webhooks import sign
from apex.context import Context
from apex.errors import BadRequest
from services import companies
from services.accounts import audit
from services.shared.examples import uuid_of
from tests.services.accounts.test_audience import connect, listen
from tests.services.accounts.test_audit import changes
from tests.services.agentvoice.voice import CONTACT, JOHN, PROOF, call, hook, send
from tests.services.crm import Crm, running
from tests.services.fixtures import SHARED
from tests.support.serving import serving

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


@SHARED
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
async def test_other_systems_call_the_fields_otherwise(shared: Crm, sent: Any, stored: dict[str, Any]) -> None:
    _, body = await hook(shared, crm_id=str(sent), **sent)
    assert body["contact"].items() >= stored.items()


async def test_empty_values_clear_all_fields_but_the_first_name(crm: Crm) -> None:
    _, made = await hook(crm, first_name="Jo", last_name="Doe", company="Acme", phone="+49301")
    _, changed = await hook(crm, first_name="", last_name="", company=None)
    emptied = {"last_name": None, "company": None, "updated_at": changed["contact"]["updated_at"]}
    assert changed["contact"] == made["contact"] | emptied


@SHARED
@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"source": "salesforce"},
        {"data": {"crm_id": "1"}},
        {"source": "salesforce", "data": {}},
        {"source": "salesforce", "data": []},
        {"source": "salesforce", "data": {"crm_id": True}},
        {"source": "salesforce", "data": {"crm_id": [1]}},
        {"source": "salesforce", "data": {"crm_id": " "}},
        {"source": None, "data": {"crm_id": "1"}},
        {"source": {"a": 1}, "data": {"crm_id": "1"}},
        "{",
    ],
    ids=repr,
)
async def test_a_payload_without_required_fields_gets_the_error_of_the_contract(shared: Crm, payload: Any) -> None:
    content = payload if payload == "{" else json.dumps(payload)
    headers = PROOF | {"content-type": "application/json"}
    assert await call(shared, "POST /api/webhook/crm", content=content, headers=headers) == INVALID


async def test_other_mistakes_are_named(crm: Crm) -> None:
    status, body = await hook(crm, email="x", last_name=["Doe"])
    rules = {"data.email: Invalid email format", "data.last_name: Must be a string"}
    assert (status, set(body["error"].split("; "))) == (400, rules)
    data = {"source": "salesforce", "data": {"crm_id": "1"}, "event": "created"}
    assert await call(crm, "POST /api/webhook/crm", data) == (400, {"error": "event: Unknown field"})
    assert len(await crm.rows()) == 4


@pytest.mark.parametrize("company", [{"company": "Brand New"}, {}], ids=["with a company", "without one"])
async def test_the_same_event_many_times_at_once_is_one_contact(demo_url: str, company: dict[str, str]) -> None:
    event = {"source": "salesforce", "data": {"crm_id": "CRM9", "first_name": "John", **company}}
    async with running(demo_url) as crm:
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
        assert events == {"contacts created": 1} | ({"companies created": 1} if company else {})


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"crm_id": 123}, {"crm_id": "123"}),
        ({"crm_id": 123.0, "source": 7}, {"crm_id": "123", "crm_source": "7"}),
        ({"phone": 2025550143}, {"phone": "2025550143"}),
        ({"first_name": 7, "company": 1.5}, {"first_name": "7", "company": "1.5"}),
    ],
)
async def test_numbers_are_read_as_texts(crm: Crm, sent: Any, stored: dict[str, Any]) -> None:
    status, body = await hook(crm, **sent)
    assert (status, body["contact"].items() >= stored.items()) == (201, True), body
    assert (await hook(crm, **sent))[0] == 200


async def test_unknown_fields_are_ignored(crm: Crm) -> None:
    others = {"id": "0x7", "crm_source": "zoho", "Owner": {"name": "Ann"}, "tags": [1], "phones": None}
    status, body = await hook(crm, first_name="Jo", **others)
    assert (status, body["contact"]["crm_source"], body["contact"]["first_name"]) == (201, "salesforce", "Jo")
    assert [row["system_type"] for row in await crm.rows() if row["crm_id"] == "CRM123"] == ["contact"]


SAID = {"first_name": "Jo", "email": "jo@example.com", "phone": "+49301", "company": "Acme", "last_name": ""}


async def test_an_event_that_changes_nothing_writes_nothing(crm: Crm) -> None:
    _, made = await hook(crm, **SAID)
    assert crm.app.log is not None
    await crm.app.log.catch_up()
    await connect(crm)
    sent = listen(crm)
    entries = len(await changes(crm))
    for said in (SAID, {}, {"firstName": "Jo "}, {"first_name": None, "phoneNumber": "+49 301"}):
        status, again = await hook(crm, **said)
        assert (status, again) == (200, {**made, "message": "Contact updated successfully"})
    status, again = await call(crm, f"PATCH /api/contacts/{made['contact']['id']}", SAID | {"last_name": None})
    assert (status, again["updated_at"]) == (200, made["contact"]["updated_at"])
    assert (sent, len(await changes(crm))) == ([], entries)
    assert (await hook(crm, **SAID, lastName="Doe"))[1]["contact"]["last_name"] == "Doe"
    assert ([event for event, _, _ in sent], len(await changes(crm))) == (["contacts patched"], entries + 1)


async def test_a_company_of_the_same_name_is_no_change(crm: Crm) -> None:
    """An older company has the same name. The contact stays with the company that somebody has chosen."""
    await hook(crm, **SAID)
    _, other = await crm.call("POST /companies", {"organization_id": 456, "name": "Acme"})
    (row,) = [row for row in await crm.rows() if row["crm_id"] == "CRM123"]
    await crm.call(f"PATCH /contacts/{row['id']}", {"company_id": other["id"]})
    assert (await hook(crm, **SAID))[1]["contact"]["company"] == "Acme"
    assert {row["company_id"] for row in await crm.rows() if row["crm_id"] == "CRM123"} == {other["id"]}


async def test_an_event_takes_few_statements(crm: Crm) -> None:
    await hook(crm, company="Acme")
    counts = []
    for said in ({"crm_id": "new"}, {"first_name": "Jo"}, {"first_name": "Jo"}, {"company": "Acme"}):
        crm.statements.clear()
        await hook(crm, **said)
        # The key and the secret are read again after a second.
        others = ("FROM organizations", "api_keys")
        counts.append(len([text for text in crm.statements if not any(name in text for name in others)]))
    # Look and insert; look, lock, check, change, audit and company; look and company; look and company.
    assert (counts[0] <= 3, counts[1:]) == (True, [6, 2, 2])


async def test_many_contacts_at_once_of_a_new_company_make_it_once(crm: Crm) -> None:
    answers = await gather(*(hook(crm, crm_id=str(number), company="Brand New") for number in range(50)))
    assert {status for status, _ in answers} == {201}
    assert [row["name"] for row in await crm.rows(companies.companies)].count("Brand New") == 1


async def test_a_removed_contact_is_created_again(crm: Crm) -> None:
    _, first = await hook(crm)
    (id,) = [row["id"] for row in await crm.rows() if row["crm_id"] == "CRM123"]
    await crm.call(f"DELETE /contacts/{id}")
    status, again = await hook(crm)
    assert status == 201
    assert again["contact"]["id"] != first["contact"]["id"]


async def send_many(crm: Crm, events: Any, headers: dict[str, str] | None = None) -> Any:
    status, answers = await call(crm, "POST /api/webhook/crm", events, headers=PROOF | (headers or {}))
    assert (status, len(answers)) == (200, len(events["data"] if isinstance(events, dict) else events)), answers
    return answers


def event(crm_id: Any, source: str = "salesforce", **data: Any) -> dict[str, Any]:
    return {"source": source, "data": {"crm_id": crm_id, **data}}


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "sync-7"}])
async def test_many_events_in_one_request_have_an_answer_each(crm: Crm, headers: dict[str, str]) -> None:
    _, john = await hook(crm, crm_id="2", first_name="John")
    events = [
        event(1, first_name="Ann", company="Acme"),
        event(2, last_name="Doe"),
        event("1", "zoho", company="Acme"),
        event(3, email="none"),
        event(1, first_name="Anna"),
        event(2, last_name="Doe"),
        {"source": "salesforce"},
        "nothing",
        {**event(4), "event": "created"},
        event(1, first_name="Anna", company=""),
    ]
    answers = await send_many(crm, events, headers)
    assert [answer["status"] for answer in answers] == [201, 200, 201, 400, 200, 200, 400, 400, 400, 200]
    assert [answer["error"] for answer in answers if "error" in answer] == [
        "data.email: Invalid email format", INVALID[1]["error"], INVALID[1]["error"], "event: Unknown field",
    ]  # fmt: skip
    assert answers[0]["message"] == "Contact created successfully"
    assert list(answers[0]["contact"]) == [name for name in CONTACT if name not in ("last_task_run", "total_tasks_run")]
    shown = [answer["contact"] for answer in answers if "contact" in answer]
    assert [contact["company"] for contact in shown] == ["Acme", None, "Acme", "Acme", None, None]
    assert answers[1]["contact"]["id"] == answers[5]["contact"]["id"] == john["contact"]["id"]
    assert [answers[place]["contact"]["first_name"] for place in (0, 4, 9)] == ["Ann", "Anna", "Anna"]
    assert len({contact["id"] for contact in shown}) == 3
    assert [row["name"] for row in await crm.rows(companies.companies)].count("Acme") == 1
    assert [row["crm_id"] for row in await crm.rows() if row["crm_source"]] == ["2", "1", "1"]
    entries = [row["record_id"] for row in await crm.rows(audit.audit) if row["service"] == "contacts"]
    assert len(entries) == 6  # Three contacts are made; two of them and the one before are changed.


async def test_many_events_of_one_source(crm: Crm) -> None:
    sent = {"source": "zoho", "data": [{"crm_id": 1, "name": "Ann"}, {"crm_id": 2, "email": "no"}, {"name": "Bob"}]}
    answers = await send_many(crm, sent)
    assert [answer["status"] for answer in answers] == [201, 400, 400]
    assert (answers[0]["contact"]["crm_source"], answers[0]["contact"]["first_name"]) == ("zoho", "Ann")
    assert await call(crm, "POST /api/webhook/crm", {**sent, "event": 1}) == (400, {"error": "event: Unknown field"})
    assert await call(crm, "POST /api/webhook/crm", {"data": sent["data"]}) == INVALID


async def test_an_unchanged_contact_is_not_written_again(crm: Crm) -> None:
    events = [event(number, first_name=f"Jo {number}", company=f"Acme {number % 3}") for number in range(1_000)]
    first = await send_many(crm, events)
    entries = len(await changes(crm))
    crm.statements.clear()
    again = await send_many(crm, events[::-1])
    assert [answer["contact"] for answer in again[::-1]] == [answer["contact"] for answer in first]
    assert {answer["status"] for answer in again} == {200}
    assert len(await changes(crm)) == entries == 1_003
    assert len(crm.statements) < 50
    many = {"error": "data: Must have at most 1,000 events"}
    assert await call(crm, "POST /api/webhook/crm", [*events, event(1_000)]) == (400, many)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "sync-7"}])
async def test_a_failed_event_does_not_stop_the_others(crm: Crm, headers: dict[str, str]) -> None:
    """The service of contacts refuses an event after others are written."""

    def refuse(context: Context) -> None:
        if any(row.get("first_name") == "Bad" for row in context.items):
            raise BadRequest("no", errors={"first_name": "Is not allowed"})

    await hook(crm, crm_id="7")
    assert crm.app.log is not None
    await crm.app.log.catch_up()
    crm.app.service("contacts").hooks({"before": {"create": [refuse], "patch": [refuse]}})
    await connect(crm)
    sent = listen(crm)
    events = [event(number, first_name="Bad" if number in (4, 7) else "Jo") for number in range(10)]
    answers = await send_many(crm, events, headers)
    assert [place for place, answer in enumerate(answers) if answer["status"] == 400] == [4, 7]
    assert answers[4] == {"status": 400, "error": "first_name: Is not allowed"}
    assert Counter(name for name, _, _ in sent) == {"contacts created": 8}
    assert {row["crm_id"] for row in await crm.rows() if row["first_name"] == "Jo"} == set("01235689")


async def test_the_same_events_in_many_requests_at_once(demo_url: str) -> None:
    events = [event(number, first_name="Jo", company=f"Acme {number % 2}") for number in range(30)]
    async with running(demo_url) as crm, serving(crm.app) as http:
        sent = (
            http.post(
                "/api/webhook/crm", json=events[:: 1 if turn % 2 else -1], timeout=60,
                headers=PROOF | ({"Idempotency-Key": str(turn)} if turn % 3 else {}),
            )
            for turn in range(12)
        )  # fmt: skip
        answers = [answer.json() for answer in await gather(*sent)]
        assert Counter(one["status"] for answer in answers for one in answer) == {201: 30, 200: 330}
        assert len([row for row in await crm.rows() if row["crm_source"]]) == 30
        assert Counter(row["name"] for row in await crm.rows(companies.companies))["Acme 1"] == 1


async def test_a_thousand_events_of_a_large_crm_fit_into_a_request(crm: Crm) -> None:
    events = [event(number % 7, description="x" * 3_000) for number in range(1_000)]
    answers = await send_many(crm, events)
    assert Counter(answer["status"] for answer in answers) == {201: 7, 200: 993}


async def test_a_hundred_events_count_as_one_request(crm: Crm) -> None:
    await crm.app.service("organizations").patch(456, {"rate_limit": 7, "rate_window": 3600})
    events = [event(number) for number in range(401)]
    left = []
    for sent in (events, events[:100], {"source": "zoho", "data": [{"crm_id": 1}] * 101}, events[0]):
        left.append((await send(crm, "POST /api/webhook/crm", sent)).headers["ratelimit-remaining"])
    assert left == ["2", "1", "1", "0"]


EVENT = b'{"source": "salesforce",  "data": {"crm_id": "CRM123"}}'


async def signed(
    crm: Crm, content: bytes = EVENT, signature: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    headers = PROOF | {"x-webhook-signature": signature or sign("a secret", content)} | (headers or {})
    return await call(crm, "POST /api/webhook/crm", content=content, headers=headers)


async def test_an_organization_with_a_secret_accepts_only_signed_webhooks(crm: Crm) -> None:
    assert (await hook(crm))[0] == 201
    await crm.app.service("organizations").patch(456, {"webhook_secret": "a secret"})
    invalid = (401, {"error": "Invalid signature"})
    assert await hook(crm) == await signed(crm, signature=sign("another", EVENT)) == invalid
    assert await call(crm, "POST /api/webhook/crm", {}) == invalid
    assert await signed(crm, b"{}", sign("a secret", EVENT)) == invalid
    assert (await signed(crm))[0] == 200
    status, answers = await signed(crm, json.dumps([event(1), event(1), {}]).encode())
    assert (status, [answer["status"] for answer in answers]) == (200, [201, 200, 400])
    assert (await send(crm, f"GET {JOHN}")).status_code == 200
    await crm.app.service("organizations").patch(456, {"webhook_secret": None})
    assert (await hook(crm))[0] == 200


async def test_a_signature_is_checked_before_a_stored_answer_is_given_again(crm: Crm) -> None:
    await crm.app.service("organizations").patch(456, {"webhook_secret": "a secret"})
    key = {"idempotency-key": "event-7"}
    signature = sign("a secret", EVENT)
    first = await signed(crm, signature=signature, headers=key)
    assert first[0] == 201
    assert await signed(crm, signature="t=1,v1=" + "0" * 64, headers=key) == (401, {"error": "Invalid signature"})
    used = (401, {"error": "The signature was used before: sign each request anew"})
    for headers in (key, {}):
        assert await signed(crm, signature=signature, headers=headers) == used
    assert await signed(crm, headers=key) == first
    assert [row["crm_id"] for row in await crm.rows()].count("CRM123") == 1


async def test_the_error_of_a_single_contact_names_no_position(crm: Crm) -> None:
    def refuse(context: Context) -> None:
        many = isinstance(context.data, list)
        raise BadRequest("no", errors={"0.first_name" if many else "first_name": "Is not allowed"})

    crm.app.service("contacts").hooks({"before": {"create": [refuse]}})
    refused = (400, {"error": "first_name: Is not allowed"})
    assert await hook(crm) == await call(crm, "POST /api/contacts", {"first_name": "Jo"}) == refused
    assert (await send_many(crm, [event(1), event(2)]))[1]["error"] == refused[1]["error"]


async def test_a_refused_event_leaves_its_signature_unused(crm: Crm) -> None:
    await crm.app.service("organizations").patch(456, {"webhook_secret": "a secret"})
    signature = sign("a secret", EVENT)

    def refuse(context: Context) -> None:
        if crm.app.get("refusing"):
            raise BadRequest("no", errors={"first_name": "Is not allowed"})

    crm.app.set("refusing", True).service("contacts").hooks({"before": {"create": [refuse]}})
    assert await signed(crm, signature=signature) == (400, {"error": "first_name: Is not allowed"})
    crm.app.set("refusing", False)
    assert (await signed(crm, signature=signature))[0] == 201


async def test_an_event_in_a_batch_of_calls_cannot_be_signed(crm: Crm) -> None:
    calls = {"calls": [["create", "api/webhook/crm", event(1)]]}
    assert (await call(crm, "POST /batch", calls))[1][0]["status"] == "fulfilled"
    await crm.app.service("organizations").patch(456, {"webhook_secret": "a secret"})
    content = json.dumps(calls).encode()
    for body in (b"", content):
        headers = PROOF | {"x-webhook-signature": sign("a secret", body)}
        _, (settled,) = await call(crm, "POST /batch", content=content, headers=headers)
        assert (settled["status"], settled["reason"]["code"]) == ("rejected", 401)
