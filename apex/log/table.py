"""The table of the log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, MetaData, String, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from apex.sql.types.columns import Identifier, Timestamp

TENANT = "tenant"
"""The key of ``table.info`` with the name of the column that holds the tenant of an entry."""

Json: JSON = JSON(none_as_null=True)
"""JSON as it is sent. JSONB would change the order of keys and the spelling of numbers, and cannot hold a NUL."""


class CurrentTransaction(FunctionElement[int]):
    """The number of the transaction that writes an entry (``pg_current_xact_id`` of PostgreSQL)."""

    inherit_cache: bool | None = True
    type: TypeEngine[int] = BigInteger()


@compiles(CurrentTransaction)
def _without_number(element: CurrentTransaction, compiler: Any, **options: Any) -> str:
    """Return zero: SQLite commits one transaction after the other, so the order of ids is that of the commits."""
    return "0"


@compiles(CurrentTransaction, "postgresql")
def _number(element: CurrentTransaction, compiler: Any, **options: Any) -> str:
    return "CAST(CAST(pg_current_xact_id() AS text) AS bigint)"


class DatabaseTime(FunctionElement[Any]):
    """The time by the clock of the database, which is the same for all processes."""

    inherit_cache: bool | None = True
    type: TypeEngine[Any] = Timestamp()


@compiles(DatabaseTime)
def _time_of_sqlite(element: DatabaseTime, compiler: Any, **options: Any) -> str:
    return "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


@compiles(DatabaseTime, "postgresql")
def _time_of_postgresql(element: DatabaseTime, compiler: Any, **options: Any) -> str:
    return "clock_timestamp()"


def log_table(metadata: MetaData, *columns: Column[Any], name: str = "log", tenant: str | None = None) -> Table:
    """Return the table of the log, for ``app.configure(log(table))``::

        entries = log_table(metadata)
        entries = log_table(metadata, Column("team_id", Integer), tenant="team_id")

    The ``columns`` are added, or replace those of the same name. ``tenant`` names the column that has the tenant of an
    entry. Raises ValueError if it is not among the ``columns``.
    """
    given = {column.name: column for column in columns}
    own = {column.name: column for column in _columns()}
    if tenant is not None and tenant not in given:
        raise ValueError(f"The table of the log has no column '{tenant}': add it to log_table")
    table = Table(name, metadata, *(own | given).values(), sqlite_autoincrement=True)
    Index(f"ix_{name}_xid", table.c.xid)
    is_message = table.c.service.is_(None)
    Index(f"ix_{name}_messages", table.c.id, postgresql_where=is_message, sqlite_where=is_message)
    if tenant is not None:
        table.info[TENANT] = tenant
        Index(f"ix_{name}_{tenant}_xid", table.c[tenant], table.c.xid)
    return table


def _columns() -> list[Column[Any]]:
    return [
        Column("id", Identifier, primary_key=True),
        Column("xid", BigInteger, nullable=False, default=CurrentTransaction()),
        Column("origin", String(40), nullable=False),
        Column("created_at", Timestamp, nullable=False, default=DatabaseTime()),
        Column("service", String(200)),
        Column("event", String(100), nullable=False),
        Column("method", String(100)),
        Column("record_id", String(255)),
        Column("before", Json),
        Column("record", Json),
        Column("call", Json),
    ]
