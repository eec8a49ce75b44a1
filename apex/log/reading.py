"""The statements that read the log. Each database has its own way to find the entries after a position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    String,
    Subquery,
    Table,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)  # fmt: skip

from apex.encoding import decode
from apex.errors import Gone
from apex.log.position import Position, Snapshot
from apex.log.table import TENANT
from apex.sql.database import Database
from apex.sql.drivers.executor import Plan
from apex.sql.statements import Reader, Statement, StatementCache
from apex.sql.types.columns import Timestamp
from apex.sql.types.registry import Processor, value_reader
from apex.types import Row

READ_BYTES = 1 << 20
"""The JSON of one read, after which it ends. A larger entry is read alone."""

JSON_COLUMNS = ("before", "record", "call")

UNKNOWN = "The log does not have this position, or no longer all entries after it: read the records again"


class Entry:
    """An entry of the log: an event of a service, or a message between processes, whose ``service`` is None.

    ``before``, ``record`` and ``call`` are decoded anew each time, so that nobody changes what others get. ``xid`` is
    the transaction on PostgreSQL, and ``size`` the length of its JSON.
    """

    __slots__ = (
        "_before", "_call", "_record", "created_at", "event", "id", "method", "origin", "record_id", "service", "size",
        "tenant", "xid",
    )  # fmt: skip

    id: int
    xid: int
    created_at: datetime
    service: str | None
    event: str
    method: str | None
    record_id: str | None
    origin: str
    tenant: Any
    _before: str | None
    _record: str | None
    _call: str | None

    def __init__(self, values: Sequence[Any]) -> None:
        (
            self.id, self.xid, self.created_at, self.service, self.event, self.method, self.record_id, self.origin,
            self.tenant, self._before, self._record, self._call,
        ) = values  # fmt: skip
        self.size: int = len(self._before or "") + len(self._record or "") + len(self._call or "")

    @property
    def before(self) -> Any:
        """The changed fields with their values before, or None."""
        return None if self._before is None else decode(self._before)

    @property
    def record(self) -> Any:
        """The record of the event, or the message."""
        return None if self._record is None else decode(self._record)

    @property
    def call(self) -> Any:
        """The call of the event, or None: ``id``, ``params``, and ``dispatch`` if it differs from the record."""
        return None if self._call is None else decode(self._call)

    def __repr__(self) -> str:
        return f"<Entry {self.id}: {self.service} {self.event} {self.record_id}>"

    def message(self) -> dict[str, Any]:
        """Return the event as ``Events`` sends it to the connections."""
        message = {"path": self.service, "event": self.event, "result": self.record}
        if self._before is not None:
            message["before"] = self.before
        return message if self._call is None else {**message, "method": self.method, **self.call}


class Read(NamedTuple):
    """Entries in their order, and the position after them. With ``more`` there are further ones already."""

    entries: list[Entry]
    position: Position
    more: bool


def position_within(after: Position, entry: Entry, read: Read) -> Position:
    """Return the position of a reader that has got the entries of a read up to one of them, in the order of ids."""
    return Position(after.epoch, entry.id, milliseconds(entry.created_at), after.seen, read.position.upper)


@dataclass(frozen=True, slots=True)
class Filter:
    """The entries that a reader asks for. None sets no limit.

    Among ``tenants``, None stands for entries without a tenant, and among ``services`` for messages.
    """

    tenants: Sequence[Any] | None = None
    services: Sequence[str | None] | None = None
    event: str | None = None
    record_id: str | None = None

    @property
    def shape(self) -> Hashable:
        """The part that the text of a statement depends on."""
        lists = (None if some is None else None in some for some in (self.tenants, self.services))
        return (*lists, self.event is None, self.record_id is None)

    @property
    def values(self) -> dict[str, Any]:
        """The values of the statement's parameters."""
        lists = {"tenants": self.tenants, "services": self.services}
        values = {name: [one for one in some if one is not None] for name, some in lists.items() if some is not None}
        texts = {"of_event": self.event, "of_record": self.record_id}
        return {**values, **{name: text for name, text in texts.items() if text is not None}}

    def conditions(self, table: Table) -> list[ColumnElement[bool]]:
        """Return the conditions of a statement. Raises ValueError for tenants of a log without them."""
        conditions: list[ColumnElement[bool]] = []
        if self.tenants is not None:
            if TENANT not in table.info:
                raise ValueError("The log has no tenants: name their column in log_table(..., tenant=...)")
            conditions.append(_is_among(table.c[table.info[TENANT]], "tenants", self.tenants))
        if self.services is not None:
            conditions.append(_is_among(table.c.service, "services", self.services))
        if self.event is not None:
            conditions.append(table.c.event == bindparam("of_event", type_=String()))
        if self.record_id is not None:
            conditions.append(_record_id(table) == bindparam("of_record", type_=String()))
        return conditions


