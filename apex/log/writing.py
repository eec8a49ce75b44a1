"""Writing to the log: the entries of a transaction are stored just before its commit, by one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, FromClause, Integer, String, Table, Text, bindparam, cast, func, insert, select

from apex.adapters.companion import EntryOfRow, EntryShape, current_entry
from apex.context import Context, current_call
from apex.encoding import RawJSON, decode, encode
from apex.events import EVENTS, MOVED_TO, call_of, keys_of, records_of, sent_by, sent_part
from apex.hooks import Around, Next, Steps, result_keepers
from apex.log.table import TENANT, CurrentTransaction, DatabaseTime
from apex.realtime.turns import Turn, Turns
from apex.sql.database import Database
from apex.sql.service import SQLService
from apex.sql.statements import Statement, StatementCache
from apex.sql.types.registry import coercers, column_types, json_key
from apex.tenant import ALL_TENANTS, current_tenants, tenant_context
from apex.transaction import after_commit, current_transaction
from apex.types import READS, UNSET, Row, items

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.log.app_log import Log
    from apex.service import BoundService

Fields = Callable[[Context], Mapping[str, Any]]
"""A function that returns the values of an app's own columns for the entries of a call."""


class Entries:
    """The entries of one event, one for each record, which are written together. See ``apex.events.log.Entries``.

    ``make`` returns their rows, and ``rows`` keeps them. ``unit`` is the transaction that the call has begun for them.
    Without a transaction, ``place`` is theirs among the entries of the same records.
    """

    __slots__ = ("columns", "ids", "is_collected", "is_dropped", "is_new", "make", "place", "rows", "unit", "writing")

    def __init__(self, make: Callable[[], list[Row]]) -> None:
        self.make: Callable[[], list[Row]] = make
        self.unit: _Unit | None = None
        self.place: _Place | None = None
        self.rows: list[Row] | None = None
        self.ids: list[int] = []
        self.columns: dict[Any, Row] = {}
        self.is_collected: bool = False
        self.is_dropped: bool = False
        self.is_new: bool = False
        self.writing: Awaitable[None] | None = None

    def settle(self) -> list[Row]:
        """Return the rows of the entries. They are made once: the caller of a call may change its result later."""
        if self.is_dropped:
            return []
        if self.rows is None:
            self.rows = self.make()
            self.release()
        return self.rows

    def release(self) -> None:
        """Forget the call, which refers to its entries, so that both are freed without the garbage collector."""
        self.make = list

    def messages(self) -> list[dict[str, Any]] | None:
        """Return the events in the form of ``Entry.message``, or None if the rows are not made yet."""
        return None if self.rows is None else [message_of(row) for row in self.rows]


class _Unit:
    """A transaction that begins when the method of a call runs, and ends after all of its hooks."""

    __slots__ = ("_database", "_transaction", "_variables")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._transaction: AbstractAsyncContextManager[None] = database.transaction()
        self._variables: Variables | None = None

    async def begin(self) -> None:
        """Begin the transaction. The hooks that follow are part of it."""
        await self._transaction.__aenter__()
        self._variables = copy_context()

    async def end(self, error: BaseException | None) -> None:
        """Commit, or roll back if there is an error."""
        details = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        ending = self._transaction.__aexit__(*details)
        if current_transaction(self._database) is not None:
            await ending
        else:  # An around hook has gone on in a task of its own, which alone knows the transaction.
            await asyncio.create_task(_awaited(ending), context=self._variables)


async def _awaited(ending: Awaitable[bool | None]) -> None:
    await ending


async def _all_of(writing: Sequence[Awaitable[None]]) -> None:
    for one in writing:
        await one


class _Place:
    """The place of entries that are in no transaction, in the order in which their records were stored.

    A call that a hook makes cannot wait for the call around it. So that one waits for what the calls of its hooks have
    still to write, which is in ``inner``.
    """

    __slots__ = ("_around", "inner", "turn")

    def __init__(self, turn: Turn) -> None:
        self.turn: Turn = turn
        self.inner: list[Awaitable[None]] = []
        self._around: _Place | None = _place.get()
        self._around = self.around  # Those that are over are not kept.
        _place.set(self)

    @property
    def around(self) -> _Place | None:
        """The place of the call around this one, or None if that is over."""
        around = self._around
        while around is not None and around.turn.is_over:
            around = around._around
        return around

    def leave(self) -> list[Awaitable[None]]:
        """Let later entries be written, as there are none. Return what this call has to wait for."""
        self.turn.end()
        if (around := self.around) is None:
            return self.inner
        around.inner += self.inner
        return []


