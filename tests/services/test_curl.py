"""The curl commands of the contract, run as they are printed with an address and a token."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from apex import load_config
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo
from tests.services.crm import CONTACT, Crm
from tests.support.serving import serving

COMMANDS = (Path(__file__).parent / "reference" / "achieveapex.sh").read_text().strip().split("\n\n")

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="needs curl: apt install curl"
)


async def run(command: str, folder: Path) -> tuple[int, Any]:
    """Return status and body of the answer that curl gets."""
    (folder / ".curlrc").write_text('silent\nwrite-out = "\\n%{http_code}"\n')
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, env={**os.environ, "CURL_HOME": str(folder)}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    body, _, status = output.decode().rpartition("\n")
    return int(status), json.loads(body)


async def test_the_commands_of_the_reference(demo_url: str, tmp_path: Path) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": demo_url}))
    async with serving(app) as http:
        await load_demo(app)
        token, url = Crm(app, http).token(789), str(http.base_url).rstrip("/")
        answers = [
            await run(command.replace("https://api.achieveapex.com", url).replace("YOUR_JWT_TOKEN", token), tmp_path)
            for command in COMMANDS
        ]
    assert [status for status, _ in answers] == [200, 200, 201, 200, 200, 200]
    listed, got, created, patched, removed, found = (body for _, body in answers)
    assert [(contact["id"], contact["company"]["name"]) for contact in listed["data"]] == [
        (124, "Sample Inc"),
        (123, "Example Corp"),
    ]
    assert (got["email"], created["email"]) == ("john.doe@example.com", "jane.smith@example.com")
    assert (patched["email"], patched["phone"], patched["company_id"]) == (
        "john.updated@example.com",
        "5551234567",
        102,
    )
    assert (removed["id"], bool(removed["deleted_at"])) == (123, True)
    assert (found["limit"], [contact["first_name"] for contact in found["data"]]) == (5, ["Johnny"])
    assert all(set(contact) == CONTACT for contact in (got, created, patched, removed, *found["data"]))
