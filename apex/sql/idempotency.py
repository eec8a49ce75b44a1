"""Writes that may be sent again: ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header-07).

The answer to a write is stored in the transaction of the write, and given again to who repeats it. A write that fails
stores nothing, so it may be tried again with its key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Column, Index, MetaData, String, Table, Text, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from apex.context import Context
from apex.describe import describe
from apex.encoding import RawJSON, Stream, encode
from apex.errors import BadRequest, Unprocessable
from apex.hooks import Around, Next
from apex.sql.columns import Json, Timestamp
from apex.sql.database import Database

HEADER, REPLAYED = "idempotency-key", "Idempotency-Replayed"
KEPT = timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_READS = ("find", "get")


SENDS = {
    "Idempotency-Key": {"schema": {"type": "string"}, "description": "Makes the call once, however often it is sent."}
}
ANSWERS = {REPLAYED: {"schema": {"type": "string"}, "description": "`true` where it is the answer of the first time."}}


def answers_table(metadata: MetaData) -> Table:
    """The table of the answers that were given: who asked, with which key, for what."""
    table = Table(
        "idempotent_answers",
        metadata,
        Column("caller", String(200), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("request", String(64), nullable=False),
        Column("created_at", Timestamp, nullable=False),
        Column("http", Json),
        Column("body", Text),
    )
    Index("ix_idempotent_answers_created_at", table.c.created_at)
    return table


def idempotent(table: Table, caller: Callable[[Context], str]) -> Around:
    """Around all methods, inside of ``authenticate``: a write over REST with a key is made once in 24 hours.

    ``caller`` tells who asks. What is repeated gets the answer of the first time, with ``Idempotency-Replayed``; of two
    at once the second one waits. Raises Unprocessable for a key that was used for something else, BadRequest for one
    that is none.

    A service lists in ``resumable`` methods that commit as they go, and that go on where they were broken off when they
    are called again. They get no transaction around them, and their answer is stored once they are done.
    """

    @describe(methods=_repeats, sends=SENDS, answers=ANSWERS, errors=(422,))
    async def idempotent(context: Context, next: Next) -> None:
        key = (context.params.headers or {}).get(HEADER)
        reads = getattr(context.service.service, "reads", _READS)
        if key is None or context.params.provider != "rest" or context.method in reads:
            await next()
            return
        if not getattr(context.service.service, "repeatable", True):
            raise BadRequest("Idempotency-Key does not go with an answer that holds a secret: it would be stored")
        if not _KEY.fullmatch(key):
            raise BadRequest("Idempotency-Key must have 1 to 255 printable ASCII characters, no spaces")
        database: Database = context.app.get("database")
        answers = _Answers(database, table)
        request = {"caller": caller(context), "key": key, "request": _fingerprint(context)}
        await answers.forget()
        if context.method in getattr(context.service.service, "resumable", ()):
            if not await answers.replay(request, context):
                await next()
                async with database.transaction():
                    await answers.claim(request)
                    await answers.store(request, context)
            return
        async with database.transaction():
            if await answers.claim(request):
                await next()
                await answers.store(request, context)
            else:
                await answers.replay(request, context)

    return idempotent


def _repeats(service: Any, method: str) -> bool:
    return method not in getattr(service, "reads", _READS) and getattr(service, "repeatable", True)


def _fingerprint(context: Context) -> str:
    """What is asked for, before hooks make anything else of it."""
    params = context.params
    asked = [context.path, context.method, context.id, params.route, dict(params.query), context.data]
    return sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


class _Answers:
    """The table of answers in a database."""

    def __init__(self, database: Database, table: Table) -> None:
        self.database, self.table = database, table
        dialect = postgresql if database.dialect.name == "postgresql" else sqlite
        self.insert: Any = dialect.insert(table)

    async def forget(self) -> None:
        """Lets go of those that are not kept any longer."""
        old = delete(self.table).where(self.table.c.created_at < bindparam("before", type_=Timestamp()))
        await self.database.execute(old, {"before": datetime.now(UTC) - KEPT})

    async def claim(self, asked: dict[str, str]) -> bool:
        """Whether a key is used for the first time. Waits for another call with it that is under way."""
        row = {**asked, "created_at": datetime.now(UTC)}
        bound = {name: bindparam(name, type_=self.table.c[name].type) for name in row}
        claimed = self.insert.values(bound).on_conflict_do_nothing().returning(self.table.c.key)
        return bool(await self.database.execute(claimed, row))

    async def store(self, asked: dict[str, str], context: Context) -> None:
        if isinstance(context._outgoing, Stream):
            raise BadRequest("Idempotency-Key does not go with a result that is streamed")
        answer = {"http": context.http or {}, "body": encode(context._outgoing).decode()}
        bound = {name: bindparam(f"new_{name}", type_=self.table.c[name].type) for name in answer}
        stored = update(self.table).where(*self._mine()).values(bound)
        await self.database.execute(stored, {**asked, **{f"new_{name}": value for name, value in answer.items()}})

    async def replay(self, asked: dict[str, str], context: Context) -> bool:
        """Give the answer of the first time, without its event. Return False if there is none."""
        columns = (self.table.c.request, self.table.c.http, self.table.c.body)
        rows = await self.database.execute(select(*columns).where(*self._mine()), asked)
        if not rows:
            return False
        (found,) = rows
        if found["request"] != asked["request"]:
            raise Unprocessable("Idempotency-Key was used for another request: take a new one for each")
        context.event = None
        context.result = RawJSON(found["body"].encode())
        context.http = {**found["http"], "headers": {**found["http"].get("headers", {}), REPLAYED: "true"}}
        return True

    def _mine(self) -> tuple[Any, ...]:
        return tuple(self.table.c[name] == bindparam(name, type_=String()) for name in ("caller", "key"))
