"""The rate limit of an organization's keys, and its headers."""

from __future__ import annotations

import asyncio

from apex import load_config
from services.app import CONFIG, create_app, limit_users
from services.commands.demo_data import KEY, load_demo
from services.shared.examples import DEMO_EMAIL, DEMO_PASSWORD
from tests.services.crm import Crm
from tests.support.serving import serving
from tests.support.sockets import connected

PROOF = {"x-api-key": KEY}


async def limited(crm: Crm, requests: int, window: int = 3600) -> None:
    await crm.app.service("organizations").patch(456, {"rate_limit": requests, "rate_window": window})


async def test_beyond_the_limit_the_answer_says_until_when(crm: Crm) -> None:
    await limited(crm, 2)
    first = await crm.send("GET /contacts/123", user=None, headers=PROOF)
    assert {name: value for name, value in first.headers.items() if name.startswith("ratelimit")} == {
        "ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-reset": "3600", "ratelimit-policy": "2;w=3600",
    }  # fmt: skip
    missing = await crm.send("GET /contacts/99999", user=None, headers=PROOF)
    assert (missing.status_code, missing.headers["ratelimit-remaining"]) == (404, "0")
    beyond = await crm.send("GET /contacts/123", user=None, headers=PROOF)
    seconds = int(beyond.headers["retry-after"])
    assert 3590 < seconds <= 3600
    assert beyond.status_code == 429
    assert beyond.json() == {
        "name": "TooManyRequests",
        "message": "Rate limit exceeded",
        "code": 429,
        "className": "too-many-requests",
        "data": {"limit": 2, "current": 3, "window": 3600, "retryAfter": seconds},
    }
    assert beyond.headers["ratelimit-remaining"] == "0"


async def test_the_keys_of_an_organization_share_a_limit(crm: Crm) -> None:
    await limited(crm, 1)
    _, other = await crm.call("POST /api-keys", {"organization_id": 456})
    assert (await crm.send("GET /companies", user=None, headers=PROOF)).status_code == 200
    for key in (KEY, other["key"]):
        response = await crm.send("GET /organizations", user=None, headers={"x-api-key": key})
        assert response.status_code == 429
    assert "ratelimit-limit" not in (await crm.send("GET /contacts/123")).headers
    _, theirs = await crm.call("POST /api-keys", {"organization_id": 457}, 791)
    response = await crm.send("GET /contacts", user=None, headers={"x-api-key": theirs["key"]})
    assert (response.status_code, response.headers["ratelimit-limit"]) == (200, "1000")


async def test_a_refused_key_costs_nothing(crm: Crm) -> None:
    await limited(crm, 1)
    await crm.send("GET /contacts", user=None, headers={"x-api-key": KEY[:-1] + "x"})
    assert (await crm.send("GET /contacts", user=None, headers=PROOF)).status_code == 200


async def test_five_hundred_requests_at_once_get_no_more_than_the_limit(migrated_sqlite_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": migrated_sqlite_url}))
    async with serving(app) as http:
        await load_demo(app)
        crm = Crm(app, http)
        await limited(crm, 100)
        gate = asyncio.Semaphore(200)

        async def status() -> int:
            async with gate:
                return (await crm.send("GET /contacts/123", user=None, headers=PROOF, timeout=60)).status_code

        statuses = await asyncio.gather(*(status() for _ in range(500)))
        assert (statuses.count(200), statuses.count(429)) == (100, 400)


async def test_it_holds_over_sockets_too(demo_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(app) as http:
        await load_demo(app)
        await limited(Crm(app, http), 2)
        async with connected(http, additional_headers=PROOF) as peer:
            answers = [await peer.call("get", "contacts", 123, {}) for _ in range(3)]
        assert [answer[0] and answer[0]["code"] for answer in answers] == [None, None, 429]
        assert answers[2][0]["data"]["limit"] == 2


async def limited_users(crm: Crm, requests: int) -> None:
    crm.app.set("userRateLimit", {"requests": requests, "window": 3600})
    limit_users(crm.app)


async def test_each_user_with_a_token_has_a_limit(crm: Crm) -> None:
    await limited_users(crm, 2)
    assert [(await crm.send("GET /contacts/123")).status_code for _ in range(3)] == [200, 200, 429]
    beyond = await crm.send("GET /organizations")
    assert (beyond.status_code, beyond.headers["ratelimit-limit"]) == (429, "2")
    assert beyond.json()["data"] == {"limit": 2, "current": 3, "window": 3600, "retryAfter": 3600}
    assert 3590 < int(beyond.headers["retry-after"]) <= 3600
    assert (await crm.send("GET /contacts/123", user=790)).status_code == 200
    assert (await crm.send("GET /contacts/123", user=None, headers=PROOF)).status_code == 200


async def test_another_login_has_the_limit_of_its_user(demo_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(app) as http:
        await load_demo(app)
        crm = Crm(app, http)
        await limited_users(crm, 2)
        calls = [["get", "contacts", 123], ["get", "contacts", 123]]
        _, settled = await crm.call("POST /batch", {"calls": calls})
        assert [one["status"] for one in settled] == ["fulfilled", "fulfilled"]
        async with connected(http) as peer:
            await peer.call(
                "create", "authentication", {"strategy": "local", "email": DEMO_EMAIL, "password": DEMO_PASSWORD}, {}
            )
            (error,) = await peer.call("get", "contacts", 123, {})
        assert (error["code"], error["data"]["limit"]) == (429, 2)


async def test_a_change_on_a_condition_counts_once(crm: Crm) -> None:
    tag = {"If-Match": (await crm.send("GET /contacts/123")).headers["etag"]}
    await limited(crm, 10)
    response = await crm.send("PATCH /contacts/123", {"last_name": "X"}, user=None, headers=PROOF | tag)
    assert (response.status_code, response.headers["ratelimit-remaining"]) == (200, "9")


def test_production_limits_users() -> None:
    config = load_config(CONFIG, {"APEX_ENV": "production", "APEX_SECRET": "x" * 32})
    assert config["userRateLimit"] == {"requests": 10_000, "window": 3_600}
