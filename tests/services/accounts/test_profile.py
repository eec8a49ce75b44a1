"""The profile and the password of a user, which only the user sees and changes."""

from __future__ import annotations

from typing import Any

import pytest

from services.commands.demo_data import KEY
from services.shared.examples import DEMO_PASSWORD
from services.tables import users
from tests.services.accounts.test_audience import connect
from tests.services.crm import Crm, refused
from tests.services.fixtures import SHARED
from tests.support.serving import serving
from tests.support.sockets import connected

CHANGE = {"X-Service-Method": "change_password"}
NEW = "a much better one"
PROFILE = {"id", "email", "first_name", "last_name", "avatar_url", "created_at", "updated_at", "deleted_at"}


async def change(crm: Crm, old: str, new: str = NEW, user: int | None = 789, **headers: str) -> tuple[int, Any]:
    return await crm.call("POST /users", {"old_password": old, "password": new}, user, headers=CHANGE | headers)


async def log_in(crm: Crm, password: str) -> int:
    data = {"strategy": "local", "email": "admin@example.com", "password": password}
    return (await crm.call("POST /authentication", data, None))[0]


async def test_a_user_sees_and_changes_its_profile(crm: Crm) -> None:
    status, me = await crm.call("GET /users/me")
    assert (status, set(me), me["id"], me["email"]) == (200, PROFILE, 789, "admin@example.com")
    assert await crm.call("GET /users/789") == (200, me)
    changes = {"first_name": "Ann", "last_name": None, "avatar_url": "https://example.com/ann.png"}
    status, changed = await crm.call("PATCH /users/me", changes)
    assert (status, changed) == (200, me | changes | {"updated_at": changed["updated_at"]})
    assert changed["updated_at"] > me["updated_at"]
    refused(await crm.call("PATCH /users/789", me | {"first_name": "Bob"}), 400, "updated_at")
    assert (await crm.call("PATCH /users/789", changed | {"first_name": "Bob"}))[1]["first_name"] == "Bob"
    _, emptied = await crm.call("PATCH /users/me", {"last_name": "", "avatar_url": ""})
    assert (emptied["last_name"], emptied["avatar_url"]) == (None, None)


@SHARED
@pytest.mark.parametrize(
    "data",
    [
        {"email": "other@example.com"}, {"password": NEW}, {"first_name": ""}, {"id": 790}, {"uuid": "x"}, [],
        {"avatar_url": "javascript:alert(1)"}, {"deleted_at": "2026-01-01"}, {"role": "owner"},
    ],
    ids=str,
)  # fmt: skip
async def test_nothing_else_is_changed(shared: Crm, data: Any) -> None:
    before = await shared.rows(users)
    assert (await shared.call("PATCH /users/me", data))[0] in (400, 403)
    assert await shared.rows(users) == before


async def test_others_are_out_of_reach(crm: Crm) -> None:
    for id in (790, 791, 99_999, "x", "0789", "789.0"):
        refused(await crm.call(f"GET /users/{id}"), 403)
        refused(await crm.call(f"PATCH /users/{id}", {"first_name": "Spy"}), 403)
    for request in ("GET /users", "POST /users", "DELETE /users/me", "PUT /users/me", "PATCH /users"):
        refused(await crm.call(request, {"first_name": "Spy"}), 405)
    refused(await crm.call("GET /users/me?$select[]=password"), 400)
    refused(await crm.call("GET /users/me?password[$gt]=a"), 400)
    for user in (None, 99_999):
        refused(await crm.call("GET /users/me", user=user), 401)


async def test_a_key_reaches_neither_profile_nor_password(crm: Crm) -> None:
    key = {"x-api-key": KEY}
    refused(await crm.call("GET /users/me", None, None, headers=key), 401)
    refused(await crm.call("PATCH /users/me", {"first_name": "Spy"}, None, headers=key), 401)
    refused(await change(crm, DEMO_PASSWORD, user=None, **key), 401)
    assert await log_in(crm, DEMO_PASSWORD) == 201


async def test_a_new_password_needs_the_old_one_and_ends_all_logins(crm: Crm) -> None:
    connection = await connect(crm)
    ended: list[Any] = []
    crm.app.on("disconnect", ended.append)
    token = {"authorization": f"Bearer {crm.token(789)}"}
    status, answer = await change(crm, DEMO_PASSWORD, user=None, **token)
    assert (status, set(answer)) == (200, {"message"})
    assert "this one too" in answer["message"]
    assert ended == [connection]
    refused(await crm.call("GET /users/me", user=None, headers=token), 401)
    assert (await log_in(crm, DEMO_PASSWORD), await log_in(crm, NEW)) == (401, 201)


async def test_a_wrong_old_password_counts_as_a_failed_login(crm: Crm) -> None:
    before = await crm.rows(users)
    for _ in range(5):
        assert refused(await change(crm, "wrong"), 400)["errors"] == {"old_password": "Is not your password"}
    refused(await change(crm, DEMO_PASSWORD), 429)
    assert await log_in(crm, DEMO_PASSWORD) == 429
    assert await crm.rows(users) == before


@SHARED
@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"old_password": DEMO_PASSWORD}, "password"), ({"password": NEW}, "old_password"),
        ({"old_password": DEMO_PASSWORD, "password": "short"}, "password"),
        ({"old_password": DEMO_PASSWORD, "password": DEMO_PASSWORD}, "password"),
        ({"old_password": DEMO_PASSWORD, "password": "password123"}, "password"),
        ({"old_password": {"$ne": ""}, "password": NEW}, "old_password"),
        ({"old_password": DEMO_PASSWORD, "password": NEW, "id": 790}, "id"),
    ],
    ids=str,
)  # fmt: skip
async def test_a_wrong_new_password_is_refused(shared: Crm, data: Any, field: str) -> None:
    refused(await shared.call("POST /users", data, headers=CHANGE), 400, field)


async def test_a_user_without_a_password_cannot_change_it(crm: Crm) -> None:
    made = await crm.app.service("users").create({"email": "new@example.com", "first_name": "New"})
    error = refused(await change(crm, "anything", user=made["id"]), 400, "old_password")
    assert "no password yet" in error["errors"]["old_password"]


async def test_over_a_socket_the_answer_comes_before_the_end(crm: Crm) -> None:
    proof = {"Authorization": f"Bearer {crm.token(789)}"}
    async with serving(crm.app) as http, connected(http, additional_headers=proof) as peer:
        assert (await peer.call("get", "users", "me", {}))[1]["id"] == 789
        error, answer = await peer.call(
            "change_password", "users", {"old_password": DEMO_PASSWORD, "password": NEW}, {}
        )
        assert (error, set(answer)) == (None, {"message"})
        assert await peer.frame() == "41"