_place: ContextVar[_Place | None] = ContextVar("place", default=None)


class Writer:
    """The part of the log that writes the entries of calls, of other events, and of messages between processes."""

    def __init__(self, log: Log, fields: Fields | None) -> None:
        self.log: Log = log
        self.app: Apex = log.app
        self.database: Database = log.database
        self.table: Table = log.table
        self.fields: Fields | None = fields
        self.tenant: str | None = self.table.info.get(TENANT)
        self._statements: StatementCache = StatementCache()
        self._turns: Turns = Turns()

    def hooks_around(self, service: BoundService, method: str, steps: Steps) -> tuple[Around | None, Around] | None:
        """Return the hook around the whole call, if it needs one, and the hook around the method.

        Together they write the entries of the method. Return None if it has none. ``steps`` are its other hooks. If
        none of them changes the result, the entries are complete when the method has run.
        """
        if not service._is_logged or method in getattr(service.service, "reads", READS):
            return None
        keepers = result_keepers(steps)
        around_call = self.log_call if keepers != [] else None
        if method in EVENTS and keepers is not None and isinstance(service.service, SQLService):
            return around_call, _OneStatement(self, service, method, keepers)
        return around_call, self.log_method

    async def log_call(self, context: Context, next: Next) -> None:
        """Commit the transaction that ``log_method`` has begun, once all hooks of the call have run."""
        entries = context.entries = Entries(partial(self.of_call, context))
        try:
            await next()
            if not entries.ids:  # Else the statement of the record has stored them.
                entries.settle()
        except BaseException as error:
            entries.is_dropped = True
            entries.release()
            if entries.unit is not None:
                await entries.unit.end(error)
            if entries.place is not None:
                await _all_of(entries.place.leave())
            raise
        if entries.unit is not None:
            unit, entries.unit = entries.unit, None  # It refers to the call, too.
            await unit.end(None)
        if not entries.is_collected:  # Also in a task that has outlived the transaction around its call.
            await self._write_alone(entries)

    async def log_method(self, context: Context, next: Next) -> None:
        """Run the method in a transaction if its record is in the database, and collect its entries."""
        entries: Any = context.entries
        if entries is None:  # No hook changes the result.
            await self.log_call(context, partial(self.log_method, context, next))
            return
        entries.is_new = self.is_new(context)
        if context.event is not None and not context.has_result and self._stores(context.service):
            unit = _Unit(self.database)
            await unit.begin()
            entries.unit = unit
        await next()
        # Collected now: for each record the order of the entries is that in which its states were stored.
        entries.is_collected = self.database.collect(entries, self.write)
        if not entries.is_collected and context.event is not None:
            records = records_of(context.result)
            entries.place = _Place(self._turns.take(keys_of(context.service, records, context.id)))

    def add(self, service: BoundService, event: str, record: Any) -> Entries | None:
        """Add the entry of an event that a service sends itself. Return None if the service is not logged."""
        if not service._is_logged:
            return None
        context = current_call.get() or Context(self.app, service, "")
        entries = Entries(partial(self._of_event, service, event, record, context))
        entries.settle()
        if not self.database.collect(entries, self.write):
            entries.writing = self.app.callbacks.start(self._write_alone(entries))
        return entries

    def message(self, topic: str, message: Any, number: int | None = None) -> Entries:
        """Return the entry of a message between processes. Raises TypeError if it has no JSON form.

        A process that stores a message again, as it does not know if it is stored, gives it the same number. The moment
        of a message is that of the database: processes whose clocks differ delete messages after some minutes.
        """
        row: Row = {"origin": self.log.origin, "event": topic}
        row |= {"record": RawJSON(encode(message)), "call": RawJSON(encode({"number": number}))}
        entries = Entries(lambda: [row])
        entries.settle()
        return entries

    def collect(self, entries: Entries) -> bool:
        """Have entries written with the transaction around this call. Return False if there is none."""
        return self.database.collect(entries, self.write)

    async def write(self, collected: list[Entries]) -> None:
        """Store entries by one statement, and give them their ids."""
        rows = [row for entries in collected for row in entries.settle()]
        if not rows:
            return
        with tenant_context(self._tenants(rows)):
            stored = iter(await self._insert(rows))
        for entries in collected:
            entries.ids = [next(stored) for _ in entries.settle()]
        self.count(len(rows))

    def count(self, number: int) -> None:
        """Count entries that are written, and have them read once they are committed."""
        self.log.stats.written += number
        for function in self.log.commit_handlers:
            after_commit(function)

    async def write_late(self, entries: Entries) -> None:
        """Write entries of a method that has ended, with the transaction around this call if there is one."""
        entries.settle()
        if not self.collect(entries):
            await self._write_alone(entries)
        entries.is_collected = True

    async def _write_alone(self, entries: Entries) -> None:
        """Write entries that are not in a transaction of the database, after the commit of other stores."""
        place = entries.place
        if place is None:
            pending = after_commit(partial(self.write, [entries]))
        else:
            pending = after_commit(partial(self._start_in_turn, entries, place), place.turn.end)
        if pending is not None:
            await pending

    def _start_in_turn(self, entries: Entries, place: _Place) -> Awaitable[None] | None:
        """Write entries in their turn, also if their call is cancelled: later ones wait for them."""
        around, is_next = place.around, self._turns.is_next(place.turn)
        writing = self.app.callbacks.start(self._write_in_turn(entries, place.turn))
        if around is None:
            return _all_of([writing, *place.inner])
        around.inner += place.inner if is_next else [writing, *place.inner]
        return writing if is_next else None

    async def _write_in_turn(self, entries: Entries, turn: Turn) -> None:
        """Write entries after those of the calls that have stored the same records before."""
        try:
            if not self._turns.is_next(turn):
                begun = asyncio.Event()
                turn.run(begun.set)
                turn.hold()
                await begun.wait()
            await self.write([entries])
        finally:
            turn.end()

    def _stores(self, service: BoundService) -> bool:
        """Return True if the records of a service are in the database of the log."""
        return getattr(service.service, "database", None) is self.database

    def is_new(self, context: Context) -> bool:
        """Return True if a call stores records with ids that no other record had before.

        An id that the caller or the service has given may be that of a record that was removed.
        """
        service: Any = context.service.service
        is_stored = isinstance(service, SQLService) and self._stores(context.service)
        if context.method != "create" or not is_stored or context.has_result or not self.gives_new_ids(service):
            return False
        return _have_no_ids(context.data, service.id)

    def gives_new_ids(self, service: SQLService) -> bool:
        """Return True if the database chooses the ids, and none of them twice, as SQLite does without AUTOINCREMENT."""
        is_overridden = type(service).create is not SQLService.create
        is_postgresql = self.database.dialect.name == "postgresql"
        return not is_overridden and (is_postgresql or bool(service.table.dialect_options["sqlite"]["autoincrement"]))

    def _tenants(self, rows: list[Row]) -> str:
        """Return the tenants for which entries are stored. Row-level security must not refuse those of others."""
        own = current_tenants.get()
        if own == ALL_TENANTS or self.tenant is None:
            return own
        allowed = own.split(",")
        return own if all(str(row.get(self.tenant)) in allowed for row in rows) else ALL_TENANTS

    def of_call(self, context: Context) -> list[Row]:
        """Return the entries of a call, with its records as they are now."""
        service, event = context.service, context.event
        if event is None or event in service._options.events:
            return []
        shared = self._shared(service, event, context)
        call = call_of(context)
        shared["method"] = call.pop("method")
        stashed, columns = _stashed(context), {} if context.entries is None else context.entries.columns
        rows = []
        try:
            for record, text, sent in _records(context):
                done = call if sent is UNSET else {**call, "dispatch": sent}
                row = self._row(service, shared, record, text, stashed)
                row["call"] = RawJSON(encode(done))
                if row["record_id"] is None and context.id is not None:
                    row["record_id"] = self._record_id(context.id)
                if columns and isinstance(record, Mapping):
                    row |= columns.get(record.get(getattr(service.service, "id", "id")), {})
                if (left := self._of_former_tenant(service, row, record, call, stashed)) is not None:
                    rows.append(left)
                rows.append(row)
        except TypeError:
            self._refuse(service, event)
        return rows

    def _of_event(self, service: BoundService, event: str, record: Any, context: Context) -> list[Row]:
        """Return the entry of an event that a service sends itself."""
        try:
            return [self._row(service, self._shared(service, event, context), record, encode(record), None)]
        except TypeError:
            self._refuse(service, event)
            return []

    def _refuse(self, service: BoundService, event: str) -> None:
        """Log and count that a record has no JSON form. Its event cannot be sent either, and its call goes on."""
        self.app.callbacks.fail(f"The entry of '{service._path} {event}'", self.write)

    def _shared(self, service: BoundService, event: str, context: Context) -> Row:
        """Return the values that all entries of an event have."""
        own: Row = dict(self.fields(context)) if self.fields is not None else {}
        if self.tenant is not None and own.get(self.tenant) is None:
            own[self.tenant] = _tenant_of_call(context, self.tenant)
        return {
            **own,
            "origin": self.log.origin,
            "created_at": datetime.now(UTC),
            "service": service._path,
            "event": event,
            "method": None,
        }

    def _row(
        self,
        service: BoundService,
        shared: Row,
        record: Any,
        text: bytes,
        stashed: Mapping[Any, Mapping[str, Any]] | None,
    ) -> Row:
        row = {**shared, "record_id": None, "before": None, "record": RawJSON(text), "call": None}
        if isinstance(record, Mapping):
            id = record.get(getattr(service.service, "id", "id"))
            row["record_id"] = self._record_id(id)
            field = self.tenant_field(service)
            if self.tenant is not None and (tenant := self._value(self.tenant, record.get(field))) is not None:
                row[self.tenant] = tenant
            if stashed is not None and (before := stashed.get(id)) is not None:
                changed = {name: before[name] for name in record if name in before and before[name] != record[name]}
                row["before"] = RawJSON(encode(changed))
        return row

    def _of_former_tenant(
        self,
        service: BoundService,
        row: Row,
        record: Any,
        call: Mapping[str, Any],
        stashed: Mapping[Any, Mapping[str, Any]] | None,
    ) -> Row | None:
        """Return the entry for the tenant that a record has left, or None. For its readers the record is removed.

        Their rights are looked at with the record as it was, and they get its id alone.
        """
        field = self.tenant_field(service)
        if self.tenant is None or stashed is None or not isinstance(record, Mapping) or field not in record:
            return None
        id = getattr(service.service, "id", "id")
        before = stashed.get(record.get(id))
        former = None if before is None else self._value(self.tenant, before.get(field))
        if before is None or former is None or former == row[self.tenant]:
            return None
        was = {name: before[name] for name in record if name in before}
        done = {**call, "dispatch": {id: record[id]}, MOVED_TO: row[self.tenant]}
        gone = {"event": "removed", "before": None, "record": RawJSON(encode(was)), "call": RawJSON(encode(done))}
        return {**row, **gone, self.tenant: former}

    def tenant_field(self, service: BoundService) -> Any:
        """Return the field of a record with its tenant: the one of the log, unless ``info`` of its table names another.

        The table of the tenants themselves names their id.
        """
        return getattr(getattr(service.service, "table", None), "info", {}).get(TENANT, self.tenant)

    def _record_id(self, id: Any) -> Any:
        """Return an id in the form of its column. None, for one that the column cannot have."""
        is_text = self._has_text_ids and id is not None and not isinstance(id, Mapping | list)
        return self._value("record_id", str(id) if is_text else id)

    @cached_property
    def _has_text_ids(self) -> bool:
        return isinstance(self.table.c.record_id.type, String)

    def _value(self, name: str, value: Any) -> Any:
        """Return a value as its column takes it. None, if the column cannot have it."""
        if value is None:
            return None
        try:
            return self._coercers[name](value)
        except ValueError:
            return None

    @cached_property
    def _coercers(self) -> Mapping[str, Callable[[Any], Any]]:
        return coercers(self.table, self.database.dialect)

    async def _insert(self, rows: list[Row]) -> list[int]:
        """Store rows, and return their ids, which ascend in the order of the rows."""
        names = tuple(sorted(set().union(*rows)))
        is_one = len(rows) == 1
        statement = self._statements.get((names, is_one), partial(self._one if is_one else self._many, names))
        if is_one:
            values = {f"new_{name}": rows[0][name] for name in names}
        else:
            values = {"rows": encode([self._jsonable(row) for row in rows]).decode()}
        stored = await self.database.fetch(statement, values)
        return sorted(row["id"] for row in stored)

    def _one(self, names: Sequence[str]) -> Statement:
        bound = {name: bindparam(f"new_{name}", type_=self.table.c[name].type) for name in names}
        return self.database.compile(insert(self.table).values(bound).returning(self.table.c.id))

    def _many(self, names: Sequence[str]) -> Statement:
        """Return the statement for any number of entries, which are one JSON parameter."""
        each: FromClause
        if self.database.dialect.name == "postgresql":
            rows = cast(bindparam("rows", type_=Text()), JSON)
            each = func.json_array_elements(rows).table_valued("value", with_ordinality="key", name="each")
            each = each.render_derived()
        else:
            each = func.json_each(bindparam("rows", type_=Text())).table_valued("value", "key", name="each")
        names = list(dict.fromkeys((*names, "created_at")))
        values = [self._extracted(each.c.value, name) for name in names]
        values[names.index("created_at")] = func.coalesce(values[names.index("created_at")], DatabaseTime())
        listed = select(*values, CurrentTransaction()).order_by(each.c.key)
        return self.database.compile(insert(self.table).from_select([*names, "xid"], listed).returning(self.table.c.id))

    def _extracted(self, object: Any, name: str) -> Any:
        """Return the expression for the value of a column in the object that ``_jsonable`` has returned."""
        if not self._types[name].is_json:
            return self._types[name].extracted(object, name)
        is_postgresql = self.database.dialect.name == "postgresql"
        text = object.op("->>")(json_key(name, is_postgresql))
        return cast(text, self.table.c[name].type) if is_postgresql else text

    def _jsonable(self, row: Row) -> Row:
        return {name: self._dumped(name, value) for name, value in row.items()}

    def _dumped(self, name: str, value: Any) -> Any:
        """Return a value as JSON. JSON is a text in it, so that it stays as it is spelled, and may have a NUL."""
        column_type = self._types[name]
        if column_type.is_json:
            return None if value is None else encode(value).decode()
        return column_type.dumped(value) if column_type.dumps_otherwise else value

    @cached_property
    def _types(self) -> Mapping[str, Any]:
        return column_types(self.table, self.database.dialect)


