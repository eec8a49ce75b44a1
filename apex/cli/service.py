"""The files of ``apex generate service`` with fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import BigInteger, Integer, String, Table, Uuid

from apex.app import Apex
from apex.cli.fields import RELATIONS, TENANT, UNIQUE, ColumnSource, Field, column_of, options_of
from apex.cli.service_tests import attack_of, tests_of
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
ORGANIZATION: ColumnSource = ColumnSource(
    TENANT, "Integer", key="organizations.id", cascades=True, options=["nullable=False"]
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
IMPORTED_WITH_TENANTS: dict[str, str] = {**IMPORTED, "Index": "sqlalchemy", "IdField": "apex.schema"}
"""The same in a project with tenants."""


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
    has_tenants: bool = False
    columns: list[ColumnSource] = field(default_factory=list)
    unique: list[str] = field(default_factory=list)
    """The columns whose values are unique in their organization: a tenant must not learn what others have."""
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
        column = self._within_tenant(column_of(given))
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
        column = self._within_tenant(column)
        self.columns.append(column)
        self.imports |= {related.type.partition("(")[0]: "sqlalchemy", "belongs_to": "apex.relations"}
        self.relations[given.name] = call("belongs_to", [literal(related.path), *related.reading])
        if related.service is not None:
            self.referred[column.name] = related.service

    def _within_tenant(self, column: ColumnSource) -> ColumnSource:
        """Return the column, without a rule that would compare it with the records of other tenants."""
        if not self.has_tenants or UNIQUE not in column.options:
            return column
        self.unique.append(column.name)
        self.imports["UniqueConstraint"] = "sqlalchemy"
        return replace(column, options=[one for one in column.options if one != UNIQUE])

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
        is_found = "find" in service._options.methods
        if self.has_tenants and not is_found and "tenant" not in table.info:
            given.refuse(
                f"the records of '{service._path}' belong to no organization, and callers cannot find them: refer to a "
                f"member instead, such as {given.name}:{given.kind}(memberships)"
            )
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


def made(
    path: str, module: str, fields: Sequence[Field], app: Apex | None, *, has_tenants: bool = False, attacks: str = ""
) -> dict[str, str]:
    """Return the parts of a new service for its templates.

    In a project that has tenants, ``attacks`` is the source of the test that attacks each service. The part ``attack``
    is its line for the new service.
    Raises ConfigError for a name that the module uses otherwise, and for a relation to a service that there is not.
    """
    new = Made(path, module, has_tenants)
    if has_tenants:
        new.imports = dict(IMPORTED_WITH_TENANTS)
        new.declared.append(f"{TENANT} = IdField()")
    for given in fields:
        new.add(given, app)
    title = module.replace("_", " ").capitalize()
    name = title.title().replace(" ", "")
    schema = f"{singular(title.title()).replace(' ', '')}Schema"
    for own in (module, name, schema, *new.links):
        if own in new.imports:
            raise ConfigError(f"'{path}' cannot be the name: its module imports '{own}' of {new.imports[own]}")
    tenant = [ORGANIZATION] if has_tenants else []
    columns = [
        *tenant,
        *new.columns,
        USERS,
        ColumnSource("created_at", "Timestamp", "apex.sql", options=["nullable=False"]),
    ]
    key = ColumnSource("id", "Integer", options=["primary_key=True"])
    tables = {module: [key, *columns], **new.links}
    _require_short_indexes(tables, new.unique)
    unique = [call("UniqueConstraint", [literal(TENANT), literal(name)]) for name in new.unique]
    rules: dict[str, list[str]] = {}
    if has_tenants:
        index = call("Index", [literal(f"ix_{module}_organization"), literal(TENANT), literal("id")])
        rules[module] = [*unique, index, f"info={{{literal('tenant')}: {literal(TENANT)}}}"]
    constraints = {module: [f"sa.{one}" for one in unique]}
    created = [
        call("op.create_table", [literal(table), *(one.of_migration() for one in parts), *constraints.get(table, ())])
        for table, parts in tables.items()
    ]
    own_types = {name: module for name, module in new.imports.items() if module == "apex.sql"}
    if has_tenants:
        policies = _policies(module, new.links)
        created += policies
        own_types |= {policy.partition("(")[0]: "apex.migrations" for policy in policies[1:]}
    return {
        "path": path,
        "module": module,
        "title": title,
        "name": name,
        "schema": schema,
        "imports": import_lines(new.imports),
        "tables": "\n".join(_table(table, parts, rules.get(table, ())) for table, parts in tables.items()),
        "declared": "\n" + "".join(f"    {line}\n" for line in new.declared) if new.declared else "",
        "relations": _relations(new.relations),
        "migration_imports": f"import sqlalchemy as sa\nfrom alembic import op\n\n{import_lines(own_types)}",
        "upgrade": laid_out(created),
        "downgrade": laid_out(call("op.drop_table", [literal(table)]) for table in reversed(tables)),
        "use": laid_out([use(path, name)]),
        "attack": attack_of(path, new.columns, new.referred, attacks) if attacks else "",
        **tests_of(path, new.columns, new.referred, new.linked, has_tenants=has_tenants),
    }  # fmt: skip


def _policies(module: str, links: Mapping[str, Sequence[ColumnSource]]) -> list[str]:
    """Return the statements that keep the tenants of the tables apart. A link is reached through its record."""
    index = [literal(f"ix_{module}_organization"), literal(module), f"[{literal(TENANT)}, {literal('id')}]"]
    through = {
        table: f"EXISTS (SELECT 1 FROM {module} WHERE {module}.id = {table}.{own.name})"
        for table, (own, _) in links.items()
    }
    return [
        call("op.create_index", index),
        call("enable_row_level_security", [literal(module), literal(TENANT)]),
        *(
            call("enable_row_level_security_where", [literal(table), literal(condition)])
            for table, condition in through.items()
        ),
    ]


def _require_short_indexes(tables: Mapping[str, Iterable[ColumnSource]], unique: Iterable[str]) -> None:
    """Raise ConfigError for an index whose name PostgreSQL would cut."""
    names = [f"ix_{table}_{one.name}" for table, columns in tables.items() for one in columns if INDEX in one.options]
    names += [f"uq_{next(iter(tables))}_{TENANT}_{name}" for name in unique]
    for name in names:
        if len(name) > LONGEST_INDEX:
            raise ConfigError(
                f"the index '{name}' would have {len(name)} characters, and PostgreSQL keeps {LONGEST_INDEX}: choose "
                "shorter names of the service or the field"
            )


def _table(name: str, columns: Iterable[ColumnSource], rules: Iterable[str]) -> str:
    parts = [literal(name), "metadata", *(one.of_table() for one in columns), *rules]
    return laid_out([call("Table", parts)], 0, f"{name} = ")


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
