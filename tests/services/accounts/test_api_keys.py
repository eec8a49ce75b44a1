"""API keys of an organization: admins create and revoke them, and programs use them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select

from apex import Connection, load_config
from apex.migrations import connect
from apex.migrations.migrate import downgrade, upgrade
from services.accounts.api_keys import api_keys
from services.accounts.audit import audit
from services.app import CONFIG, create_app
from services.commands.demo_data import KEY, load_demo
from services.shared.tenant import TenantService
from services.tables import metadata
from tests.services.crm import SEARCH, Crm, refused, running
from tests.services.fixtures import SHARED
from tests.support.serving import serving
from tests.support.sockets import connected
from tests.support.waiting import SECONDS

OURS = {"organization_id": 456}
INVALID = {"name": "NotAuthenticated", "message": "Invalid API key", "code": 401, "className": "not-authenticated"}
LISTS = [
    path
    for path, bound in create_app(load_config(CONFIG, {"APEX_ENV": "test"})).services.items()
    if isinstance(bound.service, TenantService)
]


async def with_key(crm: Crm, key: str, request: str, data: Any = None, **headers: str) -> tuple[int, Any]:
    return await crm.call(request, data, None, headers={"x-api-key": key, **headers})


async def make_key(crm: Crm, **data: Any) -> dict[str, Any]:
    status, key = await crm.call("POST /api-keys", OURS | data)
    assert status == 201, key
    return dict(key)


async def until_refused(crm: Crm, key: str) -> None:
    """Wait until a key is refused."""
    async with asyncio.timeout(SECONDS):
        while (await with_key(crm, key, "GET /contacts"))[0] != 401:
            await asyncio.sleep(0.01)


@SHARED
@pytest.mark.parametrize("path", LISTS)
async def test_with_a_key_the_organization_may_be_left_out(shared: Crm, path: str) -> None:
    status, page = await with_key(shared, KEY, f"GET /{path}")
    assert status == 200, page
    assert page["total"] == (await with_key(shared, KEY, f"GET /{path}?organization_id=456"))[1]["total"]
    refused(await with_key(shared, KEY, f"GET /{path}?organization_id=457"), 403)


async def test_a_key_creates_and_searches(crm: Crm) -> None:
    status, ann = await with_key(crm, KEY, "POST /contacts", {"first_name": "Ann"})
    assert (status, ann["organization_id"], ann["created_by_user_id"]) == (201, 456, 789)
    _, page = await with_key(crm, KEY, "POST /contacts", {"searchTerm": "ann", "searchIn": "name"}, **SEARCH)
    assert [contact["id"] for contact in page["data"]] == [ann["id"]]
    refused(await with_key(crm, KEY, "POST /contacts", {"first_name": "Spy", "organization_id": 457}), 403)
    refused(await with_key(crm, KEY, "GET /contacts/201"), 403)
    _, page = await with_key(crm, KEY, "GET /organizations")
    assert [organization["id"] for organization in page["data"]] == [456]


@SHARED
@pytest.mark.parametrize("key", ["", "nonsense", KEY + "x", KEY[:-1] + "x", "apex_000000000000_" + KEY[18:]])
async def test_a_wrong_key_is_refused(shared: Crm, key: str) -> None:
    assert await with_key(shared, key, "GET /contacts") == (401, INVALID)


async def test_a_key_is_shown_once(crm: Crm) -> None:
    made = await make_key(crm, name="Website")
    assert await with_key(crm, made["key"], "GET /contacts/123") == await crm.call("GET /contacts/123")
    _, page = await crm.call("GET /api-keys?organization_id=456&name=Website")
    shown = {name: value for name, value in made.items() if name != "key"}
    assert not shown.keys() & {"uuid", "hash", "owned_by_user_id", "previous_prefix", "previous_hash"}
    assert [{**page["data"][0], "last_used_at": None}] == [shown]
    assert (await crm.call(f"PATCH /api-keys/{made['id']}", {"name": "Shop"}))[1]["name"] == "Shop"
    stored = str(await crm.rows(api_keys))
    assert made["key"] not in stored
    assert made["key"].removeprefix(made["prefix"]) not in stored
    refused(await crm.call("GET /api-keys?organization_id=456&$select[]=hash"), 400, "hash")
    selected = (await crm.call("POST /api-keys?$select[]=name", OURS))[1]
    assert set(selected) == {"id", "name", "key"}


async def test_the_text_of_a_key_is_stored_nowhere(crm: Crm) -> None:
    made = await make_key(crm)
    rotate = {"X-Service-Method": "rotate"}
    _, changed = await crm.call("POST /api-keys", OURS | {"id": made["id"]}, headers=rotate)
    tables = [await crm.app.get("database").execute(select(table)) for table in metadata.sorted_tables]
    assert [key in str(tables) for key in (made["key"], changed["key"])] == [False, False]


async def test_a_migration_takes_the_texts_of_keys_out_of_the_audit(demo_url: str) -> None:
    async with running(demo_url) as crm:
        await make_key(crm)
    downgrade(demo_url, "0022")
    with connect(demo_url) as connection, connection.begin():
        connection.exec_driver_sql("""UPDATE audit SET call = '{"id": null, "dispatch": {"key": "apex_secret"}}'""")
    upgrade(demo_url)
    async with running(demo_url) as crm:
        calls = [row["call"] for row in await crm.rows(audit) if row["service"] == "api-keys"]
        assert calls == [{"id": None}]


async def test_keys_are_for_admins(crm: Crm) -> None:
    for request, data in (
        ("GET /api-keys?organization_id=456", None),
        ("POST /api-keys", OURS),
        ("GET /api-keys/1", None),
    ):
        refused(await crm.call(request, data, 790), 403)
    refused(await crm.call("POST /api-keys", OURS | {"user_id": 791}), 400, "user_id")
    refused(await crm.call("POST /api-keys", OURS | {"hash": "x", "prefix": "y"}), 400, "hash", "prefix")


async def test_a_key_has_the_role_of_its_user(crm: Crm) -> None:
    memberships = crm.app.service("memberships")
    (mine,) = await memberships.find({"query": {"user_id": 790}, "paginate": False})
    await memberships.patch(mine["id"], {"role": "viewer"})
    key = (await make_key(crm, user_id=790))["key"]
    assert (await with_key(crm, key, "GET /contacts/123"))[0] == 200
    refused(await with_key(crm, key, "PATCH /contacts/123", {"last_name": "Roe"}), 403)
    await memberships.remove(mine["id"])
    await until_refused(crm, key)


async def test_a_key_is_rotated(crm: Crm) -> None:
    made = await make_key(crm, name="Website")
    rotate = {"X-Service-Method": "rotate"}
    status, changed = await crm.call("POST /api-keys", OURS | {"id": made["id"]}, headers=rotate)
    assert (status, changed["id"], changed["name"]) == (200, made["id"], "Website")
    assert await with_key(crm, made["key"], "GET /contacts") == (401, INVALID)
    assert (await with_key(crm, changed["key"], "GET /contacts"))[0] == 200
    refused(await crm.call("POST /api-keys", OURS | {"id": 99_999}, headers=rotate), 404)
    refused(await crm.call("POST /api-keys", OURS | {"id": made["id"]}, 790, headers=rotate), 403)


async def test_a_revoked_key_is_refused_at_once_and_in_another_process_when_its_cache_expires(
    crm: Crm, demo_url: str
) -> None:
    made = await make_key(crm)
    other = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(other) as http:
        there = Crm(other, http)
        for one in (crm, there):
            assert (await with_key(one, made["key"], "GET /contacts"))[0] == 200
        _, removed = await crm.call(f"DELETE /api-keys/{made['id']}")
        assert removed["deleted_at"]
        assert await with_key(crm, made["key"], "GET /contacts") == (401, INVALID)
        await until_refused(there, made["key"])


async def test_the_last_use_of_a_key_is_noted(crm: Crm) -> None:
    made = await make_key(crm)
    assert made["last_used_at"] is None
    await with_key(crm, made["key"], "GET /contacts")
    async with asyncio.timeout(SECONDS):
        while not (await crm.call(f"GET /api-keys/{made['id']}"))[1]["last_used_at"]:
            await asyncio.sleep(0.01)


async def test_a_socket_with_a_key_calls_and_hears_until_it_is_revoked(demo_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(app) as http:
        await load_demo(app)
        crm = Crm(app, http)
        # The user belongs to the other organization too; the key does not.
        await app.service("memberships").create({"organization_id": 457, "user_id": 789, "role": "admin"})
        made = await make_key(crm)
        async with connected(http, additional_headers={"x-api-key": made["key"]}) as peer:
            _, page = await peer.call("find", "contacts", {})
            assert page["total"] == 2
            (error,) = await peer.call("get", "contacts", 201, {})
            assert error["code"] == 403
            await crm.call("PATCH /contacts/201", {"last_name": "Unheard"}, 791)
            await crm.call("PATCH /contacts/123", {"last_name": "Heard"})
            name, contact = await peer.news()
            assert (name, contact["last_name"]) == ("contacts patched", "Heard")
            await crm.call(f"DELETE /api-keys/{made['id']}")
            await peer.ws.recv()  # The server says that the connection is over.
            await peer.send("42" + json.dumps(["find", "contacts", {}]))
            await peer.closed()


@pytest.mark.parametrize("way", ["rotate", "remove"])
async def test_revoking_a_key_closes_its_sockets_before_the_answer(crm: Crm, way: str) -> None:
    keys = [await make_key(crm), await make_key(crm)]
    mine, other = [await on_socket(crm, key["key"]) for key in keys]
    ended: list[Connection] = []
    crm.app.on("disconnect", ended.append)
    await crm.call(f"PATCH /api-keys/{keys[0]['id']}", {"name": "Shop"})
    assert ended == []
    service, id = crm.app.service("api-keys"), keys[0]["id"]
    await (service.rotate({"id": id, **OURS}) if way == "rotate" else service.remove(id))
    assert ended == [mine]
    assert other.authentication


async def on_socket(crm: Crm, key: str) -> Connection:
    """Return a connection that has logged in with a key."""
    connection = Connection(provider="socketio", headers={})
    crm.app.events.connections.add(connection)
    proof = {"strategy": "api-key", "key": key}
    await crm.app.service("authentication").create(proof, {"provider": "socketio", "connection": connection})
    return connection


async def test_a_socket_ends_when_its_key_is_revoked_in_another_process(demo_url: str) -> None:
    """The test has no Redis, which would send the news at once."""
    here, there = (create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url})) for _ in range(2))
    async with serving(here) as http, serving(there):
        await load_demo(here)
        made = await make_key(Crm(here, http))
        async with connected(http, additional_headers={"x-api-key": made["key"]}) as peer:
            await there.service("api-keys").remove(made["id"])
            while (frame := await peer.frame()).startswith('42["offset"'):
                pass
            assert frame == "41"


async def test_a_login_with_a_key_shows_only_its_user(crm: Crm) -> None:
    login = {"strategy": "api-key", "key": KEY}
    status, result = await crm.call("POST /authentication", login, None)
    assert (status, set(result), result["user"]["id"]) == (201, {"authentication", "user"}, 789)
    assert result["authentication"] == {"strategy": "api-key", "payload": {"sub": "789"}}
    refused(await crm.call("POST /authentication", login | {"key": KEY[:-1] + "x"}, None), 401)
    refused(await with_key(crm, KEY, "DELETE /authentication"), 400)


async def test_a_socket_logs_in_with_a_key(migrated_sqlite_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": migrated_sqlite_url}))
    async with serving(app) as http:
        await load_demo(app)
        async with connected(http) as peer:
            error, result = await peer.call("create", "authentication", {"strategy": "api-key", "key": KEY}, {})
            assert (error, result["user"]["id"]) == (None, 789)
            assert (await peer.call("find", "contacts", {}))[1]["total"] == 2


async def test_a_socket_with_a_wrong_key_is_refused(migrated_sqlite_url: str) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": migrated_sqlite_url}))
    async with serving(app) as http:
        with pytest.raises(AssertionError):
            async with connected(http, additional_headers={"x-api-key": KEY}):
                pass
