"""The limits of an API key: its user, its creator, its services, and the period of grace after a rotation."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from apex import load_config
from services.accounts.api_keys import LONGEST_GRACE, api_keys
from services.app import CONFIG, create_app
from services.commands.demo_data import KEY, load_demo
from tests.services.accounts.test_api_keys import INVALID, OURS, make_key, with_key
from tests.services.accounts.test_audience import another_process
from tests.services.accounts.test_members import ADMIN, MEMBER, joined
from tests.services.crm import JANE, SEARCH, Crm, refused
from tests.services.fixtures import SHARED
from tests.support.serving import serving
from tests.support.sockets import connected
from tests.support.waiting import SECONDS

ROTATE = {"X-Service-Method": "rotate"}
NAMED = ["api-keys", "memberships", "contacts"]


async def rotate(crm: Crm, id: int, grace: Any = 0, user: int | None = ADMIN, **headers: str) -> tuple[int, Any]:
    return await crm.call("POST /api-keys", OURS | {"id": id, "grace": grace}, user, headers=ROTATE | headers)


async def expire(crm: Crm) -> None:
    """End all periods of grace."""
    keys = crm.app.service("api-keys")
    for row in await crm.rows(api_keys):
        if row["previous_expires_at"] is not None:
            past = row["previous_expires_at"] - timedelta(seconds=LONGEST_GRACE + 1)
            await keys.patch(row["id"], {"previous_expires_at": past}, {"loaded": True})


async def test_the_text_before_a_rotation_works_until_its_grace_is_over(crm: Crm) -> None:
    first = await make_key(crm)
    status, second = await rotate(crm, first["id"], 3600)
    assert (status, second["key"] != first["key"], second["previous_expires_at"] is None) == (200, True, False)
    for key in (first, second):
        assert (await with_key(crm, key["key"], "GET /contacts"))[0] == 200
    assert not {"previous_hash", "previous_prefix", "hash"} & set(second)
    await expire(crm)
    assert await with_key(crm, first["key"], "GET /contacts") == (401, INVALID)
    assert (await with_key(crm, second["key"], "GET /contacts"))[0] == 200


async def test_the_texts_of_two_concurrent_rotations_work(crm: Crm) -> None:
    first = await make_key(crm)
    for status, key in await asyncio.gather(rotate(crm, first["id"], 60), rotate(crm, first["id"], 60)):
        assert (status, (await with_key(crm, key["key"], "GET /contacts"))[0]) == (200, 200)


async def test_an_old_key_creates_nothing_that_outlives_its_period_of_grace(crm: Crm) -> None:
    first = await make_key(crm, services=NAMED)
    second = (await rotate(crm, first["id"], 60))[1]["key"]
    old, again = first["key"], {"id": first["id"], "grace": LONGEST_GRACE}
    member = {"organization_id": 456, "email": "other@example.com"}
    refused(await with_key(crm, old, "POST /api-keys", again, **ROTATE), 403)
    refused(await with_key(crm, old, "POST /api-keys", {"name": "child"}), 403)
    refused(await with_key(crm, old, "POST /memberships", member), 403)
    assert (await with_key(crm, old, "POST /contacts", {"first_name": "Jo"}))[0] == 201
    assert (await with_key(crm, second, "POST /api-keys", again, **ROTATE))[0] == 200


async def test_a_rotation_without_grace_and_a_removal_end_all_texts_at_once(crm: Crm) -> None:
    for end in ("rotate", "remove"):
        first = await make_key(crm)
        second = (await rotate(crm, first["id"], 60))[1]
        third = (await rotate(crm, first["id"]))[1] if end == "rotate" else {}
        if end == "remove":
            await crm.call(f"DELETE /api-keys/{first['id']}")
        else:
            assert {row["previous_hash"] for row in await crm.rows(api_keys)} == {None}
        for key in (first, second):
            assert await with_key(crm, key["key"], "GET /contacts") == (401, INVALID)
        assert not third or (await with_key(crm, third["key"], "GET /contacts"))[0] == 200


@SHARED
@pytest.mark.parametrize("grace", [-1, LONGEST_GRACE + 1, 1.5, "60", True, None])
async def test_grace_is_bounded(shared: Crm, grace: Any) -> None:
    before = await shared.rows(api_keys)
    refused(await rotate(shared, 1, grace), 400, "grace")
    assert await shared.rows(api_keys) == before


async def test_a_read_only_key_cannot_write(crm: Crm) -> None:
    key = (await make_key(crm, read_only=True))["key"]
    organization = (await with_key(crm, key, "GET /organizations"))[1]["data"][0]
    assert organization["id"] == 456
    search = {"searchTerm": "john", "searchIn": "name"}
    assert (await with_key(crm, key, "POST /contacts", search, **SEARCH))[0] == 200
    assert (await with_key(crm, key, "GET /contacts/123"))[0] == 200
    before = await crm.rows()
    uuid = {"x-organization-id": "00000000-0000-4000-8000-000000000456"}
    contact = "/api/contacts/00000000-0000-4000-8000-000000000123"
    assert (await with_key(crm, key, f"GET {contact}", **uuid))[0] == 200
    for request, data in (
        ("POST /contacts", JANE), ("PATCH /contacts/123", {"last_name": "Roe"}), ("DELETE /contacts/123", None),
        (f"PATCH {contact}", {"last_name": "Roe"}), (f"DELETE {contact}", None),
        ("POST /api/contacts", {"first_name": "X"}),
        ("POST /api/webhook/crm", {"source": "x", "data": {"crm_id": "1"}}), ("POST /api-keys", OURS),
    ):  # fmt: skip
        assert (await with_key(crm, key, request, data, **uuid))[0] == 403, request
    calls = {"calls": [["patch", "contacts", 123, {"last_name": "Roe"}, {}]]}
    _, (settled,) = await with_key(crm, key, "POST /batch", calls)
    assert settled["reason"]["code"] == 403
    assert await crm.rows() == before


async def test_a_key_for_some_services_reaches_no_others(crm: Crm) -> None:
    key = (await make_key(crm, services=["contacts", "organizations"]))["key"]
    uuid = {"x-organization-id": "00000000-0000-4000-8000-000000000456"}
    for request in ("GET /contacts", "GET /organizations", "GET /organizations/456/users"):
        assert (await with_key(crm, key, request))[0] == 200, request
    for request in (
        "GET /companies",
        "GET /companies/101",
        "GET /api-keys",
        "GET /audit",
        "GET /api/contacts",
        "GET /memberships",
    ):
        assert (await with_key(crm, key, request, **uuid))[0] == 403, request
    voice = (await make_key(crm, services=["api"]))["key"]
    assert (await with_key(crm, voice, "GET /api/contacts", **uuid))[0] == 200
    refused(await with_key(crm, voice, "GET /contacts"), 403)


async def test_the_services_of_a_key_must_exist(crm: Crm) -> None:
    for services in (["contact"], ["users/"], [""], [], "contacts", [5], ["contacts"] * 51, ["revoked-tokens"]):
        assert "services" in str(
            refused(await crm.call("POST /api-keys", OURS | {"services": services}), 400)["errors"]
        )
    made = await make_key(crm, services=["contacts"], read_only=True)
    assert (made["services"], made["read_only"]) == (["contacts"], True)
    refused(await crm.call(f"PATCH /api-keys/{made['id']}", {"services": None}), 400, "services")
    refused(await crm.call(f"PATCH /api-keys/{made['id']}", {"read_only": False}), 400, "read_only")


async def test_a_key_makes_keys_and_changes_members_only_if_it_names_them(crm: Crm) -> None:
    plain, named = (await make_key(crm))["key"], (await make_key(crm, services=NAMED))["key"]
    member = {"organization_id": 456, "email": "other@example.com"}
    for request, data in (
        ("POST /api-keys", {}), ("PATCH /api-keys/1", {"name": "x"}), ("DELETE /api-keys/1", None),
        ("POST /memberships", member), ("PATCH /memberships/2", {"role": "viewer"}), ("DELETE /memberships/2", None),
    ):  # fmt: skip
        refused(await with_key(crm, plain, request, data), 403)
    refused(await with_key(crm, plain, "POST /api-keys", {"id": 1}, **ROTATE), 403)
    assert (await with_key(crm, named, "POST /memberships", member))[0] == 201
    status, made = await with_key(crm, named, "POST /api-keys", {"name": "child"})
    assert (status, made["services"], made["user_id"]) == (201, NAMED, ADMIN)
    status, made = await with_key(crm, named, "POST /api-keys", {"services": ["contacts"], "read_only": True})
    assert (status, made["services"], made["read_only"]) == (201, ["contacts"], True)
    for more in ({"services": None}, {"services": ["deals"]}, {"user_id": MEMBER}, {"services": ["contacts", "deals"]}):
        refused(await with_key(crm, named, "POST /api-keys", more), 403)
    refused(await with_key(crm, named, "POST /api-keys", {"id": 1}, **ROTATE), 403)
    assert (await with_key(crm, named, "POST /api-keys", {"id": made["id"]}, **ROTATE))[0] == 200


async def test_a_key_acts_at_most_as_its_maker_today(crm: Crm) -> None:
    owner = await joined(crm, 791, "owner")
    key = (await make_key(crm, user_id=791, services=NAMED))["key"]
    make_owner = {"organization_id": 456, "email": "member@example.com", "role": "owner"}
    await crm.app.service("memberships").remove((await joined(crm, MEMBER))["id"])
    refused(await with_key(crm, key, "POST /memberships", make_owner), 403)
    mine = await joined(crm, ADMIN, "admin")
    await crm.app.service("memberships").patch(mine["id"], {"role": "viewer"})
    assert (await with_key(crm, key, "GET /contacts/123"))[0] == 200
    refused(await with_key(crm, key, "PATCH /contacts/123", {"last_name": "Roe"}), 403)
    await crm.app.service("memberships").remove(mine["id"])
    assert await with_key(crm, key, "GET /contacts/123") == (401, INVALID)
    assert owner["role"] == "owner"


async def test_a_member_removed_in_another_process_loses_its_key_at_once(crm: Crm) -> None:
    key = (await make_key(crm, user_id=MEMBER))["key"]
    assert (await with_key(crm, key, "GET /contacts/123"))[0] == 200
    async with another_process(crm) as there:
        query = {"query": {"user_id": MEMBER}, "adapter": {"multi": ["remove"]}}
        await there.service("memberships").remove(None, query)
    async with asyncio.timeout(SECONDS):
        while (await with_key(crm, key, "GET /contacts/123"))[0] == 200:
            await asyncio.sleep(0.002)
    assert await with_key(crm, key, "GET /contacts/123") == (401, INVALID)


async def test_a_key_created_with_a_key_has_no_more_rights_than_its_creator(crm: Crm) -> None:
    await joined(crm, 791, "owner")
    key = (await make_key(crm, user_id=791, services=NAMED))["key"]
    status, child = await with_key(crm, key, "POST /api-keys", {"name": "child"})
    assert (status, child["user_id"]) == (201, 791)
    mine = await joined(crm, ADMIN, "viewer")
    assert (await with_key(crm, child["key"], "GET /contacts/123"))[0] == 200
    refused(await with_key(crm, child["key"], "PATCH /contacts/123", {"last_name": "Roe"}), 403)
    await crm.app.service("memberships").remove(mine["id"])
    assert await with_key(crm, child["key"], "GET /contacts/123") == (401, INVALID)


async def test_a_key_does_not_rotate_the_key_of_another_user_or_maker(crm: Crm) -> None:
    await joined(crm, 791, "admin")
    named, contacts = await make_key(crm, services=NAMED), {"services": ["contacts"]}
    others = (await make_key(crm, user_id=MEMBER, **contacts))["id"]
    status, made = await crm.call("POST /api-keys", OURS | contacts | {"user_id": ADMIN}, 791)
    assert (status, made["user_id"]) == (201, ADMIN)
    for id in (others, made["id"]):
        refused(await rotate(crm, id, 60, None, **{"x-api-key": named["key"]}), 403)
    assert (await with_key(crm, made["key"], "GET /contacts"))[0] == 200
    status, again = await rotate(crm, named["id"], 0, None, **{"x-api-key": named["key"]})
    assert (status, again["id"]) == (200, named["id"])


async def test_a_key_without_a_creator_rotates_itself(crm: Crm) -> None:
    made, database = await make_key(crm, services=NAMED), crm.app.get("database")
    await database.execute(update(api_keys).values(created_by_user_id=None))
    assert (await rotate(crm, made["id"], 0, None, **{"x-api-key": made["key"]}))[0] == 200


async def test_a_key_of_another_organization_is_not_found(crm: Crm) -> None:
    await joined(crm, 791, "admin")
    status, theirs = await crm.call("POST /api-keys", {"organization_id": 457}, 791)
    assert status == 201
    for user in (ADMIN, 791):
        refused(await rotate(crm, theirs["id"], user=user), 404)


async def test_an_admin_rotates_keys_with_at_most_the_rights_of_an_admin(crm: Crm) -> None:
    await joined(crm, 791, "owner")
    made = [await make_key(crm, user_id=791), (await crm.call("POST /api-keys", OURS | {"user_id": ADMIN}, 791))[1]]
    for key in made:
        assert (await rotate(crm, key["id"]))[0] == 200


@pytest.mark.parametrize(("path", "id"), [("users", MEMBER), ("organizations", 456)])
async def test_a_key_of_a_removed_user_or_organization_is_refused(crm: Crm, path: str, id: int) -> None:
    key = (await make_key(crm, user_id=MEMBER))["key"]
    await crm.app.service(path).remove(id)
    assert await with_key(crm, key, "GET /contacts") == (401, INVALID)


async def test_an_admin_cannot_remove_an_owner_with_the_owners_key(crm: Crm) -> None:
    owner, _ = await joined(crm, 791, "owner"), await joined(crm, MEMBER, "owner")
    key = (await make_key(crm, user_id=791, services=["memberships"]))["key"]
    refused(await with_key(crm, key, f"DELETE /memberships/{owner['id']}"), 403)
    assert (await crm.call(f"DELETE /memberships/{owner['id']}", user=791))[0] == 200


async def test_an_admin_does_not_rotate_the_key_of_an_owner(crm: Crm) -> None:
    await joined(crm, 791, "owner")
    status, made = await crm.call("POST /api-keys", OURS, 791)
    assert status == 201
    refused(await rotate(crm, made["id"]), 403)
    refused(await rotate(crm, made["id"], 60, None, **{"x-api-key": KEY}), 403)
    assert (await with_key(crm, made["key"], "GET /contacts"))[0] == 200
    assert (await rotate(crm, made["id"], user=791))[0] == 200


async def test_a_socket_hears_of_the_services_of_its_key_until_its_maker_leaves(demo_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(app) as http:
        await load_demo(app)
        crm = Crm(app, http)
        await joined(crm, MEMBER)
        made = await make_key(crm, user_id=MEMBER, services=["contacts"])
        async with connected(http, additional_headers={"x-api-key": made["key"]}) as peer:
            await crm.call("PATCH /companies/101", {"size": "1"})
            await crm.call("PATCH /contacts/123", {"last_name": "Heard"})
            assert (await peer.news())[0] == "contacts patched"
            assert (await peer.call("find", "companies", {}))[0]["code"] == 403
            second = (await rotate(crm, made["id"], 60))[1]
            assert (await peer.call("get", "contacts", 123, {}))[0] is None
            await crm.app.service("memberships").remove((await joined(crm, ADMIN, "admin"))["id"])
            await crm.app.service("contacts").patch(123, {"last_name": "Unheard"})
            await peer.closed()
            assert "Unheard" not in str(peer.events)
            assert await with_key(crm, second["key"], "GET /contacts") == (401, INVALID)
