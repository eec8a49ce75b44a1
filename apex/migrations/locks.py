"""The locks of a migration on PostgreSQL: one process migrates at a time, and an app never waits for it for long.

While a statement waits for its lock on a table, all later statements wait behind it, readers too. So a migration
waits for a few seconds only, gives up its place in the queue, and tries again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import OperationalError

from apex.errors import Unavailable
from apex.migrations.revisions import connect

LOCK: int = 7_266_501
"""The advisory lock of the process that migrates."""

TURN_SECONDS: float = 0.2
"""The interval between two attempts to get the advisory lock."""

LOCK_MILLISECONDS: int = 3_000
"""The time that a statement waits for its lock on a table."""

TRIES: int = 10
PAUSE_SECONDS: float = 5

RETRIED: tuple[str, ...] = ("55P03", "40P01")
"""PostgreSQL's codes for a lock that was not available in time and for a deadlock."""

LONGEST_SHOWN: int = 100

PID: TextClause = text("SELECT pg_backend_pid()")
HOLDERS: str = """
    SELECT DISTINCT a.pid, a.usename, coalesce(a.state, a.backend_type), a.xact_start,
        extract(epoch FROM now() - a.xact_start)::integer
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.granted AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND c.relname = ANY(:names)
    ORDER BY a.xact_start LIMIT 3
"""

log: logging.Logger = logging.getLogger("apex")


def take_turn(connection: Connection) -> None:
    """Wait until no other process migrates. Then no other process migrates until the connection is closed.

    It asks for the lock repeatedly. A statement that waits for the lock would have a snapshot, and an index that is
    built concurrently waits for the end of all snapshots. Raises Unavailable behind a proxy that shares sessions,
    because the lock belongs to the session.
    """
    if not _has_session(connection):
        raise Unavailable("cannot migrate: set pool_mode = session in PgBouncer, or connect to PostgreSQL itself")
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        connection.commit()
        time.sleep(TURN_SECONDS)
    connection.exec_driver_sql(f"SET lock_timeout = {LOCK_MILLISECONDS}")
    connection.exec_driver_sql("SET statement_timeout = 0")
    connection.commit()


def _has_session(connection: Connection) -> bool:
    """Return True if this connection keeps its own server process, also after another one has used the proxy."""
    with connection.engine.connect() as other:
        before = _pid(connection)
        if before == _pid(other):
            return False
        with other.begin():
            return before != other.scalar(PID) and before == _pid(connection)


def _pid(connection: Connection) -> int | None:
    pid: int | None = connection.scalar(PID)
    connection.commit()
    return pid


def retrying(url: str, migrate: Callable[[], None]) -> None:
    """Migrate, and try again while others hold a lock that a migration needs.

    A new attempt repeats no migration that is stored. Raises Unavailable, which names the holders of the lock, after
    ``TRIES`` attempts.
    """
    for left in reversed(range(TRIES)):
        try:
            return migrate()
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", "") not in RETRIED:
                raise
            reason = _reason(url, error.statement or "")
        if not left:
            raise Unavailable(
                f"cannot migrate: {reason}; let it end, or end it with pg_terminate_backend, and try again"
            )
        log.warning("A migration tries again: %s", reason)
        time.sleep(PAUSE_SECONDS)


def _reason(url: str, statement: str) -> str:
    shown = " ".join(statement.split())[:LONGEST_SHOWN]
    return f"'{shown}' did not get its lock within {LOCK_MILLISECONDS} ms, held by {_holders(url, statement)}"


def _holders(url: str, statement: str) -> str:
    """Return the processes with locks on the tables that a statement names, the oldest transaction first."""
    with connect(url) as connection:
        found = connection.execute(text(HOLDERS), {"names": re.findall(r"\w+", statement)}).all()
    holders = [f"process {pid} ({user}, {state}, for {seconds} seconds)" for pid, user, state, _, seconds in found]
    return ", ".join(holders) or "a transaction that has ended since"
