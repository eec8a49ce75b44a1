"""Products: the goods and services that an organization sells."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Integer, String, select

from apex import Apex, Context
from apex.common import changed_fields
from apex.errors import BadRequest
from apex.relations import belongs_to
from apex.schema import BooleanField, IdField, TextField, fields, validate
from apex.sql import Database, Fixed
from apex.types import items
from hooks.tenancy import organization_of
from services.sales.money import Amount
from services.shared.counters import next_value
from services.shared.examples import examples_of
from services.shared.tenant import OWNER, TenantSchema, TenantService, serve
from services.tables import Identifier, partial_index, tenant_table, within

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
    Column("is_variant", Boolean, nullable=False, default=False),
    Column("product_category_id", Identifier),
    within("parent_id", "products"),
)
c = products.c
partial_index("uq_products_sku", products.c.organization_id, products.c.sku, unique=True)


class ProductSchema(TenantSchema):
    """A product as callers write it."""

    name = TextField(required=True, max=200)
    description = TextField(max=5000, allow_none=True)
    status = fields.String(validate=validate.OneOf(["active", "inactive", "archived"]))
    type = fields.String(validate=validate.OneOf(["service", "product"]))
    price = Amount()
    parent_id = IdField(allow_none=True)
    sku = TextField(max=100, allow_none=True)
    stock_quantity = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0, 2**31 - 1))
    is_variant = BooleanField()
    product_category_id = IdField(allow_none=True)


class Products(TenantService):
    """The products of an organization."""

    table, schema, noun = products, ProductSchema, "product"
    multi = ("patch", "remove")
    relations = {**OWNER, "parent": belongs_to("products")}
    examples = examples_of(1, {"name": "Notebook", "price": "12.50", "sku": "NB-1"}, {"stock_quantity": 40})


async def check_parent(context: Context) -> None:
    """Refuse a parent that is the product itself or below it. Raises BadRequest.

    Runs before patch. Changes of parents in one organization wait for each other, so that two of them cannot make a
    circle.
    """
    (new,) = changed_fields(context, "parent_id")
    if new.get("parent_id") is not None:
        organization = await organization_of(context)
        await next_value(context.app.get("database"), organization, "products", step=0)
        parents = await _with_parents(context.app.get("database"), organization, new["parent_id"])
        if parents & {product["id"] for product in items(None, context.params.before)}:
            raise BadRequest("Invalid product data", errors={"parent_id": "Must be another product, and none below it"})


async def _with_parents(database: Database, organization: int, id: int) -> set[int]:
    """Return the ids of a product and of all products above it, including removed ones."""
    in_organization = c.organization_id == organization
    chain = select(c.id, c.parent_id).where(in_organization, c.id == id).cte("line", recursive=True)
    chain = chain.union(select(c.id, c.parent_id).where(in_organization, c.id == chain.c.parent_id))
    return {row["id"] for row in await database.execute(select(chain.c.id))}


def register(app: Apex) -> None:
    """Register the service ``products``."""
    serve(app, "products", Products, hooks={"before": {"patch": [check_parent]}})
