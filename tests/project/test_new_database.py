"""``new_database``, which makes a database for the tests of an app."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from apex.errors import ConfigError
from apex.migrations import connect
from apex.testing import new_database
from tests.process.commands import ROOT

MIGRATIONS = ROOT / "migrations"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_database_is_made_and_emptied(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = f"sqlite:///{tmp_path}" if backend == "sqlite" else request.getfixturevalue("postgres_server")
    url = f"{server}/a-new_test"
    for _ in range(2):
        assert new_database(url, MIGRATIONS) == url
        with connect(url) as connection, connection.begin():
            assert connection.exec_driver_sql("SELECT count(*) FROM revoked_tokens").scalar() == 0
            connection.exec_driver_sql("INSERT INTO revoked_tokens VALUES ('a', CURRENT_TIMESTAMP)")


def test_no_other_database_is_emptied(postgres_url: str) -> None:
    with pytest.raises(ConfigError, match="must end in 'test'"):
        new_database(f"{postgres_url}_production", MIGRATIONS)


def test_a_database_has_a_migration_that_is_new(tmp_path: Path) -> None:
    folder, url = tmp_path / "migrations", f"sqlite:///{tmp_path}/var/test.db"
    shutil.copytree(MIGRATIONS, folder)
    new_database(url, folder)
    newest = max(path.stem for path in (folder / "versions").glob("*.py"))
    text = f"from alembic import op\nrevision, down_revision = 'new', {newest[:4]!r}\n"
    (folder / "versions" / "9999_new.py").write_text(
        f"{text}def upgrade():\n    op.execute('CREATE TABLE new_one (id int)')\n"
    )
    with connect(new_database(url, folder)) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM new_one").scalar() == 0
