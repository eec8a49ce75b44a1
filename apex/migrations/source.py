"""Source text for migrations: columns, types, constraints and defaults, and their layout.

Names and values are written as a person would write them: what a naming convention or SQLAlchemy adds by itself is left
out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from importlib import import_module
from inspect import Parameter, signature
from textwrap import wrap
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Dialect, Table
from sqlalchemy.schema import (
    CheckConstraint,
    Computed,
    Constraint,
    DefaultClause,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy.sql.elements import ClauseElement, TextClause, conv
from sqlalchemy.sql.functions import now
from sqlalchemy.types import TypeDecorator, TypeEngine

WIDTH: int = 120
KEY_OPTIONS: tuple[str, ...] = ("ondelete", "onupdate", "deferrable", "initially", "match")


class Source:
    """Writes parts of a migration for a dialect, and collects the imports that they need."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect: Dialect = dialect
        self.imports: dict[str, set[str]] = {}

    def import_lines(self, written: str) -> str:
        """Return the lines that import what is needed by what has been written, in the order of ruff."""
        lines = [_import(module, sorted(names)) for module, names in sorted(self.imports.items())]
        libraries = ["import sqlalchemy as sa"] if "sa." in written else []
        libraries += ["from alembic import op"] if re.search(r"\bop\.", written) else []
        libraries += [line for line in lines if line.startswith("from sqlalchemy")]
        own = [line for line in lines if not line.startswith("from sqlalchemy")]
        return "\n\n".join("\n".join(group) for group in (libraries, own) if group)

    def needs(self, module: str, name: str) -> str:
        """Import a name and return it."""
        self.imports.setdefault(module, set()).add(name)
        return name

    def table(self, table: Table) -> str:
        """Return the call that creates a table."""
        parts = [literal(table.name), *(self.column(column, table) for column in table.columns)]
        parts += filter(None, (self.constraint(one) for one in constraints(table)))
        parts += self.options(table.kwargs)
        if table.schema is not None:
            parts.append(f"schema={literal(table.schema)}")
        if table.comment is not None:
            parts.append(f"comment={literal(table.comment)}")
        if table._prefixes:
            parts.append(f"prefixes={value(table._prefixes)}")
        return call("op.create_table", parts)

    def column(self, column: Column[Any], table: Table) -> str:
        """Return a column of a new table, with those of its constraints that fit into it."""
        options = ["primary_key=True"] if is_plain_key(table) and column.name in table.primary_key.columns else []
        if not column.nullable and not options:
            options.append("nullable=False")
        if any(is_unique(one, column) for one in table.constraints):
            options.append("unique=True")
        return self._column(column, single_keys(column, table), options, column.server_default)

    def added_column(
        self, column: Column[Any], keys: Iterable[ForeignKeyConstraint], default: str | None, *, is_nullable: bool
    ) -> str:
        """Return a column that is added to a table, with foreign keys, and with a default for rows that exist."""
        options = [] if column.nullable or is_nullable else ["nullable=False"]
        if default is not None:
            options.append(f"server_default={default}")
        return self._column(column, keys, options, column.server_default)

    def _column(
        self, column: Column[Any], keys: Iterable[ForeignKeyConstraint], options: list[str], default: Any
    ) -> str:
        parts = [literal(column.name), self.type(column.type)]
        if isinstance(default, Computed):
            stored = [] if default.persisted is None else [f"persisted={default.persisted}"]
            parts.append(call("sa.Computed", [literal(self.sql(default.sqltext)), *stored]))
        elif isinstance(default, Identity):
            parts.append(self.identity(default))
        parts += [*map(self.foreign_key, keys), *options]
        if column.autoincrement not in ("auto", "ignore_fk"):
            parts.append(f"autoincrement={column.autoincrement!r}")
        if isinstance(default, DefaultClause):
            parts.append(f"server_default={self.default(default)}")
        if column.comment is not None:
            parts.append(f"comment={literal(column.comment)}")
        return call("sa.Column", [*parts, *self.options(column.kwargs)])

    def identity(self, identity: Identity) -> str:
        """Return the generator of a column's numbers."""
        names = ("start", "increment", "minvalue", "maxvalue", "cycle", "cache")
        given = {name: getattr(identity, name) for name in names}
        parts = [f"{name}={number!r}" for name, number in given.items() if number is not None]
        return call("sa.Identity", [*(["always=True"] if identity.always else []), *parts])

    def foreign_key(self, key: ForeignKeyConstraint) -> str:
        """Return a foreign key of one column."""
        name = [f"name={literal(key.name)}"] if has_own_name(key) else []
        return call("sa.ForeignKey", [literal(key.elements[0].target_fullname), *name, *key_options(key)])

    def constraint(self, constraint: Constraint) -> str | None:
        """Return a constraint of a new table, or None if its columns or their types have it."""
        name = [f"name={literal(constraint.name)}"] if has_own_name(constraint) else []
        table: Any = constraint.table
        if isinstance(constraint, PrimaryKeyConstraint):
            if is_plain_key(table):
                return None
            return call("sa.PrimaryKeyConstraint", [*map(literal, column_names(constraint)), *name])
        if isinstance(constraint, UniqueConstraint):
            if any(is_unique(constraint, column) for column in table.columns):
                return None
            options = [f"{key}={item!r}" for key in ("deferrable", "initially") if (item := getattr(constraint, key))]
            return call("sa.UniqueConstraint", [*map(literal, column_names(constraint)), *name, *options])
        if isinstance(constraint, ForeignKeyConstraint):
            if len(constraint.columns) == 1 or constraint.use_alter:
                return None
            targets = [element.target_fullname for element in constraint.elements]
            parts = [value(column_names(constraint)), value(targets), *name, *key_options(constraint)]
            return call("sa.ForeignKeyConstraint", parts)
        if isinstance(constraint, CheckConstraint):
            # A convention for checks builds on the name, so the complete name is marked as such.
            if isinstance(constraint.name, conv):
                name = [f"name=op.f({literal(constraint.name)})"]
            return call("sa.CheckConstraint", [literal(self.sql(constraint.sqltext)), *name])
        raise NotImplementedError(f"{type(constraint).__name__} of table '{table.name}'")

    def added_constraint(self, constraint: Any, name: str) -> str:
        """Return the call that adds a constraint in a block of ``alter_table``."""
        if isinstance(constraint, ForeignKeyConstraint):
            targets = [one.target_fullname.rpartition(".") for one in constraint.elements]
            columns = [value(column_names(constraint)), value([column for *_, column in targets])]
            options = key_options(constraint)
            return call("table.create_foreign_key", [name, literal(targets[0][0]), *columns, *options])
        if isinstance(constraint, UniqueConstraint):
            return call("table.create_unique_constraint", [name, value(column_names(constraint))])
        return call("table.create_check_constraint", [name, literal(self.sql(constraint.sqltext))])

    def index(self, index: Index, function: str, table: str) -> str:
        """Return the call that creates an index."""
        expressions = [literal(one.name) if isinstance(one, Column) else self.text(one) for one in index.expressions]
        unique = ["unique=True"] if index.unique else []
        columns = f"[{', '.join(expressions)}]"
        return call(function, [literal(index.name), literal(table), columns, *unique, *self.options(index.kwargs)])

    def options(self, given: Any) -> list[str]:
        """Return the options of a dialect, such as ``postgresql_where``, that are set."""
        return [f"{name}={self.option(item)}" for name, item in given.items() if item is not None and item is not False]

    def option(self, item: Any) -> str:
        return self.text(item) if isinstance(item, ClauseElement) else value(item)

    def default(self, default: DefaultClause | None) -> str:
        """Return a default of the database."""
        if default is None:
            return "None"
        if isinstance(default.arg, str):
            return literal(default.arg)
        if isinstance(default.arg, sa.True_ | sa.False_):
            return f"sa.{str(default.arg).lower()}()"
        if isinstance(default.arg, now):
            return "sa.func.now()"
        return self.text(default.arg)

    def text(self, expression: Any) -> str:
        """Return an expression as SQL text."""
        return call("sa.text", [literal(self.sql(expression))])

    def sql(self, expression: Any) -> str:
        """Return the SQL of an expression with the values in it."""
        if isinstance(expression, str):
            return expression
        if isinstance(expression, TextClause):
            return expression.text
        options = {"literal_binds": True, "include_table": False}
        return str(expression.compile(dialect=self.dialect, compile_kwargs=options)).replace("%%", "%")

    def type(self, type_: TypeEngine[Any]) -> str:
        """Return a column type. Those of other libraries than SQLAlchemy, and of the project, are imported."""
        if (shared := self._shared(type_)) is not None:
            return shared
        written = self._plain(type_)
        for dialect, variant in sorted(type_._variant_mapping.items()):
            written += f".with_variant({self._plain(variant)}, {literal(dialect)})"
        return written

    def _shared(self, type_: TypeEngine[Any]) -> str | None:
        """Return the name of a type that ``apex.sql`` has as an object, such as ``Json``."""
        from apex import sql  # ``apex.sql`` is on a higher layer.

        for name in sql.__all__:
            known = getattr(sql, name)
            if isinstance(known, TypeEngine) and _shown(known) == _shown(type_):
                return self.needs("apex.sql", name)
        return None

    def _plain(self, type_: TypeEngine[Any]) -> str:
        """Return a column type without its variants."""
        owner = type(type_)
        if owner.__module__.startswith("sqlalchemy.dialects."):
            dialect = owner.__module__.split(".")[2]
            name = f"{self.needs('sqlalchemy.dialects', dialect)}.{owner.__name__}"
        elif owner.__module__.startswith("sqlalchemy."):
            name = f"sa.{owner.__name__}"
        else:
            name = self.needs(_public_module(owner), owner.__name__)
        return call(name, _enum_arguments(type_) if isinstance(type_, sa.Enum) else self._arguments(type_))

    def _arguments(self, type_: Any) -> list[str]:
        """Return the arguments of a type's constructor that differ from their defaults."""
        has_own = type(type_).__init__ is not TypeDecorator.__init__
        described = type_ if has_own else type_.impl_instance
        usual = _made_plainly(type(described))
        parts: list[str] = []
        is_complete = True
        for parameter in list(signature(type(described).__init__).parameters.values())[1:]:
            given = getattr(described, parameter.name, parameter.default)
            is_usual = repr(given) in (repr(parameter.default), repr(getattr(usual, parameter.name, parameter.default)))
            if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) or is_usual:
                is_complete = False
                continue
            written = self.type(given) if isinstance(given, TypeEngine) else value(given)
            is_complete &= parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and not isinstance(given, bool)
            parts.append(written if is_complete else f"{parameter.name}={written}")
        return parts


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _enum_arguments(type_: sa.Enum) -> list[str]:
    parts = [literal(one) for one in type_.enums]
    if type_.name:
        parts.append(f"name={literal(type_.name)}")
    if not type_.native_enum:
        parts.append("native_enum=False")
    if type_.create_constraint:
        parts.append("create_constraint=True")
    if type_.length and type_.length != max(map(len, type_.enums), default=0):
        parts.append(f"length={type_.length}")
    return parts


