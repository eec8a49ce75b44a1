"""Atomic batches of the CRM, and what happens when they are sent again."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.services.crm import JANE, Crm, refused

COMPANY = ["create", "companies", {"organization_id": 456, "name": "Acme"}]
CONTACT = ["create", "contacts", {**JANE, "company_id": {"$ref": "0.id"}}]
ONCE = {"Idempotency-Key": "once"}


def batch(*calls: Any) -> dict[str, Any]:
    return {"atomic": True, "calls": list(calls)}


async def test_a_batch_that_is_sent_again_is_made_once(crm: Crm) -> None:
    before = len(await crm.rows())
    asked = batch(COMPANY, CONTACT, ["get", "contacts", {"$ref": "1.id"}, {"$populate": "company"}])
    answers = await asyncio.gather(*(crm.call("POST /batch", asked, headers=ONCE) for _ in range(4)))
    status, values = answers[0]
    assert (status, answers) == (201, [answers[0]] * 4)
    company, contact, populated = (one["value"] for one in values)
    assert populated == {**contact, "company": {"id": company["id"], "name": "Acme"}}
    assert len(await crm.rows()) == before + 1
    other = batch(COMPANY, ["create", "contacts", JANE])
    assert refused(await crm.call("POST /batch", other, headers=ONCE), 422)["data"] == {"call": 1}


async def test_a_batch_that_failed_leaves_its_key_to_the_next_try(crm: Crm) -> None:
    before = len(await crm.rows())
    failing = batch(COMPANY, CONTACT, ["create", "contacts", {**JANE, "organization_id": 457}])
    assert refused(await crm.call("POST /batch", failing, headers=ONCE), 403)["data"] == {"call": 2}
    assert len(await crm.rows()) == before
    assert (await crm.call("POST /batch", batch(COMPANY, CONTACT), headers=ONCE))[0] == 201
    assert len(await crm.rows()) == before + 1


async def test_a_member_who_has_left_does_not_get_the_answer_again(crm: Crm) -> None:
    asked = batch(COMPANY, CONTACT)
    assert (await crm.call("POST /batch", asked, 790, headers=ONCE))[0] == 201
    [membership] = (await crm.call("GET /memberships?organization_id=456&user_id=790"))[1]["data"]
    assert (await crm.call(f"DELETE /memberships/{membership['id']}"))[0] == 200
    assert refused(await crm.call("POST /batch", asked, 790, headers=ONCE), 403)["data"] == {"call": 0}
