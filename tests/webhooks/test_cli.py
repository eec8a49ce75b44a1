"""The commands ``apex webhooks``: they list webhooks, and send a test message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from apex.cli.commands import apex
from tests.webhooks.apps import add_webhook, running, team_app

APP = """
from apex.common import required
from tests.webhooks.apps import team_app

def create_app():
    app = team_app({!r})
    app.service("webhooks").hooks({{"before": {{"test": [required("id", "team_id")]}}}})
    return app
"""


class Thanks(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"thanks")

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    """Return the URL of a receiver in a thread."""
    server = HTTPServer(("127.0.0.1", 0), Thanks)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def called(*arguments: str) -> Result:
    return CliRunner().invoke(apex, ["--app", "teams_with_webhooks:create_app", "webhooks", *arguments])


def test_webhooks_are_listed_and_tested(
    sqlite_url: str, receiver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare() -> None:
        async with running(team_app(sqlite_url)) as app:
            await add_webhook(app, receiver, "notes created")
            await add_webhook(app, "https://nobody.example/", "*")

    (tmp_path / "teams_with_webhooks.py").write_text(APP.format(sqlite_url), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    asyncio.run(prepare())
    assert called("list").output.splitlines() == [
        f"1  {receiver}  notes created  nothing sent yet",
        "2  https://nobody.example/  *  nothing sent yet",
    ]
    taken = called("test", "1", "--json")
    assert (taken.exit_code, json.loads(taken.output)["answer"]) == (0, "thanks")
    refused = called("test", "2")
    assert (refused.exit_code, "Not delivered: The host was not found" in refused.output) == (1, True)
    assert "there is no webhook 9" in str(called("test", "9").exception)
