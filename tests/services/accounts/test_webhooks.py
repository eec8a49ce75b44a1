"""Webhooks of an organization: admins register URLs, which get what the admins may read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from services.accounts.webhooks import webhooks
from tests.services.crm import OURS, Crm, refused
from tests.services.fixtures import SHARED
from tests.webhooks.receiver import Receiver, receiving

MEMBER, OTHER = 790, 791


async def register(crm: Crm, receiver: Receiver, *events: str, **more: Any) -> dict[str, Any]:
    data = OURS | {"url": receiver.url, "events": list(events)} | more
    status, webhook = await crm.call("POST /webhooks", data)
    assert status == 201, webhook
    return dict(webhook)


async def until_disabled(crm: Crm, id: int) -> dict[str, Any]:
    """Wait until a webhook is disabled."""
    async with asyncio.timeout(60):
        while True:
            row: dict[str, Any] = (await crm.call(f"GET /webhooks/{id}"))[1]
            if not row["enabled"]:
                return row
            await asyncio.sleep(0.02)


async def test_a_contact_is_posted(crm: Crm) -> None:
    async with receiving() as receiver:
        webhook = await register(crm, receiver, "contacts *", "deals created")
        contact = await crm.create(first_name="Zoe")
        await crm.call(f"PATCH /contacts/{contact['id']}", {"last_name": "Roe"})
        await crm.call(f"DELETE /contacts/{contact['id']}")
        await crm.call("POST /companies", OURS | {"name": "Not this"})
        first, second, third = await receiver.until(3)
    assert webhook["secret"].startswith("whsec_")
    assert first.message["type"] == "contacts created"
    assert first.data == {name: value for name, value in contact.items() if name in first.data}
    assert {"id", "first_name", "organization_id", "created_at"} <= set(first.data)
    assert (second.data["last_name"], third.message["type"]) == ("Roe", "contacts removed")


async def test_the_life_of_a_webhook_over_http(crm: Crm) -> None:
    async with receiving() as receiver:
        webhook = await register(crm, receiver, "contacts created", description="Shop")
        id = webhook["id"]
        status, shown = await crm.call(f"GET /webhooks/{id}")
        assert status == 200
        assert shown == {name: value for name, value in webhook.items() if name != "secret"}
        status, rotated = await crm.call("POST /webhooks/rotate", OURS | {"id": id})
        assert (status, rotated["secret"] != webhook["secret"]) == (200, True), rotated
        status, answer = await crm.call("POST /webhooks/test", OURS | {"id": id})
        assert (status, answer["status"], answer["error"]) == (200, 200, None)
        await crm.create(first_name="Zoe")
        await receiver.until(2)
        status, replayed = await crm.call("POST /webhooks/replay", OURS | {"id": id, "since": webhook["created_at"]})
        assert (status, replayed["id"]) == (200, id), replayed
        await receiver.until(3)
        async with asyncio.timeout(60):
            while True:
                _, page = await crm.call(f"GET /webhook-deliveries?organization_id=456&webhook_id={id}")
                if page["total"] > 0:
                    break
                await asyncio.sleep(0.02)
        assert {one["state"] for one in page["data"]} == {"delivered"}
        assert (await crm.call(f"DELETE /webhooks/{id}"))[0] == 200
        await crm.create(first_name="Nobody")
        assert (await crm.call("GET /webhooks?organization_id=456"))[1]["total"] == 0
    refused(await crm.call(f"GET /webhooks/{id}"), 404)


async def test_the_audit_tells_of_webhooks_and_of_no_secret(crm: Crm) -> None:
    async with receiving() as receiver:
        webhook = await register(crm, receiver, "contacts created")
        _, rotated = await crm.call("POST /webhooks/rotate", OURS | {"id": webhook["id"]})
        _, page = await crm.call("GET /audit?organization_id=456&service=webhooks")
    assert [one["method"] for one in page["data"]] == ["patch", "create"]
    [row] = await crm.app.get("database").execute(select(webhooks))
    for secret in (webhook["secret"], rotated["secret"], row["secret"], row["previous_secret"]):
        assert secret not in str(page)


async def test_members_and_others_have_no_webhooks(crm: Crm) -> None:
    async with receiving() as receiver:
        webhook = await register(crm, receiver, "contacts created")
        for user in (MEMBER, OTHER):
            refused(await crm.call("GET /webhooks?organization_id=456", user=user), 403)
            refused(await crm.call(f"GET /webhooks/{webhook['id']}", user=user), 403)
            refused(await crm.call("POST /webhooks/rotate", OURS | {"id": webhook["id"]}, user=user), 403)
            refused(await crm.call("GET /webhook-deliveries?organization_id=456", user=user), 403)


async def test_a_webhook_ends_with_the_membership_of_its_maker(crm: Crm) -> None:
    _, members = await crm.call(f"GET /memberships?organization_id=456&user_id={MEMBER}")
    [member] = members["data"]
    await crm.call(f"PATCH /memberships/{member['id']}", {"role": "admin"})
    async with receiving() as receiver:
        data = OURS | {"url": receiver.url, "events": ["contacts created"]}
        status, webhook = await crm.call("POST /webhooks", data, user=MEMBER)
        assert (status, webhook["user_id"]) == (201, MEMBER), webhook
        await crm.create(first_name="Zoe")
        await receiver.until(1)
        await crm.call(f"DELETE /memberships/{member['id']}")
        await crm.create(first_name="Ann")
        row = await until_disabled(crm, webhook["id"])
        assert "may no longer" in row["disabled_reason"]
        assert len(receiver.received) == 1


async def test_an_api_key_subscribes_to_its_own_services(crm: Crm) -> None:
    services = ["webhooks", "contacts"]
    _, key = await crm.call("POST /api-keys", OURS | {"services": services})
    _, plain = await crm.call("POST /api-keys", OURS | {"name": "For all services"})
    async with receiving() as receiver:
        data = {"url": receiver.url, "events": ["contacts *"]}
        as_key = {"x-api-key": key["key"]}
        refused(await crm.call("POST /webhooks", data, None, headers={"x-api-key": plain["key"]}), 403)
        for event in ("deals created", "*"):
            refused(await crm.call("POST /webhooks", data | {"events": [event]}, None, headers=as_key), 403)
        status, webhook = await crm.call("POST /webhooks", data, None, headers=as_key)
        assert status == 201, webhook
        everything = await register(crm, receiver, "*")
        refused(await crm.call(f"PATCH /webhooks/{everything['id']}", {"url": receiver.url}, None, headers=as_key), 403)
        for method, more in {"rotate": {}, "replay": {"since": webhook["created_at"]}}.items():
            headers = as_key | {"x-service-method": method}
            refused(await crm.call("POST /webhooks", more | {"id": everything["id"]}, None, headers=headers), 403)
            status, _ = await crm.call("POST /webhooks", more | {"id": webhook["id"]}, None, headers=headers)
            assert status in (200, 201)


@SHARED
@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"url": "https://169.254.169.254/latest", "events": ["*"]}, "url"),
        ({"url": "https://example.com/", "events": ["users created"]}, "events"),
        ({"url": "https://example.com/", "events": ["contact created"]}, "events"),
        ({"url": "https://example.com/", "events": ["*"], "secret": "mine"}, "secret"),
        ({"url": "https://example.com/", "events": ["*"], "position": "0"}, "position"),
        ({"url": "https://example.com/", "events": ["*"], "user_id": 789}, "user_id"),
        ({"url": "https://example.com/", "events": ["*"], "holder": "me"}, "holder"),
    ],
)
async def test_wrong_webhooks_are_refused(shared: Crm, data: dict[str, Any], field: str) -> None:
    refused(await shared.call("POST /webhooks", OURS | data), 400, field)
