"""The courier of one webhook: it sends the messages while this process holds the lease, in order for each record."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from apex.common.fields import now
from apex.errors import Gone
from apex.log.position import Position
from apex.log.reading import Entry
from apex.log.rights import Reader
from apex.types import UNSET, Row
from apex.webhooks.sender import KEPT_TEXT, Answer
from apex.webhooks.subscriptions import Subscription
from apex.webhooks.tables import DELIVERED, DROPPED, WAITING

if TYPE_CHECKING:
    from apex.webhooks.dispatcher import Dispatcher

log: logging.Logger = logging.getLogger("apex")

MOST_FAILURES = 5
"""The failures in a row after which no other message is tried until the next pause is over."""
AT_ONCE = 4
"""The messages of a webhook that are sent at the same time, of different records."""
PAGE = 50
"""The entries that are read together, and the messages that are sent before their results are stored.

If a process dies, or the webhook is changed meanwhile, at most so many messages are sent twice.
"""
MOST_WAITING = 500
"""The messages of a webhook that may wait for another attempt. With more, it does not read on in the log."""
TURN_SECONDS = 10.0
"""The time after which another webhook gets its turn, and the rights of the maker are looked at again."""
GONE = 410
GONE_FROM_LOG = "The log no longer has all events since the last message: read the records again, then enable it"


class Delivery:
    """A message for an entry, whose ``row`` is that of the table of deliveries."""

    __slots__ = ("entry", "has_changed", "row")

    def __init__(self, row: Row, entry: Entry | None = None) -> None:
        self.row: Row = row
        self.entry: Entry | None = entry
        self.has_changed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The record that the message is about: its messages are sent one after the other."""
        service, record = self.row["type"].rpartition(" ")[0], self.row["record_id"]
        return service, record or f"entry {self.row['entry_id']}"

    @property
    def is_waiting(self) -> bool:
        """True if the message has to be sent yet."""
        return bool(self.row["state"] == WAITING)

    def may_be_sent(self, moment: datetime) -> bool:
        """Return True if the pause after the last attempt is over."""
        return self.row["next_at"] is None or self.row["next_at"] <= moment

    def change(self, **values: Any) -> None:
        """Change the row."""
        self.row |= values
        self.has_changed = True


