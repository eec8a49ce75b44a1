"""The locks of a migration on PostgreSQL: one process migrates at a time, and none makes an app wait for long.

A statement that waits for its lock makes all wait that come after it, readers too. So a migration waits for seconds,
gives up its place, and tries again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from apex.errors import Unavailable
from apex.migrations.revisions import connect

LOCK = 7_266_501
"""The advisory lock under which one process migrates while others wait."""

TURN_SECONDS = 0.2
"""Between two looks whether another process still migrates."""

LOCK_MILLISECONDS = 3_000
"""How long a statement waits for its lock, and makes others wait."""

TRIES = 10
PAUSE_SECONDS = 5

IN_THE_WAY = ("55P03", "40P01")
"""PostgreSQL's codes for a lock that did not come in time, and for two that wait for each other."""

LONGEST_SHOWN = 100

PID = text("SELECT pg_backend_pid()")
HOLDERS = """
    SELECT DISTINCT a.pid, a.usename, coalesce(a.state, a.backend_type), a.xact_start,
        extract(epoch FROM now() - a.xact_start)::integer
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.granted AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND c.relname = ANY(:names)
    ORDER BY a.xact_start LIMIT 3
"""

log = logging.getLogger("apex")


def take_turn(connection: Connection) -> None:
    """Waits until no other process migrates; the connection is the only one to migrate until it is closed.

    It asks again and again: who waits inside a statement has a snapshot, and an index that is built concurrently would
    wait for its end. Raises Unavailable behind a proxy that keeps no sessions: the lock would stay in one of its own.
    """
    if not _are_sessions(connection):
        raise Unavailable("cannot migrate: set pool_mode = session in PgBouncer, or connect to PostgreSQL itself")
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        connection.commit()
        time.sleep(TURN_SECONDS)
    connection.exec_driver_sql(f"SET lock_timeout = {LOCK_MILLISECONDS}")
    connection.exec_driver_sql("SET statement_timeout = 0")
    connection.commit()


def _are_sessions(connection: Connection) -> bool:
    """Whether this connection has a process of its own, also when another one has just used the proxy's."""
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
    """Migrates, and again where others hold what it needs. Raises Unavailable, which names them, after ``TRIES``.

    What is done is not done again: each migration is stored whole, with its revision, or can be repeated.
    """
    for left in reversed(range(TRIES)):
        try:
            return migrate()
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", "") not in IN_THE_WAY:
                raise
            told = _told(url, error.statement or "")
        if not left:
            raise Unavailable(f"cannot migrate: {told}; let it end, or end it with pg_terminate_backend, and try again")
        log.warning("A migration tries again: %s", told)
        time.sleep(PAUSE_SECONDS)


def _told(url: str, statement: str) -> str:
    shown = " ".join(statement.split())[:LONGEST_SHOWN]
    return f"'{shown}' did not get its lock within {LOCK_MILLISECONDS} ms, held by {_holders(url, statement)}"


def _holders(url: str, statement: str) -> str:
    """Who has locks on the tables that a statement names, the oldest transaction first."""
    with connect(url) as connection:
        found = connection.execute(text(HOLDERS), {"names": re.findall(r"\w+", statement)}).all()
    told = [f"process {pid} ({user}, {state}, for {seconds} seconds)" for pid, user, state, _, seconds in found]
    return ", ".join(told) or "a transaction that has ended since"
