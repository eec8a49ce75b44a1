"""The events of an organization: programs follow its changes with a token or an API key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apex.log import Log
from services.commands.demo_data import KEY
from tests.services.crm import Crm, make, refused
from tests.support.waiting import until

LIST = "GET /events?organization_id=456"


async def events(crm: Crm, query: str = "", user: int | None = 789, **headers: str) -> Any:
    status, page = await crm.call(f"{LIST}&{query}", None, user, headers=headers)
    assert status == 200, page
    return page


async def now(crm: Crm, user: int = 789) -> str:
    return str((await events(crm, "$after=now", user))["next"])


def shown(page: Any) -> list[tuple[str, str, int]]:
    return [(event["service"], event["event"], event["record_id"]) for event in page["data"]]


async def test_members_follow_the_changes_of_their_organization(crm: Crm) -> None:
    position = await now(crm)
    contact = await crm.create(email="jane@example.com")
    await crm.call(f"PATCH /contacts/{contact['id']}?$select[]=id", {"first_name": "Janet"})
    await crm.call(f"DELETE /contacts/{contact['id']}")
    page = await events(crm, f"$after={position}", 790)
    of_contact = [("contacts", event, contact["id"]) for event in ("created", "patched", "removed")]
    assert shown(page) == of_contact
    assert [event["organization_id"] for event in page["data"]] == [456, 456, 456]
    assert page["data"][0]["data"] == contact, "the record is whole, whatever the caller has selected"
    assert set(page["data"][1]["data"]) == set(contact)


async def test_nobody_follows_another_organization(crm: Crm) -> None:
    await crm.create()
    refused(await crm.call(LIST, user=791), 403)
    refused(await crm.call("GET /events"), 400, "organization_id")
    refused(await crm.call("GET /events?organization_id[$in]=456"), 400, "organization_id")
    refused(await crm.call(LIST, user=None), 401)
    status, page = await crm.call("GET /events?organization_id=457", user=791)
    assert (status, page["data"]) == (200, [])


async def test_an_api_key_follows_without_naming_its_organization(crm: Crm) -> None:
    contact = await crm.create()
    status, page = await crm.call("GET /events?service=contacts", None, None, headers={"x-api-key": KEY})
    assert (status, shown(page)) == (200, [("contacts", "created", contact["id"])])


@pytest.mark.parametrize(
    ("services", "found"), [(["events", "companies"], ["companies"]), (["events"], []), (["contacts"], None)]
)
async def test_an_api_key_follows_the_services_that_it_is_for(crm: Crm, services: list[str], found: Any) -> None:
    key = (await make(crm, "api-keys", services=services, read_only=True))["key"]
    await crm.create()
    await make(crm, "companies", name="Acme")
    answer = await crm.call("GET /events", None, None, headers={"x-api-key": key})
    if found is None:
        refused(answer, 403)
    else:
        assert [event["service"] for event in answer[1]["data"]] == found


async def test_roles_decide_about_each_service(crm: Crm) -> None:
    position = await now(crm)
    await crm.call("PATCH /memberships/2", {"role": "viewer"})
    key = await make(crm, "api-keys", name="Nightly")
    await crm.create()
    seen = [shown(await events(crm, f"$after={position}", user)) for user in (789, 790)]
    assert {service for service, *_ in seen[0]} == {"memberships", "api-keys", "contacts"}
    assert [service for service, *_ in seen[1]] == ["memberships", "contacts"], "the membership is its own"
    page = await events(crm, f"$after={position}&service=api-keys")
    assert key["key"] not in str(page)
    await crm.call("PATCH /memberships/2", {"role": "admin"})
    await crm.call("PATCH /memberships/2", {"role": "member"})
    position = await now(crm)
    await make(crm, "memberships", email="other@example.com", role="viewer")
    assert (await events(crm, f"$after={position}", 790))["data"] == [], "that of another member is for admins"


async def test_a_call_waits_for_a_change_of_its_organization(crm: Crm) -> None:
    log: Any = crm.app.log
    assert isinstance(log, Log)
    waiting = asyncio.create_task(events(crm, "$after=now&$wait=30&service=contacts", 790))
    await until(lambda: log.stats.waiting)
    await crm.call("POST /contacts", {"organization_id": 457, "first_name": "Theirs"}, 791)
    await make(crm, "companies", name="Acme")
    contact = await crm.create()
    assert shown(await waiting) == [("contacts", "created", contact["id"])]


async def test_a_wrong_query_is_refused(crm: Crm) -> None:
    refused(await crm.call(f"{LIST}&$wait=1000000"), 400, "$wait")
    refused(await crm.call(f"{LIST}&$after=nonsense"), 400, "$after")
    refused(await crm.call(f"{LIST}&service=contact"), 400, "service")
    refused(await crm.call(f"{LIST}&$after=x{await now(crm)}"), 410)


async def test_a_request_that_waits_ends_with_its_login(crm: Crm) -> None:
    proof = {"authorization": f"Bearer {crm.token(789)}"}
    asked = asyncio.create_task(crm.call(f"{LIST}&$after=now&$wait=30", None, None, headers=proof))
    await until(lambda: waiting(crm))
    assert (await crm.call("DELETE /authentication", None, None, headers=proof))[0] == 200
    await crm.create()
    refused(await asked, 401)


async def test_a_request_that_waits_gets_what_the_role_of_now_may_read(crm: Crm) -> None:
    await crm.call("PATCH /memberships/2", {"role": "admin"})
    services = "service[$in][]=api-keys&service[$in][]=contacts"
    asked = asyncio.create_task(events(crm, f"{services}&$after=now&$wait=30", 790))
    await until(lambda: waiting(crm))
    await crm.call("PATCH /memberships/2", {"role": "viewer"})
    await make(crm, "api-keys", name="Nightly")
    contact = await crm.create()
    assert shown(await asked) == [("contacts", "created", contact["id"])]


def waiting(crm: Crm) -> int:
    """Return the number of requests that wait for an event."""
    assert isinstance(crm.app.log, Log)
    return crm.app.log.stats.waiting
