"""The oracle with a new project: users join and leave organizations while clients follow what they may read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from apex.client import Client, rest
from apex.testing import Oracle
from tests.process.commands import apex_here_in

SERVE = [sys.executable, "-m", "apex", "serve", "--port", "{port}"]
ANN, BOB = [{"email": f"{name}@example.com", "password": "correct horse"} for name in ("ann", "bob")]


async def test_clients_show_what_their_roles_allow_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apex_here_in(tmp_path, "new", "blog", "--tenants").returncode == 0
    database = {"DATABASE_URL": f"sqlite:///{tmp_path}/blog.db", "APEX_ENV": "development"}
    assert apex_here_in(tmp_path / "blog", "migrate", **database).returncode == 0
    monkeypatch.chdir(tmp_path / "blog")
    async with Oracle(SERVE, ["messages"], environ=database) as oracle:
        async with Client(rest(oracle.url)) as guest:
            for user in (ANN, BOB):
                await guest.service("users").create(user)
        await oracle.follow(strategy="local", **ANN)
        bob = await oracle.follow(strategy="local", **BOB)
        ann = oracle.writers[0]

        async def shown() -> list[Any]:
            await oracle.compare()
            return list(bob.views["messages"].records)

        made = await ann.service("organizations").create({"name": "Ann Ltd"})
        await ann.service("messages").create({"organization_id": made["id"], "text": "Hello"})
        assert await shown() == []
        member = {"organization_id": made["id"], "email": BOB["email"], "role": "viewer"}
        membership = await ann.service("memberships").create(member)
        assert await shown() == [1]
        await ann.service("memberships").remove(membership["id"])
        assert await shown() == []
        await ann.service("memberships").create(member)
        assert await shown() == [1]
        await ann.service("organizations").remove(made["id"])
        assert await shown() == []
