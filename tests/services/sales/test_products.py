"""Products: unique SKUs and variants."""

from __future__ import annotations

from tests.services.crm import OURS, Crm, make, refused


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