def _made_plainly(owner: type[TypeEngine[Any]]) -> TypeEngine[Any] | None:
    """Return a type without arguments, or None if it needs some."""
    try:
        return owner()
    except TypeError:
        return None


def _shown(type_: TypeEngine[Any]) -> str:
    """Return all that tells a type from others."""
    return f"{type(type_)} {type_!r} {type_._variant_mapping!r}"


def _public_module(owner: type) -> str:
    """Return the module to import a class from: a package that offers it, or the module that defines it."""
    parents = owner.__module__.split(".")[:-1]
    packages = [".".join(parents[:length]) for length in range(len(parents), 0, -1)]
    offers = (name for name in packages if getattr(import_module(name), owner.__name__, None) is owner)
    return next(offers, owner.__module__)


def constraints(table: Table) -> list[Constraint]:
    """Return the constraints of a table in a fixed order, without those that a column's type makes."""
    kinds = (PrimaryKeyConstraint, UniqueConstraint, ForeignKeyConstraint, CheckConstraint)
    found = [one for one in table.constraints if not getattr(one, "_type_bound", False)]
    return sorted(
        (one for one in found if not isinstance(one, PrimaryKeyConstraint) or one.columns),
        key=lambda one: (
            next((place for place, kind in enumerate(kinds) if isinstance(one, kind)), len(kinds)),
            column_names(one),
            str(one.name),
        ),
    )


