"""Changes of members over HTTP: the rules for each role, and the last owner of an organization."""

from __future__ import annotations

from asyncio import gather
from typing import Any

import pytest

from apex import Connection, Params
from services.commands.demo_data import KEY
from services.tables import memberships
from tests.services.accounts.test_audience import connect
from tests.services.crm import LIST, Crm, refused
from tests.support.serving import serving
from tests.support.sockets import connected

MEMBERS = "GET /memberships?organization_id=456"
ADMIN, MEMBER, OTHER = 789, 790, 791


async def joined(crm: Crm, user: int, role: str = "member", organization: int = 456) -> Any:
    """Give a user this role and return the membership."""
    service = crm.app.service("memberships")
    for row in await service.service.find_stored(user_id=user, organization_id=organization):
        return await service.service.patch(row["id"], {"role": role}, Params())
    return await service.create({"user_id": user, "organization_id": organization, "role": role})


async def roles(crm: Crm, organization: int = 456) -> dict[int, str]:
    return {
        row["user_id"]: row["role"] for row in await crm.rows(memberships) if row["organization_id"] == organization
    }


async def add(crm: Crm, email: str, user: int = ADMIN, **more: Any) -> tuple[int, Any]:
    return await crm.call("POST /memberships", {"organization_id": 456, "email": email, **more}, user)


async def test_an_admin_lists_adds_changes_and_removes(crm: Crm) -> None:
    status, page = await crm.call(MEMBERS)
    user = {"id": 790, "first_name": "Member", "last_name": "User", "email": "member@example.com"}
    assert (status, page["total"], page["data"][1]["user"]) == (200, 2, user)
    assert set(page["data"][0]) == {"id", "organization_id", "user_id", "role", "created_at", "updated_at", "user"}
    status, made = await add(crm, "Other@Example.com", role="viewer")
    assert (status, made["user_id"], made["role"], made["user"]["id"]) == (201, 791, "viewer", 791)
    assert (await crm.call(LIST, user=OTHER))[0] == 200
    status, changed = await crm.call(f"PATCH /memberships/{made['id']}", {"role": "admin"})
    assert (status, changed["role"], await roles(crm)) == (200, "admin", {789: "admin", 790: "member", 791: "admin"})
    assert (await crm.call(f"GET /memberships/{made['id']}"))[1] == changed
    assert (await crm.call(f"GET /memberships/{made['id']}?$select=role"))[1] == {"id": made["id"], "role": "admin"}
    assert (await crm.call(f"DELETE /memberships/{made['id']}"))[0] == 200
    refused(await crm.call(LIST, user=OTHER), 403)
    refused(await crm.call(f"GET /memberships/{made['id']}"), 404)
    _, page = await crm.call("GET /audit?organization_id=456&service=memberships")
    told = [(row["method"], row["user_id"], row["provider"]) for row in page["data"]]
    assert told == [("remove", 789, "rest"), ("patch", 789, "rest"), ("create", 789, "rest")]


async def test_only_needed_fields_of_other_users_are_shown(crm: Crm) -> None:
    error = refused(await add(crm, "nobody@example.com"), 400, "email")
    assert error["errors"] == {"email": "No user has this address"}
    error = refused(await add(crm, "member@example.com"), 409)
    assert error["errors"] == {"email": "Is a member already"}
    assert "with the role member: change membership 2 instead" in error["message"]
    for user in (MEMBER, OTHER):
        assert refused(await add(crm, "nobody@example.com", user), 403) == refused(
            await add(crm, "other@example.com", user), 403
        )
    answers = [await add(crm, f"nobody{number}@example.com") for number in range(12)]
    assert {status for status, _ in answers} == {400, 429}
    refused(await add(crm, "other@example.com"), 429)


async def test_members_see_their_own_membership_and_leave(crm: Crm) -> None:
    _, page = await crm.call(MEMBERS, user=MEMBER)
    (mine,) = page["data"]
    assert (mine["user_id"], mine["role"]) == (MEMBER, "member")
    (admins,) = await crm.app.service("memberships").service.find_stored(user_id=ADMIN)
    refused(await crm.call(f"GET /memberships/{admins['id']}", user=MEMBER), 403)
    refused(await crm.call(f"PATCH /memberships/{admins['id']}", {"role": "viewer"}, MEMBER), 403)
    refused(await crm.call(f"DELETE /memberships/{admins['id']}", user=MEMBER), 403)
    refused(await crm.call(f"PATCH /memberships/{mine['id']}", {"role": "admin"}, MEMBER), 403)
    assert (await crm.call(f"DELETE /memberships/{mine['id']}", user=MEMBER))[0] == 200
    refused(await crm.call(LIST, user=MEMBER), 403)


async def test_an_admin_acts_neither_on_nor_as_an_owner(crm: Crm) -> None:
    await joined(crm, OTHER, "owner")
    (owner,) = await crm.app.service("memberships").service.find_stored(user_id=OTHER, organization_id=456)
    (member,) = await crm.app.service("memberships").service.find_stored(user_id=MEMBER)
    before = await roles(crm)
    for request, data in (
        (f"PATCH /memberships/{owner['id']}", {"role": "viewer"}),
        (f"DELETE /memberships/{owner['id']}", None),
        (f"PATCH /memberships/{member['id']}", {"role": "owner"}),
        (f"PATCH /memberships/{member['id']}", {"role": "king"}),
        (f"PATCH /memberships/{member['id']}", {"user_id": 791}),
        (f"PATCH /memberships/{member['id']}", {"organization_id": 457}),
    ):
        answer = await crm.call(request, data)
        assert answer[0] in (400, 403), answer
    (admin,) = await crm.app.service("memberships").service.find_stored(user_id=ADMIN)
    refused(await crm.call(f"PATCH /memberships/{admin['id']}", {"role": "owner"}), 403)
    refused(await add(crm, "nobody@example.com", role="owner"), 403)
    assert await roles(crm) == before
    assert (await crm.call(f"PATCH /memberships/{member['id']}", {"role": "owner"}, OTHER))[0] == 200


