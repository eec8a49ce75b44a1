"""Tests of the memory of a server."""

from __future__ import annotations

import httpx2

from tests.process.commands import apex_here, server

NOT_FOR_SERVING = {"alembic", "mako", "redis", "aiohttp.client"}


def test_serving_loads_no_library_that_it_has_no_use_for(demo_url: str) -> None:
    production = {"APEX_ENV": "production", "APEX_SECRET": "0123456789abcdef" * 4, "DATABASE_URL": demo_url}
    token = apex_here("token", "admin@example.com", **production).stdout.strip()
    arguments = "--app", "tests.process.loaded:create_app", "serve"
    with server(*arguments, **production) as (_, url), httpx2.Client(base_url=url) as client:
        found = client.get("/contacts?organization_id=456", headers={"Authorization": f"Bearer {token}"})
        assert found.raise_for_status().json()["data"]
        assert client.get("/socket.io/?EIO=4&transport=polling").status_code == 200
        loaded = set(client.get("/loaded").raise_for_status().json())
    assert "socketio.async_server" in loaded
    assert NOT_FOR_SERVING & loaded == set()
