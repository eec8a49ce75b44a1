"""Rules of the CRM across fields and records, and concurrent changes."""

from __future__ import annotations

from asyncio import gather
from typing import Any

import pytest

from tests.services.crm import Crm, make_deal, refused

OURS = {"organization_id": 456}
CALL = OURS | {"subject": "Call", "activity_type": "call"}
EARLY_TIME = {"end_time": "Must not be before start_time on the same day"}
EARLY_DATE = {"end_date": "Must not be before start_date"}


async def made(crm: Crm, path: str, **data: Any) -> dict[str, Any]:
    status, record = await crm.call(f"POST /{path}", OURS | data)
    assert status == 201, record
    return dict(record)


async def test_an_unchanged_reference_to_a_removed_record_is_accepted(crm: Crm) -> None:
    company = (await made(crm, "companies", name="Gone Inc"))["id"]
    contact = (await crm.create(company_id=company, email="gone@example.com"))["id"]
    refers = {"contact_id": contact, "company_id": company}
    deal = await make_deal(crm, **refers)
    ticket = {"subject": "Hello", "contact_id": contact}
    records = {
        f"deals/{deal['id']}": deal,
        f"activities/{(activity := await made(crm, 'activities', **CALL, **refers))['id']}": activity,
        f"support-tickets/{(ticket := await made(crm, 'support-tickets', **ticket))['id']}": ticket,
    }
    other = await crm.create(company_id=company, email="other@example.com")
    records[f"contacts/{other['id']}"] = other
    for path in (f"contacts/{contact}", f"companies/{company}"):
        assert (await crm.call(f"DELETE /{path}"))[0] == 200
    for path, record in records.items():
        _, whole = await crm.call(f"GET /{path}")
        assert (await crm.call(f"PATCH /{path}", whole))[0] == 200, path
        name = "contact_id" if "contact_id" in record else "company_id"
        status, patched = await crm.call(f"PATCH /{path}", {name: record[name]})
        assert (status, patched[name]) == (200, record[name]), path
        emptied = await crm.call(f"PATCH /{path}", {name: None})
        assert (emptied[0], emptied[1][name]) == (200, None), path
        refused(await crm.call(f"PATCH /{path}", {name: record[name]}), 400, name)
    _, kept = await crm.call(f"PATCH /contacts/{other['id']}", {"last_name": "Roe"})
    assert kept["last_name"] == "Roe"


async def test_an_import_leaves_references_to_removed_records(crm: Crm) -> None:
    company = (await made(crm, "companies", name="Gone Inc"))["id"]
    await crm.create(company_id=company, email="gone@example.com")
    await crm.call(f"DELETE /companies/{company}")
    rows = [{"first_name": "Ada", "email": "gone@example.com", "company_id": company}]
    for email, counts in (("gone@example.com", (1, 0)), ("new@example.com", (0, 1))):
        data = OURS | {"rows": [rows[0] | {"email": email}], "upsert": "email"}
        _, done = await crm.call("POST /contacts", data, headers={"X-Service-Method": "import"})
        assert (done["updated"], done["refused"]) == counts, done


async def test_a_deal_in_a_removed_stage_is_saved_again(crm: Crm) -> None:
    deal = await make_deal(crm)
    await crm.app.service("pipeline-stages").service.patch(
        deal["pipeline_stage_id"], {"deleted_at": "2026-01-01"}, None
    )
    whole = {name: deal[name] for name in ("name", "pipeline_id", "pipeline_stage_id")}
    assert (await crm.call(f"PATCH /deals/{deal['id']}", whole | {"status": "won"}))[1]["status"] == "won"


EARLY: list[tuple[Any, Any, Any]] = [
    ({"start_date": "2026-03-02", "end_date": "2026-03-02"}, {"start_date": "2026-03-03"}, EARLY_DATE),
    ({"start_date": "2026-03-02"}, {"end_date": "2026-03-01"}, EARLY_DATE),
    ({"start_date": "2026-03-02", "start_time": "14:00:00"}, {"end_time": "13:00:00"}, EARLY_TIME),
    ({"start_time": "14:00:00"}, {"end_time": "13:59:59"}, EARLY_TIME),
    (
        {"start_date": "2026-03-02", "start_time": "14:00:00", "end_date": "2026-03-03", "end_time": "13:00:00"},
        {"end_date": "2026-03-02"},
        EARLY_TIME,
    ),
]
"""A stored activity, the change that makes it end before it begins, and the errors."""


async def test_an_activity_does_not_end_before_it_begins(crm: Crm) -> None:
    for stored, sent, wrong in EARLY:
        activity = await made(crm, "activities", **CALL, **stored)
        body = refused(await crm.call(f"PATCH /activities/{activity['id']}", sent), 400)
        assert body["errors"] == wrong
        assert refused(await crm.call("POST /activities", CALL | stored | sent), 400)["errors"] == wrong
        assert (await crm.call(f"PATCH /activities/{activity['id']}", {"done": True}))[1]["done"] is True


