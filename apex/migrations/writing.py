"""Migrations written from the changes that bring a database to the tables in the code.

Changes that PostgreSQL makes without locking a table in use come first in a migration, as ``apex.migrations.ddl``
requires. Those that need another change of the same migration get a migration of their own, which follows it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum as PythonEnum
from pathlib import Path
from typing import Any

from alembic.operations import ops
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    DefaultClause,
    Dialect,
    Enum,
    ForeignKeyConstraint,
    MetaData,
    Table,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import CompileError
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeEngine

from apex.errors import ConfigError
from apex.migrations.comparison import (
    ChangeExpression,
    CreateSearchIndex,
    DisableRowLevelSecurity,
    DropSearchIndex,
    EnableRowLevelSecurity,
    compared,
    flat,
    without_casts,
)
from apex.migrations.migrate import explained, make_folder, next_revision, tables_of_code, title
from apex.migrations.revisions import FOLDER, Revisions, connect
from apex.migrations.source import (
    Source,
    call,
    column_names,
    comment,
    is_native,
    key_options,
    laid_out,
    literal,
    single_keys,
    value,
)

DIALECTS: dict[str, Dialect] = {
    "PostgreSQL": postgresql.base.PGDialect(),  # type: ignore[no-untyped-call]
    "SQLite": sqlite.base.SQLiteDialect(),
}
"""The databases, whichever of them a migration is written from."""
QUOTED: re.Pattern[str] = re.compile(r"'((?:[^']|'')*)'(?:::[\w ]+(?:\(\d+\))?)?")
"""A text that is a default, on PostgreSQL with its type."""
NOW: tuple[str, ...] = ("now", "current_timestamp")
LONGEST_SLUG: int = 40
PREPARED: tuple[str, ...] = ("prepare_row_level_security", "prepare_seals")
SECOND: str = ": indexes and constraints"

Place = tuple[str, str]
"""The name of a table and of one of its columns."""


@dataclass
class Written:
    """The files of new migrations, and what their author has to look at."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_changes(url: str, message: str, folder: Path = FOLDER) -> Written:
    """Write the migrations that bring a database to the tables in the code. Without a difference no file is written.

    Raises ConfigError if the database lacks migrations, and Unavailable if it cannot be reached.
    """
    make_folder(url)
    shown = title(message)
    shown = shown[0].upper() + shown[1:]
    with explained(url), connect(url) as connection:
        changes = prepared(list(flat(compared(url, connection, folder))))
        writer = Writer(connection.dialect, folder, _enums(tables_of_code(folder)[0]))
    first, second = divided(changes)
    if first:
        writer.write(shown, first)
    if second:
        writer.write(shown + SECOND if first else shown, second)
    return writer.written


def _enums(metadata: MetaData) -> Counter[str]:
    """Return the numbers of columns that have the enum types of PostgreSQL, by the names of the types."""
    types = (column.type for table in metadata.tables.values() for column in table.columns)
    return Counter(str(type_.name) for type_ in types if isinstance(type_, Enum) and is_native(type_))


def prepared(changes: Sequence[Any]) -> list[Any]:
    """Return changes as they are written: foreign keys with their columns, required columns in two steps."""
    added = {(one.table_name, str(one.column.name)) for one in changes if isinstance(one, ops.AddColumnOp)}
    removed = {(one.table_name, str(one.column_name)) for one in changes if isinstance(one, ops.DropColumnOp)}
    found: list[Any] = []
    for change in changes:
        _make_portable(change)
        key = _key_of(change)
        if key is not None and (change_table(change), *column_names(key)) in added | removed and _can_refer(key):
            continue
        found.append(change)
        if isinstance(change, ops.AddColumnOp) and not _has_value(change.column):
            found.append(
                ops.AlterColumnOp(
                    change.table_name, str(change.column.name), modify_nullable=False, existing_nullable=True
                )
            )
    return found


