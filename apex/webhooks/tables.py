"""The tables of webhooks: the webhooks themselves, their deliveries, and how far the log has been looked through."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Constraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    text,
    true,
)  # fmt: skip

from apex.common.fields import now
from apex.log.table import TENANT
from apex.sql.types.columns import Identifier, Json, Timestamp

LIVE = "live"
DELIVERIES, PROGRESS = "webhook deliveries", "webhook progress"
"""Keys of ``table.info``, as ``TENANT``: the column with the moment of removal, and the other two tables."""
WAITING, DELIVERED, DROPPED = "waiting", "delivered", "dropped"
"""The states of a delivery. One is dropped if its entry is no longer in the log, or its reader may no longer see it."""

ENABLED: TextClause = text("enabled")
HAS_WORK: TextClause = text("enabled AND (due_at IS NOT NULL OR leased_until IS NOT NULL)")
"""The conditions of indexes: webhooks that are enabled, and those that are sent for now or at a moment that is known.

They are texts that both databases take. SQLite uses an index only for a query with the same text.
"""


def webhooks_table(
    metadata: MetaData,
    *parts: Column[Any] | Constraint,
    name: str = "webhooks",
    tenant: str | None = None,
    live: str | None = None,
) -> Table:
    """Return the table of webhooks, for a service that is a subclass of ``Webhooks``::

        webhooks = webhooks_table(metadata)
        webhooks = webhooks_table(metadata, Column("team_id", Integer, nullable=False), tenant="team_id")

    The ``parts`` are columns and constraints. A column is added, or replaces that of the same name. ``tenant`` is the
    column with the tenant of a webhook, and ``live`` the one with the moment of removal, for ``soft_delete``. The
    metadata gets two further tables, ``webhook_deliveries`` and ``webhook_progress``. Raises ValueError if a column
    that is named is not there.
    """
    given = {part.name: part for part in parts if isinstance(part, Column)}
    for named in (tenant, live):
        if named is not None and named not in given:
            raise ValueError(f"The table of webhooks has no column '{named}': add it to webhooks_table")
    columns = {column.name: column for column in _columns()} | given
    others = [part for part in parts if not isinstance(part, Column)]
    table = Table(name, metadata, *columns.values(), *others, sqlite_autoincrement=True)
    table.info |= {key: value for key, value in ((TENANT, tenant), (LIVE, live)) if value is not None}
    c = table.c
    # Webhooks that are disabled are in neither of these indexes, and only those with work to do are in the second one.
    _partial_index(f"ix_{name}_enabled", c[tenant] if tenant is not None else c.id, where=ENABLED)
    _partial_index(f"ix_{name}_due", c.due_at, where=HAS_WORK)
    table.info[DELIVERIES] = _deliveries(metadata, table, tenant)
    table.info[PROGRESS] = Table(
        f"{name.removesuffix('s')}_progress",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("position", Text, nullable=False),
    )
    return table


def deliveries_table(webhooks: Table) -> Table:
    """Return the table with the deliveries of a table of webhooks, for a subclass of ``Deliveries``.

    Raises TypeError for a table that ``webhooks_table`` has not made.
    """
    table: Table | None = webhooks.info.get(DELIVERIES)
    if table is None:
        raise TypeError(f"'{webhooks.name}' is not a table of webhooks: make it with webhooks_table(metadata)")
    return table


def progress_table(webhooks: Table) -> Table:
    """Return the table whose one row has the position up to which webhooks know of the entries of the log."""
    table: Table = webhooks.info[PROGRESS]
    return table


def is_live(webhooks: Table) -> list[Any]:
    """Return the conditions for webhooks that get messages: those that are enabled and not removed."""
    live = webhooks.info.get(LIVE)
    return [ENABLED, *([] if live is None else [webhooks.c[live].is_(None)])]


def _partial_index(name: str, *columns: Column[Any], where: TextClause) -> None:
    Index(name, *columns, postgresql_where=where, sqlite_where=where)


def _columns() -> list[Column[Any]]:
    return [
        Column("id", Identifier, primary_key=True),
        Column("url", String(2048), nullable=False),
        Column("events", Json, nullable=False),
        Column("description", String(200)),
        Column("enabled", Boolean, nullable=False, default=True, server_default=true()),
        Column("user_id", String(255)),
        Column("created_at", Timestamp, nullable=False, default=now),
        Column("disabled_reason", String(300)),
        Column("failing_since", Timestamp),
        Column("last_success_at", Timestamp),
        Column("secret", String(300), nullable=False),
        Column("previous_secret", String(300)),
        Column("grace_until", Timestamp),
        Column("position", Text),
        Column("failures", Integer, nullable=False, default=0, server_default="0"),
        Column("due_at", Timestamp),
        Column("paused_until", Timestamp),
        Column("holder", String(40)),
        Column("leased_until", Timestamp),
    ]


def _deliveries(metadata: MetaData, webhooks: Table, tenant: str | None) -> Table:
    singular = webhooks.name.removesuffix("s")
    id = Column("webhook_id", webhooks.c.id.type, ForeignKey(webhooks.c.id, ondelete="CASCADE"), nullable=False)
    owner: list[Column[Any]] = []
    if tenant is not None:
        owner = [Column(tenant, webhooks.c[tenant].type, nullable=False)]
    table = Table(
        f"{singular}_deliveries",
        metadata,
        Column("id", Identifier, primary_key=True),
        *owner,
        id,
        Column("entry_id", BigInteger, nullable=False),
        Column("type", String(310), nullable=False),
        Column("record_id", String(255)),
        Column("created_at", Timestamp, nullable=False),
        Column("state", String(10), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("sent_at", Timestamp),
        Column("next_at", Timestamp),
        Column("failing_since", Timestamp),
        Column("status", Integer),
        Column("duration", Integer),
        Column("answer", String(500)),
        Column("error", String(300)),
        sqlite_autoincrement=True,
    )
    if tenant is not None:
        table.info[TENANT] = tenant
    c = table.c
    Index(f"ix_{table.name}_webhook", c.webhook_id, c.id)
    waiting = text(f"state = '{WAITING}'")
    _partial_index(f"ix_{table.name}_waiting", c.webhook_id, c.entry_id, where=waiting)
    return table