_STORING = ("_create", "_insert", "_insert_json", "_update", "_change", "_delete")
"""The methods of ``SQLService`` that store an ``EntryOfRow``."""


class _OneStatement:
    """The hook around a method that stores rows and their entries by one statement, without a transaction around them.

    It does so for creates, and for changes of one row, in which no other hook changes the result. For other calls it is
    ``Writer.log_method``.
    """

    def __init__(
        self, writer: Writer, service: BoundService, method: str, keepers: list[Callable[[Context], bool]]
    ) -> None:
        self.writer = writer
        self.service = service
        self.method = method
        self.event: str = EVENTS[method]
        self.keepers = keepers
        self._shapes: dict[tuple[str, ...], EntryShape] = {}

    async def __call__(self, context: Context, next: Next) -> None:
        writer = self.writer
        if not self._is_one_statement(context):
            await writer.log_method(context, next)
            return
        entry, entries = self._entry(context), context.entries
        if not isinstance(entries, Entries):  # No hook changes the result of any call.
            entries = context.entries = Entries(partial(writer.of_call, context))
        entries.is_new = self._gives_new_ids and _have_no_ids(context.data, self.service.service.id)
        context.around_method = partial(_with_entry, entry)
        await next()
        if entry.ids:
            entries.ids, entries.is_collected = list(entry.ids), True
            entries.release()
            writer.count(len(entry.ids))
        else:  # Such as a patch without data.
            await writer.write_late(entries)

    def _entry(self, context: Context) -> EntryOfRow:
        writer = self.writer
        values: Row = {} if writer.fields is None else dict(writer.fields(context))
        if writer.tenant is not None:
            values.pop(writer.tenant, None)
        call = call_of(context)
        del call["method"]
        values["call"] = encode(call).decode()
        given = tuple(values)
        shape = self._shapes.get(given)
        if shape is None:
            shape = self._shapes[given] = self._shape(given)
        return EntryOfRow(shape, values, context.id)

    def _shape(self, given: tuple[str, ...]) -> EntryShape:
        writer, constants = self.writer, {"service": self.service._path, "event": self.event, "method": self.method}
        copied = {} if writer.tenant is None else {writer.tenant: writer.tenant_field(self.service)}
        constants["origin"] = writer.log.origin
        return EntryShape(writer.table, constants, given, "call", copied, "created_at", "record_id", "record")

    def _is_one_statement(self, context: Context) -> bool:
        """Return True if the adapter can store the entries, and nothing but rows and their entries is stored."""
        is_create = self.method == "create"
        return (
            (isinstance(context.data, Mapping | list) if is_create else context.id is not None)
            and self._can_store_entry
            and context.event == self.event
            and context.around_method is None
            and current_transaction(self.writer.database) is None  # Its entries are written together, in their order.
            and "private" not in (context.params.adapter or ())
            and context.params.get("before") is None
            and not context.has_result
            and (not self.keepers or all(keeps(context) for keeps in self.keepers))
        )

    @cached_property
    def _gives_new_ids(self) -> bool:
        return self.method == "create" and self.writer.gives_new_ids(self.service.service)

    @cached_property
    def _can_store_entry(self) -> bool:
        """True if the adapter stores the record of a call as it is, in the database of the log."""
        adapter = self.service.service
        is_overridden = any(getattr(type(adapter), name) is not getattr(SQLService, name) for name in _STORING)
        return (
            not is_overridden
            and self.event not in self.service._options.events
            and getattr(type(adapter), self.method) is getattr(SQLService, self.method)
            and adapter.database is self.writer.database
            and adapter.stores_entries
            and isinstance(adapter.table.c[adapter.id].type, Integer | String)
            and (self.writer.tenant is None or self._has_tenant(adapter))
            and self.service._unsent.issubset(adapter.private)
        )

    def _has_tenant(self, adapter: SQLService) -> bool:
        """Return True if each row has a tenant, which a caller may have: a new tenant is no caller's yet."""
        field = self.writer.tenant_field(self.service)
        is_new_tenant = self.method == "create" and field == adapter.id
        return field in adapter.table.c and not adapter.table.c[field].nullable and not is_new_tenant


