"""Calls that wait for an entry of the log. The follower offers them its entries, so waiting costs no queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from apex.app import Apex
from apex.log.reading import Entry
from apex.log.stats import LogStats
from apex.realtime.channels import Connection

MOST_WAITING = 10_000
"""The most calls of a process that wait. Others are answered at once."""

Wants = Callable[[Entry], bool]

EVERY = object()
"""The key of the calls that wait for entries of all tenants."""


class Waiter:
    """A call that waits for entries until a moment of the event loop's time, or until its client goes away."""

    def __init__(self, ends: float, connection: Connection | None, wants: Wants, stats: LogStats) -> None:
        self.ends: float = ends
        self.connection: Connection | None = connection
        self.wants: Wants = wants
        self.stats: LogStats = stats
        self.is_over: bool = False
        self._is_wanted = False
        self._woken = asyncio.Event()

    def offer(self, entry: Entry) -> None:
        """Wake the call for an entry that it wants."""
        if not self._is_wanted and self.wants(entry):
            self._is_wanted = True
            self._woken.set()

    def end(self) -> None:
        """End the wait."""
        self.is_over = True
        self._woken.set()

    async def wait(self) -> bool:
        """Wait for entries. Return True if there are some that the call wants, and False at the end of the wait."""
        self.stats.waiting += 1
        try:
            async with asyncio.timeout_at(self.ends):
                await self._woken.wait()
        except TimeoutError:
            self.is_over = True
        finally:
            self.stats.waiting -= 1
        self._woken.clear()
        is_wanted, self._is_wanted = self._is_wanted, False
        return is_wanted


class Waiting:
    """The calls of a process that wait, by the tenants whose entries they wait for."""

    def __init__(self, app: Apex, stats: LogStats) -> None:
        self.stats: LogStats = stats
        self.waiters: set[Waiter] = set()
        self.is_open: bool = False
        self._by_tenant: dict[Any, set[Waiter]] = {}
        app.on("disconnect", self.leave)
        app.on("shutdown", self.close)

    @contextmanager
    def waiter(
        self,
        seconds: float,
        tenants: Sequence[Any] | None,
        connection: Connection | None,
        wants: Wants,
    ) -> Iterator[Waiter]:
        """Let a call wait inside of ``with``. ``tenants`` is None for the entries of all tenants."""
        waiter = Waiter(asyncio.get_running_loop().time() + seconds, connection, wants, self.stats)
        if not self.is_open or len(self.waiters) >= MOST_WAITING:
            waiter.end()
        keys = [EVERY] if tenants is None else list(dict.fromkeys(tenants))
        self.waiters.add(waiter)
        for key in keys:
            self._by_tenant.setdefault(key, set()).add(waiter)
        try:
            yield waiter
        finally:
            self.waiters.discard(waiter)
            for key in keys:
                waiters = self._by_tenant[key]
                waiters.discard(waiter)
                if not waiters:
                    del self._by_tenant[key]

    def offer(self, entries: Sequence[Entry]) -> None:
        """Offer entries to the calls that wait for those of their tenants."""
        if not self.waiters:
            return
        for entry in entries:
            for key in (entry.tenant, EVERY):
                for waiter in self._by_tenant.get(key, ()):
                    waiter.offer(entry)

    def leave(self, connection: Connection) -> None:
        """End the waits of a connection that is closed."""
        for waiter in self.waiters:
            if waiter.connection is connection:
                waiter.end()

    def end_all(self) -> None:
        """End all waits."""
        for waiter in self.waiters:
            waiter.end()

    def open(self) -> None:
        """Let calls wait."""
        self.is_open = True

    def close(self) -> None:
        """Let no more calls wait, before the server stops."""
        self.is_open = False
        self.end_all()
