"""How Alembic reaches the database: one history for SQLite and PostgreSQL."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from services.app import metadata

LOCK = 7_266_501
"""The advisory lock under which one process migrates while others wait."""

WAIT_MILLISECONDS = 60_000


def is_managed(name: str | None, kind: str, parents: object) -> bool:
    """SQLite keeps a search index in tables of its own."""
    return not (kind == "table" and name is not None and "_search" in name)


def run(connection: Connection) -> None:
    context.configure(connection, target_metadata=metadata, include_name=is_managed, transactional_ddl=True)
    with context.begin_transaction():
        take_turn(connection)
        context.run_migrations()


def take_turn(connection: Connection) -> None:
    """Waits until no other process migrates; then all migrations are applied, or none."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        return
    # The driver would commit after each statement that changes the schema.
    connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr]
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {WAIT_MILLISECONDS}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
with engine.connect() as connection:
    run(connection)
