"""Readers of the log on PostgreSQL, while transactions begin, write, undo and commit in any order."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex.log import Log, Position
from tests.log.entries import opened

WRITERS, RECORDS = 4, 3
INSERT = """
INSERT INTO log (xid, origin, created_at, service, event, record_id, record, team)
VALUES (pg_current_xact_id()::text::bigint, 'test', clock_timestamp(), 'notes', 'patched', %s, '{}', %s) RETURNING id
"""

writers, records = st.integers(0, WRITERS - 1), st.integers(0, RECORDS - 1)
steps = st.one_of(
    st.tuples(st.just("write"), writers, records),
    st.tuples(st.just("write"), writers, records),
    st.tuples(st.just("commit"), writers),
    st.tuples(st.just("roll_back"), writers),
    st.tuples(st.just("savepoint"), writers),
    st.tuples(st.just("undo"), writers),
    st.tuples(st.just("read"), st.integers(0, 9), st.integers(1, 4)),
    st.tuples(st.just("new_reader"), st.sampled_from([None, [0], [1, None], [0, 1]])),
)


class Writer:
    """A connection with at most one transaction. ``locked`` are the records whose rows it has changed."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.written: list[tuple[int, int]] = []
        self.locked: set[int] = set()
        self.before_savepoint: int | None = None

    def write(self, record: int) -> None:
        found = self.connection.execute(INSERT, (str(record), _team(record))).fetchone()
        assert found is not None
        self.written.append((found[0], record))
        self.locked.add(record)

    def savepoint(self) -> None:
        self.connection.execute("SAVEPOINT one")
        self.before_savepoint = len(self.written)

    def undo(self) -> None:
        """Undo what was written since the savepoint. The locks stay, which is stricter than PostgreSQL."""
        if self.before_savepoint is not None:
            self.connection.execute("ROLLBACK TO one")
            del self.written[self.before_savepoint :]

    def end(self, commits: bool) -> list[tuple[int, int]]:
        (self.connection.commit if commits else self.connection.rollback)()
        written, self.written = self.written, []
        self.locked, self.before_savepoint = set(), None
        return written if commits else []


class Reader:
    """A reader with its filter, what it has read, and what it has still to read."""

    def __init__(self, position: Position, teams: list[int | None] | None) -> None:
        self.position, self.teams = str(position), teams
        self.read: list[tuple[int, int]] = []
        self.expected: set[tuple[int, int]] = set()

    async def page(self, log: Log, limit: int) -> bool:
        read = await log.read(Position.parse(self.position), tenants=self.teams, limit=limit)
        assert len(read.entries) <= limit
        self.read += [(entry.id, int(entry.record_id or 0)) for entry in read.entries]
        self.position = str(read.position)
        await log.check(read.position)
        return read.more

    def add(self, committed: list[tuple[int, int]]) -> None:
        self.expected |= {one for one in committed if self.teams is None or _team(one[1]) in self.teams}


def _team(record: int) -> int | None:
    return (0, 1, None)[record]


class Run:
    """One interleaving. A writer that would have to wait for the lock of a record does nothing instead."""

    def __init__(self, log: Log, connections: list[psycopg.Connection[Any]]) -> None:
        self.log = log
        self.writers = [Writer(connection) for connection in connections]
        self.readers: list[Reader] = []

    async def step(self, name: str, *values: Any) -> None:
        if name == "new_reader":
            self.readers.append(Reader(await self.log.position(), *values))
        elif name == "read":
            place, limit = values
            if self.readers:
                await self.readers[place % len(self.readers)].page(self.log, limit)
        else:
            writer = self.writers[values[0]]
            if name == "write" and not any(values[1] in one.locked for one in self.writers if one is not writer):
                writer.write(values[1])
            elif name in ("commit", "roll_back"):
                self.end(writer, name == "commit")
            elif name in ("savepoint", "undo"):
                getattr(writer, name)()

    def end(self, writer: Writer, commits: bool) -> None:
        committed = writer.end(commits)
        for reader in self.readers:
            reader.add(committed)

    async def finish(self) -> None:
        for writer in self.writers:
            self.end(writer, commits=True)
        for reader in self.readers:
            while await reader.page(self.log, 2):
                pass
            # The second read follows the transactions that ended during the pages of the first one.
            while await reader.page(self.log, 2):
                pass
            assert len(reader.read) == len(set(reader.read))
            assert set(reader.read) == reader.expected
            for record in range(RECORDS):
                ids = [id for id, of in reader.read if of == record]
                assert ids == sorted(ids)


def test_every_committed_entry_is_read_once_and_in_order(postgres_url: str) -> None:
    with asyncio.Runner() as runner, ExitStack() as stack:
        opening = opened(postgres_url)
        log = runner.run(opening.__aenter__())
        connections = [stack.enter_context(psycopg.connect(postgres_url)) for _ in range(WRITERS)]

        @settings(max_examples=150, suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, min_size=5, max_size=60))
        def holds(taken: list[Any]) -> None:
            async def run() -> None:
                one = Run(log, connections)
                try:
                    await one.step("new_reader", None)
                    for step in taken:
                        await one.step(*step)
                    await one.finish()
                finally:
                    for writer in one.writers:
                        writer.end(commits=False)

            runner.run(run())

        try:
            holds()
        finally:
            runner.run(opening.__aexit__(None, None, None))
