"""The log of an app, ``app.log``, which puts the other modules of the package together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextvars import Context
from datetime import datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from apex.log.follower import Follower, Handler
from apex.log.position import Position
from apex.log.reading import Entry, Filter, Read, Reading, reading_of
from apex.log.settings import Settings
from apex.log.stats import LogStats
from apex.log.writing import Fields, Writer
from apex.realtime.channels import Connection
from apex.sql.database import Database
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import is_in_transaction

if TYPE_CHECKING:
    from sqlalchemy import Table

    from apex.app import Apex

CURRENT_SECONDS = 1

CHANGED = "entries changed"
"""The topic with which a process tells all that entries have changed."""

T = TypeVar("T")

TenantsOf = Callable[[Connection], Collection[Any] | None]
"""A function that returns the tenants whose entries a connection may get. None means all."""

RightsChanges = Mapping[str, Callable[[Any, Connection], Any]]
"""By the path of a service, a function of a record and a connection.

It returns true if a change of the record changes what the user of the connection may see.
"""


class Log:
    """One ordered record of what happened, which sockets, other processes, integrators and webhooks read::

        position = await app.log.position()
        await app.service("notes").create({"text": "Hello"})
        entries, position, more = await app.log.read(position)

    A read gives each entry once, whatever transactions are open meanwhile. The entries of a record come in the order in
    which its states were stored. If there are ``more``, read on from the position of the page.

    ``follow`` hands on all entries while the app runs. ``stats`` counts what happens in this process.
    """

    def __init__(
        self,
        app: Apex,
        table: Table,
        settings: Settings,
        fields: Fields | None = None,
        tenants: TenantsOf | None = None,
        rights: RightsChanges | None = None,
    ) -> None:
        self.app: Apex = app
        self.database: Database = app.get("database")
        self.table: Table = table
        self.settings: Settings = settings
        self.tenants: TenantsOf | None = tenants
        self.rights: RightsChanges = rights or {}
        self.origin: str = token_hex(8)
        """The name of this process in its entries."""
        self.stats: LogStats = LogStats()
        self.writer: Writer = Writer(self, fields)
        self._reading: Reading = reading_of(self.database, table)
        self.follower: Follower = Follower(self._reading, self.stats)
        """The reader of this process, which gives ``watermark``."""
        self.commit_handlers: list[Callable[[], None]] = []
        self.forget_handlers: list[Callable[[], None]] = []
        """Functions that forget entries in memory, after entries were changed."""
        self.follow(self._forget_changed)

    @property
    def watermark(self) -> Position:
        """The position up to which this process has handled the entries. Raises RuntimeError before the setup."""
        if self.follower.position is None:
            raise RuntimeError("The log is followed from the setup of the app on")
        return self.follower.position

    @property
    def is_followed(self) -> bool:
        """True between the setup and the teardown of the app."""
        return self.follower.runs

    @property
    def is_current(self) -> bool:
        """True if the log was read less than a second ago: all earlier entries of other processes are handled."""
        read_at = self.stats.read_at
        return read_at is not None and time.monotonic() - read_at < CURRENT_SECONDS

    async def position(self) -> Position:
        """Return the position of now, after all entries that are committed. Raises Unavailable."""
        return await _outside(self._reading.position())

    async def beginning(self) -> Position:
        """Return the position before the oldest entry that is kept. Raises Unavailable."""
        return await _outside(self._reading.beginning())

    async def position_at(self, moment: datetime, *, tenants: Sequence[Any] | None = None) -> Position:
        """Return a position before all entries since a moment, perhaps before some that are a little older.

        With ``tenants``, the entries are those of these tenants. Raises Gone if some of them are no longer kept, and
        ValueError for tenants of a log without them.
        """
        return await _outside(self._reading.position_at(moment, Filter(tenants)))

    async def check(self, position: Position) -> None:
        """Check that all entries after a position can be read, which may be one that a client has sent.

        Raises Gone for a position of another or a restored database, one of the future, and one that is older than the
        oldest entry that is kept. Raises TypeError for a text.
        """
        _require_position(position)
        await _outside(self._reading.check(position))

    async def read(
        self,
        after: Position,
        *,
        tenants: Sequence[Any] | None = None,
        services: Sequence[str | None] | None = None,
        event: str | None = None,
        record_id: str | None = None,
        limit: int = 1000,
    ) -> Read:
        """Return at most ``limit`` entries after a position that are committed by now, and the position after them.

        A read ends earlier once its entries have 1 MiB of JSON, so that large records do not fill the memory.
        Among ``tenants``, None stands for entries without a tenant. Among ``services``, it stands for messages between
        processes. After a read from a position that somebody has sent or stored, call ``check`` with it: then all
        entries after it were there. Raises Gone for a position of another database, and ValueError for tenants of a
        log without them. Raises TypeError for the text of a position.
        """
        _require_position(after)
        if limit < 1:
            raise ValueError("limit must be at least 1")
        return await _outside(self._reading.read(after, Filter(tenants, services, event, record_id), limit))

    async def entries(self, ids: Sequence[int]) -> list[Entry]:
        """Return the entries with these ids that the log still has, in their order."""
        return await _outside(self._reading.entries(ids))

    def recent(
        self,
        after: Position,
        *,
        tenants: Collection[Any] | None = None,
        services: Collection[str | None] | None = None,
        limit: int | None = None,
    ) -> Read | None:
        """Return what ``read`` would up to the watermark, from memory, or None if not all of it is kept there.

        It keeps the last 10,000 entries, or 16 MiB of them, since the setup. Without a ``limit`` it returns all.
        """
        return self.follower.recent.after(after, self.watermark, tenants, services, limit)

    def follow(self, handler: Handler, lost: Callable[[], None] | None = None) -> None:
        """Call a function with all entries from now on, of all processes, this one too: each entry once and in order.

        ``lost`` is called if entries are missing, since the log was pruned during an outage or the database was
        restored. What the handler knows may then be wrong.
        """
        if handler not in self.follower.handlers:
            self.follower.handlers.append(handler)
        if lost is not None and lost not in self.follower.lost:
            self.follower.lost.append(lost)

    async def catch_up(self) -> None:
        """Read now, and return when all entries that were committed before the call are handled.

        Calls that wait share a read. Raises Unavailable during an outage.
        """
        await self.follower.catch_up()

    def wake(self) -> None:
        """Read soon, as somebody has committed. Several calls within 5 milliseconds are one."""
        self.follower.wake()

    async def flush(self) -> None:
        """Write the entries of the transaction around this call now. Else they are written just before its commit.

        It is for changes of the entries themselves, such as the erasure of a person. After the commit, every process
        forgets the entries that it keeps in memory, so that nobody gets them as they were.
        """
        message = self.writer.message(CHANGED, None)
        if not self.writer.collect(message):
            await self.writer.write([message])
        await self.database.write_collected()

    def _forget_changed(self, entries: list[Entry]) -> None:
        if any(entry.service is None and entry.event == CHANGED for entry in entries):
            self.follower.recent.forget()
            for function in self.forget_handlers:
                function()

    def on_commit(self, function: Callable[[], None]) -> None:
        """Call a function whenever this process has committed entries, to wake other processes.

        This process is not woken: it knows its own changes, and reading after each of them would cost more than them.
        """
        self.commit_handlers.append(function)

    async def open(self) -> None:
        """Start to follow. Called by the setup of the app."""
        await self.follower.start()

    async def close(self) -> None:
        """Stop following. Called by the teardown of the app."""
        await self.follower.stop()


async def _outside(reading: Coroutine[Any, Any, T]) -> T:
    """Await a read of all tenants, which ``tenants`` limits, outside of a transaction around it.

    Inside, it would find entries that may be undone.
    """
    if is_in_transaction():
        return await asyncio.create_task(reading, context=Context())
    with tenant_context(ALL_TENANTS):
        return await reading


def _require_position(position: Any) -> None:
    if not isinstance(position, Position):
        raise TypeError(f"takes a Position: Position.parse(text), and not {type(position).__name__}")