class Courier:
    """The sending of the messages of one webhook. Its ``row`` was claimed with all columns.

    Messages of a record wait for each other. If one fails, the later ones of its record wait, and those of other
    records go on. The messages that wait are rows, at most about 500. With more of them the position in the log
    stays, so that a receiver that is down for a day costs no more than that.
    """

    def __init__(self, dispatcher: Dispatcher, row: Row) -> None:
        self.dispatcher: Dispatcher = dispatcher
        self.row: Row = row
        self.id: Any = row["id"]
        self.waiting: list[Delivery] = []
        self.done: list[Delivery] = []
        self.subscription: Subscription = Subscription(row["events"])
        self.left: int = PAGE
        self.reason: str | None = None
        self.ends: float = time.monotonic() + TURN_SECONDS
        self._reader: Reader

    async def run(self) -> None:
        """Send what there is to send, store the results, and release the webhook."""
        service, store = self.dispatcher.service, self.dispatcher.store
        caller = await service.caller(self.row)
        if caller is None:
            await self._disable("The user who has made the webhook may no longer read its events")
            return
        self._reader = service.rights.reader(caller)
        await self._load()
        while True:
            try:
                more = await self._read()
            except Gone:
                await self._disable(GONE_FROM_LOG)
                return
            self.left = PAGE
            await self._send_all()
            if not await self._save():
                return  # It was changed meanwhile, or this process was too slow: another one goes on.
            if self.reason is not None:
                await self._disable(self.reason)
                return
            if self.is_paused or self.is_over or (self.left > 0 and (self.is_full or not more)):
                break
        await store.prune(self.id)
        due = self._due(more)
        await store.release(self.row, due)
        if due is not None:
            self.dispatcher.wake_at(due)

    @property
    def is_paused(self) -> bool:
        """True if no message of the webhook may be sent now."""
        until = self.row["paused_until"]
        return self.reason is not None or (until is not None and until > now())

    @property
    def is_over(self) -> bool:
        """True if the process ends, or if it is the turn of another webhook."""
        return self.dispatcher.is_stopping or time.monotonic() > self.ends

    @property
    def may_go_on(self) -> bool:
        """True if another message may be sent before the results are stored."""
        return self.left > 0 and not self.is_paused and not self.is_over

    @property
    def is_full(self) -> bool:
        """True if so many messages wait that no more are read."""
        return len(self.waiting) >= MOST_WAITING

    # What there is to send.

    async def _load(self) -> None:
        self.waiting = [Delivery(row) for row in await self.dispatcher.store.waiting(self.id)]

    async def _read(self) -> bool:
        """Read the next page of the log. Return True if there may be more. Raises Gone if the log has not all of it."""
        if self.is_full or self.is_paused or self.is_over:
            return True
        store, log = self.dispatcher.store, self.dispatcher.log
        after = Position.parse(self.row["position"])
        tenants = None if store.tenant is None else [self.row[store.tenant]]
        services = self.subscription.services
        read = log.recent(after, tenants=tenants, services=services) if len(self.waiting) < PAGE else None
        if read is None or len(read.entries) > PAGE:
            read = await log.read(after, tenants=tenants, services=services, limit=PAGE)
            await log.check(after)  # Now, as entries may have been deleted meanwhile.
        known = {one.row["entry_id"] for one in self.waiting}
        for entry in read.entries:
            if self.subscription.has(entry.service, entry.event) and entry.id not in known:
                self.waiting.append(Delivery(self._new(entry), entry))
        self.row["position"] = str(read.position)
        # After the last page of a read, what was committed since its first page has not been looked at.
        return read.more or after.reading is not None

    def _new(self, entry: Entry) -> Row:
        tenant = self.dispatcher.store.tenant
        return {
            **({} if tenant is None else {tenant: self.row[tenant]}),
            "webhook_id": self.id,
            "entry_id": entry.id,
            "type": f"{entry.service} {entry.event}",
            "record_id": entry.record_id,
            "created_at": entry.created_at,
            "state": WAITING,
            "attempts": 0,
            **dict.fromkeys(("sent_at", "next_at", "failing_since", "status", "duration", "answer", "error")),
        }

    # Sending.

    async def _send_all(self) -> None:
        """Send all messages that need not wait: those of a record one after the other, others at the same time."""
        queues: dict[tuple[str, str], deque[Delivery]] = {}
        for delivery in self.waiting:
            queues.setdefault(delivery.key, deque()).append(delivery)
        moment = now()
        ready = deque(queue for queue in queues.values() if queue[0].may_be_sent(moment))

        async def send_next() -> None:
            while ready and self.may_go_on:
                await self._send_in_order(ready.popleft())

        if self.row["failures"] and ready and not self.is_paused:
            await self._send_in_order(ready.popleft())  # One message finds out whether the receiver is back.
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(ready))):
                group.create_task(send_next())
        self.done = [one for one in self.waiting if not one.is_waiting]
        self.waiting = [one for one in self.waiting if one.is_waiting]

    async def _send_in_order(self, queue: deque[Delivery]) -> None:
        while queue and queue[0].may_be_sent(now()) and self.may_go_on:
            await self._attempt(queue[0])
            if queue[0].is_waiting:
                return
            queue.popleft()

    async def _attempt(self, delivery: Delivery) -> None:
        self.left -= 1
        entry = delivery.entry or next(iter(await self.dispatcher.log.entries([delivery.row["entry_id"]])), None)
        if entry is None:
            delivery.change(state=DROPPED, next_at=None, error="The log no longer has the entry")
            return
        try:
            data = await self._reader.data(entry)
            if data is UNSET:
                delivery.change(state=DROPPED, next_at=None, error="The maker of the webhook may not read the record")
                return
            id, kind = str(entry.id), delivery.row["type"]
            message = {"type": kind, "timestamp": entry.created_at, "id": id, "data": data}
            answer = await self.dispatcher.send(self.row, id, message)
        except Exception:  # Such as one of the app's own functions. Other messages go on.
            log.exception("Webhook %s: the message for entry %s could not be made", self.id, entry.id)
            answer = Answer(None, 0, error="This server could not make the message: its log says why")
        if answer.is_success:
            self._succeeded(delivery, answer)
        else:
            self._failed(delivery, answer)

    def _succeeded(self, delivery: Delivery, answer: Answer) -> None:
        self.dispatcher.stats.delivered += 1
        delivery.change(state=DELIVERED, next_at=None, failing_since=None, **_shown(delivery, answer))
        self.row |= {"failures": 0, "paused_until": None, "last_success_at": now()}

    def _failed(self, delivery: Delivery, answer: Answer) -> None:
        self.dispatcher.stats.failed += 1
        moment = now()
        since = delivery.row["failing_since"] or moment
        shown = _shown(delivery, answer)
        next_at = moment + self._pause(shown["attempts"])
        delivery.change(next_at=next_at, failing_since=since, **shown)
        failures = self.row["failures"] = self.row["failures"] + 1
        if failures >= MOST_FAILURES:
            self.row["paused_until"] = moment + self._pause(failures - MOST_FAILURES + 1)
        if answer.pause is not None:
            self.row["paused_until"] = max(moment + timedelta(seconds=answer.pause), self.row["paused_until"] or moment)
        if answer.status == GONE:
            self.reason = "The receiver has answered 410: it wants no more messages"
        elif moment - since >= timedelta(seconds=self.dispatcher.service.patience):
            self.reason = f"'{delivery.row['type']}' fails since {since:%Y-%m-%d %H:%M} UTC: {answer.error}"

    def _pause(self, failures: int) -> timedelta:
        """Return the pause after so many failures. It is random by a tenth, so that not all come back at once."""
        pauses = self.dispatcher.service.pauses
        return timedelta(seconds=pauses[min(failures, len(pauses)) - 1] * random.uniform(0.9, 1.1))

    # The end.

    async def _save(self) -> bool:
        since = [one.row["failing_since"] for one in self.waiting if one.row["failing_since"] is not None]
        self.row["failing_since"] = min(since, default=None)
        shown = [one for one in self.done if "id" in one.row or one.row["state"] == DELIVERED]
        stored = [*shown, *self.waiting]
        new = [one.row for one in stored if "id" not in one.row]
        changed = [one.row for one in stored if "id" in one.row and one.has_changed]
        if not await self.dispatcher.store.save(self.row, new, changed):
            return False
        for delivery in stored:
            delivery.has_changed = False
            delivery.entry = None  # Those that wait would fill the memory. They are read again.
        self.done = []
        return True

    def _due(self, more: bool) -> datetime | None:
        """Return the moment at which there is something to do for the webhook, or None."""
        if more and not self.is_full:
            return now()
        heads: dict[tuple[str, str], Delivery] = {}
        for delivery in self.waiting:
            heads.setdefault(delivery.key, delivery)
        moments = [one.row["next_at"] or now() for one in heads.values()]
        return min(moments, default=None)

    async def _disable(self, reason: str) -> None:
        log.warning("Webhook %s is disabled: %s", self.id, reason)
        self.row["holder"] = None  # It gives its claim up by itself, and must not be cancelled for that.
        await self.dispatcher.service.disable(self.id, reason[:300])
        self.dispatcher.stats.disabled += 1


def _shown(delivery: Delivery, answer: Answer) -> Row:
    return {
        "attempts": delivery.row["attempts"] + 1,
        "sent_at": now(),
        "status": answer.status,
        "duration": round(answer.seconds * 1000),
        "answer": answer.text[:KEPT_TEXT],
        "error": None if answer.error is None else answer.error[:300],
    }
