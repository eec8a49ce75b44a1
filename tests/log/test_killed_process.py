"""A process that is killed after a commit: the events of the write are sent all the same, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.process.commands import server_in
from tests.support.sockets import connected

APP = """
import os, signal
from sqlalchemy import Column, Integer, MetaData, String, Table
from apex import Apex, Context, SQLService, database, rest, sockets
from apex.common import answers_table, idempotent
from apex.log import log, log_table

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(50)))
answers, entries = answers_table(metadata), log_table(metadata)

def die(context: Context) -> None:
    if "DIES" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)

async def create_tables(context, next):
    await next()
    await app.get("database").create_all(metadata)

app = Apex({"port": 0}).configure(database(os.environ["DATABASE_URL"])).configure(log(entries))
app.configure(rest).configure(sockets)
app.on("connection", lambda connection: app.channel("all").join(connection))
app.publish(lambda data, context: app.channel("all"))
app.hooks({"setup": [create_tables]})
app.hooks({"after": {"create": [die]}})  # After the commit, and before the event.
app.use("notes", SQLService(notes), hooks={"around": {"all": [idempotent(answers, lambda context: "me")]}})

def create_app() -> Apex:
    return app
"""
KEY = {"Idempotency-Key": "1"}


async def note_of(peer: Any) -> list[Any]:
    """Return the next event of a note."""
    while (event := await peer.event())[0] == "offset":
        pass
    return list(event[:2])


async def test_the_event_of_a_killed_process_is_sent_by_another_one_once(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    options = {"DATABASE_URL": empty_url, "PYTHONPATH": str(tmp_path)}
    with server_in(tmp_path, "--app", "app:create_app", "serve", **options) as (_, url):
        async with httpx2.AsyncClient(base_url=url) as http, connected(http) as peer:
            with server_in(tmp_path, "--app", "app:create_app", "serve", DIES="1", **options) as (_, killed):
                async with httpx2.AsyncClient(base_url=killed) as other:
                    with pytest.raises(httpx2.TransportError):
                        await other.post("/notes", json={"text": "a"}, headers=KEY)
            assert await note_of(peer) == ["notes created", {"id": 1, "text": "a"}]
            again = await http.post("/notes", json={"text": "a"}, headers=KEY)
            assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
            await http.post("/notes", json={"text": "b"})
            assert await note_of(peer) == ["notes created", {"id": 2, "text": "b"}]