def column_names(constraint: Any) -> list[str]:
    """Return the names of a constraint's columns."""
    return [str(column.name) for column in constraint.columns]


def has_own_name(constraint: Constraint) -> bool:
    """Return True if a constraint has a name that no naming convention has made."""
    return isinstance(constraint.name, str) and not isinstance(constraint.name, conv)


def is_plain_key(table: Table) -> bool:
    """Return True if the columns of a table say by themselves what its primary key is."""
    key = table.primary_key
    in_order = [str(column.name) for column in table.columns if column.name in key.columns]
    return not has_own_name(key) and column_names(key) == in_order


def is_unique(constraint: Constraint, column: Column[Any]) -> bool:
    """Return True if ``unique=True`` of a column makes a constraint."""
    if not isinstance(constraint, UniqueConstraint) or has_own_name(constraint):
        return False
    return column_names(constraint) == [column.name] and not (constraint.deferrable or constraint.initially)


def is_native(type_: TypeEngine[Any]) -> bool:
    """Return True if PostgreSQL has a type of its own for an enum."""
    return isinstance(type_, sa.Enum) and type_.native_enum and bool(type_.name)


def single_keys(column: Column[Any], table: Table) -> list[ForeignKeyConstraint]:
    """Return the foreign keys of a table that consist of a column alone."""
    keys = (one for one in constraints(table) if isinstance(one, ForeignKeyConstraint) and not one.use_alter)
    found = {one.elements[0].target_fullname: one for one in keys if column_names(one) == [column.name]}
    return list(found.values())


