"""The files of ``apex generate service`` with fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Integer, String, Table, Uuid

from apex.app import Apex
from apex.cli.fields import RELATIONS, ColumnSource, Field, column_of, options_of
from apex.errors import ConfigError
from apex.migrations.source import call, laid_out, literal, value
from apex.openapi.components import Components, accepted_schema, plural, singular
from apex.query.language import suggestion
from apex.schema.tables import TableSchema
from apex.service import BoundService

WIDTH: int = 120
USERS: ColumnSource = ColumnSource(
    "user_id", "Integer", key="users.id", cascades=True, options=["nullable=False", "index=True"]
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
    linked: dict[str, BoundService | None] = field(default_factory=dict)
    """The services of the records that a test links, by relation. None is the service that is generated."""
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
        options = [*options_of(given), *([] if given.flag else ["index=True"])]
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
                other, related.type, key=f"{related.table}.{related.id}", cascades=True, options=[*is_key, "index=True"]
            ),
        ]
        keys = [f"key={literal(own)}", f"other_key={literal(other)}"] if related.service is None else []
        self.imports |= {related.type.partition("(")[0]: "sqlalchemy", "many_to_many": "apex.relations"}
        options = [f"through={table}", *keys, *related.reading, "write=True"]
        self.relations[given.name] = call("many_to_many", [literal(related.path), *options])
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
    created = [
        call("op.create_table", [literal(table), *(column.of_migration() for column in parts)])
        for table, parts in tables.items()
    ]
    own_types = {name: module for name, module in new.imports.items() if module == "apex.sql"}
    complete, given_data = _complete(new)
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
        "complete": complete,
        "given": given_data,
        "data": _dict({column.name: column.value for column in new.columns if column.value is not None}),
        "wrong": _wrong(new.columns),
        "related_tests": _related_tests(new, given_data),
    }  # fmt: skip


def _table(name: str, columns: Iterable[ColumnSource]) -> str:
    return laid_out([call("Table", [literal(name), "metadata", *(one.of_table() for one in columns)])], 0, f"{name} = ")


def _relations(relations: Mapping[str, str]) -> str:
    if not relations:
        return ""
    lines = [laid_out([relation], 8, f"{literal(name)}: ", ",") for name, relation in relations.items()]
    return "\n".join(["    relations = {", *lines, "    }", ""])


def _dict(values: Mapping[str, Any]) -> str:
    """Return a dict of JSON values on one line if it fits, or with one value on each."""
    lines = [f"{literal(name)}: {value(one)}" for name, one in values.items()]
    short = "{" + ", ".join(lines) + "}"
    return short if len(short) <= WIDTH - 25 else "{\n" + "".join(f"    {line},\n" for line in lines) + "}"


def _wrong(columns: Sequence[ColumnSource]) -> str:
    """Return data in which one column has a wrong value, and callers write the owner."""
    wrong = next(({column.name: column.wrong} for column in columns if column.wrong is not None), {})
    return _dict({**wrong, "user_id": 2})


def _complete(new: Made) -> tuple[str, str]:
    """Return the function of the tests that stores what a record refers to, and the call that gives complete data."""
    if not new.referred:
        return "", "DATA"
    records = Records()
    keys = [f"{literal(column)}: {records.id_of(service)}" for column, service in new.referred.items()]
    text = (
        "\n\nasync def complete(client: AsyncClient) -> dict[str, Any]:\n"
        '    """Return the data of a record, after storing the records that it refers to."""\n'
        f"{''.join(records.lines.values())}    return {{{', '.join(['**DATA', *keys])}}}\n"
    )
    return text, "await complete(ann)"


def _related_tests(new: Made, data: str) -> str:
    """Return a test for each relation to records of other services."""
    one = [_belongs_to_test(new.path, column, service, data) for column, service in new.referred.items()]
    many = [_links_test(new.path, name, service, data) for name, service in new.linked.items() if service is not None]
    return "".join([*one, *many])


def _belongs_to_test(path: str, column: str, service: BoundService, data: str) -> str:
    name = column.removesuffix("_id")
    return (
        f"\n\nasync def test_it_shows_its_{name}(ann: AsyncClient) -> None:\n"
        f'    record = await stored(ann, "/{path}", {data})\n'
        f"    found = (await ann.get(f\"/{path}/{{record['id']}}?$populate={name}\")).json()\n"
        f'    assert found["{name}"]["{service.service.id}"] == record["{column}"]\n'
    )


def _links_test(path: str, name: str, service: BoundService, data: str) -> str:
    records = Records("ann")
    id = records.id_of(service)
    return (
        f"\n\nasync def test_it_shows_its_{name}(ann: AsyncClient) -> None:\n"
        f"    data = {data}\n{''.join(records.lines.values())}"
        f'    record = await stored(ann, "/{path}", {{**data, "{name}": [{id}]}})\n'
        f"    found = (await ann.get(f\"/{path}/{{record['id']}}?$populate={name}\")).json()\n"
        f'    assert [one["{service.service.id}"] for one in found["{name}"]] == [{id}]\n'
    )


class Records:
    """The lines of a test that store records of other services, by the paths of the services."""

    def __init__(self, client: str = "client") -> None:
        self.client: str = client
        self.lines: dict[str, str] = {}

    def id_of(self, service: BoundService) -> str:
        """Return the source of the id of a stored record. Raises ConfigError if callers cannot store one."""
        path, authentication = service._path, service._app.get("defaultAuthentication")
        if authentication is not None and authentication.users is service:
            return "1"  # The user of the tests.
        variable = f"{singular(path.replace('-', '_'))}_record"
        if path not in self.lines:
            if "create" not in service._options.methods:
                raise ConfigError(
                    f"callers cannot create records of '{path}', as the tests would: write the service by hand"
                )
            data = ", ".join(f"{literal(name)}: {given}" for name, given in self._data(service))
            self.lines[path] = f"    {variable} = await stored({self.client}, {literal('/' + path)}, {{{data}}})\n"
        return f"{variable}[{literal(service.service.id)}]"

    def _data(self, service: BoundService) -> Iterator[tuple[str, str]]:
        """Yield the required fields of a service, each with the source of a value."""
        components = Components(service._app)
        kind = components.schema_of(service)
        for name, one in {} if kind is None else accepted_schema(kind, "create").load_fields.items():
            if one.required:
                target = _target(service, name)
                shape = components.converter.field2property(one)
                yield one.data_key or name, value(sample(shape)) if target is None else self.id_of(target)


def _target(service: BoundService, name: str) -> BoundService | None:
    """Return the service that a field refers to, by the foreign key of its column."""
    table = getattr(service.service, "table", None)
    keys = table.c[name].foreign_keys if isinstance(table, Table) and name in table.c else ()
    tables = {key.column.table for key in keys}
    return next((one for one in service._app.services.values() if getattr(one.service, "table", None) in tables), None)


def sample(shape: Mapping[str, Any]) -> Any:
    """Return a value of a JSON Schema."""
    if "example" in shape or shape.get("enum"):
        return shape["example"] if "example" in shape else shape["enum"][0]
    kinds = shape.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "string":
        text = SAMPLES.get(shape.get("format", ""), "Some text")
        return text[: shape.get("maxLength", len(text))].ljust(shape.get("minLength", 0), "x")
    if kind in ("integer", "number"):
        return max(1, shape.get("minimum", 1))
    return {"boolean": True, "array": []}.get(kind, {})


SAMPLES: dict[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00.000Z",
    "decimal": "1",
    "email": "someone@example.com",
    "password": "correct horse",
    "time": "14:30:00",
    "uuid": "0b8e0b1c-6a5e-4f0e-9d43-5f1f6d1c2a3b",
}
"""Texts by their format in JSON Schema."""


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
