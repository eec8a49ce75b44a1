"""The service for programs without sockets: the events of all services, in pages that a program can wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table

from apex.adapters.pages import is_pagination, limit_of
from apex.app import Apex
from apex.context import Params
from apex.describe import describe
from apex.errors import Unavailable
from apex.events import EVENTS
from apex.log.app_log import Log
from apex.log.position import Position
from apex.log.reading import Entry, position_within
from apex.log.rights import FOR_NOBODY, DataOf, MayRead, Reader, Rights
from apex.log.table import TENANT
from apex.log.waiting import Waiting
from apex.permissions.hook import limits_tenants
from apex.query.coercion import Coerce, text
from apex.query.evaluation import decided
from apex.query.language import (
    FILTERS,
    Compare,
    Predicate,
    Query,
    Syntax,
    conjunction,
    every,
    invalid,
    membership,
    shortened,
    suggestion,
)
from apex.query.scope import FieldTypes, scope_predicate
from apex.relations.calls import caller_anew
from apex.service import Call, Service
from apex.sql.types.registry import coercers, shapes_of
from apex.transaction import is_in_transaction
from apex.types import UNSET, Paginate, Row

LONGEST_WAIT = 30
"""The most seconds of ``$wait``. Proxies end requests that take a minute."""

MOST_READS = 10
"""The most reads of the log for one page. If the caller may read few of the entries, its page has fewer of them."""

READ = 1_000
"""The entries of a read, apart from the first one: that has as many as the page, which is enough for most callers."""

NOW = "now"
"""The value of ``$after`` for the entries from now on."""

PAGES: Paginate = {"default": 100, "max": 1_000}

UNAVAILABLE = tuple(name for name in FILTERS if name not in ("$after", "$limit"))
"""The filters of other services that a query for events must not have."""

_TEXT: Row = {"type": "string"}
_TEXTS: Row = {"anyOf": [{"type": "array", "items": _TEXT}, _TEXT]}
_ONE_OR_MORE: Row = {"anyOf": [_TEXT, {"type": "object", "properties": {"$in": _TEXTS}, "additionalProperties": False}]}


def query_of(service: EventsService) -> Row:
    """Return the shape of a query, for OpenAPI."""
    pages = {{"default": "default", "max": "maximum"}[name]: rows for name, rows in (service.paginate or {}).items()}
    properties = {
        "service": {**_ONE_OR_MORE, "description": "The path of a service, or several as `service[$in]`."},
        "event": {**_ONE_OR_MORE, "description": "The name of an event such as `created`, or several as `event[$in]`."},
        "record_id": {**_ONE_OR_MORE, "description": "The id of a record, or several as `record_id[$in]`."},
        "$after": {
            **_TEXT,
            "example": "",
            "description": (
                "The `next` of a page, or the position of a list. The page has what happened after it. Empty for the "
                "oldest event that is kept, `now` for events from now on."
            ),
        },
        "$wait": {
            "type": "integer",
            "minimum": 0,
            "maximum": LONGEST_WAIT,
            "default": 0,
            "example": 0,
            "description": "The most seconds to wait for an event, if there is none yet.",
        },
        "$limit": {"type": "integer", "minimum": 1, **pages, "description": "The most events of the page."},
    }
    return {"type": "object", "properties": properties}


def page_of(service: EventsService) -> Row:
    """Return the shape of an answer, for OpenAPI."""
    event: Row = {"id": {"type": "integer"}, "created_at": {"type": "string", "format": "date-time"}}
    if service.tenant is not None:
        event[service.tenant] = shapes_of(service.table)[service.tenant]
    event |= {
        "service": _TEXT,
        "event": _TEXT,
        "record_id": {"type": ["integer", "string", "null"]},
        "data": {"description": "The record, with the fields that the caller may read."},
    }
    properties = {
        "limit": {"type": "integer"},
        "next": {**_TEXT, "description": "The position after this page: the `$after` of the next request."},
        "more": {"type": "boolean", "description": "True if there may be further events already."},
        "data": {
            "type": "array",
            "items": {"title": "Event", "type": "object", "properties": event, "required": list(event)},
        },
    }
    return {"title": "EventPage", "type": "object", "properties": properties, "required": list(properties)}


class Asked(NamedTuple):
    """A query for events. ``tenants`` are those that it allows, or None for all of them."""

    where: Predicate
    services: Sequence[str]
    tenants: Sequence[Any] | None
    tenant: str | None
    limit: int

    def wants(self, entry: Entry) -> bool:
        """Return True for an entry that the query and the scope of its call allow."""
        return entry.service in self.services and decided(self.where, self.row(entry)) is True

    def row(self, entry: Entry) -> Row:
        """Return the fields of an event without its data."""
        row: Row = {"id": entry.id, "created_at": entry.created_at}
        if self.tenant is not None:
            row[self.tenant] = entry.tenant
        return {**row, "service": entry.service, "event": entry.event, "record_id": entry.record_id}


class Found(NamedTuple):
    """A page of events."""

    data: list[Row]
    position: Position
    more: bool


class EventsService(Service):
    """The events of all services, in the order in which they happened, for programs without sockets::

        app.use("events", EventsService(), hooks={"around": {"all": [authenticate("jwt")]}})

    ``find`` returns a page of the events after the position ``$after``. Its ``next`` is the position of the next page.
    With ``$wait`` a page without events waits for one. The query may name services, events, ids of records, and the
    tenant.

    Callers get the events of the records that they may read by the ``permissions`` of their service, with the fields
    that they may read. The scope of a call limits them further: it may name the fields of an event. For services
    without permissions, ``may_read`` has functions by path, of the record and the params of the call. Nobody gets the
    events of all other services. ``paginate`` has the usual and the largest number of events in a page::

        EventsService(may_read={"news": lambda record, params: record["published"]})
    """

    methods: Sequence[str] | None = ("find",)
    logged: bool = False
    noun = "event"
    id = "id"
    shown: Sequence[str] | None = None
    summaries: Mapping[str, str] = {"find": "Follow events"}
    columns: Mapping[str, Coerce]
    syntax: Syntax

    def __init__(
        self,
        *,
        may_read: Mapping[str, MayRead] | None = None,
        data: DataOf | None = None,
        paginate: Paginate = PAGES,
    ) -> None:
        if not is_pagination(paginate) or not paginate or not all(paginate.values()):
            raise TypeError(f"paginate takes a dict such as {{'default': 100, 'max': 1000}}, not {paginate!r}")
        self.may_read: Mapping[str, MayRead] | None = may_read
        self.data: DataOf | None = data
        self.paginate: Paginate = paginate

    def _registered(self, app: Apex, path: str) -> None:
        """Raise TypeError if the app has no log."""
        if not isinstance(app.log, Log):
            raise TypeError(f"Service '{path}' reads the log of the app: call app.configure(log(table)) before")
        self._path = path
        self.log: Log = app.log
        self.table: Table = self.log.table
        self.tenant: str | None = self.table.info.get(TENANT)
        known = coercers(self.table)
        own = [name for name in ("id", "created_at", self.tenant, "service", "event") if name is not None]
        self.columns = {name: known[name] for name in own} | {"record_id": record_id}
        asked = {name: coerce for name, coerce in self.columns.items() if name not in ("id", "created_at")}
        self.syntax = Syntax(asked, frozenset({"$in"}), {"$wait": wait_seconds})
        self.rights: Rights = Rights(app, self.may_read, self.data)
        self.waiting: Waiting = Waiting(app, self.log.stats)
        self.log.follow(self.waiting.offer, self.waiting.end_all)
        self._types = FieldTypes(self.columns, type(self).__name__)

    async def setup(self, app: Apex, path: str) -> None:
        """Let calls wait. Raises TypeError if nothing limits callers to their tenants."""
        if self.tenant is not None and self.log.tenants is None and not limits_tenants(app.service(path), "find"):
            raise TypeError(
                f"Service '{path}' has the events of all tenants, and nothing limits its callers to theirs: register "
                f"limit_to_tenants('{self.tenant}', ...) before find, or give log(...) the function 'tenants'"
            )
        self.waiting.open()

    @describe(query={"find": query_of}, result=page_of, errors=(410,))
    async def find(self, params: Params) -> Row:
        """Return the events after a position. Raises Gone for a position from which the log cannot go on."""
        for name in UNAVAILABLE:
            if name in params.query:
                raise invalid(name, "is not for events: they come whole, in the order in which they happened")
        query = self.syntax.parse(params.query)
        reader = self.rights.reader(params)
        asked = self._asked(query, params, reader)
        seconds = query.get("$wait", 0)
        if seconds and is_in_transaction():
            raise invalid("$wait", "is not for calls in a transaction, which it would keep open")
        after = await self._position(query)
        if not seconds:
            return self._page(asked, await self._read(asked, after, reader))
        # It waits from now on, so that it misses nothing that happens while the first page is read.
        with self.waiting.waiter(seconds, asked.tenants, params.connection, asked.wants) as waiter:
            found = await self._read(asked, after, reader)
            while not (found.data or found.more or waiter.is_over):
                if await waiter.wait() and params.provider:  # Its rights may have changed while it has waited.
                    params = await self._now(params, query, self._page(asked, found))
                    reader = self.rights.reader(params)
                    asked = self._asked(self.syntax.parse(params.query), params, reader)
                found = await self._next(asked, found.position, reader)
        return self._page(asked, found)

    async def _now(self, params: Params, query: Query, page: Row) -> Params:
        """Return the params of a caller as its hooks would leave them now. Raises their errors, as for a lost login.

        The hooks run in a call of their own, which answers with an empty ``page`` and reads nothing.
        """
        asked = {name: value for name, value in query.asked.items() if name not in ("$after", "$wait")}
        again: Row = {"query": asked, **caller_anew(self.rights.app, params)}
        if "route" in params:
            again["route"] = params.route

        async def read_nothing(method: Any) -> Row:
            return page

        bound = self.rights.app.service(self._path)
        call = Call(bound, "find", params=Params(again), around_method=read_nothing)
        return (await self.rights.app.call(call)).params

    def _asked(self, query: Query, params: Params, reader: Reader) -> Asked:
        """Return what a call asks for and may have. Raises BadRequest for what it cannot ask for."""
        limit = limit_of(query.limit, self.paginate)
        if not limit:
            raise invalid("$limit", "must be 1 or more")
        where = every(query.where, scope_predicate(params.scope, self._types), *self._tenants(params, reader))
        known = list(self.rights.services)
        for name in values_of(query.where, "service") or ():
            if name in self.rights.unread:
                raise invalid("service", f"names '{name}', whose events are for nobody: {FOR_NOBODY}")
            if name not in known:
                raise invalid("service", f"names '{shortened(name)}', which has no events.{suggestion(name, known)}")
        for name in values_of(query.where, "event") or ():
            if name in EVENTS:
                raise invalid("event", f"names the method '{name}', whose event is '{EVENTS[name]}'")
        services = [name for name in known if decided(where, {"service": name}) is not False]
        tenants = None if self.tenant is None else values_of(where, self.tenant)
        return Asked(where, services, tenants, self.tenant, limit)

    def _tenants(self, params: Params, reader: Reader) -> Iterator[Predicate]:
        """Yield the condition for the tenants of a caller from outside, if its scope does not name them."""
        if self.tenant is None or self.log.tenants is None or not params.provider or self.tenant in params.scope:
            return
        tenants = self.log.tenants(reader.connection)
        if tenants is not None:
            yield membership(self.tenant, "$in", list(tenants))

    async def _position(self, query: Query) -> Position | None:
        """Return the position that a query names, or None for that before the oldest entry. Raises BadRequest."""
        asked = query.cursor[1] if query.cursor else ""
        if asked == NOW:
            return await self.log.position()
        if not asked:
            return None
        try:
            return Position.parse(asked)
        except ValueError:
            raise invalid("$after", f"must be the 'next' of a page, '{NOW}', or empty for the oldest event") from None

    async def _read(self, asked: Asked, after: Position | None, reader: Reader) -> Found:
        """Return the next page of a caller. It may be short, or empty, if the caller may read few of the entries.

        The page ends after so many entries of the tenants, whatever else the caller asks for. Otherwise its end would
        tell whether entries match that the caller may not read. Raises Gone if the log does not have all the entries
        after the position.
        """
        begin = await self.log.beginning() if after is None else after
        found, size = Found([], begin, True), asked.limit
        for _ in range(MOST_READS):
            found = await self._read_on(asked, found, size, reader)
            after, size = after or found.position, READ
            if not found.more or len(found.data) == asked.limit:
                break
        # Checked now, as entries may have been deleted meanwhile.
        await self.log.check(after or found.position)
        return found

    async def _read_on(self, asked: Asked, found: Found, size: int, reader: Reader) -> Found:
        """Return a page with what the next entries of the log add to it. It ends once it is full."""
        services, data = list(self.rights.services), list(found.data)
        read = await self.log.read(found.position, tenants=asked.tenants, services=services, limit=size)
        for entry in read.entries:
            row = await self._row(asked, entry, reader)
            # Asked for last, so that the time does not tell how many hidden entries match either.
            if row is not None and asked.wants(entry):
                data.append(row)
                if len(data) == asked.limit and entry is not read.entries[-1]:
                    return Found(data, position_within(found.position, entry, read), True)
        return Found(data, read.position, read.more)

    async def _next(self, asked: Asked, after: Position, reader: Reader) -> Found:
        """Return the page after an empty one, with what the follower has read since then."""
        read = self.log.recent(after, tenants=asked.tenants, services=asked.services)
        if read is None:
            return await self._read(asked, after, reader)
        rows = [await self._row(asked, entry, reader) for entry in read.entries if asked.wants(entry)]
        data = [row for row in rows if row is not None]
        return Found(data, read.position, False) if len(data) <= asked.limit else await self._read(asked, after, reader)

    async def _row(self, asked: Asked, entry: Entry, reader: Reader) -> Row | None:
        """Return an entry as a caller sees it, or None if it may not read it, or if a function of the app fails.

        As with publishers, one odd record does not keep the caller from all that follow.
        """
        try:
            data = await reader.data(entry)
        except Unavailable:  # Later the caller may get it.
            raise
        except Exception:
            self.rights.app.callbacks.fail(f"The rights to '{entry.service} {entry.event}'", reader.data)
            return None
        if data is UNSET:
            return None
        return {**asked.row(entry), "record_id": self._record_id(entry, data), "data": data}

    def _record_id(self, entry: Entry, data: Any) -> Any:
        """Return the id of an entry's record with the type that it has in the record. The log has it as a text."""
        service = self.rights.app.service(entry.service or "").service
        id = data.get(getattr(service, "id", "id")) if isinstance(data, Mapping) else None
        return id if str(id) == entry.record_id else entry.record_id

    def _page(self, asked: Asked, found: Found) -> Row:
        return {"limit": asked.limit, "next": str(found.position), "more": found.more, "data": found.data}


def wait_seconds(value: Any) -> int:
    """Return the whole seconds of ``$wait``."""
    is_written = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 5
    seconds = int(value) if is_written else value
    if type(seconds) is not int or not 0 <= seconds <= LONGEST_WAIT:
        raise ValueError(f"must be a whole number of seconds from 0 to {LONGEST_WAIT}")
    return seconds


def record_id(value: Any) -> str:
    """Return the id of a record as a text, as the log has it."""
    return text(str(value) if type(value) is int else value)


def values_of(where: Predicate, name: str) -> list[Any] | None:
    """Return the values of a field that a predicate allows, or None if it does not list them."""
    found: list[Any] | None = None
    for part in conjunction(where):
        if isinstance(part, Compare) and part.field == name and part.operator in ("$eq", "$in"):
            values = [part.value] if part.operator == "$eq" else list(part.value)
            found = values if found is None else [value for value in found if value in values]
    return found