async def _with_entry(entry: EntryOfRow, method: Callable[[], Awaitable[Any]]) -> Any:
    """Run a method that stores an entry with its row."""
    token = current_entry.set(entry)
    try:
        return await method()
    finally:
        current_entry.reset(token)


def message_of(row: Row) -> dict[str, Any]:
    """Return the event for the row of an entry, in the form of ``Entry.message``."""
    message = {"path": row["service"], "event": row["event"], "result": decode(row["record"].text)}
    if row["call"] is None:
        return message
    return {**message, "method": row["method"], **decode(row["call"].text)}


def _records(context: Context) -> Iterator[tuple[Any, bytes, Any]]:
    """Yield the records of a call, each with its JSON and with its ``dispatch``, or UNSET if that is the same."""
    raw = context._result
    if isinstance(raw, RawJSON) and context.dispatch is UNSET and not raw.text.startswith(b"["):
        record = raw.value
        if sent_part(context.service, record) is record:
            yield record, raw.text, UNSET  # The JSON of the database stays as it is.
            return
    for record, sent in sent_by(context):
        yield record, encode(record), UNSET if sent is record else sent


def _have_no_ids(data: Any, id: str) -> bool:
    """Return True if no record of a create has an id."""
    if isinstance(data, Mapping):
        return id not in data
    return isinstance(data, list) and all(isinstance(one, Mapping) and id not in one for one in data)


def _stashed(context: Context) -> Mapping[Any, Mapping[str, Any]] | None:
    """Return the records as they were before the call, by id. None, if ``stash_before`` has not read them."""
    before = context.params.get("before")
    if context.method == "create" or not isinstance(before, Mapping | list):
        return None
    id = getattr(context.service.service, "id", "id")
    return {row[id]: row for row in items(context.method, before) if isinstance(row, Mapping) and id in row}


def _tenant_of_call(context: Context, name: str) -> Any:
    """Return the tenant that a call is about by its scope, or None."""
    tenant: Any = context.params.scope.get(name)
    return tenant if isinstance(tenant, int | str) else None
