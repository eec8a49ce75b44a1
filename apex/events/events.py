"""The sending of events, in every process of the app, to the connections that publishers choose.

A call *announces* its event, and a service *emits* one itself. After the commit the event goes to listeners and is
*published*: its message is made once, for all processes. Each process *delivers* it: publishers choose connections, and
the transport sends it to them.

The events of a record are sent in the order in which its states were stored, even if hooks and publishers wait. With a
log this holds for the changes of all processes: the event of a new record goes out at once, and that of a change when
this process has delivered all entries before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from apex.cache import BoundedDict
from apex.callbacks import Backoff, Emitter, Pending
from apex.context import Context, EntryId, current_call
from apex.encoding import RawJSON, decode
from apex.errors import Unavailable
from apex.events.log import Entries
from apex.events.messages import EVENTS, MOVED_TO, Message, context_of, encoded, records_of, sent_by, sent_part
from apex.events.publishers import Delivery, Publisher, Publishers, deliveries_of
from apex.realtime.channels import Channels, Connection
from apex.realtime.turns import Turn, Turns, Work
from apex.transaction import after_commit
from apex.types import UNSET

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.service import BoundService

Publish = Callable[[], None]

log: logging.Logger = logging.getLogger("apex")

MOST_LATE = 10_000
"""The most events that wait for the end of an outage."""

MOST_CLAIMS = 10_000
"""The most entries that only a call or only the follower has claimed. Usually these are those of a few milliseconds."""


class _Claims:
    """The entries that both a call and the follower could send. Both claim them, and the first one sends them."""

    def __init__(self) -> None:
        self._first: BoundedDict[int, EntryId] = BoundedDict(MOST_CLAIMS)

    def claim(self, entry: EntryId) -> bool:
        """Return True for the first claim of an entry, and False for the second one.

        The call does not know the transaction. The follower adds it, as publishers may be still at work.
        """
        first = self._first.pop(entry.id, None)
        if first is None:
            self._first[entry.id] = entry
        elif entry.transaction is not None:
            first.transaction = entry.transaction
        return first is None


@dataclass(slots=True)
class Announcement:
    """An event that waits for the commit of a transaction, which calls it.

    ``write`` returns the event as JSON, one text for each record. If the process ends too early, ``Events.resend``
    sends the event with such a text. ``entries`` are those of the event in the log, if the app has one.
    """

    send: Work
    write: Callable[[], list[bytes]]
    turn: Turn | None
    entries: Entries | None = None

    def __call__(self) -> Awaitable[None] | None:
        return self.send()


class Events:
    """The events of an app, with its channels and its open connections.

    A publisher is called in every process with ``(data, context)``. The context has path, method, id, event, result and
    dispatch. Its params have ``query``, ``route``, ``provider`` and the id of ``user``. All of it is JSON, also in the
    process of the call. ``sent`` counts the events that were sent to any connection, and ``handed`` those of them that
    the server has passed on.
    """

    def __init__(self, app: Apex) -> None:
        self.app: Apex = app
        self.channels: Channels = Channels()
        self.connections: set[Connection] = set()
        self.publishers: Publishers = Publishers()
        self.published: int = 0
        self.sent: int = 0
        self.handed: int = 0
        self.turns: Turns = Turns()
        self.deliveries: Turns = Turns()
        """The entries of the log whose publishers are still at work. They do not wait for calls, but for each other."""
        self._claims = _Claims()
        self._late: dict[Turn, Any] = {}

    def publisher(self, service: BoundService, event: str) -> Publisher | None:
        """Return the publisher of the service for an event, or that of the app, or None."""
        return service._publishers.of(event) or self.publishers.of(event)

    @property
    def _has_followers(self) -> bool:
        """True if a connection of this process or of another one could get an event. Others read it from the log."""
        return bool(self.connections) or (self.app.log is None and not self.app.bus.alone)

    def is_followed(self, service: BoundService, event: str) -> bool:
        """Return True if an event has a listener, or a publisher and connections that could get it."""
        return event in service._listeners or (self._has_followers and self.publisher(service, event) is not None)

    def take_turn(self, context: Context) -> None:
        """Take a turn for the records that a call has just stored, if anybody follows its event.

        The events of a call that a parent makes for its children come after those of the parent, if it has stored its
        records by then.
        """
        service, event, entries = context.service, context.event, context.entries
        if event is None or not self.is_followed(service, event):
            return
        if event in service._listeners or entries is None or entries.is_new or not self._follows_log:
            parent = context.params.get("parent")
            before = parent.turn if isinstance(parent, Context) else None
            context.turn = self.turn(service, records_of(context.result), context.id, before)

    def turn(self, service: BoundService, items: Iterable[Any], id: Any = None, before: Turn | None = None) -> Turn:
        """Return a turn for the events of records. ``id`` is used for an item without one.

        It comes after all turns of these records, and after the turn ``before``.
        """
        keys = keys_of(service, items, id)
        return self.turns.take(keys if before is None else (*keys, *before.keys))

    @property
    def _follows_log(self) -> bool:
        """True if the follower of the log sends the events that have entries."""
        return self.app.log is not None and self.app.log.is_followed

    def emit(self, service: BoundService, event: str, args: tuple[Any, ...]) -> None:
        """Call listeners with the arguments of an event, and publish the first one, after the commit."""
        turn = self.turn(service, args[:1] if event in EVENTS.values() else ())
        record = sent_part(service, args[0]) if args else None
        entries = None if self.app.log is None else self.app.log.writer.add(service, event, record)

        def send() -> Awaitable[None] | None:
            logged = entries if self._follows_log else None
            message = None if logged is not None else self._message(service, event, record)

            def send_in_turn() -> None:
                Emitter.emit(service, event, *args)
                self._publish(service, event, message, turn)

            turn.run(send_in_turn)
            return None if logged is None else self._when_sent(service, event, logged)

        announcement = Announcement(send, lambda: [encoded(service, event, record)], turn, entries)
        pending = after_commit(announcement, turn.end)
        if pending is not None:
            sending = self.app.callbacks.start(_awaited(pending))
            if (call := current_call.get()) is not None and call.is_running:
                call.emitted = [*(call.emitted or ()), sending]

    async def announce(self, context: Context) -> None:
        """Send the event of a call after the commit. Without a transaction, wait for ``async def`` listeners."""
        turn = context.turn
        announcement = self.announcement(context)
        if announcement is not None:
            pending = after_commit(announcement, None if turn is None else turn.end)
            if pending is not None:
                await pending
        elif turn is not None:
            turn.end()

    def announcement(self, context: Context) -> Announcement | None:
        """Return the event of a call, or None if the call has none or its service sends the event itself."""
        service, event = context.service, context.event
        if event is None or event in service._options.events:
            return None

        def send() -> Awaitable[None] | None:
            if context.turn is None and not self.is_followed(service, event):
                return None
            turn, entries = context.turn or self.turn(service, ()), context.entries
            if entries is not None and self._follows_log:
                return self._send_by_log(context, event, entries, turn)
            # Encoded now, as the caller may change the records before the call's turn.
            messages = [(item, self._message(service, event, item, sent, context)) for item, sent in sent_by(context)]
            items = [(item, partial(self._publish, service, event, message, turn)) for item, message in messages]
            return turn.run(partial(self._send, context, event, items))

        def write() -> list[bytes]:
            return [encoded(service, event, item, sent, context) for item, sent in sent_by(context)]

        return Announcement(send, write, context.turn, context.entries)

    def _send(self, context: Context, event: str, items: Sequence[tuple[Any, Publish]]) -> Awaitable[None] | None:
        """Call the listeners and publish the event, once for each item.

        Return an awaitable for ``async def`` listeners, or None.
        """
        service = context.service
        pending: Pending = []
        for item, publish in items:
            pending += service._call(event, (item, context))
            publish()
        return service._callbacks.start(service._settle(event, pending)) if pending else None

    def _send_by_log(self, context: Context, event: str, entries: Entries, turn: Turn) -> Awaitable[None] | None:
        """Send the event of a new record at once, and have the follower send that of a change."""
        service = context.service
        if entries.is_new and entries.ids:
            sent = sent_by(context)
            messages = entries.messages() or [decode(encoded(service, event, *one, context)) for one in sent]
            # Inside of a transaction, the caller may have changed the list of the records meanwhile.
            written = zip(sent, entries.ids, messages, strict=False)
            new = [(item, partial(self._publish_new, service, id, message, turn)) for (item, _), id, message in written]
            return turn.run(partial(self._send, context, event, new))
        changed = sent_by(context) if event in service._listeners else []
        listening = turn.run(partial(self._send, context, event, [(item, _nothing) for item, _ in changed]))
        return self._when_sent(service, event, entries, listening)

    def _publish_new(self, service: BoundService, id: int, message: Message, turn: Turn) -> None:
        """Send the event of a new record to the connections, unless the follower was quicker."""
        if self.connections and self._claims.claim(entry := EntryId(id)):
            self._deliver_in_order(service, {**message, "entry": entry}, turn.keys)

    def _when_sent(
        self, service: BoundService, event: str, entries: Entries, listening: Awaitable[None] | None = None
    ) -> Awaitable[None] | None:
        """Return an awaitable that waits until the follower has sent an event to the connections, if there are any."""
        is_followed = bool(self.connections) and self.publisher(service, event) is not None
        if not is_followed and entries.writing is None:
            return listening

        async def wait() -> None:
            is_stored = entries.writing is None or await self._is_stored(service, event, entries)
            if is_stored and is_followed and self.app.log is not None:
                with suppress(Unavailable):  # The follower sends it once it can read again.
                    await self.app.log.catch_up()
            if listening is not None:
                await listening

        return wait()

    async def _is_stored(self, service: BoundService, event: str, entries: Entries) -> bool:
        """Return True once entries are stored. If that fails, send them to the connections of this process alone."""
        try:
            if entries.writing is not None:
                await entries.writing
        except Exception:
            log.exception("The event '%s %s' is not in the log: other processes do not get it", service._path, event)
            for message in entries.messages() or ():
                self._deliver_in_order(service, {**message, "entry": None})
            return False
        return True

    def _message(
        self, service: BoundService, event: str, result: Any, dispatch: Any = UNSET, context: Context | None = None
    ) -> bytes | None:
        """Return the message of an event as JSON, or None if nobody follows it or it has no JSON form."""
        publisher = self.publisher(service, event) if event in service._events else None
        if publisher is None or not self._has_followers:
            return None
        try:
            return encoded(service, event, result, dispatch, context)
        except Exception:
            self._failed(service, event, publisher)
            return None

    def _publish(self, service: BoundService, event: str, message: bytes | None, turn: Turn) -> None:
        """Send an event to the connections of this process, and tell the others."""
        publisher = self.publisher(service, event)
        if message is not None and publisher is not None:
            self.published += 1
            self._deliver(service, publisher, decode(message), turn)
            if self.app.log is None:
                self.app.bus.send("event", RawJSON(message))

    def follow(self, entries: list[Any]) -> None:
        """Send the events of entries of the log to the connections, unless this process has sent them already."""
        log = self.app.log
        if log is None or not (self.connections or self._late):
            return
        for entry in entries:
            service, id = self.app.services.get(entry.service), EntryId(entry.id, entry.xid)
            is_own_new = entry.origin == log.origin and entry.event == "created"
            if service is not None and not (is_own_new and not self._claims.claim(id)):
                self._deliver_in_order(service, {**entry.message(), "entry": id})

    def _deliver_in_order(self, service: BoundService, message: Message, after: Iterable[Hashable] = ()) -> None:
        """Send an event of the log after those whose publishers are still at work: of its record, and of ``after``."""
        event = message["event"]
        publisher = self.publisher(service, event) if event in service._events else None
        if publisher is not None and MOVED_TO not in message:
            self.published += 1
            keys = keys_of(service, [message["result"]], message.get("id"))
            turn = self.deliveries.take([message["entry"], *keys, *after])
            turn.run(partial(self._deliver, service, publisher, message, turn))
            if not turn.is_over and self.app.log is not None:
                self._late[turn] = self.app.log.watermark

    @property
    def delivered(self) -> Any:
        """The position in the log up to which all events were sent: its watermark, unless publishers still wait."""
        while self._late:
            turn, position = next(iter(self._late.items()))
            if not turn.is_over:
                return position
            del self._late[turn]
        return None if self.app.log is None else self.app.log.watermark

    def deliver(self, message: Message) -> None:
        """Send an event of another process to the connections of this one."""
        service = self.app.services.get(message["path"])
        publisher = None if service is None else self.publisher(service, message["event"])
        if service is not None and publisher is not None:
            turn = self.turn(service, [message["result"]], message.get("id"))
            turn.run(partial(self._deliver, service, publisher, message, turn))

    async def resend(self, message: bytes) -> None:
        """Send an event that a process may have failed to send: to listeners, and to the connections of all processes.

        Listeners get the context that publishers get.
        """
        sent = decode(message)
        service = self.app.services.get(sent["path"])
        if service is not None:
            context, turn = context_of(self.app, service, sent), self.turn(service, [sent["result"]], sent.get("id"))
            publish = partial(self._publish, service, sent["event"], message, turn)
            send = partial(self._send, context, sent["event"], [(sent["result"], publish)])
            if (pending := turn.run(send)) is not None:
                await pending

    def _deliver(self, service: BoundService, publisher: Publisher, message: Message, turn: Turn) -> None:
        if not self.connections:
            return
        try:
            deliveries = deliveries_of(self.app, service, publisher, message)
            if isawaitable(deliveries):
                self._send_later(service, publisher, message, deliveries, turn)
            else:
                self._send_all(deliveries)
        except Exception:
            self._failed(service, message["event"], publisher)

    def _send_all(self, deliveries: list[Delivery]) -> None:
        for context, recipients in deliveries:
            if recipients:
                self.sent += 1
                self.app.emit("publish", context, recipients)

    def _send_later(
        self,
        service: BoundService,
        publisher: Publisher,
        message: Message,
        deliveries: Awaitable[list[Delivery]],
        turn: Turn,
    ) -> None:
        async def send() -> None:
            found: list[Delivery] | Awaitable[list[Delivery]] = deliveries
            backoff = Backoff()
            while isawaitable(found):
                try:
                    found = await found
                except Unavailable:  # The database of a publisher or of the permissions is away, and will be back.
                    if not self.connections or len(self._late) > MOST_LATE:
                        raise
                    await backoff.wait()
                    found = deliveries_of(self.app, service, publisher, message)
            self._send_all(found)

        async def settle() -> None:
            try:
                await self.app.callbacks.settle(_publishing(service, message["event"]), publisher, send())
            finally:
                turn.release()

        turn.hold()
        self.app.callbacks.start(settle())

    async def replay(self, message: Message, connection: Connection) -> list[Delivery]:
        """Return what one connection gets of an earlier event, by the rights that it has now.

        The publisher and the permissions are those of today. Exceptions are logged. Raises Unavailable, as later the
        connection may get the event.
        """
        service, event = self.app.services.get(message["path"]), message["event"]
        publisher = None if service is None or event not in service._events else self.publisher(service, event)
        if service is None or publisher is None:
            return []
        try:
            found = deliveries_of(self.app, service, publisher, message, connection)
            return await found if isawaitable(found) else found
        except Unavailable:
            raise
        except Exception:
            self._failed(service, event, publisher)
            return []

    async def hand_over(self) -> None:
        """Wait until the server has passed on the events that were sent.

        In the first turn of the event loop polling requests and the writers of queues go on. After the second one
        uvloop has passed on their bytes.
        """
        sent = self.sent
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.handed = max(self.handed, sent)

    def _failed(self, service: BoundService, event: str, publisher: Publisher) -> None:
        self.app.callbacks.fail(_publishing(service, event), publisher)


def keys_of(service: BoundService, items: Iterable[Any], id: Any) -> list[tuple[BoundService, str]]:
    """Return the records of an event, for turns. ``id`` is used for an item without one."""
    name = getattr(service.service, "id", "id")
    ids = [item.get(name, id) if isinstance(item, Mapping) and isinstance(name, str) else id for item in items]
    return [(service, str(id)) for id in ids if id is not None]


def _publishing(service: BoundService, event: str) -> str:
    return f"The publisher of '{service._path} {event}'"


def _nothing() -> None: ...


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable
