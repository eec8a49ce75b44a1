"""Writes that clients may repeat: ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header-07).

The answer to a write is stored in the transaction of the write. A caller that repeats the write gets the stored answer.
A write that fails stores nothing, so the caller may try it again with the same key.

The events of the write are in the log of the app (``apex.log``), from which other processes send them if this one ends
too early. In an app without a log they are stored with the answer until they are sent. If the process ends before that,
the caller gets no answer and repeats the write. The events are then sent with the stored answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Column, Executable, Index, MetaData, String, Table, Text, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from apex.common.rate_limit import caller_of
from apex.context import Context
from apex.describe import describe
from apex.encoding import RawJSON, Stream, encode
from apex.errors import BadRequest, Conflict, Forbidden, Unprocessable
from apex.events import Announcement
from apex.hooks import Around, Next, keeps_result
from apex.query.evaluation import decided
from apex.query.language import compared
from apex.query.scope import AS_GIVEN, scope_predicate
from apex.realtime.turns import Turn
from apex.sql.database import Database
from apex.sql.types.columns import Json, Timestamp
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import pending_callbacks
from apex.types import READS, Row

HEADER, REPLAYED = "idempotency-key", "Idempotency-Replayed"
KEPT = timedelta(hours=24)
SENDING_SECONDS = 1.0
"""The seconds that a process has to send the events of an answer, before another process sends them."""
POLL_SECONDS = 0.02
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


SENDS: dict[str, Any] = {
    "Idempotency-Key": {
        "schema": {"type": "string", "maxLength": 255},
        "description": "A new key for each request, such as a UUID. A request that is repeated with its key is made "
        "once. Postman writes a new key for `{{$guid}}`.",
        # A fixed key would be shared by all who take the example as it is.
        "example": "{{$guid}}",
    }
}
ANSWERS: dict[str, Any] = {
    REPLAYED: {
        "schema": {"type": "string"},
        "description": "`true` if the answer is that of an earlier call.",
    }
}


def answers_table(metadata: MetaData) -> Table:
    """Return the table of stored answers, by caller and key.

    ``request`` is a digest of the request. ``about`` has, for each record in the answer, its fields that are in the
    scope. In an app without a log, ``unsent_events`` has the events that may not have been sent, and ``sending_since``
    the moment at which a process began to send them. The database has older names for these two columns.
    """
    table = Table(
        "idempotent_answers",
        metadata,
        Column("caller", String(200), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("request", String(64), nullable=False),
        Column("created_at", Timestamp, nullable=False),
        Column("http", Json),
        Column("body", Text),
        Column("about", Json),
        Column("untold", Text, key="unsent_events"),
        Column("telling_at", Timestamp, key="sending_since"),
    )
    Index("ix_idempotent_answers_created_at", table.c.created_at)
    return table


def idempotent(table: Table, caller: Callable[[Context], str | None] = caller_of) -> Around:
    """Make a write over REST once, however often it is sent in 24 hours: around all methods, after ``authenticate``.

    ``caller`` returns the name of the caller, by default that of the user or of the address. A repeated call gets the
    first answer, with the header ``Idempotency-Replayed``. If two calls arrive at once, the second one waits.
    Hooks before this one run for repeated calls, too. They write today's scope, and an answer about records outside of
    it is refused.

    The call runs in a transaction. A service lists in ``resumable`` the methods that commit in steps, and that continue
    after their last step when they are called again. They run without a transaction around them. Their answer is stored
    at the end.

    Raises Unprocessable for a key that was used for another request, BadRequest for an invalid key or a caller without
    a name, and Forbidden for an answer that the caller may no longer see.
    """

    @describe(methods=_repeats, sends=SENDS, answers=ANSWERS, errors=(422,))
    async def idempotent(context: Context, next: Next) -> None:
        key = (context.params.headers or {}).get(HEADER)
        reads = getattr(context.service.service, "reads", READS)
        is_part = context.params.get("is_inner_call")
        if key is None or is_part or context.params.provider != "rest" or context.method in reads:
            await next()
            return
        if not getattr(context.service.service, "repeatable", True):
            raise BadRequest("Idempotency-Key does not go with an answer that holds a secret: it would be stored")
        if not _KEY.fullmatch(key):
            raise BadRequest("Idempotency-Key must have 1 to 255 printable ASCII characters, no spaces")
        if (name := caller(context)) is None:
            raise BadRequest("Idempotency-Key needs a caller that the server can tell from others: log in")
        database: Database = context.app.get("database")
        answers = _Answers(database, table)
        request = {"caller": name, "key": key, "request": _fingerprint(context)}
        scope = dict(context.params.scope)
        await answers.evict()
        if context.method in getattr(context.service.service, "resumable", ()):
            if not await answers.replay(request, context):
                await next()
                async with database.transaction():
                    await answers.claim(request)
                    await answers.store(request, context, scope)
            return
        async with database.transaction():
            if await answers.claim(request):
                await next()
                await answers.store(request, context, scope)
                return
        if not await answers.replay(request, context):
            raise Conflict("The answer of the first time has just been deleted, after 24 hours: try again")

    return keeps_result(idempotent)


def _repeats(service: Any, method: str) -> bool:
    return method not in getattr(service, "reads", READS) and getattr(service, "repeatable", True)


def _fingerprint(context: Context) -> str:
    """Return a digest of the request, as it is before the hooks that follow change it."""
    params = context.params
    asked = [context.path, context.method, context.id, params.route, dict(params.query), context.data]
    return sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _events(context: Context) -> list[Announcement]:
    """Return the events that follow the commit: those of the inner calls and that of the call itself."""
    found = [one for one in pending_callbacks() if isinstance(one, Announcement)]
    own = context.app.events.announcement(context)
    return found if own is None else [*found, own]


def _unsent(events: Sequence[Announcement]) -> str | None:
    """Return the events as lines of JSON, or None. Events without a JSON form are left out: they cannot be sent."""
    lines: list[str] = []
    for event in events:
        with suppress(TypeError):
            lines += (message.decode() for message in event.write())
    return "\n".join(lines) or None


def _about(context: Context, scope: Mapping[str, Any]) -> list[Row]:
    """Return, for each record in an answer, the fields whose values the scope allows."""
    rules = [scope_predicate({name: scope[name]}, AS_GIVEN) for name in scope]
    found: dict[bytes, Row] = {}
    for record in context.items if rules else ():
        if isinstance(record, Mapping):
            fields: Row = {}
            for rule in rules:
                named = {name: record[name] for name in compared(rule) if name in record}
                plain = {name: value for name, value in named.items() if isinstance(value, str | int | None)}
                if decided(rule, plain) is True:
                    fields |= plain
            found[encode(fields)] = fields
    return list(found.values())


def _require_allowed(about: Sequence[Row] | None, context: Context) -> None:
    """Raise Forbidden if today's scope does not allow the records of an answer."""
    where = scope_predicate(context.params.scope, AS_GIVEN)
    if any(decided(where, fields) is False for fields in about or ()):
        raise Forbidden("The stored answer is about a record that you may not change any more")


class _Answers:
    """The table of answers in a database."""

    def __init__(self, database: Database, table: Table) -> None:
        self.database, self.table = database, table
        dialect = postgresql if database.dialect.name == "postgresql" else sqlite
        self.insert: Any = dialect.insert(table)

    async def evict(self) -> None:
        """Delete the answers that are too old."""
        old = delete(self.table).where(self.table.c.created_at < bindparam("before", type_=Timestamp()))
        await self._execute(old, {"before": datetime.now(UTC) - KEPT})

    async def claim(self, asked: dict[str, str]) -> bool:
        """Return True if the key is used for the first time. Waits for another call that is using it."""
        row = {**asked, "created_at": datetime.now(UTC)}
        bound = {name: bindparam(name, type_=self.table.c[name].type) for name in row}
        claimed = self.insert.values(bound).on_conflict_do_nothing().returning(self.table.c.key)
        return bool(await self._execute(claimed, row))

    async def store(self, asked: Row, context: Context, scope: Row) -> None:
        """Store the answer of a call with its events. Raises BadRequest for a streamed result."""
        if isinstance(context._outgoing, Stream):
            raise BadRequest("Idempotency-Key does not go with a result that is streamed")
        events = _events(context) if context.app.log is None else []
        answer = {
            "http": context.http or {},
            "body": encode(context._outgoing).decode(),
            "about": _about(context, scope),
            "unsent_events": _unsent(events),
            "sending_since": datetime.now(UTC),
        }
        await self._change(asked, answer)
        if answer["unsent_events"] is not None:
            # The events go out before the response, so by then they are on their way to the other processes.
            context.after_response(self._note_sent, asked, context, [event.turn for event in events])

    async def replay(self, asked: Row, context: Context) -> bool:
        """Set the result of a call to the stored answer. Return False if there is none.

        Its events are sent if the process of the first call may have ended before it sent them.
        """
        found = await self._read(asked)
        if found is None:
            return False
        if found["request"] != asked["request"]:
            raise Unprocessable("Idempotency-Key was used for another request: take a new one for each")
        _require_allowed(found["about"], context)
        if found["unsent_events"] is not None:
            await self._send_events(asked, context, found)
        context.event = None
        context.result = RawJSON(found["body"].encode())
        context._visible = None  # The answer was stored as its caller may read it.
        context.http = {**found["http"], "headers": {**found["http"].get("headers", {}), REPLAYED: "true"}}
        return True

    async def _note_sent(self, asked: Row, context: Context, turns: Sequence[Turn | None]) -> None:
        while any(turn is not None and not turn.is_over for turn in turns):
            await asyncio.sleep(POLL_SECONDS)
        if await context.app.bus.flush():
            await self._change(asked, {"unsent_events": None})

    async def _send_events(self, asked: Row, context: Context, found: Row | None) -> None:
        """Send the events of an answer, unless another process that has begun to send them does so in time."""
        while found is not None and found["unsent_events"] is not None:
            until, began = time.monotonic() + SENDING_SECONDS, found["sending_since"]
            while (datetime.now(UTC) - began).total_seconds() < SENDING_SECONDS and time.monotonic() < until:
                await asyncio.sleep(POLL_SECONDS)
                found = await self._read(asked)
                if found is None or found["unsent_events"] is None:
                    return
            if await self._change(asked, {"sending_since": datetime.now(UTC)}, self.table.c.sending_since == began):
                for message in found["unsent_events"].split("\n"):
                    await context.app.events.resend(message.encode())
                await self._note_sent(asked, context, ())
                return
            found = await self._read(asked)

    async def _execute(self, statement: Executable, values: Row) -> list[Row]:
        """Run a statement for all tenants, as row-level security hides this table from calls."""
        with tenant_context(ALL_TENANTS):
            return await self.database.execute(statement, values)

    async def _read(self, asked: Row) -> Row | None:
        names = ("request", "http", "body", "about", "unsent_events", "sending_since")
        columns = [self.table.c[name].label(name) for name in names]
        rows = await self._execute(select(*columns).where(*self._of_caller()), asked)
        return rows[0] if rows else None

    async def _change(self, asked: Row, values: Row, *only: Any) -> bool:
        """Change the answer. Return False if there is no answer for which the conditions hold."""
        bound = {name: bindparam(f"new_{name}", type_=self.table.c[name].type) for name in values}
        change = update(self.table).where(*self._of_caller(), *only).values(bound).returning(self.table.c.key)
        named = {f"new_{name}": value for name, value in values.items()}
        return bool(await self._execute(change, {**asked, **named}))

    def _of_caller(self) -> tuple[Any, ...]:
        return tuple(self.table.c[name] == bindparam(name, type_=String()) for name in ("caller", "key"))
