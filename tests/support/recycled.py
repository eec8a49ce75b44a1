"""PostgreSQL databases that go back to their first state between tests, which is quicker than to make new ones."""

from __future__ import annotations

import psycopg
from psycopg import sql

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position
"""
SEQUENCES = """
    SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value IS NOT NULL
    FROM pg_sequences WHERE schemaname = 'public'
"""
OBJECTS = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT polname FROM pg_policy ORDER BY 1
"""
SCHEMAS = """
    SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
"""
DISCONNECT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Recycled:
    """A database at ``url`` and a copy of its rows, in the schema ``kept``. Tests must not change its tables."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA kept")
            steps: list[sql.Composable] = [sql.SQL("SET LOCAL session_replication_role = replica")]
            for (table,) in connection.execute(TABLES).fetchall():
                public, kept = sql.Identifier("public", table), sql.Identifier("kept", table)
                connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(kept, public))
                names = [sql.Identifier(row[0]) for row in connection.execute(COLUMNS, [table]).fetchall()]
                columns = sql.SQL(", ").join(names)
                steps.append(sql.SQL("DELETE FROM {}").format(public))
                insert = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}")
                steps.append(insert.format(public, columns, columns, kept))
            for name, value, called in connection.execute(SEQUENCES).fetchall():
                steps.append(sql.SQL("SELECT setval({}, {}, {})").format(name, value, called))
            self._restore = sql.SQL("; ").join(steps)
            self._objects = connection.execute(OBJECTS).fetchall()

    def restore(self) -> None:
        """Disconnect everyone, and bring back the first rows and the next ids."""
        with psycopg.connect(self.url) as connection:
            connection.execute(DISCONNECT)
            connection.execute(self._restore)
            objects = connection.execute(OBJECTS).fetchall()
        assert objects == self._objects, f"a test has left {set(objects) ^ set(self._objects)}"


class Emptied:
    """A database at ``url`` that is empty again after each test."""

    def __init__(self, url: str) -> None:
        self.url = url

    def restore(self) -> None:
        """Disconnect everyone, and drop all schemas."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(DISCONNECT)
            for (schema,) in connection.execute(SCHEMAS).fetchall():
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            connection.execute(
                "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"
            )
