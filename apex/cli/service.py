"""The files of ``apex generate service`` with fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Integer, String, Table, Uuid

from apex.app import Apex
from apex.cli.fields import RELATIONS, ColumnSource, Field, column_of, options_of
from apex.cli.service_tests import tests_of
from apex.errors import ConfigError
from apex.migrations.source import WIDTH, call, laid_out, literal
from apex.openapi.components import plural, singular
from apex.query.language import suggestion
from apex.schema.tables import TableSchema
from apex.service import BoundService

INDEX: str = "index=True"
LONGEST_INDEX: int = 63
USERS: ColumnSource = ColumnSource(
    "user_id", "Integer", key="users.id", cascades=True, options=["nullable=False", INDEX]
)
IMPORTED: dict[str, str] = {
    **dict.fromkeys(("Column", "ForeignKey", "Integer", "Table"), "sqlalchemy"),
    **dict.fromkeys(("Apex", "HookMap", "SQLService", "TableSchema", "validate_data", "validate_query"), "apex"),
    **dict.fromkeys(("set_now", "set_owner"), "apex.common"),
    "Timestamp": "apex.sql",
    **dict.fromkeys(("can", "mine"), "apex.permissions"),
    "LOGGED_IN": "services.policy",
    "metadata": "services.tables",
}
"""The modules of the names that every generated service imports."""


@dataclass(slots=True)
class Related:
    """A service that a relation refers to, with its table and the type of its ids."""

    path: str
    table: str
    id: str
    type: str
    service: BoundService | None
    """None for the service that is generated."""

    @property
    def reading(self) -> list[str]:
        """The options of a relation to records that callers cannot find: the process reads their ids."""
        if self.service is None or "find" in self.service._options.methods:
            return []
        return ["trusted=True", f"fields=({literal(self.id)},)"]


@dataclass(slots=True)
class Made:
    """The source of a new service, as its fields add to it."""

    path: str
    module: str
    columns: list[ColumnSource] = field(default_factory=list)
    links: dict[str, list[ColumnSource]] = field(default_factory=dict)
    """The columns of link tables."""
    relations: dict[str, str] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    """The fields that the schema declares itself."""
    referred: dict[str, BoundService] = field(default_factory=dict)
    """The services of the records that a test has to store first, by the columns that refer to them."""
    linked: dict[str, BoundService] = field(default_factory=dict)
    """The services of the records that a test links, by relation."""
    imports: dict[str, str] = field(default_factory=lambda: dict(IMPORTED))

    def add(self, given: Field, app: Apex | None) -> None:
        """Add a field. Raises ConfigError if it names a service that the app does not have."""
        if app is None or given.kind not in RELATIONS:
            self._add_column(given)
        else:
            related = self._related(given, app)
            (self._add_key if given.kind == "belongs_to" else self._add_links)(given, related, app)

    def _add_column(self, given: Field) -> None:
        column = column_of(given)
        self.columns.append(column)
        self.imports |= {column.type.partition("(")[0]: column.module, **column.needs}
        if given.kind == "email":
            if hasattr(TableSchema(), given.name):
                given.refuse("a schema of marshmallow has something of that name: choose another one")
            rule = "required=True, " if given.is_required else "allow_none=True, "
            self.declared.append(f"{given.name} = EmailField({rule}max=254)")
            self.imports["EmailField"] = "apex.schema"

    def _add_key(self, given: Field, related: Related, app: Apex) -> None:
        options = [*options_of(given), *([] if given.flag else [INDEX])]
        column = ColumnSource(f"{given.name}_id", related.type, key=f"{related.table}.{related.id}", options=options)
        self.columns.append(column)
        self.imports |= {related.type.partition("(")[0]: "sqlalchemy", "belongs_to": "apex.relations"}
        self.relations[given.name] = call("belongs_to", [literal(related.path), *related.reading])
        if related.service is not None:
            self.referred[column.name] = related.service

    def _add_links(self, given: Field, related: Related, app: Apex) -> None:
        own, other = f"{singular(self.module)}_id", f"{singular(given.name)}_id"
        table = f"{singular(self.module)}_{given.name}"
        if own == other or table == self.module:
            given.refuse("the ids of its links would have the name of the own ids: choose another name")
        if table in tables_of(app) or table in self.links:
            given.refuse(f"there is a table '{table}' already: choose another name")
        is_key = ["primary_key=True"]
        self.links[table] = [
            ColumnSource(own, "Integer", key=f"{self.module}.id", cascades=True, options=is_key),
            ColumnSource(
                other, related.type, key=f"{related.table}.{related.id}", cascades=True, options=[*is_key, INDEX]
            ),
        ]
        keys = [f"key={literal(own)}", f"other_key={literal(other)}"] if related.service is None else []
        self.imports |= {related.type.partition("(")[0]: "sqlalchemy", "many_to_many": "apex.relations"}
        options = [f"through={table}", *keys, *related.reading, "write=True"]
        self.relations[given.name] = call("many_to_many", [literal(related.path), *options])
        if related.service is not None:
            self.linked[given.name] = related.service

    def _related(self, given: Field, app: Apex) -> Related:
        """Return the service that a relation refers to."""
        if len(given.arguments) > 1:
            given.refuse(f"{given.kind} takes one service in brackets, such as {given.kind}(users)")
        guessed = plural(given.name) if given.kind == "belongs_to" else given.name
        path = given.arguments[0] if given.arguments else guessed
        if path in (self.path, self.module):
            return Related(self.path, self.module, "id", "Integer", None)
        service = app.services.get(path) or app.services.get(path.replace("_", "-"))
        if service is None:
            hint = suggestion(path, app.services)
            given.refuse(
                f"the app has no service '{path}'.{hint} Generate that first, or name another one in brackets, such as "
                f"{given.name}:{given.kind}(users)"
            )
        table = getattr(service.service, "table", None)
        if not isinstance(table, Table) or ":" in service._path:
            given.refuse(f"'{service._path}' is no service with a table of its own: write the relation by hand")
        id = str(service.service.id)
        return Related(service._path, table.name, id, _type_of_ids(given, table.c[id].type), service)


def _type_of_ids(given: Field, type_: Any) -> str:
    """Return the source of the type of a foreign key."""
    for kind in (Uuid, BigInteger, Integer):
        if isinstance(type_, kind):
            return kind.__name__
    if isinstance(type_, String) and type_.length:
        return f"String({type_.length})"
    given.refuse(f"its service has ids of the type {type_!r}: write the column by hand")


def tables_of(app: Apex) -> set[str]:
    """Return the names of the tables that the services of an app know."""
    tables = (getattr(service.service, "table", None) for service in app.services.values())
    return {name for table in tables if isinstance(table, Table) for name in table.metadata.tables}


def made(path: str, module: str, fields: Sequence[Field], app: Apex | None) -> dict[str, str]:
    """Return the parts of a new service for its templates.

    Raises ConfigError for a name that the module uses otherwise, and for a relation to a service that there is not.
    """
    new = Made(path, module)
    for given in fields:
        new.add(given, app)
    title = module.replace("_", " ").capitalize()
    name = title.title().replace(" ", "")
    schema = f"{singular(title.title()).replace(' ', '')}Schema"
    for own in (module, name, schema, *new.links):
        if own in new.imports:
            raise ConfigError(f"'{path}' cannot be the name: its module imports '{own}' of {new.imports[own]}")
    columns = [*new.columns, USERS, ColumnSource("created_at", "Timestamp", "apex.sql", options=["nullable=False"])]
    key = ColumnSource("id", "Integer", options=["primary_key=True"])
    tables = {module: [key, *columns], **new.links}
    _require_short_indexes(tables)
    created = [
        call("op.create_table", [literal(table), *(column.of_migration() for column in parts)])
        for table, parts in tables.items()
    ]
    own_types = {name: module for name, module in new.imports.items() if module == "apex.sql"}
    return {
        "path": path,
        "module": module,
        "title": title,
        "name": name,
        "schema": schema,
        "imports": import_lines(new.imports),
        "tables": "\n".join(_table(table, parts) for table, parts in tables.items()),
        "declared": "\n" + "".join(f"    {line}\n" for line in new.declared) if new.declared else "",
        "relations": _relations(new.relations),
        "migration_imports": f"import sqlalchemy as sa\nfrom alembic import op\n\n{import_lines(own_types)}",
        "upgrade": laid_out(created),
        "downgrade": laid_out(call("op.drop_table", [literal(table)]) for table in reversed(tables)),
        "use": laid_out([use(path, name)]),
        **tests_of(path, new.columns, new.referred, new.linked),
    }  # fmt: skip


def _require_short_indexes(tables: Mapping[str, Iterable[ColumnSource]]) -> None:
    """Raise ConfigError for an index whose name PostgreSQL would cut."""
    names = (f"ix_{table}_{one.name}" for table, columns in tables.items() for one in columns if INDEX in one.options)
    for name in names:
        if len(name) > LONGEST_INDEX:
            raise ConfigError(
                f"the index '{name}' would have {len(name)} characters, and PostgreSQL keeps {LONGEST_INDEX}: choose "
                "shorter names of the service or the field"
            )


def _table(name: str, columns: Iterable[ColumnSource]) -> str:
    return laid_out([call("Table", [literal(name), "metadata", *(one.of_table() for one in columns)])], 0, f"{name} = ")


def _relations(relations: Mapping[str, str]) -> str:
    if not relations:
        return ""
    lines = [laid_out([relation], 8, f"{literal(name)}: ", ",") for name, relation in relations.items()]
    return "\n".join(["    relations = {", *lines, "    }", ""])


def use(path: str, name: str) -> str:
    """Return the statement that registers a service."""
    return call("app.use", [literal(path), f'{name}(paginate=app.get("paginate"))', "hooks=hooks"])


def import_lines(modules: Mapping[str, str]) -> str:
    """Return the lines that import names, by their modules, in the order of ruff."""
    names: dict[str, list[str]] = {}
    for name, module in modules.items():
        names.setdefault(module, []).append(name)
    groups: list[list[str]] = [[], [], []]
    for module in sorted(names):
        listed = sorted(names[module], key=lambda name: (not name.isupper(), name[0].islower(), name))
        line = f"from {module} import {', '.join(listed)}"
        if len(line) > WIDTH:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in listed) + ")"
        groups[0 if module == "decimal" else 1 if module == "sqlalchemy" else 2].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)
