"""Support tickets: reference numbers and messages."""

from __future__ import annotations

import asyncio

from tests.services.crm import Crm, heard, make, removed


async def test_a_removed_ticket_removes_its_messages(crm: Crm) -> None:
    ticket = await make(crm, "support-tickets", subject="Login")
    await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="Hello")
    events = heard(crm, "support-tickets", "support-ticket-messages")
    await crm.call(f"DELETE /support-tickets/{ticket['id']}")
    assert events == ["support-ticket-messages removed", "support-tickets removed"]
    assert (await crm.call("GET /support-ticket-messages?organization_id=456"))[1]["total"] == 0
    assert await removed(crm) == {("support-ticket-messages", 1), ("support-tickets", ticket["id"])}


async def test_only_a_new_message_changes_its_ticket(crm: Crm) -> None:
    ticket = await make(crm, "support-tickets", subject="Login")
    events = heard(crm, "support-tickets", "support-ticket-messages")
    message = await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="Hello")
    assert events == ["support-tickets patched"]
    _, noted = await crm.call(f"GET /support-tickets/{ticket['id']}")
    path = f"/support-ticket-messages/{message['id']}"
    await crm.call(f"PATCH {path}", {"body": "Good morning"})
    await crm.call(f"DELETE {path}")
    assert events[1:] == ["support-ticket-messages patched", "support-ticket-messages removed"]
    assert (await crm.call(f"GET /support-tickets/{ticket['id']}"))[1] == noted


async def test_tickets_are_numbered_without_a_gap(crm: Crm) -> None:
    made = await asyncio.gather(*(make(crm, "support-tickets", subject=f"Help {n}") for n in range(12)))
    numbers = sorted(int(ticket["reference_number"].rpartition("-")[2]) for ticket in made)
    assert numbers == list(range(1, 13))
    ticket = await make(crm, "support-tickets", subject="Login", contact_id=123, tags=["login"], priority="high")
    assert ticket["reference_number"].endswith("-013")
    assert ticket["meta_contact_email"] == "john.doe@example.com"
    await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="We look into it")
    assert (await crm.call(f"GET /support-tickets/{ticket['id']}"))[1]["last_message_at"]


async def test_related_records_are_shown_where_a_query_asks_for_them(crm: Crm) -> None:
    ticket = await make(crm, "support-tickets", subject="Login", contact_id=123)
    await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="Hello")
    _, page = await crm.call("GET /support-tickets?organization_id=456&$populate=contact,messages,owner")
    (shown,) = page["data"]
    assert (shown["contact"]["id"], [message["body"] for message in shown["messages"]]) == (123, ["Hello"])
    assert shown["owner"] == {"id": 789, "first_name": "Admin", "last_name": "User"}
    _, message = await crm.call("GET /support-ticket-messages/1?$populate=support_ticket.contact&$select=body")
    assert message["support_ticket"]["contact"]["id"] == 123
    for said, total in (("Hello", 1), ("Bye", 0)):
        assert (await crm.call(f"GET /support-tickets?organization_id=456&messages.body={said}"))[1]["total"] == total
