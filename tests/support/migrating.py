"""Migrations of a test's own: a folder with what they do, and a database that others use meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from apex.migrations.migrate import upgrade

T = TypeVar("T")

ENV = (
    "from sqlalchemy import MetaData\nfrom apex.migrations.migrate import run_migrations\nrun_migrations(MetaData())\n"
)
HEAD = "import sqlalchemy as sa\nfrom alembic import op\nfrom apex.migrations import ddl\n"
NOTES = "op.create_table('notes', sa.Column('id', sa.Integer, primary_key=True), sa.Column('text', sa.String(100)))"
OTHERS = "op.create_table('others', sa.Column('id', sa.Integer, primary_key=True))"
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s
"""


def folder_of(folder: Path, *upgrades: str) -> Path:
    """A folder of migrations, ``0001`` first, with what each of them does."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text(ENV)
    for number, body in enumerate(upgrades, 1):
        down = f"{number - 1:04}" if number > 1 else None
        lines = "\n    ".join(["def upgrade():", *body.splitlines()])
        source = f"{HEAD}revision, down_revision = '{number:04}', {down!r}\n{lines}\n"
        (folder / "versions" / f"{number:04}.py").write_text(source)
    return folder


@contextmanager
def migrating(url: str, folder: Path) -> Iterator[threading.Thread]:
    """A migration under way; it is waited for at the end, and what it raised is raised."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            upgrade(url, folder=folder)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    if raised:
        raise raised[0]


def waiting(url: str, thread: threading.Thread, statement: str) -> int:
    """The process of PostgreSQL that waits with a statement, once there is one."""
    found: int = until(thread, lambda: one(url, WAITING, f"%{statement}%"))
    return found


def until(thread: threading.Thread, look: Callable[[], T | None]) -> T:
    """What there is to be seen, once it is, while a thread works."""
    while (found := look()) is None:
        assert thread.is_alive(), "it did not wait"
    return found


def one(url: str, statement: str, *values: object) -> Any:
    """The value that a statement gives, if any; it fails where it would have to wait for others."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '10s'")
        cursor = connection.execute(statement.encode(), values)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None
