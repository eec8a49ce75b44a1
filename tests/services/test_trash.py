"""Removed records: admins list and restore them, with the records that were removed together."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from apex.common import now
from apex.common.trash import list_trash, prune_trash
from services.sales.deal_products import deal_products
from tests.services.crm import OURS, Crm, make, make_deal, refused

RESTORE = {"X-Service-Method": "restore"}


async def restore(crm: Crm, path: str, id: Any, user: int = 789, **options: Any) -> tuple[int, Any]:
    headers = RESTORE | options.pop("headers", {})
    return await crm.call(f"POST /{path}", OURS | {"id": id}, user, headers=headers, **options)


async def trash(crm: Crm, path: str) -> list[dict[str, Any]]:
    status, page = await crm.call(f"GET /{path}?organization_id=456&$deleted=true")
    assert status == 200, page
    return list(page["data"])


async def test_a_removed_contact_comes_back_as_it_was(crm: Crm) -> None:
    await crm.define(Level="number")
    contact = await crm.create(email="jane@example.com", custom_fields_by_name={"Level": 3})
    await crm.call(f"DELETE /contacts/{contact['id']}")
    assert [row["id"] for row in await trash(crm, "contacts")] == [contact["id"]]
    heard: list[Any] = []
    crm.app.service("contacts").on("created", lambda row, context: heard.append((row["id"], context.method)))
    status, restored = await restore(crm, "contacts", contact["id"])
    assert (status, restored) == (200, contact | {"updated_at": restored["updated_at"]})
    assert restored["updated_at"] > contact["updated_at"]
    assert (heard, await trash(crm, "contacts")) == ([(contact["id"], "restore")], [])
    assert await crm.found("jane") == ["Jane"]
    _, page = await crm.call("GET /contacts?organization_id=456&custom_fields_by_name.Level=3")
    assert [row["id"] for row in page["data"]] == [contact["id"]]
    _, page = await crm.call(f"GET /audit?organization_id=456&record_id={contact['id']}&service=contacts")
    entry = page["data"][0]
    assert (entry["method"], entry["user_id"], entry["before"]) == ("restore", 789, None)
    assert (entry["after"]["first_name"], entry["after"]["deleted_at"]) == ("Jane", None)


async def test_several_records_come_back_or_none(crm: Crm) -> None:
    first, second = await crm.create(), await crm.create()
    for contact in (first, second):
        await crm.call(f"DELETE /contacts/{contact['id']}")
    refused(await restore(crm, "contacts", [first["id"], 123]), 404)
    assert len(await trash(crm, "contacts")) == 2
    status, restored = await restore(crm, "contacts", [second["id"], first["id"]], params={"$select": "first_name"})
    assert (status, restored) == (200, [{"id": row["id"], "first_name": "Jane"} for row in (first, second)])
    wrong: Any
    for wrong in ([], "x", ["1"], True, None, {}, [1] * 1001, 2**70):
        error = refused(await restore(crm, "contacts", wrong), 400, "id")
        assert error["errors"]["id"].startswith(("Must be the id of a record", "Must not be null"))


async def test_members_reach_no_removed_record(crm: Crm) -> None:
    contact = await crm.create()
    await crm.call(f"DELETE /contacts/{contact['id']}")
    for user in (790, 791):
        error = refused(await crm.call("GET /contacts?organization_id=456&$deleted=true", user=user), 403)
        refused(await restore(crm, "contacts", contact["id"], user=user), 403)
    assert "member" in error["message"]
    refused(await crm.call(f"GET /contacts/{contact['id']}?$deleted=true"), 400, "$deleted")
    refused(await crm.call("GET /contacts?organization_id=456&$deleted=often"), 400, "$deleted")
    by_field = "GET /contacts?organization_id=456&$deleted=true&custom_fields_by_name.Industry=x"
    refused(await crm.call(by_field), 400, "custom_fields_by_name.Industry")


async def test_a_restored_deal_restores_the_products_removed_with_it(crm: Crm) -> None:
    deal = await make_deal(crm)
    alone, *_ = [await make(crm, "deal-products", deal_id=deal["id"], name=name, price="5.00") for name in "abc"]
    await crm.call(f"DELETE /deal-products/{alone['id']}")
    await crm.call(f"DELETE /deals/{deal['id']}")
    refused(await restore(crm, "deal-products", 2), 409, "deal_id")
    heard: list[str] = []
    for path in ("deals", "deal-products"):
        crm.app.service(path).on("created", lambda row, context: heard.append(f"{context.path} {row['id']}"))
    _, restored = await restore(crm, "deals", deal["id"])
    assert (restored["amount"], [line["name"] for line in restored["dealProducts"]]) == ("10.00", ["b", "c"])
    assert sorted(heard) == ["deal-products 2", "deal-products 3", f"deals {deal['id']}"]
    await restore(crm, "deal-products", alone["id"])
    assert (await crm.call(f"GET /deals/{deal['id']}"))[1]["amount"] == "15.00"


async def test_a_product_removed_on_its_own_is_not_restored_with_the_deal(crm: Crm) -> None:
    deal = await make_deal(crm)
    lines = [await make(crm, "deal-products", deal_id=deal["id"], name=name, price="5.00") for name in "ab"]
    ahead = {"removed_at": now() + timedelta(days=1)}
    await crm.app.service("deal-products").remove(lines[0]["id"], ahead)
    await crm.call(f"DELETE /deals/{deal['id']}")
    own, together = [row["deleted_at"] for row in await crm.rows(deal_products)]
    assert together > own
    _, restored = await restore(crm, "deals", deal["id"])
    assert [line["name"] for line in restored["dealProducts"]] == ["b"]


async def test_a_ticket_and_a_pipeline_come_back_with_their_parts(crm: Crm) -> None:
    ticket = await make(crm, "support-tickets", subject="Login")
    await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="Hello")
    await crm.call(f"DELETE /support-tickets/{ticket['id']}")
    await restore(crm, "support-tickets", ticket["id"])
    assert (await crm.call("GET /support-ticket-messages?organization_id=456"))[1]["total"] == 1
    deal = await make_deal(crm, status="won")
    await crm.call(f"DELETE /pipelines/{deal['pipeline_id']}")
    refused(await restore(crm, "pipeline-stages", deal["pipeline_stage_id"]), 409, "pipeline_id")
    _, restored = await restore(crm, "pipelines", deal["pipeline_id"])
    assert [stage["name"] for stage in restored["stages"]] == ["Proposal"]


async def test_an_open_deal_is_restored_only_into_an_existing_stage(crm: Crm) -> None:
    deal, won = await make_deal(crm), await make_deal(crm, status="won")
    for one in (deal, won):
        await crm.call(f"DELETE /deals/{one['id']}")
        assert (await crm.call(f"DELETE /pipelines/{one['pipeline_id']}"))[0] == 200
    refused(await restore(crm, "deals", deal["id"]), 409, "pipeline_stage_id")
    assert (await restore(crm, "deals", won["id"]))[1]["pipelineStage"]["name"] == "Proposal"
    await restore(crm, "pipelines", deal["pipeline_id"])
    assert (await restore(crm, "deals", deal["id"]))[0] == 200


async def test_a_unique_value_taken_meanwhile_is_named(crm: Crm) -> None:
    first = await make(crm, "products", name="Seat", sku="S-1")
    await crm.call(f"DELETE /products/{first['id']}")
    await make(crm, "products", name="Seat", sku="S-1")
    error = refused(await restore(crm, "products", first["id"]), 409, "sku")
    assert error["message"] == "A record with this sku already exists"
    refused(await restore(crm, "products", [first["id"]]), 409, "sku")
    assert [row["id"] for row in await trash(crm, "products")] == [first["id"]]


async def test_an_answer_is_given_once_and_of_two_at_once_one_restores(crm: Crm) -> None:
    contact = await crm.create()
    await crm.call(f"DELETE /contacts/{contact['id']}")
    key = {"Idempotency-Key": "back"}
    answers = await asyncio.gather(*(restore(crm, "contacts", contact["id"], headers=key) for _ in range(2)))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    refused(await restore(crm, "contacts", contact["id"]), 404)
    await crm.call(f"DELETE /contacts/{contact['id']}")
    statuses = [status for status, _ in await asyncio.gather(*(restore(crm, "contacts", contact["id"]) for _ in "ab"))]
    assert sorted(statuses) == [200, 404]


async def test_a_revoked_key_cannot_be_restored(crm: Crm) -> None:
    _, key = await crm.call("POST /api-keys", OURS)
    await crm.call(f"DELETE /api-keys/{key['id']}")
    refused(await restore(crm, "api-keys", key["id"]), 405)
    refused(await crm.call("GET /api-keys?organization_id=456&$deleted=true"), 400)


async def test_pruning_deletes_only_records_without_references(crm: Crm) -> None:
    gone, named = await crm.create(), await crm.create()
    deal, lost = await make_deal(crm, contact_id=named["id"]), await make_deal(crm, status="lost")
    await make(crm, "deal-products", deal_id=deal["id"], name="Seat", price="5.00")
    parent = await make(crm, "products", name="Seats")
    child = await make(crm, "products", name="Seat", parent_id=parent["id"])
    for path in (f"contacts/{gone['id']}", f"contacts/{named['id']}", f"pipelines/{lost['pipeline_id']}"):
        await crm.call(f"DELETE /{path}")
    assert await pruned(crm) == {"contacts": (1, 1), "pipelines": (0, 1), "pipeline-stages": (0, 1)}
    for path in (f"deals/{deal['id']}", f"products/{child['id']}", f"products/{parent['id']}"):
        await crm.call(f"DELETE /{path}")
    assert await pruned(crm, timedelta(days=-1)) == {}
    expected = {"contacts": (1, 0), "deals": (1, 0), "deal-products": (1, 0), "products": (2, 0)}
    assert await pruned(crm) == expected | {"pipelines": (0, 1), "pipeline-stages": (0, 1)}
    assert (await crm.call(f"GET /deals/{lost['id']}"))[1]["pipelineStage"]["name"] == "Proposal"
    refused(await restore(crm, "contacts", named["id"]), 404)
    assert [one.service for one in await list_trash(crm.app) if one.records] == ["pipelines", "pipeline-stages"]


async def pruned(crm: Crm, later: timedelta = timedelta(days=1)) -> dict[str, tuple[int, int]]:
    """Prune records removed before a moment. Return for each service how many were deleted and kept."""
    found = await prune_trash(crm.app, now() + later)
    return {one.service: (one.deleted, one.kept) for one in found if one.deleted or one.kept}