def _record_id(table: Table) -> ColumnElement[Any]:
    """Return the id of the record as a text. An app may have made its column one of another type."""
    column = table.c.record_id
    return column if isinstance(column.type, String) else cast(column, String()).label("record_id")


def _is_among(column: ColumnElement[Any], name: str, values: Sequence[Any]) -> ColumnElement[bool]:
    among = column.in_(bindparam(name, expanding=True))
    return or_(among, column.is_(None)) if None in values else among


EVERYTHING = Filter()


COLUMNS = 12
"""The number of columns of an entry."""

NOW = ("found", "last_id", "last_at", "last_xid", "snapshot", "started")
"""The columns after those of an entry: how many were found, and how far the log goes. SQLite has the first three."""


class Reading(ABC):
    """The compiled statements of a log. ``order`` is the column with the order in which entries become visible.

    ``sizes`` are functions for the size of JSON in the database. The last one is exact.
    """

    sizes: Sequence[Callable[[Any], ColumnElement[int]]] = (lambda column: func.length(cast(column, Text)),)

    def __init__(self, database: Database, table: Table, order: str) -> None:
        self.database = database
        self.table = table
        self.order: Column[Any] = table.c[order]
        self._kept = StatementCache()

    @abstractmethod
    async def exists(self) -> bool:
        """Return True if the table exists."""

    @abstractmethod
    async def beginning(self) -> Position:
        """Return the position before the first entry, of an empty log."""

    @abstractmethod
    async def position(self) -> Position:
        """Return the position after all entries."""

    @abstractmethod
    async def check(self, position: Position) -> None:
        """Raise Gone if not all entries after a position can be read."""

    @abstractmethod
    async def read(self, after: Position, filter: Filter, limit: int) -> Read:
        """Return entries after a position."""

    async def position_at(self, moment: datetime, filter: Filter) -> Position:
        """Return a position before all entries since a moment. Raises Gone if some of them are deleted."""
        now, values = await self.position(), {**filter.values, "moment": moment}
        since = await self._rows("since", lambda: self._since(filter), values, filter)
        if not since:
            return now
        [first] = since
        before = await self._rows("before", self._before, {"end": first[self.order.name]}, EVERYTHING)
        id, at = (before[0]["id"], milliseconds(before[0]["created_at"])) if before else (0, 0)
        position = Position(now.epoch, id, at, None if now.seen is None else now.seen.until(first["xid"]))
        try:
            await self.check(position)
        except Gone:
            if before:
                raise
            begin = first["created_at"] + timedelta(seconds=1)
            raise Gone(f"The log begins at {begin:%Y-%m-%dT%H:%M:%SZ}: replay from then on") from None
        return position

    async def entries(self, ids: Sequence[int]) -> list[Entry]:
        """Return the entries with these ids."""
        log = self.table.c
        asked = select(*self._columns).where(log.id.in_(bindparam("ids", expanding=True))).order_by(log.id)
        rows = await self._found("entries", lambda: asked, {"ids": list(ids)}, EVERYTHING)
        return [entry for entry, _ in rows if entry is not None]

    async def _found(
        self, name: str, build: Callable[[], Any], values: Mapping[str, Any], filter: Filter
    ) -> list[tuple[Entry | None, Sequence[Any]]]:
        """Return the entries of a statement that begins with ``_columns``, each with the values of its other columns.

        A row without an entry has None in its place.
        """
        statement = self._kept.get((name, filter.shape), lambda: self._compiled(name, build(), filter, self._read))
        return await self.database.fetch(statement, values)

    def _read(self, row: Sequence[Any]) -> tuple[Entry | None, Sequence[Any]]:
        if row[0] is None:
            return None, row[COLUMNS:]
        values = list(row[:COLUMNS])
        for place, read in self._readers:
            values[place] = read(values[place])
        return Entry(values), row[COLUMNS:]

    @cached_property
    def _readers(self) -> list[tuple[int, Processor]]:
        """The functions that read values of ``_columns`` from the driver, by their places."""
        readers = (value_reader(column.type, self.database.dialect) for column in self._columns)
        return [(place, read) for place, read in enumerate(readers) if read is not None]

    def _now_of(self, values: Sequence[Any]) -> Row:
        """Return the row of the columns ``NOW``, in their order, for values from the driver."""
        row: Row = dict(zip(NOW, values, strict=False))
        read = value_reader(self.table.c.created_at.type, self.database.dialect)
        return row if read is None else {**row, "last_at": read(row["last_at"])}

    async def _rows(self, name: str, build: Callable[[], Any], values: Mapping[str, Any], filter: Filter) -> list[Row]:
        statement = self._kept.get((name, filter.shape), lambda: self._compiled(name, build(), filter))
        return await self.database.fetch(statement, values)

    def _compiled(self, name: str, statement: Any, filter: Filter, read: Reader | None = None) -> Statement:
        # With a filter, the best index depends on its values. A page follows the ids, whatever PostgreSQL estimates.
        plan: Plan = "anew" if filter != EVERYTHING else "one" if name == "page" else "kept"
        return self.database.compile(statement, plan, read=read)

    async def _row(self, name: str, build: Callable[[], Any], values: Mapping[str, Any] | None = None) -> Row:
        return (await self._rows(name, build, values or {}, EVERYTHING))[0]

    def _since(self, filter: Filter) -> Any:
        log = self.table.c
        is_since = log.created_at >= bindparam("moment", type_=Timestamp())
        found = select(log.id, log.xid, log.created_at).where(is_since, *filter.conditions(self.table))
        return found.order_by(self.order).limit(1)

    def _before(self) -> Any:
        log = self.table.c
        is_before = self.order < bindparam("end", type_=BigInteger())
        return select(log.id, log.created_at).where(is_before).order_by(self.order.desc()).limit(1)

    @property
    def _columns(self) -> list[ColumnElement[Any]]:
        """The columns of an entry. JSON comes as text, which is decoded if somebody looks at it."""
        return [_as_text(column) for column in self._stored]

    @property
    def _stored(self) -> list[ColumnElement[Any]]:
        """The columns of an entry as they are stored."""
        log = self.table.c
        name = self.table.info.get(TENANT)
        tenant = literal_column("NULL", Integer()) if name is None else log[name]
        plain = [
            log.id,
            log.xid,
            log.created_at,
            log.service,
            log.event,
            log.method,
            _record_id(self.table),
            log.origin,
        ]
        return [*plain, tenant.label("tenant"), *(log[name] for name in JSON_COLUMNS)]

    def _bounded(self, found: Any) -> Subquery:
        """Return the first of the entries that a statement finds, in the order of ids: those up to ``READ_BYTES``.

        ``found`` selects the columns ``_stored``. The result has ``_columns``, and in ``found`` the number of entries
        without the bound. The sizes are looked at in steps, so that only a few entries are unpacked for the exact one.
        """
        entries = found.subquery("entries")
        rows = select(entries, func.count().over().label("found")).subquery("counted")
        for step, size_of in enumerate(self.sizes):
            size = sum(func.coalesce(size_of(rows.c[name]), 0) for name in JSON_COLUMNS)
            before = func.sum(size).over(order_by=rows.c.id, rows=(None, -1)).label(f"before_{step}")
            rows = select(rows, before).subquery(f"sized_{step}")
            rows = select(rows).where(func.coalesce(rows.c[before.name], 0) < READ_BYTES).subquery(f"bounded_{step}")
        return select(*(_as_text(rows.c[name]) for name in (*entries.c.keys(), "found"))).subquery("found")

    def _last(self) -> Any:
        log = self.table.c
        return select(log.id.label("last_id"), log.created_at.label("last_at")).order_by(log.id.desc()).limit(1)

    def _range(self) -> list[ColumnElement[Any]]:
        """The moment of the entry of an id, the first and the last id, and the first one of an event."""
        log = self.table.c
        at = select(log.created_at).where(log.id == bindparam("of_id", type_=BigInteger())).scalar_subquery()
        event = select(log.id).where(log.service.is_not(None)).order_by(log.id).limit(1).scalar_subquery()
        first, last = (select(one(log.id)).scalar_subquery() for one in (func.min, func.max))
        return [at.label("at"), first.label("first_id"), last.label("last_id"), event.label("first_event_id")]


