"""Migrations of a database, by its URL: Alembic's commands on the project's folder ``migrations``."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from alembic import command, context
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from apex.errors import ConfigError, Unavailable
from apex.migrations.locks import retrying, take_turn
from apex.migrations.revisions import FOLDER, Revisions, connect

Included = Callable[[Any, Any, Any], bool]

WAIT_MILLISECONDS: int = 60_000
LONGEST_MESSAGE: int = 100
FORBIDDEN: str = "42501"
"""PostgreSQL's code for a missing privilege."""


def run_migrations(metadata: MetaData, include_name: Included | None = None) -> None:
    """Run the migrations that Alembic has chosen, while no other process migrates. ``migrations/env.py`` calls it.

    On PostgreSQL each migration is a transaction, except for the changes of ``apex.migrations.ddl``. On SQLite all
    migrations together are one transaction. ``metadata`` has the tables of the code, which ``differences`` compares
    with those of a database. ``include_name(name, kind, parents)`` returns False for what it should not compare.
    """
    if (take := context.config.attributes.get("take")) is not None:
        take(metadata, include_name)
        return
    with connect(context.config.attributes["url"]) as connection:
        on_postgresql = connection.dialect.name == "postgresql"
        if on_postgresql:
            take_turn(connection)
        context.configure(
            connection,
            target_metadata=metadata,
            include_name=include_name,
            transactional_ddl=True,
            transaction_per_migration=on_postgresql,
        )
        with context.begin_transaction():
            if not on_postgresql:
                _lock_file(connection)
            context.run_migrations()


def _lock_file(connection: Connection) -> None:
    """Lock the file of SQLite against other writers, waiting for those at work."""
    # The driver would otherwise commit after each statement that changes the schema.
    connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr]
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {WAIT_MILLISECONDS}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def upgrade(url: str, revision: str = "head", folder: Path = FOLDER) -> None:
    """Migrate the database up to a revision. Processes that migrate at the same time take turns.

    A database that a later version has migrated stays as it is. Raises ConfigError if the migrations are wrong, and
    Unavailable if the database cannot be reached or a migration waits too long for a lock.
    """
    with explained(url):
        make_folder(url)
        unknown = unknown_revision(url, folder)
        if unknown is not None and revision == "head":
            return
        _require_known(unknown)
        retrying(url, lambda: command.upgrade(_config(url, folder), revision))


def downgrade(url: str, revision: str, folder: Path = FOLDER) -> None:
    """Migrate the database down to a revision. ``base`` undoes everything. Raises as ``upgrade`` does."""
    with explained(url):
        _require_known(unknown_revision(url, folder))
        retrying(url, lambda: command.downgrade(_config(url, folder), revision))


def pending(url: str, folder: Path = FOLDER) -> list[str]:
    """Return the revisions that the database lacks, oldest first. After a later version there are none."""
    with explained(url):
        script = scripts_of(url, folder)
        return revisions_after(_current(url), script, folder)


def revisions_after(reached: str | None, script: ScriptDirectory, folder: Path) -> list[str]:
    """Return the revisions of a folder that follow the one of a database, oldest first."""
    if is_unknown(reached, folder):
        return []
    return [revision.revision for revision in script.iterate_revisions("head", reached or "base")][::-1]


def is_unknown(reached: str | None, folder: Path) -> bool:
    """Return True for the revision of a database that a later version has migrated."""
    return reached is not None and bool(Revisions.of(folder).unknown([reached]))


def unknown_revision(url: str, folder: Path = FOLDER) -> str | None:
    """Return the revision of the database if a later version has migrated it, else None."""
    with explained(url):
        scripts_of(url, folder)
        reached = _current(url)
        return reached if is_unknown(reached, folder) else None


def current(url: str) -> str | None:
    """Return the revision of the database, or None for an empty one."""
    with explained(url):
        return _current(url)