def key_options(key: Any) -> list[str]:
    """Return the options of a foreign key that are set."""
    return [f"{name}={value(given)}" for name in KEY_OPTIONS if (given := getattr(key, name)) is not None]


def value(given: Any) -> str:
    """Return a Python value."""
    if isinstance(given, str):
        return literal(given)
    if isinstance(given, list | tuple):
        inside = ", ".join(value(one) for one in given)
        return f"[{inside}]"
    if isinstance(given, dict):
        return "{" + ", ".join(f"{value(key)}: {value(one)}" for key, one in given.items()) + "}"
    return repr(given)


def literal(text: object) -> str:
    """Return a text in quotation marks: double ones, unless single ones need fewer escapes."""
    plain = repr(str(text))
    if plain.startswith('"') or '"' in plain:
        return plain
    return '"' + plain[1:-1].replace("\\'", "'") + '"'


def call(function: str, arguments: Iterable[str]) -> str:
    """Return a call on one line."""
    return f"{function}({', '.join(arguments)})"


def comment(text: str) -> str:
    """Return a comment in lines that fit into a function."""
    return "\n".join(f"# {line}" for line in wrap(text, WIDTH - 6))


def laid_out(statements: Iterable[str], indent: int = 4, before: str = "", after: str = "") -> str:
    """Return statements formatted as ruff does it, by default as the body of a function.

    ``before`` and ``after`` stand on the lines of the statement, such as ``notes = ``.
    """
    lines: list[str] = []
    for line in "\n".join(statements).split("\n"):
        text = line.lstrip()
        spaces = indent + len(line) - len(text)
        if text.startswith(("#", "with ", "pass")):
            lines.append(" " * spaces + text)
        else:
            lines += _lines(text, ast.parse(text, mode="eval").body, spaces, before, after)
    return "\n".join(lines)


def _lines(source: str, node: ast.expr, indent: int, before: str = "", after: str = "") -> list[str]:
    """Return an expression on one line if it fits, or else with the parts of its outermost brackets on lines."""
    text = _text(source, node)
    line = f"{' ' * indent}{before}{text}{after}"
    parts = _parts(node)
    is_table = text.startswith("op.create_table(")
    if (len(line) <= WIDTH and not is_table) or (not parts and not _is_text(node)):
        return [line]
    if _is_text(node):
        pieces = _pieces(ast.literal_eval(text), WIDTH - indent - len(before) - len(after) - 2)
        first, *others = pieces
        lines = [f"{before}{first}", *others]
        lines[-1] += after
        return [f"{' ' * indent}{one}" for one in lines]
    head = text[: _text_length(source, node, parts[0])].rstrip()
    inside = ", ".join(_text(source, part) for part in parts)
    end = text[-1]
    if indent + 4 + len(inside) <= WIDTH and not is_table:
        middle = [f"{' ' * (indent + 4)}{inside}"]
    else:
        # A single text needs no comma.
        comma = "" if len(parts) == 1 and isinstance(node, ast.Call) and _is_text(parts[0]) else ","
        middle = [line for part in parts for line in _part(source, part, indent + 4, comma)]
    return [f"{' ' * indent}{before}{head}", *middle, f"{' ' * indent}{end}{after}"]


def _part(source: str, part: ast.expr | ast.keyword, indent: int, comma: str) -> list[str]:
    if isinstance(part, ast.keyword):
        return _lines(source, part.value, indent, f"{part.arg}=", comma)
    return _lines(source, part, indent, "", comma)


def _parts(node: ast.expr) -> list[ast.expr | ast.keyword]:
    if isinstance(node, ast.Call):
        return [*node.args, *node.keywords]
    return list(node.elts) if isinstance(node, ast.List) else []


def _text(source: str, node: ast.expr | ast.keyword) -> str:
    return ast.get_source_segment(source, node) or ""


def _text_length(source: str, node: ast.expr, part: ast.expr | ast.keyword) -> int:
    """Return the number of characters of an expression before a part of it."""
    before = source.encode()[node.col_offset : part.col_offset]
    return len(before.decode())


def _is_text(node: ast.expr | ast.keyword) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _pieces(text: str, width: int) -> list[str]:
    """Return the literals of a text that is too long for one line. Python joins them again."""
    return [literal(piece) for piece in re.findall(rf"(?s).{{1,{width // 2}}}(?:\s|$)|.{{1,{width // 2}}}", text)]