def _as_text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(column, Text).label(column.name) if column.name in JSON_COLUMNS else column


def milliseconds(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def _has_entry(position: Position, row: Row) -> bool:
    """Return True if the entry of the position is still there, or if it has none and no entry was removed.

    A message between processes is deleted before older events, which show that nothing else is missing.
    """
    if not position.id:
        return row["first_id"] in (None, 1)
    if row["at"] is not None:
        return milliseconds(row["at"]) == position.moment
    first: int | None = row["first_event_id"]
    return first is not None and first < position.id < row["last_id"]


class SQLiteReading(Reading):
    """The statements for SQLite, which commits one transaction after the other. So the id is the order."""

    def __init__(self, database: Database, table: Table) -> None:
        super().__init__(database, table, "id")

    async def exists(self) -> bool:
        return bool(await self._rows("table", self._named, {"table": self.table.name}, EVERYTHING))

    async def beginning(self) -> Position:
        return Position("0")

    async def position(self) -> Position:
        rows = await self._rows("last", self._last, {}, EVERYTHING)
        return self._after(rows[0], Position("0")) if rows else Position("0")

    async def check(self, position: Position) -> None:
        row = await self._row("range", lambda: select(*self._range()), {"of_id": position.id})
        if position.epoch != "0" or position.seen is not None or not _has_entry(position, row):
            raise Gone(UNKNOWN)

    async def read(self, after: Position, filter: Filter, limit: int) -> Read:
        if after.epoch != "0" or after.seen is not None:
            raise Gone(UNKNOWN)
        values = {**filter.values, "after": after.id, "most": limit + 1}
        rows = await self._found("new", lambda: self._new(filter), values, filter)
        if not rows:
            if after.id:  # A backup was restored: the newest entry is never pruned.
                raise Gone(UNKNOWN)
            return Read([], after, False)
        now = self._now_of(rows[0][1])
        if after.id > now["last_id"]:
            raise Gone(UNKNOWN)
        entries = [entry for entry, _ in rows[:limit] if entry is not None]
        if entries and len(entries) < now["found"]:
            last = entries[-1]
            return Read(entries, Position("0", last.id, milliseconds(last.created_at)), True)
        return Read(entries, self._after(now, after), False)

    def _named(self) -> Any:
        return select(literal_column("1")).select_from(text("sqlite_master")).where(text("name = :table"))

    def _new(self, filter: Filter) -> Any:
        log = self.table.c
        condition = and_(log.id > bindparam("after", type_=BigInteger()), *filter.conditions(self.table))
        new = select(*self._stored).where(condition).order_by(log.id).limit(bindparam("most", type_=Integer()))
        found, last = self._bounded(new), self._last().subquery("last")
        return select(found, last).select_from(last.outerjoin(found, true())).order_by(found.c.id)

    def _after(self, row: Row, before: Position) -> Position:
        return max(before, Position("0", row["last_id"], milliseconds(row["last_at"])), key=lambda one: one.id)


class PostgresReading(Reading):
    """The statements for PostgreSQL, which gives out ids before the commit. So transactions tell what is new.

    New entries are those whose transactions have ended since a snapshot. They are read with the index on ``xid``: the
    statement asks for the entries of the transactions that came later, in their order, and for those of the
    transactions that were open. So it never reads the whole table, whatever PostgreSQL knows about the values.
    """

    sizes: Sequence[Callable[[Any], ColumnElement[int]]] = (func.pg_column_size, *Reading.sizes)

    def __init__(self, database: Database, table: Table) -> None:
        super().__init__(database, table, "xid")
        self._epoch: str | None = None
        self._started = ""
        """The moment at which the server that the epoch belongs to was started."""

    async def exists(self) -> bool:
        named = self.database.dialect.identifier_preparer.format_table(self.table)
        return bool((await self._row("table", self._named, {"table": named}))["found"])

    async def beginning(self) -> Position:
        return Position(await self._identity(), seen=Snapshot(0))

    async def position(self) -> Position:
        epoch = await self._identity()
        row = await self._row("now", self._now)
        if row["started"] != self._started:
            self._epoch = None
            return await self.position()
        return self._after(row, Position(epoch, seen=Snapshot(0)))

    async def check(self, position: Position) -> None:
        self._epoch = None
        self._require_epoch(position, await self._identity())
        await self._forget_foreign()
        row = await self._row("range", self._snapshot_and_range, {"of_id": position.id})
        upper, now = position.upper, Snapshot.of(row["snapshot"])
        if upper is None or upper.xmax > now.xmax or not _has_entry(position, row):
            raise Gone(UNKNOWN)

    async def read(self, after: Position, filter: Filter, limit: int) -> Read:
        self._require_epoch(after, await self._identity())
        if after.reading is not None:
            return await self._page(after, filter, limit)
        values = {**filter.values, **_since(after), "most": limit + 1}
        rows = await self._found("new", lambda: self._new(filter), values, filter)
        now = self._now_of(rows[0][1])
        if now["started"] != self._started:
            await self.check(after)  # Another server may have taken the place of this one, or a restored database.
            return await self.read(after, filter, limit)
        if _lacks_last_entry(after, now["last_xid"]):
            await self.check(after)  # A backup was restored into this database.
        position = self._after(now, after)
        if (now["found"] or 0) > min(len(rows), limit):
            return await self._first_page(after, position, filter, limit)
        entries = [entry for entry, _ in rows if entry is not None and _has(position, entry.xid)]
        return Read(entries, position, False)

    async def _first_page(self, after: Position, now: Position, filter: Filter, limit: int) -> Read:
        """Begin a read in pages, in the order of ids, up to a snapshot."""
        values = {**filter.values, **_since(after), **_until(now)}
        first = (await self._rows("first", lambda: self._first(filter), values, filter))[0]["first_id"]
        begin = Position(after.epoch, (first or 1) - 1, 0, after.seen, now.seen)
        return await self._page(begin, filter, limit)

    async def _page(self, after: Position, filter: Filter, limit: int) -> Read:
        values = {**filter.values, **_since(after), **_until(after), "after": after.id, "most": limit + 1}
        rows = await self._found("page", lambda: self._page_of(filter), values, filter)
        entries = [entry for entry, _ in rows[:limit] if entry is not None]
        id, moment = after.id, after.moment
        if entries:
            id, moment = entries[-1].id, milliseconds(entries[-1].created_at)
        if entries and len(entries) < rows[0][1][0]:
            return Read(entries, Position(after.epoch, id, moment, after.seen, after.reading), True)
        return Read(entries, Position(after.epoch, id, moment, after.reading), False)

    async def _identity(self) -> str:
        """Return the epoch: the server, its timeline after a failover or a restored backup, and the database."""
        if self._epoch is None:
            row = await self._row("identity", _identity)
            self._started = row.pop("started")
            text = ":".join(map(str, row.values()))
            self._epoch = format(int(sha256(text.encode()).hexdigest()[:10], 16), "x")
        return self._epoch

    def _require_epoch(self, position: Position, epoch: str) -> None:
        if position.epoch != epoch or position.seen is None:
            raise Gone(UNKNOWN)

    async def _forget_foreign(self) -> None:
        """Set the numbers of transactions to 0 that are not of this server, in a log restored from a dump.

        Their entries can be seen although this server has not begun such transactions. They would seem new once it has.
        """
        if (await self._row("foreign", self._is_foreign))["is_foreign"]:
            condition = self._foreign()
            await self.database.execute(update(self.table).where(condition).values(xid=0))

    def _named(self) -> Any:
        found = func.to_regclass(bindparam("table", type_=String())).is_not(None)
        return select(found.label("found"))

    def _is_foreign(self) -> Any:
        return select(exists().where(self._foreign()).label("is_foreign"))

    def _foreign(self) -> ColumnElement[bool]:
        xid, now = self.table.c.xid, func.pg_current_snapshot()
        bounds = [_as_number(one(now)) for one in (func.pg_snapshot_xmin, func.pg_snapshot_xmax)]
        still_open = func.pg_snapshot_xip(now).table_valued("xid", name="still_open").render_derived()
        is_open = exists(still_open).where(_as_number(still_open.c.xid) == xid)
        return and_(xid >= bounds[0], or_(xid >= bounds[1], is_open))

    def _now(self) -> Any:
        now, last = _snapshot().subquery("now"), self._last().subquery("last")
        return select(now, last).select_from(now.outerjoin(last, true()))

    def _snapshot_and_range(self) -> Any:
        return _snapshot().add_columns(*self._range())

    def _new(self, filter: Filter) -> Any:
        log, conditions = self.table.c, filter.conditions(self.table)
        later = select(*self._stored).where(log.xid >= bindparam("xmax", type_=BigInteger()), *conditions)
        later = later.order_by(log.xid).limit(bindparam("most", type_=Integer()))
        were_open = select(*self._stored).where(log.xid == any_(_numbers("xip")), *conditions)
        found = self._bounded(union_all(select(later.subquery("later")), were_open))
        now, last = _snapshot().subquery("now"), self._last().subquery("last")
        joined = now.outerjoin(last, true()).outerjoin(found, true())
        return select(found, last, now).select_from(joined).order_by(found.c.id)

    def _first(self, filter: Filter) -> Any:
        # The sum keeps PostgreSQL from looking for the first id along the primary key.
        return select(func.min(self.table.c.id + 0).label("first_id")).where(self._is_new(filter, self.table.c.xid))

    def _page_of(self, filter: Filter) -> Any:
        log = self.table.c
        # All ids from the first new one on are new, or nearly so. The sum keeps PostgreSQL from another way to them.
        xid = log.xid if filter.tenants is not None else log.xid + 0
        condition = and_(log.id > bindparam("after", type_=BigInteger()), self._is_new(filter, xid))
        found = select(*self._stored).where(condition).order_by(log.id).limit(bindparam("most", type_=Integer()))
        bounded = self._bounded(found)
        return select(bounded).order_by(bounded.c.id)

    def _is_new(self, filter: Filter, xid: ColumnElement[int]) -> ColumnElement[bool]:
        since = or_(xid >= bindparam("xmax", type_=BigInteger()), xid == any_(_numbers("xip")))
        until = and_(xid < bindparam("until", type_=BigInteger()), xid != all_(_numbers("still_open")))
        return and_(since, until, *filter.conditions(self.table))

    def _after(self, row: Row, before: Position) -> Position:
        """Return the position at the snapshot of a row.

        It ends with the last transaction that has an entry. The numbers of later ones, which were rolled back, may not
        be on the disk yet: PostgreSQL gives them out again after a crash, perhaps to a transaction with entries.
        """
        id, moment, now = before.id, before.moment, Snapshot.of(row["snapshot"])
        end = 0 if before.seen is None else before.seen.xmax
        if row["last_xid"] is not None and row["last_xid"] >= end:
            id, moment = row["last_id"], milliseconds(row["last_at"])
            end = min(row["last_xid"] + 1, now.xmax)
        return Position(before.epoch, id, moment, now.until(end))

    def _last(self) -> Any:
        log = self.table.c
        last = select(log.id.label("last_id"), log.created_at.label("last_at"), log.xid.label("last_xid"))
        return last.order_by(log.xid.desc()).limit(1)


def reading_of(database: Database, table: Table) -> Reading:
    """Return the statements for a database."""
    return (PostgresReading if database.dialect.name == "postgresql" else SQLiteReading)(database, table)


def _identity() -> Any:
    server = "(SELECT system_identifier FROM pg_control_system()) AS server"
    timeline = "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS timeline"
    database = "(SELECT oid FROM pg_database WHERE datname = current_database()) AS database"
    started = "CAST(pg_postmaster_start_time() AS text) AS started"
    return select(text(f"{server}, {timeline}, {database}, {started}"))


def _snapshot() -> Any:
    started = cast(func.pg_postmaster_start_time(), Text).label("started")
    return select(cast(func.pg_current_snapshot(), Text).label("snapshot"), started)


def _as_number(xid: Any) -> ColumnElement[int]:
    return cast(cast(xid, Text), BigInteger)


def _numbers(name: str) -> Any:
    return bindparam(name, type_=ARRAY(BigInteger))


def _since(position: Position) -> dict[str, Any]:
    seen = position.seen or Snapshot(0)
    return {"xmax": seen.xmax, "xip": list(seen.xip)}


def _until(position: Position) -> dict[str, Any]:
    upper = position.upper or Snapshot(0)
    return {"until": upper.xmax, "still_open": list(upper.xip)}


def _lacks_last_entry(position: Position, last_xid: int | None) -> bool:
    """Return True if the log has no entry of the last transaction of a position, or of a later one."""
    return position.seen is not None and position.seen.xmax > (0 if last_xid is None else last_xid + 1)


def _has(position: Position, xid: int) -> bool:
    return position.seen is not None and position.seen.has(xid)
