"""Login, logout, and the validity of tokens afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from services.shared.examples import DEMO_PASSWORD
from tests.services.crm import LIST, Crm, refused, running

ADMIN = {"strategy": "local", "email": "admin@example.com", "password": DEMO_PASSWORD}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def log_in(crm: Crm) -> dict[str, Any]:
    status, body = await crm.call("POST /authentication", ADMIN, user=None)
    assert status == 201
    return dict(body)


async def test_a_login_gives_a_token_and_the_user(crm: Crm) -> None:
    body = await log_in(crm)
    assert set(body) == {"accessToken", "authentication", "user"}
    assert body["authentication"]["strategy"] == "local"
    assert body["authentication"]["payload"]["sub"] == "789"
    assert body["user"] == {
        "id": 789, "email": "admin@example.com", "name": "Admin User", "avatar": None,
        "createdAt": "2023-01-01T00:00:00.000Z", "updatedAt": "2023-01-01T00:00:00.000Z",
    }  # fmt: skip
    assert (await crm.call(LIST, user=None, headers=bearer(body["accessToken"])))[0] == 200


async def test_a_token_logs_in_as_itself(crm: Crm) -> None:
    first = await log_in(crm)
    proof = {"strategy": "jwt", "accessToken": first["accessToken"]}
    status, second = await crm.call("POST /authentication", proof, user=None)
    assert (status, second["accessToken"], second["user"]) == (201, first["accessToken"], first["user"])


async def test_the_name_at_login_is_not_case_sensitive(crm: Crm) -> None:
    login = ADMIN | {"email": " Admin@Example.COM"}
    assert (await crm.call("POST /authentication", login, user=None))[0] == 201


@pytest.mark.parametrize(
    "wrong",
    [{"password": "wrong"}, {"password": ""}, {"email": "nobody@example.com"}, {"email": "admin@example.com\0"}],
    ids=repr,
)
async def test_a_failed_login_does_not_reveal_its_reason(crm: Crm, wrong: dict[str, str]) -> None:
    error = refused(await crm.call("POST /authentication", ADMIN | wrong, user=None), 401)
    assert error == {
        "name": "NotAuthenticated", "message": "Invalid login", "code": 401, "className": "not-authenticated",
    }  # fmt: skip


async def test_a_logout_revokes_only_its_own_token(crm: Crm) -> None:
    one, two = [bearer((await log_in(crm))["accessToken"]) for _ in range(2)]
    status, body = await crm.call("DELETE /authentication", user=None, headers=one)
    assert (status, body["user"]["id"]) == (200, 789)
    refused(await crm.call(LIST, user=None, headers=one), 401)
    refused(await crm.call("DELETE /authentication", user=None, headers=one), 401)
    assert (await crm.call(LIST, user=None, headers=two))[0] == 200


async def test_a_logged_out_token_stays_revoked_after_a_restart(demo_url: str) -> None:
    async with running(demo_url) as crm:
        token = bearer((await log_in(crm))["accessToken"])
        await crm.send("DELETE /authentication", user=None, headers=token)
    async with running(demo_url) as crm:
        refused(await crm.call(LIST, user=None, headers=token), 401)


async def test_the_token_of_a_removed_user_is_refused(crm: Crm) -> None:
    token = bearer((await log_in(crm))["accessToken"])
    await crm.app.service("users").remove(789)
    for request in (LIST, "GET /contacts/123", "DELETE /contacts/123", "GET /organizations", "DELETE /authentication"):
        refused(await crm.call(request, user=None, headers=token), 401)
    refused(await crm.call("POST /authentication", ADMIN, user=None), 401)


async def test_a_former_member_loses_access_at_once(crm: Crm) -> None:
    await crm.app.service("memberships").remove(None, {"query": {"user_id": 790}, "adapter": {"multi": ["remove"]}})
    refused(await crm.call(LIST, user=790), 403)
    refused(await crm.call("GET /contacts/123", user=790), 403)
    assert (await crm.call("GET /organizations", user=790))[1]["data"] == []


async def test_internal_services_cannot_be_called(crm: Crm) -> None:
    for verb in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        for request in (f"{verb} /revoked-tokens", f"{verb} /revoked-tokens/789"):
            refused(await crm.call(request, {"email": "me@example.com"}), 405)
    refused(await crm.call("POST /revoked-tokens", {}, headers={"X-Service-Method": "of_user"}), 405)
