"""The dispatcher of a process: it notices which webhooks have something to send, and claims them for couriers.

Two things happen in each process, independently of each other:

- **New entries are noticed.** The table ``webhook_progress`` has the position up to which the entries of the log are
  known. A process reads from there, marks the webhooks that the entries are for as due, and moves the position, all in
  one transaction. If two processes do so at once, one of them finds the position moved and leaves it at that.
- **Due webhooks are claimed** and sent for. A webhook has its own position, so an entry costs no row until it is sent.
  A claim is a lease: after 30 seconds without a sign of life another process goes on, from the stored position.

So each entry is sent at least once. It is sent again, with the same ``webhook-id``, if a process dies between an
answer and the storing of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apex.callbacks import Backoff, end_tasks
from apex.common.fields import now
from apex.encoding import encode
from apex.errors import ConfigError, Gone, Unavailable
from apex.log.app_log import Log
from apex.log.position import Position
from apex.log.reading import Entry, Read
from apex.log.stats import WebhookStats
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from apex.webhooks.courier import Courier
from apex.webhooks.sender import Answer, Sender
from apex.webhooks.signatures import signed_headers
from apex.webhooks.store import LEASE, Store
from apex.webhooks.subscriptions import Subscription

if TYPE_CHECKING:
    from apex.webhooks.service import Webhooks

log: logging.Logger = logging.getLogger("apex")

LOOK_SECONDS = 1.0
"""The longest time until a process looks for work that other processes have left."""
GATHER_SECONDS = 0.02
"""The time for which entries are gathered, so that a busy app looks at many of them at once."""
PROGRESS_SECONDS = 60.0
"""The time after which the progress moves on without entries, so that it does not become too old for the log."""
COUNT_SECONDS = 15.0
"""The time after which the messages that wait are counted again, for metrics."""
PAGE = 1_000
"""The entries that are looked at together."""
HELD, HELD_OF_TENANT = 16, 4
"""The webhooks for which a process sends at the same time, in all and of one tenant.

