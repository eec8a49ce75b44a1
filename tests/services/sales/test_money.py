"""Amounts of money, percentages and quantities: accepted values, rounding, and the sums of deals."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apex.errors import BadRequest
from apex.schema.validation import ValidationError
from services.sales.deal_products import totals
from services.sales.money import LARGEST, Amount, to_cents
from tests.services.crm import Crm, make, make_deal, refused

FIELD = Amount()
RATE = Amount(places=4, max=Decimal(100))


def taken(field: Amount, value: Any) -> Any:
    """Return the value that a field loads, or its error."""
    try:
        return field.deserialize(value)
    except ValidationError as error:
        (complaint,) = error.messages
        return str(complaint)


@pytest.mark.parametrize("value", [0, "0.00", "0.01", 1, 0.5, "999999999999.99"])
def test_an_amount_is_stored_exactly(value: Any) -> None:
    assert taken(FIELD, value) == Decimal(str(value))


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        (FIELD, "-0.01", "Must be between 0 and 999999999999.99"),
        (FIELD, "1000000000000", "Must be between 0 and 999999999999.99"),
        (FIELD, "0.005", "Must have at most 2 decimal places"),
        (FIELD, "x", 'Must be a decimal number such as "25000.00"'),
        (FIELD, True, 'Must be a decimal number such as "25000.00"'),
        (RATE, "100.0001", "Must be between 0 and 100"),
        (RATE, "0.00005", "Must have at most 4 decimal places"),
    ],
)
def test_a_wrong_amount_is_named(field: Amount, value: Any, complaint: str) -> None:
    assert taken(field, value) == complaint


def test_null_is_accepted_where_a_field_allows_it() -> None:
    assert taken(Amount(allow_none=True), None) is None
    assert isinstance(taken(FIELD, None), str)


@pytest.mark.parametrize("value", ["0.0001", "99.9999", "100"])
def test_a_percentage_has_four_places(value: str) -> None:
    assert taken(RATE, value) == Decimal(value)


@given(st.decimals(-2, 102, places=5) | st.decimals(0, 100, places=4))
@example(Decimal(0))
@example(Decimal(100))
def test_the_openapi_document_describes_amounts(value: Decimal) -> None:
    shape = RATE.metadata
    written = f"{value:f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
    described = re.search(shape["pattern"], written) and shape["minimum"] <= value <= shape["maximum"]
    assert (shape["type"], shape["minimum"], shape["maximum"]) == (["string", "number"], 0, 100)
    assert isinstance(taken(RATE, written), Decimal) == bool(described)


@pytest.mark.parametrize(("exact", "cents"), [("0.005", "0.01"), ("0.0149", "0.01"), ("2.675", "2.68"), ("1", "1.00")])
def test_half_a_cent_is_rounded_up(exact: str, cents: str) -> None:
    assert str(to_cents(Decimal(exact))) == cents


PRICE = {"price": Decimal("9.99")}
TEN = {"discount_amount": Decimal(10), "discount_percentage": Decimal(10)}


@pytest.mark.parametrize(
    ("line", "net", "gross"),
    [
        (PRICE, "9.99", "9.99"),
        (PRICE | {"quantity": Decimal("2.5")}, "24.98", "24.98"),
        (PRICE | {"quantity": Decimal(0)}, "0.00", "0.00"),
        (PRICE | {"tax_percentage": Decimal(19)}, "9.99", "11.89"),
        (PRICE | {"tax_percentage": None}, "9.99", "9.99"),
        (PRICE | TEN, "9.99", "9.99"),
        (PRICE | TEN | {"discount_type": "none"}, "9.99", "9.99"),
        (PRICE | TEN | {"discount_type": "percentage"}, "8.99", "8.99"),
        (PRICE | TEN | {"discount_type": "fixed", "quantity": Decimal(3)}, "19.97", "19.97"),
        (PRICE | TEN | {"discount_type": "fixed"}, "0", "0.00"),
        (PRICE | {"discount_type": "fixed", "discount_amount": None}, "9.99", "9.99"),
        (PRICE | {"discount_type": "percentage", "discount_percentage": None}, "9.99", "9.99"),
        ({"price": LARGEST, "tax_percentage": Decimal(0)}, str(LARGEST), str(LARGEST)),
    ],
)
def test_the_total_of_a_line_is_its_price_less_the_discount(line: dict[str, Any], net: str, gross: str) -> None:
    assert totals(line) == {"total_amount_without_tax": Decimal(net), "total_amount_with_tax": Decimal(gross)}


def test_a_total_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadRequest) as raised:
        totals({"price": LARGEST, "tax_percentage": Decimal("0.0001")})
    assert raised.value.errors == {"quantity": f"Makes a total of more than {LARGEST}"}


async def test_four_places_are_stored(crm: Crm) -> None:
    deal = await make_deal(crm)
    four = {"quantity": "1.0001", "discount_percentage": "0.0001", "tax_percentage": "0.0009"}
    line = await make(crm, "deal-products", deal_id=deal["id"], name="Seat", price="0.10", **four)
    _, stored = await crm.call(f"GET /deal-products/{line['id']}")
    assert stored == line
    assert {name: stored[name] for name in four} == four
    assert stored["price"] == "0.10"
    if crm.app.get("database").dialect.name == "sqlite":  # In the units that all databases out there have.
        units = "SELECT quantity, price, discount_percentage, tax_percentage FROM deal_products"
        assert list(await crm.app.get("database").executor.fetch(units, {})) == [(10001, 10, 1, 9)]
    whole = {"quantity": "2", "discount_percentage": "10", "tax_percentage": "19"}
    _, stored = await crm.call(f"PATCH /deal-products/{line['id']}", {name: f"{whole[name]}.0" for name in whole})
    assert {name: stored[name] for name in whole} == whole


async def test_a_line_without_a_product_needs_a_name_and_a_price(crm: Crm) -> None:
    deal = await make_deal(crm)
    line = {"organization_id": 456, "deal_id": deal["id"]}
    refused(await crm.call("POST /deal-products", line), 400, "name", "price")
    error = refused(await crm.call("POST /deal-products", line | {"name": "Seat"}), 400)
    assert error["errors"] == {"price": "Is required without a product_id"}
    product = await make(crm, "products", name="Desk", price=12.5, sku="D-1")
    taken = await make(crm, "deal-products", deal_id=deal["id"], product_id=product["id"])
    assert (taken["name"], taken["price"], taken["sku"]) == ("Desk", "12.50", "D-1")
    named = await make(crm, "deal-products", deal_id=deal["id"], product_id=product["id"], name="Chair", price="1.00")
    assert (named["name"], named["price"], named["sku"]) == ("Chair", "1.00", "D-1")
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "13.50"


async def test_a_line_changes_only_the_sum_of_its_own_deal(crm: Crm) -> None:
    deal, other = await make_deal(crm), await make_deal(crm, amount="7.00")
    line = await make(crm, "deal-products", deal_id=deal["id"], name="Seat", price="5.00")
    await make(crm, "deal-products", deal_id=deal["id"], name="Seat", price="2.00")
    await crm.call(f"PATCH /deal-products/{line['id']}", {"price": "6.00"})
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "8.00"
    await crm.call(f"DELETE /deal-products/{line['id']}")
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "2.00"
    assert (await crm.call(f"GET /deals/{other['id']}"))[1]["amount"] == "7.00"
