"""The products of deals: totals, and the sum that is the amount of the deal."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.sales.deal_products import totals
from tests.services.crm import OURS, Crm, make, make_deal, refused


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