So the receivers of one tenant, however slow, do not keep the messages of others waiting.
"""
STOP_SECONDS = 5.0
"""The time that the messages under way get for their answers when a process ends."""


class Dispatcher:
    """The part of a service for webhooks that works from the setup of the app to its teardown."""

    def __init__(self, service: Webhooks) -> None:
        self.service: Webhooks = service
        self.log: Log = service.log
        self.sender: Sender = Sender(service.addresses, verify=service.verify)
        self.store: Store = Store(service.database, service.table)
        self.held: dict[asyncio.Task[None], Row] = {}
        """The webhooks that are sent for."""
        self.is_stopping: bool = False
        self.stats: WebhookStats = WebhookStats()
        self._counted_at = float("-inf")
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._moved_at = float("-inf")
        self._is_used = False
        self._may_have_lost = False

    async def start(self) -> None:
        """Begin to look for work."""
        self.log.stats.webhooks = self.stats
        self.log.follow(self._followed)
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Let the messages under way end, for at most 5 seconds, and release all webhooks."""
        self.is_stopping = True
        if self._task is not None:
            await end_tasks([self._task])
            self._task = None
        if self.held:
            await asyncio.wait(self.held, timeout=STOP_SECONDS)
        await end_tasks(self.held)
        await self.sender.close()

    def wake(self) -> None:
        """Look for work soon."""
        self._called.set()

    def wake_at(self, moment: datetime) -> None:
        """Look for work at a moment, if that is sooner than this process looks for it in any case."""
        seconds = (moment - now()).total_seconds()
        if seconds < LOOK_SECONDS:
            asyncio.get_running_loop().call_later(seconds, self._called.set)

    def _followed(self, entries: list[Entry]) -> None:
        if self.held and any(entry.service == self.service.path for entry in entries):
            self._may_have_lost = True
            self._called.set()
        # The entries of other processes are theirs to look at, unless they fail to do so within a second.
        if any(entry.origin == self.log.origin and entry.service is not None for entry in entries):
            self._called.set()

    async def _work(self) -> None:
        backoff: Backoff | None = None
        renewed = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._called.wait()
                    await asyncio.sleep(GATHER_SECONDS)
            self._called.clear()
            try:
                with tenant_context(ALL_TENANTS):
                    if self.held and (self._may_have_lost or time.monotonic() - renewed > LEASE.total_seconds() / 3):
                        renewed, self._may_have_lost = time.monotonic(), False
                        await self._renew()
                    while await self._notice():
                        pass
                    if self._is_used:
                        await self._claim()
                        await self._count()
            except Exception:
                if backoff is None:
                    log.exception("Webhooks cannot be delivered now, trying again")
                    backoff = Backoff()
                await backoff.wait()
            else:
                backoff = None

    async def _renew(self) -> None:
        """Hold the webhooks longer, and stop sending for those that were changed: the next process waits for that."""
        holders = {task: row["holder"] for task, row in self.held.items() if row["holder"] is not None}
        kept = await self.store.renew(list(holders.values()))
        for task, holder in holders.items():
            if holder not in kept:
                task.cancel()

    async def _count(self) -> None:
        """Count the messages that wait, from time to time."""
        if time.monotonic() - self._counted_at > COUNT_SECONDS:
            self.stats.waiting = await self.store.count_waiting()
            self._counted_at = time.monotonic()

    # New entries.

    async def _notice(self) -> bool:
        """Mark the webhooks that new entries are for as due. Return True if there are more entries."""
        text = await self.store.read_progress()
        self._is_used = text is not None
        if text is None:
            return False  # There has never been a webhook.
        begin = Position.parse(text)
        read = await self._read(begin)
        if read is None:
            await self._lose(text)
            return True
        if not read.entries and time.monotonic() - self._moved_at < PROGRESS_SECONDS:
            return False
        due = await self._due(read.entries)
        async with self.service.database.transaction():
            if not await self.store.move_progress(text, str(read.position)):
                return True  # Another process was faster.
            for row in due:
                is_idle = row["due_at"] is None and row["leased_until"] is None
                # Nothing before these entries was for it, so it need not read what lies in between.
                if is_idle and row["position"] is not None and Position.parse(row["position"]) <= begin:
                    await self.store.skip_to(row["id"], row["position"], text)
            if due:
                await self.store.mark_due([row["id"] for row in due])
        self._moved_at = time.monotonic()
        return read.more or begin.reading is not None

    async def _read(self, begin: Position) -> Read | None:
        """Return the entries after a position, or None if the log no longer has all of them."""
        read = self.log.recent(begin)
        if read is None:
            try:
                read = await self.log.read(begin, limit=PAGE)
                await self.log.check(begin)  # Now, as entries may have been deleted meanwhile.
            except Gone:
                return None
        return read

    async def _due(self, entries: list[Entry]) -> list[Row]:
        """Return the enabled webhooks that entries are for."""
        by_tenant: dict[Any, set[tuple[str, str]]] = {}
        for entry in entries:
            if entry.service is not None:
                tenant = entry.tenant if self.store.tenant is not None else None
                by_tenant.setdefault(tenant, set()).add((entry.service, entry.event))
        if self.store.tenant is not None:
            by_tenant.pop(None, None)
        if not by_tenant:
            return []
        found = []
        for row in await self.store.subscribers(by_tenant):
            subscription = Subscription(row["events"])
            if any(subscription.has(*names) for names in by_tenant.get(row.get("tenant"), ())):
                found.append(row)
        return found

    async def _lose(self, text: str) -> None:
        """Go on from now, as entries after the position are gone. Each webhook finds out for itself."""
        log.error("The log was restored or pruned before webhooks have seen its entries: some events may be missing")
        await self.store.move_progress(text, str(await self.log.position()))

    # Due webhooks.

    async def _claim(self) -> None:
        while len(self.held) < HELD and not self.is_stopping:
            row = await self.store.claim(self._busy())
            if row is None:
                return
            task = asyncio.create_task(self._deliver(row))
            self.held[task] = row
            task.add_done_callback(self._ended)

    def _busy(self) -> list[Any]:
        """Return the tenants of which no further webhook is sent for now."""
        if self.store.tenant is None:
            return []
        counts = Counter(row[self.store.tenant] for row in self.held.values())
        return [tenant for tenant, count in counts.items() if count >= HELD_OF_TENANT]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.held.pop(task, None)
        self._called.set()  # There is room for another one.

    async def _deliver(self, row: Row) -> None:
        courier, holder = Courier(self, row), row["holder"]
        try:
            with tenant_context(ALL_TENANTS):
                await courier.run()
        except Exception:
            # Its lease ends, and whoever has it next tries again.
            log.exception("Webhook %s could not be delivered", row["id"])
        finally:
            with tenant_context(ALL_TENANTS), suppress(Unavailable):  # Then the lease ends by itself.
                await self.store.free(row["id"], holder)

    # Messages.

    async def send(self, row: Row, id: str, message: Mapping[str, Any]) -> Answer:
        """Send a message to the URL of a webhook, signed, and return the answer."""
        try:
            keys = self._secrets(row)
        except ConfigError as unreadable:
            log.error("%s", unreadable)
            return Answer(None, 0, error="The secret can no longer be read: make a new one with 'rotate'")
        body = encode(message)
        headers = signed_headers(id, body, keys, int(time.time()))
        return await self.sender.post(row["url"], headers, body)

    def _secrets(self, row: Row) -> list[str]:
        stored = [row["secret"]]
        until = row["grace_until"]
        if row["previous_secret"] is not None and until is not None and until > now():
            stored.append(row["previous_secret"])
        return [self.service.secrets.decrypt(one) for one in stored]

    async def test(self, row: Row) -> Row:
        """Send a test message to a webhook, and return what was answered."""
        id = f"test_{secrets.token_hex(8)}"
        message = {
            "type": f"{self.service.path} test",
            "timestamp": now(),
            "id": id,
            "data": {"id": row["id"]},
        }
        answer = await self.send(row, id, message)
        return {
            "status": answer.status,
            "duration": round(answer.seconds * 1000),
            "answer": answer.text,
            "error": answer.error,
        }
