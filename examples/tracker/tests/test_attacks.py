"""Attacks: no method shows or changes what another project has."""

import pytest
from httpx2 import AsyncClient

from apex import Apex, load_config
from apex.testing import Attacks, attackable
from services.app import CONFIG, create_app

RECORDS = {
    "projects": lambda made, text: {"key": text[:6], "name": text},
    "labels": lambda made, text: {"name": text, "project_id": made["projects"]["id"]},
    "issues": lambda made, text: {"title": text, "project_id": made["projects"]["id"]},
    "comments": lambda made, text: {"text": text, "issue_id": made["issues"]["id"]},
}
CONFIGURATION = load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": "sqlite:///var/test.db"})


@pytest.mark.parametrize(("path", "method"), attackable(create_app(CONFIGURATION)))
async def test_a_method_gives_nothing_away(
    app: Apex, ann: AsyncClient, bob: AsyncClient, path: str, method: str
) -> None:
    attacks = await Attacks.prepare(app, victim=bob, attacker=ann, records=RECORDS, tenant="project_id")
    theirs, ours = [(await client.get("/members")).json()["data"][0] for client in (bob, ann)]
    await attacks.add("members", theirs=theirs["id"], ours=ours["id"])
    await attacks.add("users", theirs=theirs["user_id"], ours=ours["user_id"])
    assert await attacks.run(path, method), f"add a line for '{path}' to RECORDS"
