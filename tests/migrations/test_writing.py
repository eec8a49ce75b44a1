"""Migrations written from the tables: they bring a database to the tables, and back, on both databases."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    text,
)  # fmt: skip

from apex.errors import ConfigError
from apex.migrations import differences, upgrade
from apex.migrations.migrate import downgrade
from apex.migrations.revisions import connect
from apex.migrations.writing import Written, write_changes
from apex.sql import Fixed, Json, SQLService, Timestamp
from tests.migrations.test_migrations import described

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
ENV = "import tables_of_a_test\nfrom apex.migrations import run_migrations\nrun_migrations(tables_of_a_test.metadata)\n"


class Project:
    """A project whose tables change."""

    def __init__(self, folder: Path, module: ModuleType) -> None:
        self.folder = folder
        self.module = module

    def declare(self, *tables: Callable[[MetaData], object]) -> None:
        self.module.metadata = MetaData(naming_convention=NAMES)  # type: ignore[attr-defined]
        for table in tables:
            table(self.module.metadata)

    def write(self, url: str, message: str) -> Written:
        return write_changes(url, message, self.folder)

    def migrate(self, url: str, message: str, *tables: Callable[[MetaData], object]) -> str:
        """Declare tables, write the migrations for them, migrate, and return the source of the migrations."""
        self.declare(*tables)
        files = self.write(url, message).files
        upgrade(url, folder=self.folder)
        assert differences(url, self.folder) == []
        return "\n".join(file.read_text() for file in files)


@pytest.fixture(scope="module")
def folders() -> Iterator[list[Path]]:
    """Return a list for the folders of all projects, whose files are checked at the end."""
    folders: list[Path] = []
    yield folders
    # Everything that was written is formatted as people of a new project would have it.
    for command in (["format", "--check"], ["check", "--select=E,F,I,UP,B"]):
        options = ["--quiet", "--line-length=120", "--config", "lint.isort.known-first-party=['apex']"]
        subprocess.run([sys.executable, "-m", "ruff", *command, *options, *map(str, folders)], check=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[Path]) -> Project:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    module = ModuleType("tables_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # A file that is written again within a second would be loaded as it was before.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folders.append(folder)
    return Project(folder, module)


def projects(metadata: MetaData) -> Table:
    return Table("projects", metadata, Column("id", Integer, primary_key=True), Column("key", String(10), unique=True))


def issues(*parts: Any) -> Callable[[MetaData], Table]:
    """Return a function that declares the table of issues, with more columns and constraints."""

    def declare(metadata: MetaData) -> Table:
        own = Column("id", Integer, primary_key=True), Column("title", String(50), nullable=False)
        return Table("issues", metadata, *own, *parts)

    return declare


def test_a_new_table_is_written_as_by_hand(project: Project, empty_url: str) -> None:
    written = project.migrate(empty_url, "add issues", projects, issues(
        Column("project_id", Integer, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
        Column("created_at", Timestamp, nullable=False, server_default=sa.func.now()),
    ))  # fmt: skip
    assert (
        written
        == '''"""Add issues."""

import sqlalchemy as sa
from alembic import op

from apex.sql import Timestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("key", sa.String(10), unique=True),
    )
    op.create_table(
        "issues",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("title", sa.String(50), nullable=False),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id", ondelete="CASCADE")),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_issues_project_id", "issues", ["project_id"])


def downgrade() -> None:
    op.drop_table("issues")
    op.drop_table("projects")
'''
    )


def test_the_way_back_restores_the_database(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", projects, issues(
        Column("old", String(20)), Column("project_id", Integer, ForeignKey("projects.id", ondelete="CASCADE"))
    ))  # fmt: skip
    before = described(empty_url)
    project.migrate(empty_url, "change", projects, issues(
        Column("due", Date, index=True), Column("project_id", Integer, ForeignKey("projects.id")),
        Column("parent_id", Integer, ForeignKey("issues.id")),
        Column("state", String(9), nullable=False, default="open"),
        Column("rank", Integer, nullable=False), UniqueConstraint("title"), CheckConstraint("rank > 0", name="rank"),
    ))  # fmt: skip
    downgrade(empty_url, "0001", project.folder)
    if not empty_url.startswith("sqlite"):  # SQLite keeps the text of each statement.
        assert described(empty_url) == before


def test_rows_that_exist_get_the_default_of_a_new_required_column(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", issues())
    with connect(empty_url) as connection:
        connection.exec_driver_sql("INSERT INTO issues (title) VALUES ('First')")
        connection.commit()
    project.migrate(empty_url, "add state", issues(Column("state", String(9), nullable=False, default="open")))
    with connect(empty_url) as connection:
        assert connection.exec_driver_sql("SELECT state FROM issues").scalars().all() == ["open"]


def test_indexes_of_tables_in_use_follow_in_a_migration_of_their_own(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", issues())
    project.declare(issues(Column("due", Date, index=True)))
    first, second = project.write(empty_url, "add due").files
    assert 'op.add_column("issues", sa.Column("due", sa.Date()))' in first.read_text()
    assert 'create_index("ix_issues_due", "issues", ["due"])' in second.read_text()
    assert (first.name, second.name) == ("0002_add_due.py", "0003_add_due_indexes_and_constraints.py")


def test_a_column_that_may_be_renamed_is_named(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", issues(Column("deadline", Date)))
    project.declare(issues(Column("due", Date)))
    written = project.write(empty_url, "rename")
    assert 'op.alter_column("issues", "deadline", new_column_name="due")' in written.notes[0]
    assert '# op.alter_column("issues", "deadline", new_column_name="due")' in written.files[0].read_text()


def test_nothing_to_do_writes_no_file(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", issues())
    assert project.write(empty_url, "again").files == []


def test_a_database_that_lacks_migrations_is_refused(project: Project, empty_url: str) -> None:
    project.declare(issues())
    project.write(empty_url, "begin")
    with pytest.raises(ConfigError, match="0001 are pending: run 'apex migrate' first"):
        project.write(empty_url, "again")


def test_a_column_without_a_migration_is_named(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", issues())
    project.declare(issues(Column("due", Date)))
    named = "table 'issues' has no column 'due' in the database: apex migrate --new 'add due' --auto"
    assert differences(empty_url, project.folder) == [named]


def test_a_table_without_a_migration_is_named_once(project: Project, empty_url: str) -> None:
    project.migrate(empty_url, "begin", projects)
    project.declare(projects, issues(Column("due", Date, index=True)))
    named = "there is no table 'issues' in the database: apex migrate --new 'add issues' --auto"
    assert differences(empty_url, project.folder) == [named]
    project.migrate(empty_url, "add issues", projects, issues(Column("due", Date, index=True)))
    project.declare(projects)
    named = "table 'issues' is in the database and not in the code: apex migrate --new 'remove issues' --auto"
    assert differences(empty_url, project.folder) == [named]


def checked(condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name="rank")


CHANGES: dict[str, Callable[[], tuple[list[Any], list[Any]]]] = {
    "a check": lambda: ([Column("rank", Integer)], [Column("rank", Integer), checked("rank > 0")]),
    "another check": lambda: (
        [Column("rank", Integer), checked("rank > 0")], [Column("rank", Integer), checked("rank BETWEEN 1 AND 9")]
    ),
    "no check": lambda: ([Column("rank", Integer), checked("rank > 0")], [Column("rank", Integer)]),
    "a check of an enum": lambda: (
        [Column("state", Enum("open", name="state", native_enum=False, create_constraint=True))],
        [Column("state", Enum("open", "late", name="state", native_enum=False, create_constraint=True))],
    ),
    "an index on an expression": lambda: ([], [Index("ix_lower", text("lower(title)"))]),
    "another expression": lambda: ([Index("ix_x", text("lower(title)"))], [Index("ix_x", text("upper(title)"))]),
    "no index on an expression": lambda: ([Index("ix_lower", text("lower(title)"))], []),
    "a condition of an index": lambda: (
        [Index("ix_title", "title")],
        [Index("ix_title", "title", sqlite_where=text("id > 5"), postgresql_where=text("id > 5"))],
    ),
    "a unique index": lambda: ([Index("ix_title", "title")], [Index("ix_title", "title", unique=True)]),
    "another type": lambda: ([Column("rank", String(9))], [Column("rank", Integer)]),
    "a longer text": lambda: ([Column("text", String(9))], [Column("text", String(400))]),
    "a required column": lambda: ([Column("rank", Integer)], [Column("rank", Integer, nullable=False)]),
    "an optional column": lambda: ([Column("rank", Integer, nullable=False)], [Column("rank", Integer)]),
    "a default": lambda: ([Column("rank", Integer)], [Column("rank", Integer, server_default="1")]),
    "another default": lambda: (
        [Column("text", String(9), server_default="a")], [Column("text", String(9), server_default="it's")]
    ),
    "no default": lambda: ([Column("rank", Integer, server_default="1")], [Column("rank", Integer)]),
    "an enum": lambda: ([], [Column("state", Enum("open", "closed", name="state"), nullable=False, default="open")]),
    "more values of an enum": lambda: (
        [Column("state", Enum("open", "closed", name="state"), server_default="open")],
        [Column("state", Enum("new", "open", "postponed", "closed", name="state"), server_default="open")],
    ),
    "fewer values of an enum": lambda: (
        [Column("state", Enum("open", "postponed", "closed", name="state"), server_default="open")],
        [Column("state", Enum("closed", "open", name="state"), server_default="open")],
    ),
    "no enum": lambda: ([Column("state", Enum("open", "closed", name="state"))], []),
    "unique together": lambda: ([Column("a", Integer)], [Column("a", Integer), UniqueConstraint("a", "title")]),
    "no longer unique": lambda: ([Column("a", Integer, unique=True)], [Column("a", Integer)]),
    "a generated column": lambda: ([], [Column("twice", Integer, Computed("id * 2", persisted=True))]),
    "a flag": lambda: ([], [Column("is_open", Boolean, nullable=False, default=True)]),
    "a number": lambda: ([], [Column("price", Fixed(2), nullable=False), Column("size", Numeric(10, 2))]),
    "json": lambda: ([], [Column("meta", Json, nullable=False)]),
    "a tree": lambda: ([], [Column("parent_id", Integer, ForeignKey("issues.id", ondelete="SET NULL"), index=True)]),
    "a required reference": lambda: ([], [Column("project_id", Integer, ForeignKey("projects.id"), nullable=False)]),
    "another reference": lambda: (
        [Column("project_id", Integer, ForeignKey("projects.id"))],
        [Column("project_id", Integer, ForeignKey("projects.id", ondelete="CASCADE"))],
    ),
    "no reference": lambda: ([Column("project_id", Integer, ForeignKey("projects.id"))], []),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_found_and_made_on_both_and_undone(
    project: Project, sqlite_url: str, postgres_url: str, change: str
) -> None:
    make = CHANGES[change]
    for written, run in ((sqlite_url, postgres_url), (postgres_url, sqlite_url)):
        shutil.rmtree(project.folder / "versions")
        (project.folder / "versions").mkdir()
        project.migrate(written, "begin", projects, issues(*make()[0]))
        assert project.migrate(written, "change", projects, issues(*make()[1])) != ""
        upgrade(run, folder=project.folder)
        assert differences(run, project.folder) == []
        downgrade(run, "base", project.folder)
        downgrade(written, "0001", project.folder)
        changes = {file: file.read_text() for file in (project.folder / "versions").glob("000[2-9]*")}
        for file in changes:
            file.unlink()
        project.declare(projects, issues(*make()[0]))
        assert differences(written, project.folder) == []
        downgrade(written, "base", project.folder)
        for file, source in changes.items():
            file.write_text(source)


def searched(*parts: Any) -> Callable[[MetaData], object]:
    """Return a function that declares issues which a service searches in."""

    def declare(metadata: MetaData) -> type[SQLService[Any]]:
        class Issues(SQLService[Any]):
            table = issues(*parts)(metadata)
            searchable = ("title",)

        return Issues

    return declare


def test_the_index_of_a_search_is_written(project: Project, empty_url: str) -> None:
    new = project.migrate(empty_url, "add issues", searched())
    assert 'create_search_index("issues", "title")' in new
    downgrade(empty_url, "base", project.folder)
    project.declare(issues())
    (project.folder / "versions" / "0001_add_issues.py").unlink()
    project.migrate(empty_url, "add issues", issues())
    later = project.migrate(empty_url, "search issues", searched())
    assert later.count("create_search_index") == 2
    assert 'drop_search_index("issues")' in later
    project.declare(searched())
    assert project.write(empty_url, "nothing").files == []
    downgrade(empty_url, "0001", project.folder)
    hint = "table 'issues' has no search index in the database: apex migrate --new 'search issues' --auto"
    with pytest.raises(ConfigError, match="pending"):
        differences(empty_url, project.folder)
    (project.folder / "versions" / "0002_search_issues.py").unlink()
    assert differences(empty_url, project.folder) == [hint]


TYPES: list[Callable[[], Any]] = [
    lambda: Integer(), lambda: sa.BigInteger(), lambda: sa.SmallInteger(), lambda: Numeric(12, 3), lambda: sa.Float(),
    lambda: sa.Double(), lambda: Boolean(), lambda: String(30), lambda: sa.Text(), lambda: sa.Unicode(9),
    lambda: Date(), lambda: sa.Time(), lambda: sa.DateTime(), lambda: sa.DateTime(timezone=True), lambda: sa.Interval(),
    lambda: sa.Uuid(), lambda: sa.LargeBinary(), lambda: sa.JSON(), lambda: Json, lambda: Timestamp(), lambda: Fixed(2),
    lambda: Fixed(4, trimmed=True), lambda: Enum("open", "it's", name="state", native_enum=False),
    lambda: sa.BigInteger().with_variant(Integer(), "sqlite"),
]  # fmt: skip


def test_row_level_security_is_enabled_for_tables_of_tenants(project: Project, postgres_url: str) -> None:
    def notes(metadata: MetaData) -> None:
        Table("notes", metadata, Column("id", Integer, primary_key=True), Column("owner_id", Integer), info=TENANT)

    def tenant_issues(metadata: MetaData) -> None:
        issues(Column("owner_id", Integer))(metadata).info.update(TENANT)

    project.migrate(postgres_url, "begin", issues(Column("owner_id", Integer)))
    written = project.migrate(postgres_url, "protect", notes, tenant_issues)
    calls = ["prepare_row_level_security()", *(f'enable_row_level_security("{name}", "owner_id")' for name in TABLES)]
    assert [line.strip() for line in written.splitlines() if "row_level_security(" in line][:3] == calls
    downgrade(postgres_url, "0001", project.folder)


TENANT, TABLES = {"tenant": "owner_id"}, ("notes", "issues")


def test_the_rows_of_an_enum_that_loses_a_value_stay(project: Project, postgres_url: str) -> None:
    def declare(*values: str) -> Callable[[MetaData], Table]:
        return issues(Column("state", Enum(*values, name="state"), nullable=False, server_default="open"))

    project.migrate(postgres_url, "begin", declare("open", "closed"))
    with connect(postgres_url) as connection:
        connection.exec_driver_sql("INSERT INTO issues (title) VALUES ('First')")
        connection.commit()
    project.migrate(postgres_url, "change", declare("open"))
    with connect(postgres_url) as connection:
        assert connection.exec_driver_sql("SELECT state::text FROM issues").scalars().all() == ["open"]


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.booleans(), st.booleans()), min_size=2, max_size=9))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_table_differs_from_what_its_migrations_make(
    project: Project, empty_url: str, chosen: list[tuple[Callable[[], Any], bool, bool]]
) -> None:
    def declare(most: int) -> Callable[[MetaData], Table]:
        types = [make() for make, _, _ in chosen[:most]]
        has_index = [
            index and not isinstance(type_, sa.JSON) for type_, (_, _, index) in zip(types, chosen, strict=False)
        ]
        return issues(*(
            Column(f"c{place}", type_, nullable=chosen[place][1], index=has_index[place])
            for place, type_ in enumerate(types)
        ))  # fmt: skip

    project.declare()
    downgrade(empty_url, "base", project.folder)
    for file in (project.folder / "versions").glob("*.py"):
        file.unlink()
    for most in (1, len(chosen)):  # Some columns are made with their table, and the others are added.
        project.migrate(empty_url, "change", declare(most))
