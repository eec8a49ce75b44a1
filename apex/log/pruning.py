"""Retention: entries that are old enough, and messages between processes that all have read, are deleted."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Table, and_, bindparam, delete, func, select

from apex.callbacks import end_tasks
from apex.log.app_log import Log
from apex.log.table import DatabaseTime
from apex.sql.database import Database
from apex.sql.statements import Statement
from apex.sql.types.columns import Timestamp
from apex.tenant import ALL_TENANTS, tenant_context

EVERY_SECONDS = 60
BATCH = 1_000
"""The most entries that one statement deletes. Each statement is its own transaction, so writers hardly wait."""

PAUSE_SECONDS = 0.05
"""The pause between two batches, in which others write."""

MESSAGE_AGE = timedelta(minutes=10)
"""The age at which messages between processes are deleted."""

log: logging.Logger = logging.getLogger("apex")


class Pruner:
    """Deletes old entries while an app runs, in small batches and in one process at a time.

    Entries are deleted in the order of their ids, so those that are left are whole from the oldest one on. The newest
    entry always stays: it tells that a position is one of this log.
    """

    def __init__(self, log: Log) -> None:
        self.log: Log = log
        self.database: Database = log.database
        self.table: Table = log.table
        self._task: asyncio.Task[None] | None = None
        self._compile()

    def start(self) -> None:
        """Prune regularly from now on."""
        if self._task is None:  # An app may be set up again.
            self._task = asyncio.create_task(self._prune_regularly())

    async def stop(self) -> None:
        """Stop pruning."""
        if self._task is not None:
            await end_tasks([self._task])
            self._task = None

    async def prune(self) -> int:
        """Delete everything that is old enough now, and return the number of entries.

        If another process prunes at the moment, this one leaves the rest to it.
        """
        [row] = await self.database.fetch(self._now)
        now, deleted = row["now"], 0
        kinds: list[tuple[Statement, dict[str, Any]]] = [(self._messages, {"before": now - MESSAGE_AGE})]
        if self.log.settings.days is not None:
            kinds.append((self._old, {"before": now - timedelta(days=self.log.settings.days)}))
        if self.log.settings.rows is not None:
            kinds.append((self._many, {"rows": self.log.settings.rows}))
        for statement, values in kinds:
            count = BATCH
            while count == BATCH:
                count = await self._delete(statement, values)
                deleted += count
                await asyncio.sleep(PAUSE_SECONDS if count == BATCH else 0)
        return deleted

    async def _delete(self, statement: Statement, values: dict[str, Any]) -> int:
        """Delete one batch, unless another process is at it."""
        with tenant_context(ALL_TENANTS):
            async with self.database.transaction():
                if not await self.database.lock(f"prunes {self.table.name}", wait=False):
                    return 0
                count = len(await self.database.fetch(statement, values))
        self.log.stats.pruned += count
        return count

    async def _prune_regularly(self) -> None:
        while True:
            # At random, so that the processes of an app take turns.
            await asyncio.sleep(EVERY_SECONDS * random.uniform(0.5, 1.5))
            try:
                await self.prune()
            except Exception:
                log.exception("Old entries of the log cannot be deleted, trying again")

    def _compile(self) -> None:
        c = self.table.c
        before, newest = bindparam("before", type_=Timestamp()), select(func.max(c.id)).scalar_subquery()
        oldest = select(c.id, c.created_at).order_by(c.id).limit(BATCH).subquery("oldest")
        first_kept = select(c.id).order_by(c.id.desc()).limit(1).offset(bindparam("rows", type_=BigInteger()) - 1)
        messages = select(c.id).where(c.service.is_(None), c.created_at < before).order_by(c.id).limit(BATCH)
        old = select(oldest.c.id).where(oldest.c.created_at < before)
        many = select(oldest.c.id).where(oldest.c.id < first_kept.scalar_subquery())
        self._now = self.database.compile(select(DatabaseTime().label("now")))
        self._messages = self._deletion(and_(c.id.in_(messages), c.id < newest))
        self._old = self._deletion(and_(c.id.in_(old), c.id < newest))
        self._many = self._deletion(c.id.in_(many))

    def _deletion(self, condition: Any) -> Statement:
        return self.database.compile(delete(self.table).where(condition).returning(self.table.c.id))
