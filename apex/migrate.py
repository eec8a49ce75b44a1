"""Migrations: Alembic's commands on the project's ``migrations`` folder, for a database by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from apex.config import ConfigError
from apex.errors import Unavailable
from apex.revisions import FOLDER, engine_url

FORBIDDEN = "42501"
"""PostgreSQL's code for what its user may not do."""


def upgrade(url: str, revision: str = "head", folder: Path = FOLDER) -> None:
    """Brings the database up to a revision. Two processes that start at once take turns."""
    with _explained(url):
        _prepare(url)
        command.upgrade(_config(url, folder), revision)


def downgrade(url: str, revision: str, folder: Path = FOLDER) -> None:
    """Takes the database down to a revision; ``base`` undoes everything."""
    with _explained(url):
        command.downgrade(_config(url, folder), revision)


def pending(url: str, folder: Path = FOLDER) -> list[str]:
    """The revisions that the database does not have yet, oldest first."""
    with _explained(url):
        script = ScriptDirectory.from_config(_config(url, folder))
        revisions = [revision.revision for revision in script.iterate_revisions("head", _current(url) or "base")]
    return revisions[::-1]


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Says what an operator can mend: raises Unavailable for the database, ConfigError for the migrations."""
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
        raise Unavailable(f"The database {shown} cannot be reached: {reason}") from None


def _config(url: str, folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["url"] = engine_url(url)
    return config


def _prepare(url: str) -> None:
    """SQLite creates its file, but not the folder the file is in."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)


def _current(url: str) -> str | None:
    engine = create_engine(engine_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()