async def test_an_activity_may_last_for_days_or_no_time(crm: Crm) -> None:
    for more in (
        {"end_date": "2026-03-03", "end_time": "13:00:00"},
        {"end_time": "14:00:00"},
        {"end_date": "2026-03-02"},
    ):
        await made(crm, "activities", **CALL, start_date="2026-03-02", start_time="14:00:00", **more)
    await made(crm, "activities", **CALL, start_time="14:00:00", end_date="2026-03-02", end_time="13:00:00")


async def test_products_have_no_circle_of_parents(crm: Crm) -> None:
    one, two, three = [(await made(crm, "products", name=name))["id"] for name in "abc"]
    for child, parent in ((two, one), (three, two)):
        assert (await crm.call(f"PATCH /products/{child}", {"parent_id": parent}))[0] == 200
    for parent in (one, two, three):
        refused(await crm.call(f"PATCH /products/{one}", {"parent_id": parent}), 400, "parent_id")
    await crm.call(f"DELETE /products/{two}")
    refused(await crm.call(f"PATCH /products/{one}", {"parent_id": three}), 400, "parent_id")
    _, whole = await crm.call(f"GET /products/{three}")
    assert (await crm.call(f"PATCH /products/{three}", whole))[0] == 200
    assert (await crm.call(f"PATCH /products/{three}", {"parent_id": None}))[0] == 200
    assert (await crm.call(f"PATCH /products/{one}", {"parent_id": three}))[0] == 200


async def test_products_have_no_circle_of_parents_when_they_change_at_once(crm: Crm) -> None:
    for _ in range(5):
        ids = [(await made(crm, "products", name=name))["id"] for name in "abc"]
        changes = zip(ids, [*ids[1:], ids[0]], strict=True)
        calls = (crm.call(f"PATCH /products/{child}", {"parent_id": parent}) for child, parent in changes)
        assert sorted([status for status, _ in await gather(*calls)]) == [200, 200, 400]


async def amount_of(crm: Crm, deal: dict[str, Any]) -> str | None:
    _, found = await crm.call(f"GET /deals/{deal['id']}")
    amount: str | None = found["amount"]
    return amount


@pytest.mark.parametrize("own", ["500.00", None])
async def test_a_deal_without_products_gets_its_former_amount_back(crm: Crm, own: str | None) -> None:
    deal = await make_deal(crm, **({} if own is None else {"amount": own}))
    assert deal["amount"] == own
    lines = [await made(crm, "deal-products", deal_id=deal["id"], name=name, price="10") for name in "ab"]
    assert await amount_of(crm, deal) == "20.00"
    refused(await crm.call(f"PATCH /deals/{deal['id']}", {"amount": "1.00"}), 400, "amount")
    _, whole = await crm.call(f"GET /deals/{deal['id']}")
    assert (await crm.call(f"PATCH /deals/{deal['id']}", {**whole, "name": "Other"}))[1]["amount"] == "20.00"
    for line, amount in zip(lines, ("10.00", own), strict=True):
        await crm.call(f"DELETE /deal-products/{line['id']}")
        assert await amount_of(crm, deal) == amount
    assert (await crm.call(f"PATCH /deals/{deal['id']}", {"amount": "7"}))[1]["amount"] == "7.00"
    line = await made(crm, "deal-products", deal_id=deal["id"], name="c", price="3", quantity="2")
    assert (await crm.call(f"DELETE /deals/{deal['id']}"))[1]["amount"] == "6.00"
    assert (await crm.call(f"GET /deal-products/{line['id']}"))[0] == 404


async def test_concurrent_changes_of_products_keep_the_former_amount(crm: Crm) -> None:
    deal = await make_deal(crm, amount="500.00")
    product = {"deal_id": deal["id"], "price": "10"}
    lines = await gather(*(made(crm, "deal-products", **product, name=str(number)) for number in range(4)))
    assert await amount_of(crm, deal) == "40.00"
    await gather(*(crm.call(f"DELETE /deal-products/{line['id']}") for line in lines))
    assert await amount_of(crm, deal) == "500.00"


async def test_an_amount_may_be_emptied(crm: Crm) -> None:
    deal = await make_deal(crm, amount="5")
    for empty in (None, ""):
        assert (await crm.call(f"PATCH /deals/{deal['id']}", {"amount": empty}))[1]["amount"] is None
    data = {"organization_id": 456, "pipeline_id": deal["pipeline_id"]}
    _, sums = await crm.call("POST /deals", data, headers={"X-Service-Method": "summary"})
    assert [(one["count"], one["amount"]) for one in sums] == [(1, "0.00")]


async def test_a_call_with_select_gets_no_joins(crm: Crm) -> None:
    deal = await make_deal(crm, contact_id=123)
    activity = await made(crm, "activities", **CALL, contact_id=123, deal_id=deal["id"])
    for path, id in {"deals": deal["id"], "activities": activity["id"], "pipelines": deal["pipeline_id"]}.items():
        field = "name" if path == "pipelines" else "contact_id"
        query = f"$select[]={field}"
        _, page = await crm.call(f"GET /{path}?organization_id=456&{query}")
        _, one = await crm.call(f"GET /{path}/{id}?{query}")
        _, patched = await crm.call(f"PATCH /{path}/{id}?{query}", {field: one[field]})
        assert [set(record) for record in (page["data"][0], one, patched)] == [{"id", field}] * 3
        assert len(set((await crm.call(f"GET /{path}/{id}"))[1])) > 8
