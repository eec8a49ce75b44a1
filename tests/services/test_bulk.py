"""Changes and removals of many records by a query: all or none, each with its event and its audit entry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.crm import OURS, Crm, make, make_deal, refused

CONTACTS = "/contacts?organization_id=456"


async def contacts(crm: Crm, *names: str, **more: Any) -> list[dict[str, Any]]:
    return [await crm.create(first_name=name, **more) for name in names]


def heard(crm: Crm, path: str, event: str) -> list[Any]:
    events: list[Any] = []
    crm.app.service(path).on(event, lambda row, context: events.append(row["id"]))
    return events


async def test_a_patch_changes_all_records_of_a_query(crm: Crm) -> None:
    await crm.define(Level="text")
    made = await contacts(crm, "Ada", "Ben", company_id=101, custom_fields_by_name={"Level": "1"})
    events = heard(crm, "contacts", "patched")
    data = {"last_name": "Álvarez", "custom_fields_by_name": {"Level": None}}
    status, changed = await crm.call(f"PATCH {CONTACTS}&company_id=101&id[$gt]=124", data)
    assert status == 200
    assert [(row["id"], row["first_name"], row["last_name"], row["custom_fields_by_name"]) for row in changed] == [
        (row["id"], row["first_name"], "Álvarez", {}) for row in made
    ]
    assert sorted(events) == [row["id"] for row in made]
    assert await crm.found("alvarez") == ["Ben", "Ada"]
    _, page = await crm.call("GET /audit?organization_id=456&service=contacts&method=patch")
    assert [(entry["record_id"], entry["before"]["last_name"]) for entry in page["data"]] == [
        (row["id"], None) for row in reversed(made)
    ]
    _, selected = await crm.call(f"PATCH {CONTACTS}&last_name=Álvarez&$select[]=last_name", {"last_name": "Roe"})
    assert selected == [{"id": row["id"], "last_name": "Roe"} for row in made]
    assert await crm.call(f"PATCH {CONTACTS}&last_name=Nobody", {"last_name": "x"}) == (200, [])


@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
async def test_records_outside_the_query_stay_unchanged(crm: Crm, verb: str) -> None:
    data = {"last_name": "x"} if verb == "PATCH" else None
    for query in (
        "",
        "&$limit=1",
        "&id=123&$limit=1",
        "&id=123&$sort[id]=1",
        "&id=123&$skip=0",
        "&$or[0][organization_id]=456",
        "&$or[0][id]=123&$or[1][organization_id]=456",
        "&$or[0][id]=123&$or[1][$and][0][organization_id]=456",
    ):
        refused(await crm.call(f"{verb} {CONTACTS}{query}", data), 400)
    named = refused(await crm.call(f"{verb} {CONTACTS}", data), 400)["message"]
    assert named.endswith("needs a condition in the query; organization_id alone is not enough")
    refused(await crm.call(f"{verb} /contacts?first_name=John", data), 400, "organization_id")
    refused(await crm.call(f"{verb} /contacts", data), 400, "organization_id")
    assert await crm.call(f"{verb} {CONTACTS}&$or[0][id]=0&$or[1][id]=1", data) == (200, [])
    refused(await crm.call(f"{verb} {CONTACTS}&id=123", data, user=791), 403)
    refused(await crm.call(f"{verb} /deal-products?organization_id=456&id=1", data), 405)
    assert (await crm.call("GET /contacts/123"))[1]["last_name"] == "Doe"


async def test_a_wrong_reference_or_value_changes_nothing(crm: Crm) -> None:
    await contacts(crm, "Ada", "Ben", phone_country_iso="US", phone="2025550123")
    query = f"PATCH {CONTACTS}&phone_country_iso=US"
    refused(await crm.call(query, {"company_id": 201}), 400, "company_id")
    refused(await crm.call(query, {"phone": "12"}), 400, "phone")
    refused(await crm.call(query, {"id": 5}), 400, "id")
    _, page = await crm.call(f"GET {CONTACTS}&phone=2025550123")
    assert page["total"] == 2
    refused(
        await crm.call(f"PATCH {CONTACTS}&phone_country_iso=US&id[$gt]=124", {"crm_id": "1", "crm_source": "s"}), 409
    )


async def test_calling_codes_of_many_are_those_of_their_countries(crm: Crm) -> None:
    await contacts(crm, "Ada", "Ben", phone_country_iso="US", phone="2025550123", last_name="Lee")
    query = f"PATCH {CONTACTS}&last_name=Lee"
    _, changed = await crm.call(query, {"phone_country_code": None})
    assert [row["phone_country_code"] for row in changed] == ["+1", "+1"]
    await contacts(crm, "Cora", phone_country_iso="DE", last_name="Lee")
    refused(await crm.call(query, {"phone_country_code": None}), 400, "phone_country_code")
    _, changed = await crm.call(query, {"phone": None, "phone_country_iso": "FR"})
    assert [row["phone_country_code"] for row in changed] == ["+33"] * 3


async def test_records_are_removed_with_their_parts_and_come_back(crm: Crm) -> None:
    deals = [await make_deal(crm, status="lost") for _ in range(3)]
    for deal in deals:
        await make(crm, "deal-products", deal_id=deal["id"], name="Seat", price="5.00")
    events = heard(crm, "deal-products", "removed")
    status, removed = await crm.call("DELETE /deals?organization_id=456&status=lost&id[$ne]=3")
    assert (status, [deal["id"] for deal in removed], events) == (200, [1, 2], [1, 2])
    assert (await crm.call("GET /deal-products?organization_id=456"))[1]["total"] == 1
    both = OURS | {"id": [1, 2]}
    _, restored = await crm.call("POST /deals", both, headers={"X-Service-Method": "restore"})
    assert [len(deal["dealProducts"]) for deal in restored] == [1, 1]


async def test_deals_are_won_since_their_own_moments(crm: Crm) -> None:
    won, lost = await make_deal(crm, status="won"), await make_deal(crm, status="lost")
    _, changed = await crm.call("PATCH /deals?organization_id=456&id[$in]=1&id[$in]=2", {"status": "won"})
    assert (changed[0]["won_date"], changed[1]["lost_date"]) == (won["won_date"], None)
    assert changed[1]["won_date"] > lost["lost_date"]
    await make(crm, "deal-products", deal_id=2, name="Seat", price="5.00")
    error = refused(await crm.call("PATCH /deals?organization_id=456&id[$gt]=0", {"amount": "1.00"}), 400, "amount")
    assert "deal 2" in error["errors"]["amount"]


async def test_a_thousand_records_take_few_statements_and_one_more_is_refused(crm: Crm) -> None:
    rows = [OURS | {"first_name": f"Row {place}"} for place in range(1001)]
    multi = {"adapter": {"multi": True}}
    await crm.app.service("contacts").create(rows, multi)
    many = f"{CONTACTS}&first_name[$gte]=Row&first_name[$lt]=Rox"
    data: dict[str, Any] | None
    for verb, data in (("PATCH", {"last_name": "x"}), ("DELETE", None)):
        error = refused(await crm.call(f"{verb} {many}", data), 400)
        assert error["message"] == "The query finds 1,001 records, and one call changes at most 1,000: narrow it"
    many += "&first_name[$ne]=Row 0"
    for verb, data in (("PATCH", {"last_name": "x", "company_id": 101}), ("DELETE", None)):
        crm.statements.clear()
        status, changed = await crm.call(f"{verb} {many}", data)
        assert (status, len(changed)) == (200, 1000)
        assert len(crm.statements) < 30, len(crm.statements)
    _, page = await crm.call("GET /audit?organization_id=456&service=contacts&method=remove&$limit=0")
    assert page["total"] == 1000


async def test_deals_with_products_take_few_statements(crm: Crm) -> None:
    for _ in range(20):
        deal = await make_deal(crm, status="lost")
        await make(crm, "deal-products", deal_id=deal["id"], name="Seat", price="5.00")
    crm.statements.clear()
    status, removed = await crm.call("DELETE /deals?organization_id=456&status=lost")
    assert (status, len(removed)) == (200, 20)
    assert len(crm.statements) < 20, crm.statements
    crm.statements.clear()
    again = OURS | {"id": [deal["id"] for deal in removed]}
    status, restored = await crm.call("POST /deals", again, headers={"X-Service-Method": "restore"})
    assert (status, [len(deal["dealProducts"]) for deal in restored]) == (200, [1] * 20)
    assert len(crm.statements) < 30, crm.statements


async def test_batches_and_keys_change_many(crm: Crm) -> None:
    await contacts(crm, "Ada", "Ben", last_name="Lee")
    query = OURS | {"last_name": "Lee"}
    calls = {"calls": [["patch", "contacts", None, {"last_name": "Roe"}, query], ["remove", "contacts", None, OURS]]}
    _, [patched, refusal] = await crm.call("POST /batch", calls)
    assert ([row["last_name"] for row in patched["value"]], refusal["reason"]["code"]) == (["Roe", "Roe"], 400)
    _, key = await crm.call("POST /api-keys", OURS)
    status, removed = await crm.call("DELETE /contacts?last_name=Roe", user=None, headers={"x-api-key": key["key"]})
    assert (status, len(removed)) == (200, 2)