def tables_of_code(folder: Path = FOLDER) -> tuple[MetaData, Included | None]:
    """Return what a project's ``migrations/env.py`` gives to ``run_migrations``. Raises ConfigError if it does not."""
    taken: list[tuple[MetaData, Included | None]] = []
    config = _config("", folder)
    config.attributes["take"] = lambda metadata, include_name: taken.append((metadata, include_name))
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script):
        script.run_env()
    if not taken:
        raise ConfigError(f"cannot compare: {folder / 'env.py'} does not call apex.migrations.run_migrations")
    return taken[0]


def write(message: str, folder: Path = FOLDER) -> Path:
    """Write the next migration from the folder's template and return its file. Raises ConfigError."""
    shown = title(message)
    with explained(""):
        script = ScriptDirectory.from_config(_config("", folder))
        written = script.generate_revision(next_revision(folder), shown)
    assert written is not None
    return folder / "versions" / Path(written.path).name


def title(message: str) -> str:
    """Return a message as the title of a migration. Raises ConfigError if it cannot be one."""
    if not re.search(r"\w", message) or len(message) > LONGEST_MESSAGE or not message.isprintable():
        raise ConfigError(
            f"the message must be one line of at most {LONGEST_MESSAGE} characters: it is the title of the migration"
        )
    return message.rstrip(".").replace("\\", "/").replace('"', "'")


def next_revision(folder: Path = FOLDER) -> str:
    """Return the number after the highest number of a migration."""
    numbers = [int(file.name[:4]) for file in (folder / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")]
    return f"{max(numbers, default=0) + 1:04}"


@contextmanager
def explained(url: str) -> Generator[None]:
    """Raise errors that an operator can fix as Unavailable, for the database, or ConfigError, for the migrations."""
    try:
        yield
    except (CommandError, RevisionError) as error:
        raise ConfigError(f"cannot migrate: {error}") from None
    except (DatabaseError, OSError) as error:
        if getattr(getattr(error, "orig", None), "sqlstate", "") == FORBIDDEN:
            raise ConfigError(f"cannot migrate: {str(error.orig).partition(chr(10))[0]}") from None  # type: ignore[union-attr]
        is_no_database = getattr(getattr(error, "orig", None), "sqlite_errorname", "") == "SQLITE_NOTADB"
        if getattr(error, "statement", None) is not None and not is_no_database:
            raise
        shown = make_url(url).set(query={}).render_as_string(hide_password=True)
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        if isinstance(error, DatabaseError) and (folder := _folder(url)) is not None and not folder.is_dir():
            reason = f"there is no folder '{folder}'; 'apex migrate' makes it"
        raise Unavailable(f"The database {shown} cannot be reached: {reason}") from None


def _config(url: str, folder: Path) -> Config:
    if not folder.is_dir():
        raise ConfigError(f"cannot migrate: there is no folder '{folder}' here; 'apex new' makes one with a project")
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(folder))
    config.attributes["url"] = url
    return config


def scripts_of(url: str, folder: Path) -> ScriptDirectory:
    """Return the migrations of a folder. Raises ConfigError if a migration follows one that is missing."""
    script = ScriptDirectory.from_config(_config(url, folder))
    try:
        with catch_warnings(action="ignore"):
            script.get_heads()
    except KeyError as error:
        raise ConfigError(f"cannot migrate: a migration follows {error}, which is missing") from None
    return script


def _require_known(unknown: str | None) -> None:
    if unknown is not None:
        raise ConfigError(
            f"cannot migrate: the database is at {unknown}, which this version does not have; "
            "use the version that has it"
        )


def make_folder(url: str) -> None:
    """Make the folder of a SQLite file. SQLite makes the file only."""
    if (folder := _folder(url)) is not None:
        folder.mkdir(parents=True, exist_ok=True)


def _folder(url: str) -> Path | None:
    """Return the folder of a SQLite file, or None for another database."""
    parsed = make_url(url)
    return Path(parsed.database).parent if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _current(url: str) -> str | None:
    with connect(url) as connection:
        return reached_by(connection)


def reached_by(connection: Connection) -> str | None:
    """Return the revision of a database, or None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()
