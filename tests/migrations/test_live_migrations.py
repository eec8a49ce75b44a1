"""Migrations of a database in use: squawk, a linter of SQL, reads what they send to PostgreSQL.

Those up to ``BASE`` are as they were released. One that has to break a rule says so in its SQL, and the changelog says
what it takes: ``op.execute("-- squawk-ignore ban-drop-column\\nALTER TABLE notes DROP COLUMN text")``.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from apex.migrations.migrate import upgrade
from apex.migrations.revisions import FOLDER
from tests.support.migrating import NOTES, OTHERS, folder_of

BASE = "0002"
SQUAWK = next(str(file.locate()) for file in files("squawk-cli") or () if file.stem == "squawk" and ".." in file.parts)
LEFT_OUT = (
    "prefer-robust-stmts", "prefer-bigint-over-int", "prefer-text-field", "prefer-identity", "prefer-timestamptz",
    "ban-drop-constraint",
)  # fmt: skip
"""Rules about taste, and one about what nobody waits for."""

UNSAFE = {
    "op.create_index('ix', 'notes', ['text'])": "require-concurrent-index-creation",
    "op.drop_index('ix_old', 'notes')": "require-concurrent-index-deletion",
    "op.add_column('notes', sa.Column('more', sa.Text, nullable=False))": "adding-required-field",
    "op.add_column('notes', sa.Column('more', sa.Uuid, server_default=sa.text('gen_random_uuid()')))": (
        "adding-field-with-default"
    ),
    "op.alter_column('notes', 'text', type_=sa.String(50))": "changing-column-type",
    "op.create_foreign_key('fk', 'notes', 'others', ['id'], ['id'])": "adding-foreign-key-constraint",
    "op.create_check_constraint('ck', 'notes', \"text <> ''\")": "constraint-missing-not-valid",
    "op.create_unique_constraint('uq', 'notes', ['text'])": "disallowed-unique-constraint",
    "op.alter_column('notes', 'text', nullable=False)": "adding-not-nullable-field",
    "op.alter_column('notes', 'text', new_column_name='words')": "renaming-column",
    "op.drop_column('notes', 'text')": "ban-drop-column",
    "op.drop_table('notes')": "ban-drop-table",
}
SAFE = [
    "op.execute('-- squawk-ignore ban-drop-column\\nALTER TABLE notes DROP COLUMN text')",
    "ddl.create_index('ix', 'notes', ['text'])",
    "ddl.drop_index('ix_old', 'notes')",
    "ddl.add_foreign_key('fk', 'notes', 'others', ['id'], ['id'])",
    "ddl.add_check('ck', 'notes', \"text <> ''\")",
    "ddl.set_not_null('notes', 'text')",
    "ddl.backfill('notes', \"UPDATE notes SET text = '' WHERE id BETWEEN :first AND :last\")",
    "op.add_column('notes', sa.Column('more', sa.Text))",
    "op.add_column('notes', sa.Column('more', sa.Integer, server_default='0', nullable=False))",
    "op.create_table('more', sa.Column('id', sa.Integer))\nop.create_index('ix', 'more', ['id'])",
]
TABLES = f"{NOTES}\n{OTHERS}\nop.create_index('ix_old', 'notes', ['text'])"


@contextmanager
def recording(sent: list[str]) -> Iterator[None]:
    """Takes down the statements that PostgreSQL is sent, with the transactions they are in."""

    def take(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        alone = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        statement = re.sub(r"%\(\w+\)s(::\w+)?", "NULL", statement).replace("%%", "%").strip()
        sent.extend([f"{statement};"] if alone else ["BEGIN;", f"{statement};", "COMMIT;"])

    event.listen(Engine, "before_cursor_execute", take)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", take)


def unsafe(url: str, folder: Path = FOLDER) -> dict[str, str]:
    """The rules that the migrations still to come break, each with what the linter says."""
    sent: list[str] = []
    with recording(sent):
        upgrade(url, folder=folder)
    script = "\n".join(sent).replace("COMMIT;\nBEGIN;\n", "")
    command = [
        SQUAWK,
        "--pg-version",
        "13",
        "--reporter",
        "json",
        "--exclude",
        ",".join(LEFT_OUT),
        "--stdin-filepath",
        "sent.sql",
    ]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    return {found["rule_name"]: f"line {found['line']}: {found['message']}" for found in json.loads(done.stdout)}


def test_the_migrations_are_safe(postgres_url: str) -> None:
    upgrade(postgres_url, BASE)
    assert unsafe(postgres_url) == {}


@pytest.mark.parametrize("change", UNSAFE)
def test_what_makes_others_wait_is_found(change: str, postgres_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TABLES, change)
    upgrade(postgres_url, "0001", folder)
    assert UNSAFE[change] in unsafe(postgres_url, folder)


@pytest.mark.parametrize("change", SAFE)
def test_what_makes_nobody_wait_passes(change: str, postgres_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TABLES, change)
    upgrade(postgres_url, "0001", folder)
    assert unsafe(postgres_url, folder) == {}
