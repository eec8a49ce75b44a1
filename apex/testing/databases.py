"""A database for the tests of an app: with all migrations, and without rows."""

from __future__ import annotations

from pathlib import Path

from apex.errors import ConfigError
from apex.migrations.migrate import make_folder, upgrade
from apex.migrations.revisions import FOLDER, connect, engine_url

SUFFIX = "test"


def new_database(url: str, migrations: Path = FOLDER) -> str:
    """Make an empty database with all migrations of a folder, and return its URL. What was in it is deleted.

    The file of SQLite is made anew, as a copy of the one before if the migrations are the same. On PostgreSQL the
    database is created if there is none, and its schema ``public`` is made anew. Its name must end in ``test``, so
    that no other database is ever emptied::

        app = create_app({"database": new_database("postgresql://localhost/blog_test")})

    Raises ConfigError for another name, and Unavailable if the database cannot be reached.
    """
    parsed = engine_url(url)
    name = parsed.database or ""
    if parsed.get_backend_name() == "postgresql":
        if not name.endswith(SUFFIX):
            raise ConfigError(f"'{name}' would be emptied: the name of a database for tests must end in '{SUFFIX}'")
        _create(url, name)
        with connect(url) as connection, connection.begin():
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        upgrade(url, folder=migrations)
    else:
        _make_file(url, Path(name), migrations)
    return url


_migrated: dict[object, bytes] = {}
"""The content of a file of SQLite with all migrations, by their files."""


def _make_file(url: str, file: Path, migrations: Path) -> None:
    """Make a file of SQLite with all migrations. They run once for all tests, as they take longer than most of them."""
    for ending in ("", "-wal", "-shm"):
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)
    state = tuple((path, path.stat().st_mtime_ns) for path in sorted(migrations.resolve().glob("**/*.py")))
    if state in _migrated:
        make_folder(url)
        file.write_bytes(_migrated[state])
    else:
        upgrade(url, folder=migrations)
        _migrated[state] = file.read_bytes()


def _create(url: str, name: str) -> None:
    """Create a database of PostgreSQL if there is none, from a connection to the database ``postgres``."""
    maintenance = engine_url(url).set(database="postgres").render_as_string(hide_password=False)
    with connect(maintenance).execution_options(isolation_level="AUTOCOMMIT") as connection:
        found = connection.exec_driver_sql("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).first()
        if found is None:
            quoted = connection.dialect.identifier_preparer.quote_identifier(name)
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
