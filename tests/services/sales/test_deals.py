"""Deals: their references, dates, pipeline and removal."""

from __future__ import annotations

import asyncio

from tests.services.crm import OURS, Crm, heard, make, make_deal, refused, removed


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


async def test_a_deal_gets_no_product_once_it_is_removed(crm: Crm) -> None:
    deal = await make_deal(crm)
    line = OURS | {"deal_id": deal["id"], "name": "Seat", "price": "5.00"}
    added, _ = await asyncio.gather(crm.call("POST /deal-products", line), crm.call(f"DELETE /deals/{deal['id']}"))
    assert added[0] == 201 or refused(added, 400, "deal_id")
    assert (await crm.call("GET /deal-products?organization_id=456"))[1]["total"] == 0


async def test_a_stage_is_one_of_the_deals_pipeline(crm: Crm) -> None:
    deal, other = await make_deal(crm), await make(crm, "pipelines", name="Other")
    for wrong in (
        {"pipeline_id": other["id"]},
        {"pipeline_id": other["id"], "pipeline_stage_id": deal["pipeline_stage_id"]},
    ):
        refused(await crm.call(f"PATCH /deals/{deal['id']}", wrong), 400, "pipeline_stage_id")
