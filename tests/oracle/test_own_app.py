"""Tests of the oracle with an app as users have it, in a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from apex.errors import Unavailable
from apex.testing import Missed, Oracle

CHAT = """
from sqlalchemy import Column, Integer, MetaData, String, Table
from apex import Apex, SQLService, database, rest, sockets
from apex.log import log, log_table

metadata = MetaData()
entries = log_table(metadata)
messages = Table("messages", metadata, Column("id", Integer, primary_key=True), Column("text", String(200)))

def create_app():
    app = Apex().configure(database("sqlite:///chat.db")).configure(log(entries))
    app.configure(rest).configure(sockets).use("messages", SQLService(messages))
    app.on("connection", app.channel("all").join)
    return app.publish(publisher)

def publisher(message, context):
    return context.app.channel("all")
"""
FORGETFUL = CHAT.replace('channel("all")\n', 'channel("all") if "b" not in message["text"] else None\n')


def serve(folder: Path, source: str) -> list[str]:
    """Write an app into a folder, with its database, and return the command that serves it."""
    (folder / "chat.py").write_text(source)
    names: dict[str, Any] = {}
    exec(source, names)
    engine = create_engine(f"sqlite:///{folder}/chat.db")
    names["metadata"].create_all(engine)
    engine.dispose()
    return [sys.executable, "-m", "apex", "--app", "chat:create_app", "serve", "--port", "{port}"]


async def write(client: Any, choose: Any) -> None:
    message = await client.service("messages").create({"text": "new"})
    await client.service("messages").patch(message["id"], {"text": choose.choice("abc")})


async def test_clients_of_an_app_miss_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Oracle(serve(tmp_path, CHAT), ["messages"]) as oracle:
        await oracle.follow()
        await oracle.follow()
        await oracle.run(write, seconds=3, seed=4)


class Slow(Oracle):
    """An oracle whose server answers no write before the first comparison."""

    is_back = False

    async def compare(self, within: float = 30) -> None:
        await super().compare(within)
        self.is_back = True


async def test_a_run_goes_on_until_the_server_has_answered_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write_late(client: Any, choose: Any) -> None:
        if not slow.is_back:
            raise Unavailable("The server is starting")
        await write(client, choose)

    monkeypatch.chdir(tmp_path)
    slow = Slow(serve(tmp_path, CHAT), ["messages"])
    async with slow:
        await slow.follow()
        await slow.run(write_late, seconds=0.1, seed=4)
    assert slow.writes


async def test_an_event_that_is_not_sent_is_told_with_its_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Oracle(serve(tmp_path, FORGETFUL), ["messages"]) as oracle:
        await oracle.follow()
        client = oracle.writers[0]
        message = await client.service("messages").create({"text": "a"})
        await oracle.compare()
        await client.service("messages").patch(message["id"], {"text": "b"})
        with pytest.raises(Missed, match="messages 1: for client 1, text is 'a' and not 'b'"):
            await oracle.compare(within=0.1)
