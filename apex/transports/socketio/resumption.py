"""Clients that return: the offsets of events, and the replay of what a client has missed.

Each event has an offset, a text such as ``<position>;<id of the entry>``. A client that connects again sends its last
one, with the ``pid`` that it was given. If it gets the same ``pid`` back, the entries after the position are sent to
it, as the publishers and permissions of today allow. Then its events go on. Otherwise it has to read again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from apex.app import Apex
from apex.context import EntryId
from apex.errors import BadRequest, FeathersError, Gone
from apex.events import MOVED_TO, Delivery
from apex.log.position import Position
from apex.transports.socketio.history import History
from apex.transports.socketio.packets import Message
from apex.types import UNSET

if TYPE_CHECKING:
    from apex.log.app_log import Log
    from apex.log.reading import Entry, Read
    from apex.transports.socketio.engine import Engine, Link

OFFSET = "offset"
"""The name of the events that only bring an offset."""
LOST = "lost"
"""The offset of a client that has to read again. It cannot be recovered."""
ANONYMOUS = ";a"
"""The end of the offsets of a connection without a login."""

LOGIN_SECONDS = 30
"""Seconds that a client has for the login that its last connection had."""
REFRESH_SECONDS = 300
"""Seconds after which all clients get a new offset, so that those of silent ones do not grow too old."""
CHECK_SECONDS = 1
"""Seconds for which the check of an offset holds for other clients with the same one."""
PAGE = 1_000
TURN = 50
"""The entries of a page, and those that are sent in one write, before other tasks have their turn."""

WRITE_BYTES = 64 * 1024

_PID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OFFSET = re.compile(r"([^;]+);([0-9]{0,18})(;a)?")


class Offset(NamedTuple):
    """The place in the log up to which a client has its events.

    Beyond the ``position`` it has the entry with the id ``entry``. ``had_login`` is True if its connection had one.
    """

    position: Position
    entry: int | None
    had_login: bool

    @classmethod
    def parse(cls, text: Any) -> Offset:
        """Return the offset for a text. Raises ValueError."""
        match = _OFFSET.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError("This is not the text of an offset")
        return cls(Position.parse(match[1]), int(match[2]) if match[2] else None, match[3] is None)


class Replay:
    """The replay of the events that one client has missed, from ``position`` to the present.

    ``entry`` is the last one that the client has got, until it is reached. ``repeated`` has the records of the entries
    before it. ``early`` has the events that this process has sent to others before their turn in the log came, by the
    id of their entry: they are sent at the end.
    """

    __slots__ = ("early", "entry", "is_recovery", "position", "repeated", "task", "timer", "waits_for_login")

    def __init__(self, position: Position, entry: int | None, *, waits_for_login: bool, is_recovery: bool) -> None:
        self.position: Position = position
        self.entry: int | None = entry
        self.waits_for_login: bool = waits_for_login
        self.is_recovery: bool = is_recovery
        self.repeated: set[tuple[str | None, Any]] = set()
        self.early: dict[int, Message] = {}
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def skips(self, entry: Entry) -> bool:
        """Note the next entry, and return True if the client need not get it again.

        It gets its last one again if an older one of the same record was repeated: otherwise it would show that.
        """
        if self.entry is None:
            return False
        record = entry.service, entry.record_id
        if entry.id != self.entry:
            self.repeated.add(record)
            return False
        is_known = record not in self.repeated
        self.entry = None
        self.repeated.clear()
        return is_known

    def end(self) -> None:
        """Stop, as the client has gone."""
        for one in (self.task, self.timer):
            if one is not None:
                one.cancel()


class MustReadAgain(Exception):
    """A client has missed more than it may be sent, or what it may see has changed."""


class Resumption:
    """The connections of a process that return. Without a log, clients get neither a ``pid`` nor offsets."""

    def __init__(self, app: Apex, engine: Engine) -> None:
        self.app: Apex = app
        self.engine: Engine = engine
        self.links: set[Link] = set()
        self._checks: dict[str, asyncio.Task[bool]] = {}
        self._history: History | None = None
        self._written: tuple[Position | None, str] = (None, "")
        self._refreshing: asyncio.TimerHandle | None = None

    @property
    def log(self) -> Log | None:
        """The log of the app, while it is followed."""
        log = cast("Log | None", self.app.log)
        return log if log is not None and log.is_followed else None

    @property
    def history(self) -> History:
        """The reads of entries that are no longer among the recent ones in memory."""
        if self._history is None:
            assert self.log is not None
            self._history = History(self.log)
        return self._history

    # The handshake.

    async def prepare(self, link: Link, auth: Mapping[str, Any]) -> str | None:
        """Return the ``pid`` for the answer to a client: its own one if it gets all that it has missed.

        Raises BadRequest or Gone for a client that wants to follow from a ``position`` and cannot. Returns None without
        a log.
        """
        if (log := self.log) is None:
            return None
        log.follow(self._handled, self._lose_all)
        pid, offset = auth.get("pid"), auth.get("offset")
        if isinstance(pid, str) and _PID.fullmatch(pid) and offset is not None:
            link.replay = await self._recovery(log, offset)
            if link.replay is not None:
                link.since = link.replay.position
                return pid
            log.stats.refused_replays += 1
        elif offset is None and auth.get("position") is not None:
            link.replay = await self._follow(log, auth)
            link.since = link.replay.position
        return token_urlsafe(12)

    async def _recovery(self, log: Log, text: Any) -> Replay | None:
        """Return the replay from an offset, or None if it cannot be whole."""
        try:
            offset = Offset.parse(text)
            if not await self._can_be_read(log, offset.position):
                return None
        except (ValueError, FeathersError):
            return None
        return Replay(offset.position, offset.entry, waits_for_login=offset.had_login, is_recovery=True)

    async def _follow(self, log: Log, auth: Mapping[str, Any]) -> Replay:
        try:
            return await self._replay_after(log, auth)
        except FeathersError as error:
            # A refused connection gets the message and the data alone.
            error.data = {"name": error.name, "code": error.code}
            raise

    async def _replay_after(self, log: Log, auth: Mapping[str, Any]) -> Replay:
        login = auth.get("login")
        if not isinstance(login, bool | None):
            raise BadRequest("auth.login must be true or false")
        try:
            position = Position.parse(auth["position"])
        except ValueError:
            raise BadRequest("auth.position must be the position that a find has answered with") from None
        if not await self._can_be_read(log, position):
            raise Gone("auth.position is too old or of another database: read again, and follow from the new position")
        waits = login if login is not None else self.app.get("defaultAuthentication") is not None
        return Replay(position, None, waits_for_login=waits, is_recovery=False)

    async def _can_be_read(self, log: Log, position: Position) -> bool:
        """Return True if all entries after a position can be read. Clients with the same one share the check."""
        text = str(position)
        if (check := self._checks.get(text)) is None:
            loop = asyncio.get_running_loop()
            check = self._checks[text] = loop.create_task(_is_there(log, position))
            loop.call_later(CHECK_SECONDS, self._checks.pop, text, None)
        return await asyncio.shield(check)

    def connected(self, link: Link) -> None:
        """Begin the replay of a client that has its answer, or give it its first offset."""
        if self.log is None:
            return
        self.links.add(link)
        self._refresh_later()
        replay = link.replay
        if replay is None:
            self._send_offset(link)
        elif replay.waits_for_login and not link.has_login:
            loop = asyncio.get_running_loop()
            replay.timer = loop.call_later(LOGIN_SECONDS, self._login_missing, link, replay)
        else:
            self._start(link, replay)

    def logged_in(self, link: Link) -> None:
        """Begin the replay that has waited for a login or a logout, or give the client an offset that knows of it."""
        if self.log is None or link not in self.links:
            return
        replay = link.replay
        if replay is None:
            self._send_offset(link)
        elif replay.task is None and link.has_login:
            self._start(link, replay)

    def called(self, link: Link) -> None:
        """Give a client an offset that recovers nothing, if a call has let its connection join a channel.

        On its next connection it would get the events of that channel only once it has made the call again.
        """
        if not link.connection.channels <= link.joined and link in self.links and not link.is_lost:
            link.is_lost = True
            self._send_offset(link)

    def disconnected(self, link: Link) -> None:
        """Forget a connection that has ended."""
        self.links.discard(link)
        if link.replay is not None:
            link.replay.end()

    # The offsets of events.

    def offset(self, link: Link, entry: int | None = None, position: str | None = None) -> str:
        """Return the offset of an event for a connection, by default at the position up to which all were sent."""
        if link.is_lost:
            return LOST
        if position is None:
            delivered = self.app.events.delivered
            if delivered is not self._written[0]:
                self._written = delivered, str(delivered)
            position = self._written[1]
        return f"{position};{'' if entry is None else entry}{'' if link.has_login else ANONYMOUS}"

    def packet(self, name: str, data: Any, entry: int | None, link: Link) -> Message:
        """Return the packet of an event for a connection, and for those like it. Without a log it has no offset."""
        if entry is not None:
            return self.engine.event_packet(name, data, self.offset(link, entry))
        # A text at the end of an event that is not in the log would be taken for an offset.
        is_text = isinstance(data, str) and self.log is not None
        return self.engine.event_packet(name, data, None) if is_text else self.engine.event_packet(name, data)

    def holds_back(self, link: Link, entry: EntryId, packet: Message) -> bool:
        """Return True for a live event that is not sent to a client now, as its replay sends it or has sent it.

        The publisher of an event that the follower has read may still be at work when the replay is over.
        """
        since = link.since
        if since is None:
            return False
        if link.replay is not None:
            if entry.transaction is None:
                link.replay.early[entry.id] = packet
            return True
        if since <= self.app.events.delivered:
            link.since = None
        return entry.transaction is not None and since.has(entry.id, entry.transaction)

    def _send_offset(self, link: Link) -> None:
        link.send(self.engine.event_packet(OFFSET, self.offset(link)))

    def _refresh_later(self) -> None:
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().call_later(REFRESH_SECONDS, self._refresh)

    def _refresh(self) -> None:
        self._refreshing = None
        if self.log is None or not self.links:
            return
        for link in list(self.links):
            if link.replay is None:
                self._send_offset(link)
        self._refresh_later()

    def close(self) -> None:
        """Stop sending offsets."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None

    # The replay.

    def _start(self, link: Link, replay: Replay) -> None:
        if replay.timer is not None:
            replay.timer.cancel()
        replay.task = asyncio.get_running_loop().create_task(self._run(link, replay))

    async def _run(self, link: Link, replay: Replay) -> None:
        log = self.log
        if log is None:
            return
        try:
            await self._send_missed(log, link, replay)
        except (MustReadAgain, FeathersError):
            self._lose(link)
        except Exception:
            self.app.callbacks.fail("The replay of a connection", self._send_missed)
            self._lose(link)
        else:
            link.replay = None
            for id in sorted(replay.early):
                link.send(replay.early[id])
            self._send_offset(link)
            log.stats.replays += replay.is_recovery

    async def _send_missed(self, log: Log, link: Link, replay: Replay) -> None:
        """Send the entries after the position of a replay, up to what this process has handled.

        The last step does not wait, so that no event comes between it and the live ones. Raises MustReadAgain,
        Gone and Unavailable.
        """
        tenants, left = self._tenants(log, link), log.settings.replay
        is_counted = False
        await log.catch_up()  # Events that were sent early before this connection was there are not sent again.
        position = replay.position
        await self._require_same_rights(log, link, position)
        while True:
            if not position <= log.watermark:
                await log.catch_up()
            page = log.recent(position, tenants=tenants, services=self.app.services, limit=PAGE)
            if page is None:
                page = await self.history.page(position, tenants, PAGE)
            if not is_counted and page.more and self._exceeds(log, position, tenants, left):
                raise MustReadAgain
            is_counted, left = True, left - len(page.entries)
            if left < 0:
                raise MustReadAgain
            await self._send_page(link, replay, position, page, tenants)
            link.since = position = page.position
            if not page.more and position == log.watermark:
                return

    async def _require_same_rights(self, log: Log, link: Link, after: Position) -> None:
        """Raise MustReadAgain if what a client may see has changed since a position."""
        services, more = list(log.rights), bool(log.rights)
        while more:
            page = log.recent(after, tenants=None, services=services, limit=PAGE)
            if page is None:
                page = await log.read(after, services=services, limit=PAGE)
            if any(self._changes_rights(log, entry, link) for entry in page.entries):
                raise MustReadAgain
            after, more = page.position, page.more

    def _changes_rights(self, log: Log, entry: Entry, link: Link) -> bool:
        """Return True if an entry changes what a client may see, or if the function of the app fails."""
        changes = log.rights.get(entry.service or "")
        if changes is None:
            return False
        try:
            return bool(changes(entry.record, link.connection))
        except Exception:
            self.app.callbacks.fail(f"The rights of '{entry.service}'", changes)
            return True

    def _exceeds(self, log: Log, after: Position, tenants: Collection[Any] | None, most: int) -> bool:
        """Return True if more than ``most`` entries follow, as far as memory tells."""
        read = log.recent(after, tenants=tenants, services=self.app.services) or self.history.kept(after, tenants)
        return read is not None and len(read.entries) > most

    async def _send_page(
        self, link: Link, replay: Replay, after: Position, page: Read, tenants: Collection[Any] | None
    ) -> None:
        """Send the entries of a page that a client may get. The offset of the last one is the position after it."""
        begin = str(after)
        packets, size = list[Message](), 0
        for number, entry in enumerate(page.entries, 1):
            if not replay.skips(entry):
                text = begin if number < len(page.entries) else str(page.position)
                message = {**entry.message(), "entry": EntryId(entry.id, entry.xid)}
                known = _is_known(message, tenants)
                deliveries = [] if known else await self.app.events.replay(message, link.connection)
                packet = self._packet(link, deliveries, self.offset(link, entry.id, text))
                if packet is not None:
                    packets.append(packet)
                    size += len(packet.frame)
            if number % TURN == 0 or size > WRITE_BYTES:
                await link.send_all(packets)
                packets, size = [], 0
                await asyncio.sleep(0)
        await link.send_all(packets)

    def _packet(self, link: Link, deliveries: list[Delivery], offset: str) -> Message | None:
        """Return the packet of an event, if a connection is among those that get it."""
        for context, recipients in deliveries:
            if link.connection in recipients:
                own = recipients[link.connection]
                data = context.external if own is UNSET else own
                name = f"{context.path} {context.event}"
                return self.engine.event_packet(name, data, offset)
        return None

    def _tenants(self, log: Log, link: Link) -> Collection[Any] | None:
        """Return the tenants whose entries a connection may get, with None for entries without one."""
        tenants = None if log.tenants is None else log.tenants(link.connection)
        return None if tenants is None else [*tenants, None]

    def _handled(self, entries: list[Entry]) -> None:
        """Forget early events whose turn has come: a replay reaches them. End connections whose rights have changed."""
        for link in self.links:
            if link.replay is not None and link.replay.early:
                for entry in entries:
                    link.replay.early.pop(entry.id, None)
        for entry in entries:
            if self.log is not None and entry.service in self.log.rights:
                for link in [link for link in self.links if self._changes_rights(self.log, entry, link)]:
                    self._lose(link)

    def _login_missing(self, link: Link, replay: Replay) -> None:
        if replay.is_recovery:
            self._lose(link)
        else:
            self._start(link, replay)

    def _lose_all(self) -> None:
        for link in list(self.links):
            self._lose(link)

    def _lose(self, link: Link) -> None:
        """Close a connection so that its client is not recovered with the next one, and reads again."""
        link.is_lost = True
        self.links.discard(link)
        self.engine.finish(link, self.engine.event_packet(OFFSET, LOST))


def _is_known(message: Mapping[str, Any], tenants: Collection[Any] | None) -> bool:
    """Return True for a record that has left a tenant, if its change is among the entries of ``tenants`` as well."""
    return MOVED_TO in message and (tenants is None or str(message[MOVED_TO]) in map(str, tenants))


async def _is_there(log: Log, position: Position) -> bool:
    try:
        await log.check(position)
    except Gone:
        return False
    return True
