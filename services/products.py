"""Products: what is sold, goods and services."""

from __future__ import annotations

from sqlalchemy import Boolean as TrueOrFalse
from sqlalchemy import Column, Integer, String

from apex import Apex, Context
from apex.errors import BadRequest
from apex.items import items
from apex.schema import Boolean, Id, Text, fields, validate
from apex.sql import Fixed
from services.examples import examples_of
from services.money import Amount
from services.tables import Identifier, partial_index, tenant_table, within
from services.tenant import TenantSchema, TenantService, serve

products = tenant_table(
    "products",
    Column("name", String(200), nullable=False),
    Column("description", String(5000)),
    Column("status", String(20), nullable=False, default="active"),
    Column("type", String(20), nullable=False, default="product"),
    Column("price", Fixed(2, as_float=True), nullable=False, default=0),
    Column("parent_id", Identifier),
    Column("sku", String(100)),
    Column("stock_quantity", Integer),
    Column("is_variant", TrueOrFalse, nullable=False, default=False),
    Column("product_category_id", Identifier),
    within("parent_id", "products"),
)
partial_index("uq_products_sku", products.c.organization_id, products.c.sku, unique=True)


class ProductSchema(TenantSchema):
    name = Text(required=True, max=200)
    description = Text(max=5000, allow_none=True)
    status = fields.String(validate=validate.OneOf(["active", "inactive", "archived"]))
    type = fields.String(validate=validate.OneOf(["service", "product"]))
    price = Amount()
    parent_id = Id(allow_none=True)
    sku = Text(max=100, allow_none=True)
    stock_quantity = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0, 2**31 - 1))
    is_variant = Boolean()
    product_category_id = Id(allow_none=True)


class Products(TenantService):
    table, schema, noun = products, ProductSchema, "product"
    multi = ("patch", "remove")
    examples = examples_of(1, {"name": "Notebook", "price": "12.50", "sku": "NB-1"}, {"stock_quantity": 40})


def check_parent(context: Context) -> None:
    """Before patch: raises BadRequest for a product that would be its own parent."""
    ids = [row["id"] for row in items(None, context.params.before)]
    if context.data.get("parent_id") in ids:
        raise BadRequest("Invalid product data", errors={"parent_id": "Must be another product"})


def register(app: Apex) -> None:
    serve(app, "products", Products, hooks={"before": {"patch": [check_parent]}})
