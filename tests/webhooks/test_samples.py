"""The receivers of the guide take the messages of an app, once each, and refuse those of others."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from apex import Params
from apex.service import Call
from tests.docs.blocks import blocks_of
from tests.interop.node import NODE, needs_node
from tests.support.databases import free_port
from tests.webhooks.apps import ANN, add_notes, by, running, team_app, until

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "webhooks.md"
RECEIVERS = [
    pytest.param("# receiver.py", sys.executable, id="python"),
    pytest.param("// receiver.mjs", NODE or "", id="node", marks=needs_node),
]


@asynccontextmanager
async def sample(folder: Path, head: str, program: str, secret: str, port: int) -> AsyncIterator[asyncio.StreamReader]:
    """Run a receiver of the guide, and yield what it prints."""
    [text] = [block.text for block in blocks_of(PAGE) if block.head == head]
    file = folder / head.split()[1]
    file.write_text(text.replace("3031", str(port)), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program, str(file), env={**os.environ, "WEBHOOK_SECRET": secret}, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).startswith(b"Serving at")
        yield process.stdout
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.mark.parametrize(("head", "program"), RECEIVERS)
async def test_a_receiver_of_the_guide(sqlite_url: str, tmp_path: Path, head: str, program: str) -> None:
    port = free_port()
    url = f"http://localhost:{port}/hooks"
    async with running(team_app(sqlite_url)) as app:
        data = {"team_id": 7, "url": url, "events": ["notes created"]}
        call = Call(app.service("webhooks"), "create", data=data, params=Params(by(ANN)))
        webhook = (await app.call(call)).external
        async with sample(tmp_path, head, program, webhook["secret"], port) as printed, httpx2.AsyncClient() as http:
            await add_notes(app, "one")
            assert b"one" in await printed.readline()
            await until(app, webhook["id"], lambda row: row["last_success_at"])
            await app.service("webhooks").replay({"id": webhook["id"], "since": "2026-01-01"}, by(ANN))
            await add_notes(app, "two")
            assert b"two" in await printed.readline()  # The repeated one is not printed again.
            forged = {"webhook-id": "9", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
            assert (await http.post(url, headers=forged, content=b"{}")).status_code == 401
