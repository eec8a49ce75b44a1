"""A state machine that looks for short stories after which a client shows something else than ``find`` gives.

Two processes of an app are two apps with one database here, so that an example takes a fraction of a second.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, SQLService, database, rest, sockets
from apex.errors import Conflict, NotFound
from apex.log import log, log_table
from apex.testing import Oracle
from tests.support.serving import listening

metadata = MetaData()
entries = log_table(metadata)
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(10)))
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "12"))
SETTLE_SECONDS = 10
PROCESSES = st.integers(0, 1)
PLACES = st.integers(0, 2)
TEXTS = st.sampled_from("abcdef")


def app_of(url: str) -> Apex:
    """Return one process of the app."""
    app = Apex().configure(database(url)).configure(log(entries)).configure(rest).configure(sockets)
    app.use("notes", SQLService(notes, multi=True))
    app.on("connection", app.channel("all").join)
    return app.publish(lambda data, context: app.channel("all"))


class Machine(RuleBasedStateMachine):
    """Writes of two processes, transactions that stay open, and connections that break."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.writing: list[asyncio.Task[Any]] = []
        self.held: list[asyncio.Event] = []
        self.runner.run(self.start())

    async def start(self) -> None:
        self.apps = [app_of(self.url) for _ in range(2)]
        urls = [await self.stack.enter_async_context(listening(app)) for app in self.apps]
        # Each new connection goes to the other process.
        ports = itertools.cycle(int(url.rpartition(":")[2]) for url in urls)
        tables = self.apps[0].get("database")
        await tables.create_all(metadata)
        await tables.execute(notes.delete())
        made = await self.apps[0].service("notes").create([{"text": "-"}] * 3)
        self.ids = [note["id"] for note in made]
        self.oracle = await self.stack.enter_async_context(Oracle(urls[0], ["notes"]))
        self.oracle.address = lambda: ("127.0.0.1", next(ports))
        await self.oracle.follow()
        await self.oracle.follow()
        await self.oracle.compare(within=SETTLE_SECONDS)

    def do(self, write: Coroutine[Any, Any, Any]) -> None:
        """Begin a write, which may have to wait for a transaction that is open."""

        async def begin() -> None:
            self.writing.append(asyncio.create_task(write))
            await asyncio.wait(self.writing, timeout=0.01)

        self.runner.run(begin())

    @rule(process=PROCESSES, place=PLACES, text=TEXTS)
    def patch(self, process: int, place: int, text: str) -> None:
        self.do(self.apps[process].service("notes").patch(self.ids[place], {"text": text}))

    @rule(process=PROCESSES, text=TEXTS)
    def patch_all(self, process: int, text: str) -> None:
        self.do(self.apps[process].service("notes").patch(None, {"text": text}))

    @rule(process=PROCESSES, place=PLACES)
    def remove(self, process: int, place: int) -> None:
        self.do(self.apps[process].service("notes").remove(self.ids[place]))

    @rule(process=PROCESSES, text=TEXTS)
    def create(self, process: int, text: str) -> None:
        self.do(self.apps[process].service("notes").create({"text": text}))

    @precondition(lambda self: self.url.startswith("postgresql") and len(self.held) < 2)
    @rule(process=PROCESSES, place=PLACES, text=TEXTS)
    def hold(self, process: int, place: int, text: str) -> None:
        """Patch in a transaction that stays open. Others that write the same record wait for it."""
        go = asyncio.Event()
        self.held.append(go)
        app = self.apps[process]

        async def write() -> None:
            async with app.get("database").transaction():
                await app.service("notes").patch(self.ids[place], {"text": text})
                await go.wait()

        self.do(write())

    @precondition(lambda self: self.held)
    @rule()
    def commit(self) -> None:
        self.held.pop(0).set()

    @rule()
    def cut(self) -> None:
        for proxy in self.oracle.proxies.values():
            proxy.cut()

    @rule()
    def quiet(self) -> None:
        self.runner.run(self.compare())

    async def compare(self) -> None:
        while self.held:
            self.held.pop(0).set()
        ended = await asyncio.gather(*self.writing, return_exceptions=True)
        self.writing.clear()
        for error in ended:
            # The record may have been removed, or the database has ended a deadlock of two writes of many.
            if isinstance(error, BaseException) and not isinstance(error, NotFound | Conflict):
                raise error
        await self.oracle.compare(within=SETTLE_SECONDS)

    def teardown(self) -> None:
        try:
            self.quiet()
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()


def test_no_short_story_misses_anything(empty_url: str) -> None:
    machine = type("Machine", (Machine,), {"url": empty_url})
    quick = settings(max_examples=EXAMPLES, stateful_step_count=15, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=quick)
