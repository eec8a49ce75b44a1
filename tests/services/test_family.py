"""The other services of an organization: creating, reading, joining, changing and removing their records."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sales.deal_products import totals
from tests.services.crm import Crm, refused

OURS = {"organization_id": 456}
PATHS = (
    "companies", "custom-fields", "pipelines", "pipeline-stages", "products", "deals", "deal-products", "activities",
    "support-tickets", "support-ticket-messages",
)  # fmt: skip


async def make(crm: Crm, path: str, **data: Any) -> dict[str, Any]:
    status, record = await crm.call(f"POST /{path}", OURS | data)
    assert status == 201, str(record)
    return dict(record)


async def make_deal(crm: Crm, **data: Any) -> dict[str, Any]:
    pipeline = await make(crm, "pipelines", name="Sales")
    stage = await make(crm, "pipeline-stages", name="Proposal", pipeline_id=pipeline["id"])
    return await make(crm, "deals", name="Big", pipeline_stage_id=stage["id"], **data)


@pytest.mark.parametrize("path", PATHS)
async def test_members_of_other_organizations_are_refused(crm: Crm, path: str) -> None:
    refused(await crm.call(f"GET /{path}?organization_id=456", user=791), 403)
    refused(await crm.call(f"GET /{path}", user=789), 400, "organization_id")
    refused(await crm.call(f"GET /{path}?organization_id=456", user=None), 401)


async def test_a_deal_is_joined_with_its_references(crm: Crm) -> None:
    deal = await make_deal(crm, amount="25000.00", contact_id=123, company_id=101, expected_close_date="2026-12-31")
    assert (deal["amount"], deal["currency"], deal["status"], deal["dealProducts"]) == ("25000.00", "USD", "open", [])
    assert deal["pipeline"]["name"] == "Sales"
    assert deal["pipelineStage"]["pipeline_id"] == deal["pipeline_id"]
    assert (deal["contact"]["first_name"], deal["company"]["name"], deal["owner"]["id"]) == (
        "John",
        "Example Corp",
        789,
    )
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1] == deal
    _, page = await crm.call("GET /deals?organization_id=456&amount[$gt]=24999.99")
    assert page["data"] == [deal]


async def test_a_deal_is_won_or_lost_since_a_moment(crm: Crm) -> None:
    deal = await make_deal(crm)
    for status, dates in (("won", (True, False)), ("lost", (False, True)), ("open", (False, False))):
        _, changed = await crm.call(f"PATCH /deals/{deal['id']}", {"status": status})
        assert (bool(changed["won_date"]), bool(changed["lost_date"])) == dates
    refused(
        await crm.call(f"PATCH /deals/{deal['id']}", {"status": "gone", "amount": "1.005"}), 400, "status", "amount"
    )


async def test_a_deal_that_is_won_again_keeps_its_date(crm: Crm) -> None:
    deal = await make_deal(crm, status="won")
    _, changed = await crm.call(f"PATCH /deals/{deal['id']}", {"status": "won", "name": "Bigger"})
    assert (changed["name"], changed["won_date"]) == ("Bigger", deal["won_date"])


async def test_a_removed_pipeline_removes_its_stages(crm: Crm) -> None:
    deal = await make_deal(crm, status="lost")
    stage = f"/pipeline-stages/{deal['pipeline_stage_id']}"
    assert (await crm.call(f"DELETE /pipelines/{deal['pipeline_id']}"))[0] == 200
    refused(await crm.call(f"GET {stage}"), 404)
    lost = OURS | {"name": "Lost", "pipeline_stage_id": deal["pipeline_stage_id"]}
    refused(await crm.call("POST /deals", lost), 400, "pipeline_stage_id")
    assert (await crm.call(f"PATCH /deals/{deal['id']}", {"status": "won"}))[0] == 200


async def test_a_removed_deal_removes_its_products(crm: Crm) -> None:
    deal, other = await make_deal(crm), await make_deal(crm)
    for one in (deal, deal, other):
        await make(crm, "deal-products", deal_id=one["id"], name="Seat", price="5.00")
    events = heard(crm, "deal-products", "deals")
    assert (await crm.call(f"DELETE /deals/{deal['id']}"))[1]["amount"] == "10.00"
    _, page = await crm.call("GET /deal-products?organization_id=456")
    assert [line["deal_id"] for line in page["data"]] == [other["id"]]
    assert events == ["deal-products removed", "deal-products removed", "deals removed"]
    assert await removed(crm) == {("deal-products", 1), ("deal-products", 2), ("deals", deal["id"])}


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


async def test_a_deal_gets_no_product_once_it_is_removed(crm: Crm) -> None:
    deal = await make_deal(crm)
    line = OURS | {"deal_id": deal["id"], "name": "Seat", "price": "5.00"}
    added, _ = await asyncio.gather(crm.call("POST /deal-products", line), crm.call(f"DELETE /deals/{deal['id']}"))
    assert added[0] == 201 or refused(added, 400, "deal_id")
    assert (await crm.call("GET /deal-products?organization_id=456"))[1]["total"] == 0


def heard(crm: Crm, *paths: str) -> list[str]:
    """Collect the events of services."""
    events: list[str] = []
    for path in paths:
        for event in ("patched", "removed"):
            crm.app.service(path).on(event, lambda row, *_, name=f"{path} {event}": events.append(name))
    return events


async def removed(crm: Crm) -> set[tuple[str, int]]:
    """Return the records whose removal is in the audit."""
    _, page = await crm.call("GET /audit?organization_id=456&method=remove")
    return {(entry["service"], entry["record_id"]) for entry in page["data"]}


async def test_a_stage_is_one_of_the_deals_pipeline(crm: Crm) -> None:
    deal, other = await make_deal(crm), await make(crm, "pipelines", name="Other")
    for wrong in (
        {"pipeline_id": other["id"]},
        {"pipeline_id": other["id"], "pipeline_stage_id": deal["pipeline_stage_id"]},
    ):
        refused(await crm.call(f"PATCH /deals/{deal['id']}", wrong), 400, "pipeline_stage_id")


async def test_totals_are_the_servers(crm: Crm) -> None:
    deal = await make_deal(crm)
    product = await make(crm, "products", name="Seat", price=10000, sku="S-1")
    line = await make(
        crm, "deal-products", deal_id=deal["id"], product_id=product["id"], quantity="2", discount_type="percentage",
        discount_percentage="10", tax_percentage="7",
    )  # fmt: skip
    assert (line["quantity"], line["price"], line["discount_percentage"]) == ("2", "10000.00", "10")
    assert (line["total_amount_without_tax"], line["total_amount_with_tax"]) == ("18000.00", "19260.00")
    _, deal = await crm.call(f"GET /deals/{deal['id']}")
    assert (deal["amount"], [one["name"] for one in deal["dealProducts"]]) == ("18000.00", ["Seat"])
    assert not {"deal_id", "organization_id"} & set(deal["dealProducts"][0])
    _, line = await crm.call(f"PATCH /deal-products/{line['id']}", {"quantity": "3"})
    assert line["total_amount_without_tax"] == "27000.00"
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "27000.00"
    refused(await crm.call(f"PATCH /deals/{deal['id']}", {"amount": "1.00"}), 400, "amount")


async def test_a_deal_without_products_gets_its_amount_before_the_sum_back(crm: Crm) -> None:
    deal = await make_deal(crm, amount="500.00")
    amounts, lines = [], []
    for price in ("10.00", "20.00"):
        lines.append(await make(crm, "deal-products", deal_id=deal["id"], name="x", price=price))
        amounts.append((await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"])
    for line in lines:
        await crm.call(f"DELETE /deal-products/{line['id']}")
        amounts.append((await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"])
    assert amounts == ["10.00", "30.00", "20.00", "500.00"]


async def test_a_sum_that_is_too_large_is_an_error_of_the_product(crm: Crm) -> None:
    deal = await make_deal(crm)
    line = OURS | {"deal_id": deal["id"], "name": "Gold", "price": "999999999999.99"}
    await make(crm, "deal-products", **line)
    error = refused(await crm.call("POST /deal-products", line), 400)
    assert (error["message"], set(error["errors"])) == ("Invalid deal product data", {"quantity", "price"})


async def test_products_created_at_the_same_time_all_count(crm: Crm) -> None:
    deal = await make_deal(crm)
    await asyncio.gather(*(make(crm, "deal-products", deal_id=deal["id"], name="x", price="1.10") for _ in range(8)))
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "8.80"


async def test_products_removed_at_the_same_time_all_count(crm: Crm) -> None:
    deal = await make_deal(crm)
    lines = [await make(crm, "deal-products", deal_id=deal["id"], name="x", price="1.10") for _ in range(8)]
    await asyncio.gather(*(crm.call(f"DELETE /deal-products/{line['id']}") for line in lines[1:]))
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "1.10"


amounts = st.decimals(0, 10**6, places=2)
percentages = st.decimals(0, 100, places=4)


@given(amounts, st.decimals(0, 1000, places=4), percentages, percentages)
def test_a_total_is_in_cents_and_never_below_nothing(
    price: Decimal, quantity: Decimal, discount: Decimal, tax: Decimal
) -> None:
    row = {"price": price, "quantity": quantity, "discount_type": "percentage", "discount_percentage": discount}
    made = totals({**row, "tax_percentage": tax})
    net, gross = made["total_amount_without_tax"], made["total_amount_with_tax"]
    assert 0 <= net <= gross
    assert net == net.quantize(Decimal("0.01"))
    assert gross == gross.quantize(Decimal("0.01"))


@given(amounts, amounts, percentages)
def test_a_fixed_discount_is_at_most_the_price(price: Decimal, discount: Decimal, tax: Decimal) -> None:
    row = {"price": price, "discount_type": "fixed", "discount_amount": discount, "tax_percentage": tax}
    net = totals(row)["total_amount_without_tax"]
    assert net == (price - discount if price > discount else 0)
    assert totals(row)["total_amount_with_tax"] >= net


async def test_a_sku_is_unique_in_an_organization(crm: Crm) -> None:
    product = await make(crm, "products", name="Seat", sku="S-1", price=999.99)
    assert product["price"] == 999.99
    taken = refused(await crm.call("POST /products", OURS | {"name": "Other", "sku": "S-1"}), 409)
    assert (taken["message"], taken["errors"]) == ("A record with this sku already exists", {"sku": "Is taken"})
    await crm.call(f"DELETE /products/{product['id']}")
    await make(crm, "products", name="Again", sku="S-1")


async def test_a_product_is_a_variant_of_another_one(crm: Crm) -> None:
    product, parent = await make(crm, "products", name="Seat"), await make(crm, "products", name="Seats")
    path = f"PATCH /products/{product['id']}"
    refused(await crm.call(path, {"parent_id": product["id"]}), 400, "parent_id")
    assert (await crm.call(path, {"parent_id": parent["id"]}))[1]["parent_id"] == parent["id"]


async def test_a_place_needs_coordinates(crm: Crm) -> None:
    activity = await make(crm, "activities", subject="Call", activity_type="call")
    path = f"PATCH /activities/{activity['id']}"
    for place in ({"address": "Here"}, {"lat": "5", "lng": 1}, {"lat": 1}):
        refused(await crm.call(path, {"location_geocoded": place}), 400)
    for done in (0, 1.0, "true"):
        assert refused(await crm.call(path, {"done": done}), 400)["errors"] == {"done": "Must be true or false"}


async def test_an_agenda_is_sorted_and_filtered(crm: Crm) -> None:
    place = {"lat": 1.5, "lng": 2.5, "address": "Here"}
    for day, time in (("2025-04-16", "09:00:00"), ("2025-04-15", "14:30:00"), ("2025-04-15", "09:00:00")):
        call = {
            "subject": "Call",
            "activity_type": "call",
            "start_date": day,
            "start_time": time,
            "assigned_to_user_id": 790,
        }
        await make(crm, "activities", **call, contact_id=123, location_geocoded=place)
    query = "assigned_to_user_id=790&done=false&$sort[start_date]=1&$sort[start_time]=1"
    _, page = await crm.call(f"GET /activities?organization_id=456&{query}")
    assert [(one["start_date"], one["start_time"]) for one in page["data"]] == [
        ("2025-04-15", "09:00:00"), ("2025-04-15", "14:30:00"), ("2025-04-16", "09:00:00"),
    ]  # fmt: skip
    first = page["data"][0]
    assert first["contact"] == {"id": 123, "full_name": "John Doe"}
    assert first["location_geocoded"] == place
    assert first["assigned_to_user"] == {"id": 790, "full_name": "Member User"}
    _, done = await crm.call(f"PATCH /activities/{first['id']}", {"done": True})
    assert done["done"] is True


async def test_tickets_are_numbered_without_a_gap(crm: Crm) -> None:
    made = await asyncio.gather(*(make(crm, "support-tickets", subject=f"Help {n}") for n in range(12)))
    numbers = sorted(int(ticket["reference_number"].rpartition("-")[2]) for ticket in made)
    assert numbers == list(range(1, 13))
    ticket = await make(crm, "support-tickets", subject="Login", contact_id=123, tags=["login"], priority="high")
    assert ticket["reference_number"].endswith("-013")
    assert ticket["meta_contact_email"] == "john.doe@example.com"
    await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="We look into it")
    assert (await crm.call(f"GET /support-tickets/{ticket['id']}"))[1]["last_message_at"]


async def test_companies_are_searched_and_joined(crm: Crm) -> None:
    await make(crm, "companies", name="Møller & Söhne")
    data = OURS | {"searchTerm": "moller"}
    status, page = await crm.call("POST /companies", data, headers={"X-Service-Method": "search"})
    assert (status, [company["name"] for company in page["data"]]) == (200, ["Møller & Söhne"])
    _, page = await crm.call("GET /companies?organization_id=456&fastJoinForCompanyList=true&id=101")
    admin = {"id": 789, "first_name": "Admin", "last_name": "User"}
    assert (page["data"][0]["creator"], page["data"][0]["owner"]) == (admin, admin)


@pytest.mark.parametrize(("role", "allowed"), [("viewer", 0), ("member", 1), ("admin", 2), ("owner", 2)])
async def test_a_role_allows_everything_that_lower_roles_allow(crm: Crm, role: str, allowed: int) -> None:
    memberships = crm.app.service("memberships")
    (mine,) = await memberships.find({"query": {"user_id": 790}, "paginate": False})
    await memberships.patch(mine["id"], {"role": role})
    answers = [
        await crm.call("POST /contacts", OURS | {"first_name": "Jane"}, user=790),
        await crm.call("POST /pipelines", OURS | {"name": "Sales"}, user=790),
    ]
    assert [status for status, _ in answers] == [201] * allowed + [403] * (2 - allowed)
    assert (await crm.call("GET /contacts/123", user=790))[0] == 200
    changed = await crm.call("PATCH /contacts/123", {"last_name": "Roe"}, user=790)
    if not allowed:
        assert refused(changed, 403)["message"].startswith("Your role in organization 456 is viewer")
