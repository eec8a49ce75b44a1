"""Requests at the same moment."""

from __future__ import annotations

from asyncio import gather
from typing import Any

from services import contacts
from tests.services.crm import JANE, LIST, Crm


async def test_fifty_creates_give_fifty_contacts(crm: Crm) -> None:
    answers = await gather(*(crm.call("POST /contacts", JANE | {"last_name": str(n)}) for n in range(50)))
    assert {status for status, _ in answers} == {201}
    assert len({contact["id"] for _, contact in answers}) == 50
    assert {contact["last_name"] for _, contact in answers} == {str(number) for number in range(50)}
    assert (await crm.call(LIST))[1]["total"] == 52


async def test_concurrent_patches_of_two_names_update_both_search_forms(crm: Crm) -> None:
    changes = [{field: f"{field[0]}{number}"} for number in range(10) for field in ("first_name", "last_name")]
    answers = await gather(*(crm.call("PATCH /contacts/123", change) for change in changes))
    assert {status for status, _ in answers} == {200}
    row = (await crm.rows())[0]
    first, last = row["first_name"], row["last_name"]
    assert row["name_search"] == f"\n{first}\n{last}\n{first} {last}\n"
    assert await crm.found(f"{first} {last}") == [first]


async def test_patches_of_custom_fields_lose_no_key(crm: Crm) -> None:
    changes: list[dict[str, Any]] = [{"custom_fields_by_name": {f"Key {number}": number}} for number in range(20)]
    await crm.define(**{f"Key {number}": "number" for number in range(20)})
    await gather(*(crm.call("PATCH /contacts/124", change) for change in changes))
    _, contact = await crm.call("GET /contacts/124")
    assert contact["custom_fields_by_name"] == {f"Key {number}": number for number in range(20)}


async def test_of_many_removals_one_succeeds(crm: Crm) -> None:
    answers = await gather(*(crm.call("DELETE /contacts/123") for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200] + [404] * 9


async def test_a_patch_and_a_removal_do_not_bring_a_contact_back(crm: Crm) -> None:
    requests = [("PATCH /contacts/123", {"first_name": "Late"}), ("DELETE /contacts/123", None)] * 5
    await gather(*(crm.call(request, data) for request, data in requests))
    assert (await crm.call("GET /contacts/123"))[0] == 404
    assert (await crm.rows(contacts.contacts))[0]["deleted_at"] is not None


async def test_many_logouts_of_one_token_revoke_it(crm: Crm) -> None:
    proof = {"authorization": f"Bearer {crm.token(789)}"}
    answers = await gather(*(crm.call("DELETE /authentication", user=None, headers=proof) for _ in range(10)))
    assert {status for status, _ in answers} <= {200, 401}
    assert (await crm.call(LIST, user=None, headers=proof))[0] == 401