async def test_the_last_owner_stays(crm: Crm) -> None:
    mine = await joined(crm, ADMIN, "owner")
    for request, data in (
        (f"DELETE /memberships/{mine['id']}", None),
        (f"PATCH /memberships/{mine['id']}", {"role": "admin"}),
    ):
        refused(await crm.call(request, data), 409)
    for call in (
        crm.app.service("memberships").remove(mine["id"]),
        crm.app.service("memberships").patch(mine["id"], {"role": "viewer"}),
    ):
        with pytest.raises(Exception, match="keeps an owner"):
            await call
    assert (await crm.call(f"PATCH /memberships/{mine['id']}", {"role": "owner"}))[0] == 200
    await joined(crm, MEMBER, "owner")
    assert (await crm.call(f"DELETE /memberships/{mine['id']}"))[0] == 200
    assert await roles(crm) == {790: "owner"}


async def test_two_owners_cannot_demote_each_other_at_the_same_time(crm: Crm) -> None:
    for _ in range(5):
        one, other = await joined(crm, ADMIN, "owner"), await joined(crm, MEMBER, "owner")
        crm.app.service("memberships").service.roles.forget()
        answers = await gather(
            crm.call(f"PATCH /memberships/{other['id']}", {"role": "viewer"}, ADMIN),
            crm.call(f"PATCH /memberships/{one['id']}", {"role": "viewer"}, MEMBER),
            crm.call(f"DELETE /memberships/{one['id']}", user=ADMIN),
        )
        assert list((await roles(crm)).values()).count("owner") == 1, answers
        assert {status for status, _ in answers} <= {200, 403, 404, 409}


async def test_others_are_out_of_reach(crm: Crm) -> None:
    (theirs,) = await crm.app.service("memberships").service.find_stored(organization_id=457)
    before = await crm.rows(memberships)
    for request, data in (
        ("GET /memberships?organization_id=457", None),
        (f"GET /memberships/{theirs['id']}", None),
        (f"PATCH /memberships/{theirs['id']}", {"role": "viewer"}),
        (f"DELETE /memberships/{theirs['id']}", None),
        ("POST /memberships", {"organization_id": 457, "email": "admin@example.com", "role": "admin"}),
    ):
        refused(await crm.call(request, data), 403)
    refused(await crm.call("GET /memberships"), 400, "organization_id")
    refused(await crm.call("DELETE /memberships?organization_id=456"), 405)
    refused(await crm.call("PATCH /memberships?organization_id=456", {"role": "viewer"}), 405)
    assert (await crm.call("GET /memberships?id[$in]=1&id[$in]=2&id[$in]=3"))[1]["total"] == 2
    assert await crm.rows(memberships) == before


async def test_events_are_for_admins(crm: Crm) -> None:
    admin, member = await connect(crm), await connect(crm, "member@example.com")
    sent: list[tuple[str, list[Connection]]] = []
    crm.app.on("publish", lambda context, to: sent.append((f"{context.path} {context.event}", list(to))))
    await add(crm, "other@example.com")
    assert sent == [("memberships created", [admin])]
    (mine,) = await crm.app.service("memberships").service.find_stored(user_id=MEMBER)
    await crm.call(f"PATCH /memberships/{mine['id']}", {"role": "admin"})
    assert member.channels == {"organizations/456", "organizations/456/admins"}
    sent.clear()
    await crm.call(f"PATCH /memberships/{mine['id']}", {"role": "viewer"})
    await crm.call("PATCH /contacts/123", {"last_name": "Roe"})
    assert sent[-1] == ("contacts patched", [admin, member])
    assert sent[0] == ("memberships patched", [admin])
    sent.clear()
    await crm.call(f"DELETE /memberships/{mine['id']}")
    await crm.call("PATCH /contacts/123", {"last_name": "Doe"})
    assert sent == [("memberships removed", [admin]), ("contacts patched", [admin])]
    assert member.channels == set()


async def test_a_removed_member_loses_the_events_of_an_open_socket_at_once(crm: Crm) -> None:
    proof, ours = {"Authorization": f"Bearer {crm.token(MEMBER)}"}, {"organization_id": 456}
    (mine,) = await crm.app.service("memberships").service.find_stored(user_id=MEMBER)
    async with serving(crm.app) as http:
        async with connected(http, additional_headers=proof) as peer:
            assert (await peer.call("find", "contacts", ours))[1]["total"] == 2
            await crm.call(f"PATCH /memberships/{mine['id']}", {"role": "viewer"})
            await peer.closed()  # Its client connects again, and reads again.
        async with connected(http, additional_headers=proof) as peer:
            assert (await peer.call("patch", "contacts", 123, {"last_name": "Roe"}, {}))[0]["code"] == 403
            await crm.call(f"DELETE /memberships/{mine['id']}")
            await peer.closed()
        async with connected(http, additional_headers=proof) as peer:
            assert (await peer.call("find", "contacts", ours))[0]["code"] == 403


async def test_with_a_key_members_are_listed(crm: Crm) -> None:
    assert (await crm.call("GET /memberships", user=None, headers={"x-api-key": KEY}))[1]["total"] == 2
