"""The positions in the log from which webhooks are sent again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from apex.errors import BadRequest, Gone
from apex.log.app_log import Log
from apex.log.position import Position, Snapshot
from apex.log.table import TENANT
from apex.tenant import ALL_TENANTS, tenant_context


async def position_of(log: Log, text: Any) -> Position:
    """Return the position of a text. Raises BadRequest for another text, and Gone if the log lacks entries after it."""
    try:
        position = Position.parse(text if isinstance(text, str) else "")
    except ValueError as error:
        raise BadRequest("Invalid position", errors={"position": str(error)}) from None
    await log.check(position)
    return position


async def position_at(log: Log, moment: datetime, tenant: Any) -> Position:
    """Return a position before all entries of a tenant since a moment. Raises Gone if some are no longer kept.

    It may be before some entries that are a little older. A tenant of None stands for all entries.
    """
    c = log.table.c
    columns = (c.id, c.xid, c.created_at)
    order = c.id if log.database.dialect.name == "sqlite" else c.xid
    since: Any = select(*columns).where(c.created_at >= moment).order_by(order).limit(1)
    if tenant is not None and TENANT in log.table.info:
        since = since.where(c[log.table.info[TENANT]] == tenant)
    now = await log.position()
    with tenant_context(ALL_TENANTS):
        found = await log.database.execute(since)
        if not found:
            return now
        [first] = found
        place = order < (first["id"] if order is c.id else first["xid"])
        before = await log.database.execute(select(*columns).where(place).order_by(order.desc()).limit(1))
    id, at = (before[0]["id"], before[0]["created_at"]) if before else (0, datetime.fromtimestamp(0, UTC))
    seen = None
    if now.seen is not None:
        seen = Snapshot(first["xid"], tuple(xid for xid in now.seen.xip if xid < first["xid"]))
    position = Position(now.epoch, id, round(at.timestamp() * 1000), seen)
    try:
        await log.check(position)
    except Gone:
        if before:
            raise
        # The first entry that is kept is younger: what was before it may have been since the moment, too.
        if moment < first["created_at"]:
            raise Gone(f"The log begins at {first['created_at']:%Y-%m-%dT%H:%M:%SZ}: replay from then on") from None
    return position