def _make_portable(change: Any) -> None:
    """Replace what a change has read from the database by what all databases have, if there is something."""
    if isinstance(change, ops.AlterColumnOp) and change.existing_type is not None:
        change.existing_type = portable(change.existing_type)
        if isinstance(change.existing_server_default, DefaultClause):
            change.existing_server_default = portable_default(change.existing_server_default)
    elif isinstance(change, ops.DropIndexOp) and (index := change._reverse) is not None:
        index.columns = [text(without_casts(str(one))) if isinstance(one, TextClause) else one for one in index.columns]
        where = index.kw.get("postgresql_where", index.kw.get("sqlite_where"))
        if where is not None:
            condition = text(without_casts(str(where)))
            index.kw |= {"sqlite_where": condition, "postgresql_where": condition}
    elif isinstance(change, ops.DropColumnOp | ops.DropTableOp):
        back: Any = change._reverse
        for column in [back.column] if isinstance(back, ops.AddColumnOp) else back.columns:
            if isinstance(column, Column):
                column.type = portable(column.type)
                column.server_default = portable_default(column.server_default)


def portable(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type of a column in a database as one that all databases have, if there is one."""
    from apex import sql  # ``apex.sql`` is on a higher layer.

    if isinstance(type_, postgresql.TIMESTAMP) and type_.timezone and type_.precision == 3:
        return sql.Timestamp()
    if isinstance(type_, postgresql.JSONB):
        return sql.Json
    if isinstance(type_, postgresql.ENUM):
        return Enum(*type_.enums, name=type_.name)
    try:
        return type_.as_generic()
    except NotImplementedError:
        return type_


def portable_default(default: Any) -> Any:
    """Return a default in a database without the parts that only that database understands."""
    written = str(getattr(getattr(default, "arg", None), "text", ""))
    if written.startswith("nextval("):
        return None
    if (plain := QUOTED.fullmatch(written)) is not None:
        return DefaultClause(plain[1].replace("''", "'"))
    return DefaultClause(func.now()) if written.strip("()").lower() in NOW else default


def _key_of(change: Any) -> ForeignKeyConstraint | None:
    """Return the foreign key that a change adds or drops."""
    constraint = change.to_constraint() if isinstance(change, ops.AddConstraintOp | ops.DropConstraintOp) else None
    return constraint if isinstance(constraint, ForeignKeyConstraint) else None


def divided(changes: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the changes of a migration, those that lock no table first, and those that have to follow it."""
    touched = set(_touched(changes))
    created = {change.table_name for change in changes if isinstance(change, ops.CreateTableOp)}
    replaced = {_subject(change) for change in changes if isinstance(change, ops.DropConstraintOp)}
    safe: list[Any] = []
    plain: list[Any] = []
    later: list[Any] = []
    for change in changes:
        if not _is_safe(change) or change_table(change) in created:
            plain.append(change)
        elif (
            touched.isdisjoint(_needed(change))
            and getattr(change, "referent_table", None) not in created
            and (not isinstance(change, ops.AddConstraintOp) or _subject(change) not in replaced)
        ):
            safe.append(change)
        else:
            later.append(change)
    return safe + plain, later


def table_of(change: ops.CreateTableOp) -> Table:
    """Return the table that a change creates."""
    table: Table = next(column.table for column in change.columns if isinstance(column, Column))
    return table


def _subject(change: Any) -> tuple[str, ...]:
    """Return what tells a constraint from others of its kind: its columns, or the name of a check."""
    constraint = change.to_constraint()
    names = [str(constraint.name)] if isinstance(constraint, CheckConstraint) else column_names(constraint)
    return type(constraint).__name__, change_table(change), *names


def _touched(changes: Sequence[Any]) -> Iterator[Place]:
    """Yield the columns that changes add, remove or give another type."""
    for change in changes:
        if isinstance(change, ops.AddColumnOp):
            yield change.table_name, change.column.name
        elif isinstance(change, ops.DropColumnOp) or (isinstance(change, ops.AlterColumnOp) and not _is_safe(change)):
            yield change.table_name, change.column_name


def _is_safe(change: Any) -> bool:
    """Return True if ``apex.migrations.ddl`` makes the change without locking the table."""
    if isinstance(change, ops.AlterColumnOp):
        others = change.modify_type, change.modify_server_default or None, change.modify_comment or None
        return change.modify_nullable is False and others == (None, None, None)
    return isinstance(change, ops.CreateIndexOp | ops.DropIndexOp | ops.AddConstraintOp)


def _needed(change: Any) -> Iterator[Place]:
    """Yield the columns that a change needs, also those of another table."""
    table = change_table(change)
    if isinstance(change, ops.AlterColumnOp):
        yield table, change.column_name
    elif isinstance(change, ops.CreateForeignKeyOp):
        yield from ((table, name) for name in change.local_cols)
        yield from ((change.referent_table, name) for name in change.remote_cols)
    elif isinstance(change, ops.CreateUniqueConstraintOp):
        yield from ((table, str(name)) for name in change.columns)
    else:
        # Expressions and conditions name columns in SQL.
        parts = [str(part) for part in (*getattr(change, "columns", ()), *change.kw.values())]
        parts += [str(getattr(change, "condition", ""))]
        yield from ((table, word) for part in parts for word in re.findall(r"\w+", part))


def change_table(change: Any) -> str:
    """Return the table of a change."""
    return str(getattr(change, "table_name", None) or getattr(change, "source_table", ""))


class Writer:
    """Writes the files of migrations into a folder."""

    def __init__(self, dialect: Dialect, folder: Path, enums: Mapping[str, int]) -> None:
        self.dialect: Dialect = dialect
        self.enums: Mapping[str, int] = enums
        self.folder: Path = folder
        self.written: Written = Written()

    def write(self, shown: str, changes: Sequence[Any]) -> None:
        """Write a migration. Its way back undoes the changes in the opposite order."""
        source = Source(self.dialect)
        back = [change.reverse() for change in reversed(changes)]
        safe, other = divided(back)
        upgrade, downgrade = Body(source, self), Body(source, self, is_back=True)
        bodies = [upgrade.of(changes), downgrade.of([*safe, *other], undoes=upgrade)]
        down = sorted(Revisions.of(self.folder).newest)
        if len(down) > 1:
            raise ConfigError(f"migrations {', '.join(down)} both are the newest: let one of them follow the other")
        revision = next_revision(self.folder)
        text = FILE.format(
            title=f"{shown}.", imports=source.import_lines("\n".join(bodies)), revision=literal(revision),
            down=literal(down[0]) if down else "None", upgrade=bodies[0], downgrade=bodies[1],
        )  # fmt: skip
        slug = "_".join(re.findall(r"\w+", shown)).lower()[:LONGEST_SLUG]
        file = self.folder / "versions" / f"{revision}_{slug}.py"
        file.write_text(text, encoding="utf-8")
        self.written.files.append(file)

    def is_prepared(self) -> bool:
        """Return True if a migration has prepared row-level security."""
        files = (self.folder / "versions").glob("*.py")
        return any(name in file.read_text(encoding="utf-8") for file in files for name in PREPARED)


FILE = '''"""{title}"""

{imports}

revision = {revision}
down_revision = {down}


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''


class Body:
    """Writes the statements of an upgrade or a downgrade."""

    def __init__(self, source: Source, writer: Writer, *, is_back: bool = False) -> None:
        self.source: Source = source
        self.writer: Writer = writer
        self.is_back: bool = is_back
        self.statements: list[str] = []
        self.altered: str | None = None
        self.is_locked: bool = False
        self.prepares: bool = False

    def of(self, changes: Sequence[Any], undoes: Body | None = None) -> str:
        """Return the statements for changes, laid out. ``undoes`` is the upgrade that a downgrade undoes."""
        self.dropped = {change.table_name for change in changes if isinstance(change, ops.DropTableOp)}
        self.created = {change.table_name for change in changes if isinstance(change, ops.CreateTableOp)}
        self.removed_columns = [(c.table_name, c.to_column()) for c in changes if isinstance(c, ops.DropColumnOp)]
        self.gone = [*self.removed_columns]
        for change in changes:
            if isinstance(change, ops.DropTableOp):
                self.gone += [(change.table_name, column) for column in table_of(change.reverse()).columns]
        self.removed = {(table, str(column.name)) for table, column in self.removed_columns}
        for change in changes:
            if not self.is_implied(change):
                self.statement(change)
        if undoes is not None and undoes.prepares:
            self.plain(f"{self.own('remove_row_level_security')}()")
        return laid_out(self.statements or ["pass"])

    def is_implied(self, change: Any) -> bool:
        """Return True if the removal of a table or a column has the effect of a change."""
        table = change_table(change)
        if isinstance(change, ops.DropIndexOp | DisableRowLevelSecurity):
            return table in self.dropped
        if isinstance(change, ops.DropConstraintOp):
            columns = {(table, name) for name in column_names(change.to_constraint())}
            return table in self.dropped or not self.removed.isdisjoint(columns)
        return False

    def statement(self, change: Any) -> None:
        """Write a change."""
        table = change_table(change)
        match change:
            case ops.CreateTableOp():
                self.create_table(change)
            case ops.DropTableOp():
                self.plain(call("op.drop_table", [literal(table)]))
                for column in table_of(change.reverse()).columns:
                    self.drop_enum(column.type)
            case ops.AddColumnOp():
                self.add_column(table, change.column)
            case ops.DropColumnOp():
                self.drop_column(table, change)
            case ops.AlterColumnOp():
                self.alter_column(table, change)
            case ops.CreateIndexOp():
                is_plain = self.is_locked or table in self.created
                function = "op.create_index" if is_plain else self.own("create_index")
                (self.plain if is_plain else self.safe)(self.source.index(change.to_index(), function, table))
            case ops.DropIndexOp():
                function = "op.drop_index" if self.is_locked else self.own("drop_index")
                dropped = call(function, [literal(change.index_name), literal(table)])
                (self.plain if self.is_locked else self.safe)(dropped)
            case ops.AddConstraintOp():
                self.add_constraint(table, change.to_constraint())
            case ops.DropConstraintOp():
                self.drop_constraint(table, change.to_constraint())
            case ChangeExpression():
                self.note(f"{table}.{change.column_name} has another expression in the code: write its change by hand")
            case DropSearchIndex():
                self.plain(call(self.own("drop_search_index"), [literal(table)]))
            case CreateSearchIndex():
                self.plain(call(self.own("create_search_index"), [literal(table), *map(literal, change.fields)]))
            case EnableRowLevelSecurity():
                self.enable(table, change.column)
            case DisableRowLevelSecurity():
                self.plain(call(self.own("disable_row_level_security"), [literal(table)]))
            case ops.CreateTableCommentOp() | ops.DropTableCommentOp():
                text = value(getattr(change, "comment", None))
                self.plain(call("op.create_table_comment", [literal(table), text]))
            case _:
                raise ConfigError(f"cannot write {type(change).__name__} of table '{table}': write it by hand")

    def own(self, name: str) -> str:
        """Import a function of ``apex.migrations`` and return its name."""
        return self.source.needs("apex.migrations", name)

    def plain(self, *statements: str) -> None:
        """Write statements that lock their tables until the end of the migration."""
        self.is_locked = True
        self.altered = None
        self.statements += statements

    def safe(self, statement: str) -> None:
        """Write a statement of ``apex.migrations.ddl``."""
        self.statements.append(statement)

    def alter(self, table: str, line: str) -> None:
        """Write a change of a table that SQLite copies to make it. Changes of one table share the copy."""
        if self.altered != table:
            self.plain(f"with {self.own('alter_table')}({literal(table)}) as table:")
            self.altered = table
        self.statements.append(f"    {line}")

    def create_table(self, change: ops.CreateTableOp) -> None:
        table = table_of(change)
        self.tell_portable(table.columns)
        self.plain(self.source.table(table))
        for key in table.constraints:
            if isinstance(key, ForeignKeyConstraint) and key.use_alter:
                self.alter(table.name, self.source.added_constraint(key, literal(key.name)))
        if (tenant := table.info.get("tenant")) is not None:
            self.enable(table.name, tenant)

    def enable(self, table: str, column: str) -> None:
        """Write the calls that enable row-level security."""
        if not self.prepares and not self.is_back and not self.writer.is_prepared():
            self.prepares = True
            self.plain(f"{self.own('prepare_row_level_security')}()")
        self.plain(call(self.own("enable_row_level_security"), [literal(table), literal(column)]))

    def add_column(self, table: str, column: Column[Any]) -> None:
        self.tell_portable([column])
        former = [
            str(one.name)
            for owner, one in self.removed_columns
            if owner == table and one.type._type_affinity is column.type._type_affinity
        ]
        if former and not self.is_back:
            arguments = [literal(table), literal(former[0]), f"new_column_name={literal(column.name)}"]
            self.note(
                f"{table}.{column.name} may be '{former[0]}' renamed, whose values would be lost. If so, write only",
                call("op.alter_column", arguments),
            )
        if is_native(column.type):
            self.plain(f"{self.source.type(column.type)}.create(op.get_bind(), checkfirst=True)")
        default = _plain_default(column)
        keys = [key for key in single_keys(column, column.table) if _can_refer(key)]
        written = self.source.added_column(column, keys, default, is_nullable=not _has_value(column))
        options = ["inline_references=True"] if keys else []
        if isinstance(column.server_default, Computed):
            self.alter(table, call("table.add_column", [written]))  # SQLite cannot add a stored one.
        else:
            self.plain(call("op.add_column", [literal(table), written, *options]))
        if default is not None:
            self.alter(table, call("table.alter_column", [literal(column.name), "server_default=None"]))

    def drop_column(self, table: str, change: ops.DropColumnOp) -> None:
        column = change.to_column()
        if _is_constrained(column):
            self.alter(table, call("table.drop_column", [literal(change.column_name)]))
        else:
            self.plain(call("op.drop_column", [literal(table), literal(change.column_name)]))
        self.drop_enum(column.type)

    def drop_enum(self, type_: TypeEngine[Any]) -> None:
        """Drop the type of an enum on PostgreSQL if no column is left that has it."""
        if not is_native(type_):
            return
        name = str(getattr(type_, "name", ""))
        gone = [one for _, one in self.gone if is_native(one.type) and getattr(one.type, "name", "") == name]
        # The tables in the code still have the columns that the way back drops.
        left = self.writer.enums[name] - (len(gone) if self.is_back else 0)
        dropped = f"sa.Enum(name={literal(name)}).drop(op.get_bind(), checkfirst=True)"
        if left <= 0 and dropped not in self.statements:
            self.plain(dropped)

    def alter_column(self, table: str, change: ops.AlterColumnOp) -> None:
        name = change.column_name
        if _is_safe(change) and not self.is_locked:
            self.note(f"{table}.{name} is required: give the rows that exist a value here, with backfill or fill")
            self.safe(call(self.own("set_not_null"), [literal(table), literal(name)]))
            return
        parts = [literal(name)]
        if change.modify_type is not None:
            old: Any = change.existing_type
            new = change.modify_type
            is_cast = old._type_affinity is not new._type_affinity
            if is_native(new) and not is_cast:
                self.plain(call(self.own("change_enum"), [self.source.type(new), literal(table), literal(name)]))
            else:
                parts += [f"type_={self.source.type(new)}", f"existing_type={self.source.type(old)}"]
                if is_cast:
                    column = DIALECTS["PostgreSQL"].identifier_preparer.quote(name)
                    shown = new.compile(dialect=DIALECTS["PostgreSQL"])
                    parts.append(f"postgresql_using={literal(f'{column}::{shown}')}")
        if change.modify_nullable is not None:
            parts.append(f"nullable={change.modify_nullable}")
        if change.modify_server_default is not False:
            parts.append(f"server_default={self.source.default(change.modify_server_default)}")
        if change.modify_comment is not False:
            parts.append(f"comment={value(change.modify_comment)}")
        if len(parts) > 1:
            self.alter(table, call("table.alter_column", parts))

    def add_constraint(self, table: str, constraint: Any) -> None:
        name = literal(str(constraint.name) if constraint.name else _usual_name(table, constraint))
        if self.is_locked or table in self.created:
            self.alter(table, self.source.added_constraint(constraint, name))
        elif isinstance(constraint, ForeignKeyConstraint):
            target = literal(constraint.elements[0].target_fullname.rpartition(".")[0])
            columns = (
                value(column_names(constraint)),
                value([one.target_fullname.rpartition(".")[2] for one in constraint.elements]),
            )
            self.safe(
                call(self.own("add_foreign_key"), [name, literal(table), target, *columns, *key_options(constraint)])
            )
        elif isinstance(constraint, UniqueConstraint):
            self.safe(call(self.own("add_unique"), [name, literal(table), value(column_names(constraint))]))
        else:
            condition = literal(self.source.sql(constraint.sqltext))
            self.safe(call(self.own("add_check"), [name, literal(table), condition]))

    def drop_constraint(self, table: str, constraint: Any) -> None:
        if isinstance(constraint, CheckConstraint):
            self.plain(call(self.own("drop_check"), [literal(table), literal(constraint.name)]))
        else:
            function = "drop_foreign_key" if isinstance(constraint, ForeignKeyConstraint) else "drop_unique"
            self.plain(call(self.own(function), [literal(table), value(column_names(constraint))]))

    def tell_portable(self, columns: Iterable[Column[Any]]) -> None:
        """Note the columns whose types a database does not have."""
        for column in columns:
            for name, dialect in DIALECTS.items():
                try:
                    column.type.compile(dialect=dialect)
                except CompileError:
                    kind = type(column.type).__name__
                    note = f"{column.table.name}.{column.name}: {name} has no type {kind}, so the migration fails there"
                    self.note(note)

    def note(self, note: str, code: str = "") -> None:
        """Write a comment, and tell the author of the migration."""
        self.altered = None
        self.statements.append(comment(f"{note}{':' if code else '.'}"))
        if code:
            self.statements.append(f"# {code}")
        self.writer.written.notes.append(f"{note}: {code}" if code else note)


def _can_refer(key: ForeignKeyConstraint) -> bool:
    """Return True if a column can be added with its foreign key. Rows that exist must refer to nothing."""
    column = key.columns[0]
    # SQLAlchemy does not find the options of such a key in SQLite.
    is_plain = len(key.columns) == 1 and not key.use_alter and not key_options(key)
    return is_plain and column.server_default is None and _plain_default(column) is None


def _has_value(column: Column[Any]) -> bool:
    """Return True if a column can be added to a table with rows."""
    return bool(column.nullable) or column.server_default is not None or _plain_default(column) is not None


def _plain_default(column: Column[Any]) -> str | None:
    """Return the default of a required column in Python as one of the database, if both are the same."""
    default = column.default
    if column.nullable or column.server_default is not None or not isinstance(default, ScalarElementColumnDefault):
        return None
    given = default.arg
    if isinstance(given, bool):
        return "sa.true()" if given else "sa.false()"
    if isinstance(given, PythonEnum):
        given = given.name
    return literal(str(given)) if isinstance(given, str | int) and not hasattr(column.type, "places") else None


def _is_constrained(column: Column[Any]) -> bool:
    """Return True if a constraint of the table names a column, so that SQLite cannot drop the column by itself."""
    table: Any = column.table
    return table is None or any(column.name in one.columns for one in table.constraints if hasattr(one, "columns"))


def _usual_name(table: str, constraint: Any) -> str:
    kinds = {UniqueConstraint: "uq", ForeignKeyConstraint: "fk", CheckConstraint: "ck"}
    kind = next(short for owner, short in kinds.items() if isinstance(constraint, owner))
    return "_".join([kind, table, *column_names(constraint)])
