"""The statements on the tables of webhooks, among them the leases with which one process alone sends for a webhook."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    BigInteger,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)  # fmt: skip
from sqlalchemy.dialects import postgresql, sqlite

from apex.common.fields import now
from apex.log.table import TENANT
from apex.sql.database import Database
from apex.sql.statements import StatementCache
from apex.sql.types.columns import Timestamp
from apex.types import Row
from apex.webhooks.tables import HAS_WORK, WAITING, deliveries_table, is_live, progress_table

LEASE = timedelta(seconds=30)
"""The time after which other processes go on with the webhooks of a process that has died."""

KEPT = 200
"""The deliveries of a webhook that are kept after their end."""

STATE = ("position", "failures", "failing_since", "last_success_at", "paused_until")
"""The columns of a webhook that its deliveries change."""

CHANGED = (
    "state", "attempts", "sent_at", "next_at", "failing_since", "status", "duration", "answer", "error",
)  # fmt: skip
"""The columns of a delivery that an attempt changes."""


class Store:
    """The webhooks, deliveries and progress of a database."""

    def __init__(self, database: Database, webhooks: Table) -> None:
        self.database: Database = database
        self.webhooks: Table = webhooks
        self.deliveries: Table = deliveries_table(webhooks)
        self.progress: Table = progress_table(webhooks)
        self.tenant: str | None = webhooks.info.get(TENANT)
        self._statements: StatementCache = StatementCache()

    async def _run(self, name: str, build: Callable[[], Any], **values: Any) -> list[Row]:
        statement = self._statements.get(name, lambda: self.database.compile(build()))
        return await self.database.fetch(statement, values)

    # The progress through the log.

    async def read_progress(self) -> str | None:
        """Return the position up to which webhooks know of the entries, or None before the first time."""
        rows = await self._run("progress", lambda: select(self.progress.c.position))
        return rows[0]["position"] if rows else None

    async def begin_progress(self, position: str) -> None:
        """Store the first position, unless there is one."""
        dialect = postgresql if self.database.dialect.name == "postgresql" else sqlite
        first = dialect.insert(self.progress).values(id=1, position=position).on_conflict_do_nothing()
        await self.database.execute(first)

    async def move_progress(self, old: str, new: str) -> bool:
        """Move the position from one to the next. Return False if another process has moved it."""
        c = self.progress.c
        moved = update(self.progress).where(c.position == bindparam("old", type_=Text()))
        moved = moved.values(position=bindparam("new", type_=Text())).returning(c.id)
        return bool(await self._run("move", lambda: moved, old=old, new=new))

    async def subscribers(self, tenants: Collection[Any]) -> list[Row]:
        """Return the enabled webhooks of tenants, or all if webhooks have none, each with its events and position."""
        c = self.webhooks.c
        columns = [c.id, c.events, c.position, c.due_at, c.leased_until]
        if self.tenant is None:
            return await self._run("subscribers", lambda: select(*columns).where(*is_live(self.webhooks)))
        column = c[self.tenant]
        asked = select(*columns, column.label("tenant")).where(*is_live(self.webhooks))
        asked = asked.where(column.in_(bindparam("tenants", expanding=True)))
        return await self._run("subscribers", lambda: asked, tenants=list(tenants))

    async def mark_due(self, ids: Sequence[Any]) -> None:
        """Let a process send for webhooks."""
        c = self.webhooks.c
        due = update(self.webhooks).where(c.id.in_(bindparam("ids", expanding=True)))
        due = due.values(due_at=bindparam("moment", type_=Timestamp()))
        await self._run("due", lambda: due, ids=list(ids), moment=now())

    async def skip_to(self, id: Any, old: str, new: str) -> None:
        """Move the position of a webhook for which nothing has happened in between."""
        c = self.webhooks.c
        skip = update(self.webhooks).where(c.id == bindparam("of", type_=c.id.type))
        skip = skip.where(c.position == bindparam("old", type_=Text()), c.leased_until.is_(None))
        await self._run("skip", lambda: skip.values(position=bindparam("new", type_=Text())), of=id, old=old, new=new)

    # Leases.

    async def claim(self, busy: Collection[Any]) -> Row | None:
        """Return the webhook that is due longest, for which this process now has to send, or None.

        It is none of the tenants in ``busy``. Each claim has a ``holder`` of its own, so one that was lost does not
        pass for a later one of the same process.
        """
        values: Row = {"holder": token_hex(8), "moment": now(), "until": now() + LEASE}
        if self.tenant is not None:
            values["busy"] = list(busy)
        rows = await self._run("claim", self._claim, **values)
        return rows[0] if rows else None

    def _claim(self) -> Any:
        table, c = self.webhooks, self.webhooks.c
        moment = bindparam("moment", type_=Timestamp())
        free = or_(c.paused_until.is_(None), c.paused_until <= moment)
        due = or_(and_(c.leased_until.is_(None), c.due_at <= moment, free), c.leased_until < moment)
        found = select(c.id).where(*is_live(table), HAS_WORK, due).order_by(c.due_at).limit(1)
        if self.tenant is not None:
            found = found.where(c[self.tenant].not_in(bindparam("busy", expanding=True)))
        claimed = update(table).where(c.id.in_(found.with_for_update(skip_locked=True)))
        values = {"holder": bindparam("holder", type_=String()), "leased_until": bindparam("until", type_=Timestamp())}
        return claimed.values(due_at=None, **values).returning(*c)

    async def renew(self, holders: Collection[str]) -> set[str]:
        """Hold the webhooks of claims longer. Return the claims that still hold."""
        c = self.webhooks.c
        held = update(self.webhooks).where(c.holder.in_(bindparam("holders", expanding=True)), *is_live(self.webhooks))
        statement = held.values(leased_until=bindparam("until", type_=Timestamp())).returning(c.holder)
        rows = await self._run("renew", lambda: statement, holders=list(holders), until=now() + LEASE)
        return {row["holder"] for row in rows}

    async def free(self, id: Any, holder: str) -> None:
        """End the lease of a claim that did not end by ``release``, so that the next one need not wait for it."""
        c = self.webhooks.c
        of, own = bindparam("of", type_=c.id.type), bindparam("of_holder", type_=String())
        left = update(self.webhooks).where(
            c.id == of, c.leased_until.is_not(None), or_(c.holder == own, c.holder.is_(None))
        )
        due = func.coalesce(c.due_at, bindparam("moment", type_=Timestamp()))
        statement = left.values(holder=None, leased_until=None, due_at=due)
        await self._run("free", lambda: statement, of=id, of_holder=holder, moment=now())

    def _held(self) -> Any:
        """Return the update of a webhook, if it is still held by a claim and gets messages."""
        c = self.webhooks.c
        of, holder = bindparam("of", type_=c.id.type), bindparam("of_holder", type_=String())
        return update(self.webhooks).where(c.id == of, c.holder == holder, *is_live(self.webhooks))

    async def release(self, row: Row, due: datetime | None) -> None:
        """Let others send for a webhook, from a moment on, or when something new happens (None)."""
        c = self.webhooks.c
        at = bindparam("at", type_=Timestamp())
        sooner = case((c.due_at.is_(None), at), (at.is_(None), c.due_at), (c.due_at < at, c.due_at), else_=at)
        statement = self._held().values(holder=None, leased_until=None, due_at=sooner)
        await self._run("release", lambda: statement, of=row["id"], of_holder=row["holder"], at=due)

    async def save(self, row: Row, new: Sequence[Row], changed: Sequence[Row]) -> bool:
        """Store the state of a webhook with its deliveries. Return False, and store nothing, if its claim is lost."""
        c = self.webhooks.c
        async with self.database.transaction():
            state = {name: bindparam(f"{name}_", type_=c[name].type) for name in STATE}
            values = {f"{name}_": row[name] for name in STATE}
            held = self._held().values(state).returning(c.id)
            if not await self._run("save", lambda: held, of=row["id"], of_holder=row["holder"], **values):
                return False
            for one in new:
                [stored] = await self._run("insert", self._insert, **one)
                one["id"] = stored["id"]
            d = self.deliveries.c
            again = update(self.deliveries).where(d.id == bindparam("of", type_=BigInteger()))
            again = again.values({name: bindparam(f"{name}_", type_=d[name].type) for name in CHANGED})
            for one in changed:
                await self._run("change", lambda: again, of=one["id"], **{f"{name}_": one[name] for name in CHANGED})
        return True

    def _insert(self) -> Any:
        columns = [column for column in self.deliveries.columns if column.name != "id"]
        values = {column.name: bindparam(column.name, type_=column.type) for column in columns}
        return insert(self.deliveries).values(values).returning(self.deliveries.c.id)

    # Deliveries.

    async def waiting(self, id: Any) -> list[Row]:
        """Return the deliveries of a webhook that are not done, in the order of their entries."""
        d = self.deliveries.c
        asked = select(*d).where(d.webhook_id == bindparam("of", type_=d.webhook_id.type), d.state == WAITING)
        return await self._run("waiting", lambda: asked.order_by(d.entry_id), of=id)

    async def retry(self, id: Any) -> None:
        """Let the deliveries of a webhook that wait be sent without a pause, as if they had never failed."""
        d = self.deliveries.c
        of = bindparam("of", type_=d.webhook_id.type)
        again = update(self.deliveries).where(d.webhook_id == of, d.state == WAITING, d.attempts > 0)
        await self._run("retry", lambda: again.values(next_at=None, failing_since=None), of=id)

    async def prune(self, id: Any) -> None:
        """Delete the deliveries of a webhook that are done, except for the last ones."""
        d = self.deliveries.c
        of = bindparam("of", type_=d.webhook_id.type)
        last = select(d.id).where(d.webhook_id == of).order_by(d.id.desc()).offset(KEPT).limit(1).scalar_subquery()
        old = delete(self.deliveries).where(d.webhook_id == of, d.state != WAITING, d.id <= last)
        await self._run("prune", lambda: old, of=id)

    async def count_waiting(self) -> int:
        """Return the number of deliveries that are not done, of all webhooks."""
        d = self.deliveries.c
        count = select(func.count().label("count")).where(d.state == WAITING)
        [row] = await self._run("count", lambda: count)
        found: int = row["count"]
        return found
