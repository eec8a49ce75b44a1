"""The products of deals: quantities, prices, discounts, taxes, and the totals that the server computes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, String

from apex import Apex, Context, Params
from apex.common import now
from apex.errors import BadRequest
from apex.query import Query
from apex.relations import belongs_to
from apex.schema import IdField, TextField, fields, validate
from apex.types import Row, items
from hooks.parents import change_parent
from services.sales.money import LARGEST, Amount, Money, Percentage, Quantity, to_cents
from services.shared.examples import examples_of
from services.shared.tenant import OWNER, WRITES, MethodHooks, TenantSchema, TenantService, serve
from services.tables import Identifier, partial_index, tenant_table, within

deal_products = tenant_table(
    "deal_products",
    Column("quantity", Quantity, nullable=False, default=1),
    Column("price", Money, nullable=False),
    Column("description", String(5000)),
    Column("discount_type", String(10), nullable=False, default="none"),
    Column("discount_amount", Money),
    Column("discount_percentage", Percentage),
    Column("tax_percentage", Percentage),
    Column("total_amount_with_tax", Money, nullable=False),
    Column("total_amount_without_tax", Money, nullable=False),
    Column("product_id", Identifier),
    Column("deal_id", Identifier, nullable=False),
    Column("name", String(200), nullable=False),
    Column("sku", String(100)),
    Column("main_media_path", String(2048)),
    within("product_id", "products"),
    within("deal_id", "deals"),
)
partial_index("ix_deal_products_deal", deal_products.c.organization_id, deal_products.c.deal_id, deal_products.c.id)
HUNDRED = Decimal(100)


class DealProductSchema(TenantSchema):
    """A product of a deal as callers write it."""

    create_only = ("organization_id", "deal_id")

    quantity = Amount(places=4, max=Decimal(1_000_000))
    price = Amount()
    description = TextField(max=5000, allow_none=True)
    discount_type = fields.String(validate=validate.OneOf(["percentage", "fixed", "none"]))
    discount_amount = Amount(allow_none=True)
    discount_percentage = Amount(places=4, max=HUNDRED, allow_none=True)
    tax_percentage = Amount(places=4, max=Decimal(1000), allow_none=True)
    total_amount_with_tax = fields.Decimal(dump_only=True)
    total_amount_without_tax = fields.Decimal(dump_only=True)
    product_id = IdField(allow_none=True)
    deal_id = IdField(required=True)
    name = TextField(max=200)
    sku = TextField(max=100, allow_none=True)
    main_media_path = fields.String(dump_only=True)


class DealProducts(TenantService):
    """The products of an organization's deals."""

    table, schema, noun = deal_products, DealProductSchema, "deal product"
    transactions = WRITES
    relations = {**OWNER, "deal": belongs_to("deals"), "product": belongs_to("products")}
    examples = examples_of(1, {"deal_id": 1, "product_id": 1, "quantity": 100}, {"tax_percentage": 19})


async def copy_product(context: Context) -> None:
    """Copy name, price and SKU of the product, unless the caller gives others. Runs before create.

    Raises BadRequest if the name or the price is missing and no product is given.
    """
    row: Row = context.data
    if row.get("product_id") is not None:
        product = await context.app.service("products").get(row["product_id"])
        row = {"name": product["name"], "sku": product["sku"], "price": Decimal(str(product["price"])), **row}
    missing = [name for name in ("name", "price") if row.get(name) is None]
    if missing:
        raise _wrong(dict.fromkeys(missing, "Is required without a product_id"))
    context.data = row


def compute_totals(context: Context) -> None:
    """Set the totals. Runs before create and patch."""
    context.data = context.data | totals({**(context.params.before or {}), **context.data})


def totals(row: Mapping[str, Any]) -> Row:
    """Return the totals of a row: quantity times price less the discount, without and with tax.

    Half a cent is rounded up. Raises BadRequest for a total that is too large.
    """
    full = to_cents(row.get("quantity", Decimal(1)) * row["price"])
    net = max(Decimal(0), to_cents(full - _discount(row, full)))
    gross = to_cents(net + net * (row.get("tax_percentage") or 0) / HUNDRED)
    if gross > LARGEST:
        raise _wrong({"quantity": f"Makes a total of more than {LARGEST}"})
    return {"total_amount_without_tax": net, "total_amount_with_tax": gross}


def _discount(row: Mapping[str, Any], full: Decimal) -> Decimal:
    kind = row.get("discount_type", "none")
    if kind == "percentage":
        return full * (row.get("discount_percentage") or 0) / HUNDRED
    return row.get("discount_amount") or Decimal(0) if kind == "fixed" else Decimal(0)


def _wrong(errors: dict[str, str]) -> BadRequest:
    return BadRequest("Invalid deal product data", errors=errors)


async def lock_deal(context: Context) -> None:
    """Lock the deal, so that other changes of its products wait until this transaction ends.

    Runs before create, patch, remove and restore. A deal that is removed with its products is locked already.
    """
    if context.params.parent:
        return
    for deal_id in _deal_ids(context, context.params.before or context.data):
        await change_parent(context, "deals", "deal_id", deal_id, {"updated_at": now()})


async def update_sum(context: Context) -> None:
    """Set the deal's amount to the sum of its products. Runs after create, patch, remove and restore.

    When the last product is removed, the deal gets back the amount that it had before the first one. A deal that is
    removed with its products keeps its amount.
    """
    if context.params.parent:
        return
    deals = context.app.service("deals")
    for deal_id in _deal_ids(context, context.result):
        query = {"deal_id": deal_id, "$select": ["total_amount_without_tax"]}
        lines = await context.service.find({"query": query, "paginate": False})
        amount = sum(row["total_amount_without_tax"] for row in lines)
        if amount > LARGEST:
            raise _wrong(dict.fromkeys(("quantity", "price"), f"Makes a deal of more than {LARGEST}"))
        changes: Row = {"amount": amount}
        written = [line for line in items(context.method, context.result) if line["deal_id"] == deal_id]
        is_first = len(lines) == len(written) and context.method not in ("patch", "remove")
        if is_first or not lines:
            deal = await deals.service.get(
                deal_id, Params({"query": Query(select=("amount", "amount_without_products"))})
            )
            changes = {"amount": deal["amount_without_products"]}
            if is_first:
                changes = {"amount": amount, "amount_without_products": deal["amount"]}
        await deals.patch(deal_id, changes)


def _deal_ids(context: Context, lines: Any) -> list[int]:
    """Return the ids of the lines' deals, each once."""
    return sorted({line["deal_id"] for line in items(context.method, lines)})


def register(app: Apex) -> None:
    """Register the service ``deal-products``."""
    hooks: MethodHooks = {
        "before": {
            "create": [copy_product, compute_totals, lock_deal],
            "patch": [compute_totals, lock_deal],
            "remove": [lock_deal],
            "restore": [lock_deal],
        },
        "after": {method: [update_sum] for method in WRITES},
    }
    serve(app, "deal-products", DealProducts, hooks=hooks)
