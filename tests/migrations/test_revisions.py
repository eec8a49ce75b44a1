"""Whether a database is up to date: the files and the database are read here as Alembic reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from apex.migrations.migrate import downgrade, upgrade
from apex.migrations.revisions import engine_url, is_up_to_date

FIRST = 'revision = "1"\ndown_revision = None\n'
SECOND = "revision: str = '2'\ndown_revision: str | None = '1'\n"
BRANCH = 'revision = "2b"\ndown_revision = "1"\n'
MERGE = 'revision = "3"\ndown_revision = ("2", "2b")\n'
TOGETHER = 'revision, down_revision = "2", "1"'
TYPED = 'revision: str = "2"\ndown_revision: str | None = "1"'
UNREADABLE = 'revision = str(2)\ndown_revision = "1"\n'


def test_only_the_newest_revision_is_up_to_date(empty_url: str) -> None:
    assert not is_up_to_date(empty_url)
    upgrade(empty_url)
    assert is_up_to_date(empty_url)
    downgrade(empty_url, "-1")
    assert not is_up_to_date(empty_url)
    downgrade(empty_url, "base")
    assert not is_up_to_date(empty_url)


@pytest.mark.parametrize(
    ("files", "current", "expected"),
    [
        ([FIRST], "1", True),
        ([FIRST, SECOND], "2", True),
        ([FIRST, SECOND], "1", False),
        ([FIRST, SECOND], "9", False),
        ([FIRST, SECOND, BRANCH], "2", False),
        ([FIRST, SECOND, BRANCH, MERGE], "3", True),
        ([FIRST, TOGETHER], "2", True),
        ([FIRST, TYPED], "2", True),
        ([FIRST, UNREADABLE], "1", False),
        ([], "1", False),
    ],
)
def test_the_newest_is_the_one_that_no_other_follows(
    sqlite_url: str, tmp_path: Path, files: list[str], current: str, expected: bool
) -> None:
    (tmp_path / "versions").mkdir()
    for number, source in enumerate(files):
        (tmp_path / "versions" / f"{number}.py").write_text(source)
    with create_engine(engine_url(sqlite_url)).begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:current)"), {"current": current})
    assert is_up_to_date(sqlite_url, tmp_path) is expected


def test_a_folder_without_migrations_has_none_to_compare_with(migrated_sqlite_url: str, tmp_path: Path) -> None:
    downgrade(migrated_sqlite_url, "base")
    assert not is_up_to_date(migrated_sqlite_url, tmp_path)
