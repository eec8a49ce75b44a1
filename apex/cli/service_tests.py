"""The tests of a service that ``apex generate service`` writes, with values for its fields and for related records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import Template
from typing import Any

from sqlalchemy import Table

from apex.cli.fields import TENANT, ColumnSource
from apex.errors import ConfigError
from apex.migrations.source import WIDTH, literal, value
from apex.openapi.components import Components, accepted_schema, singular
from apex.service import BoundService
from apex.testing.attacks import MARK

COMPLETE = Template('''

async def complete(client: AsyncClient$parameter) -> dict[str, Any]:
    """Return the data of a record, after storing the records that it refers to."""
${stored}    return $data
''')
BELONGS_TO = Template("""

async def test_it_shows_its_$name(ann: AsyncClient$fixture) -> None:
    record = await stored(ann, PATH, $given)
    found = (await ann.get(f"{PATH}/{record['id']}?$$populate=$name")).json()
    assert found["$name"]["$id"] == record["$column"]
""")
MANY_TO_MANY = Template("""

async def test_it_shows_its_$name(ann: AsyncClient$fixture) -> None:
    data = $given
${stored}    id = $linked
    record = await stored(ann, PATH, {**data, "$name": [id]})
    found = (await ann.get(f"{PATH}/{record['id']}?$$populate=$name")).json()
    assert [one["$id"] for one in found["$name"]] == [id]
""")
ATTACKS: str = "tests/test_attacks.py"
"""The test of a project with tenants that attacks each service."""
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


def tests_of(
    path: str,
    columns: Sequence[ColumnSource],
    referred: Mapping[str, BoundService],
    linked: Mapping[str, BoundService],
    *,
    has_tenants: bool,
) -> dict[str, str]:
    """Return the parts of the tests of a service for its template.

    ``referred`` are the services of records that it refers to, by column, and ``linked`` those of records that it
    links, by relation. Raises ConfigError if callers cannot store such a record.
    """
    data = {literal(column.name): value(column.value) for column in columns if column.value is not None}
    wrong = next(({literal(one.name): value(one.wrong)} for one in columns if one.wrong is not None), {})
    if has_tenants:
        given = "await complete(ann, of_ann)" if referred else f'{{**DATA, "{TENANT}": of_ann}}'
    else:
        given = "await complete(ann)" if referred else "DATA"
    fixture = ", of_ann: int" if has_tenants else ""
    one = [
        BELONGS_TO.substitute(
            name=column.removesuffix("_id"), column=column, id=service.service.id, given=given, fixture=fixture
        )
        for column, service in referred.items()
    ]
    return {
        "data": _dict(data, before="DATA: dict[str, Any] = "),
        "wrong": _dict({**wrong, '"user_id"': "2"}, 4, before="wrong = "),
        "complete": _complete(referred, has_tenants) if referred else "",
        "given": given,
        "related_tests": "".join(
            [*one, *(_links_test(name, service, given, fixture) for name, service in linked.items())]
        ),
    }


def attack_of(path: str, columns: Sequence[ColumnSource], referred: Mapping[str, BoundService], attacks: str) -> str:
    """Return the line of a service in the test that attacks each one, whose source is ``attacks``.

    Raises ConfigError for a required reference to a service that has no line there.
    """
    data = {literal(TENANT): f'made["organizations"][{literal("id")}]'}
    for column in columns:
        service = referred.get(column.name)
        if service is not None and f"    {literal(service._path)}: " in attacks:
            data[literal(column.name)] = f"made[{literal(service._path)}][{literal(service.service.id)}]"
        elif service is not None and "nullable=False" in column.options:
            raise ConfigError(
                f"the tests cannot make records that refer to '{service._path}': {ATTACKS} has no line for it. Add "
                f"one, or leave out the '!' of '{column.name.removesuffix('_id')}'"
            )
        elif column.value is not None:
            takes_text = column.value == "Some text" and (column.type == "Text" or _length(column) >= len(MARK))
            data[literal(column.name)] = "text" if takes_text else value(column.value)
    head = f"{literal(path)}: lambda made, text: "
    return f"    {head}{_dict(data, 4, before=head, after=',')},\n"


def _length(column: ColumnSource) -> int:
    return int(column.type.removeprefix("String(").removesuffix(")"))


def _are_users(service: BoundService) -> bool:
    authentication = service._app.get("defaultAuthentication")
    return authentication is not None and authentication.users is service


def _complete(referred: Mapping[str, BoundService], has_tenants: bool) -> str:
    records = Records("client", TENANT if has_tenants else None)
    keys = {literal(column): records.id_of(service) for column, service in referred.items()}
    parameter = f", {TENANT}: int" if has_tenants else ""
    if has_tenants:
        keys[literal(TENANT)] = TENANT
    data = _dict({"**DATA": "", **keys}, 4, before="return ")
    return COMPLETE.substitute(stored=records.lines(), data=data, parameter=parameter)


def _links_test(name: str, service: BoundService, given: str, fixture: str) -> str:
    records = Records("ann", "of_ann" if fixture else None)
    id = records.id_of(service)
    return MANY_TO_MANY.substitute(
        name=name, given=given, linked=id, stored=records.lines(), id=service.service.id, fixture=fixture
    )


class Records:
    """The records of other services that a test stores, each once."""

    def __init__(self, client: str, tenant: str | None) -> None:
        self.client: str = client
        self.tenant: str | None = tenant
        """The source of the organization's id, in a project with tenants."""
        self.statements: dict[str, str] = {}
        """The statements that store records, by the paths of their services."""

    def lines(self) -> str:
        """Return the lines that store the records."""
        return "".join(self.statements.values())

    def id_of(self, service: BoundService) -> str:
        """Return the source of the id of a stored record. Raises ConfigError if callers cannot store one."""
        path = service._path
        if _are_users(service):
            return "1"  # The user of the tests.
        if self.tenant is not None and path == "organizations":
            return self.tenant
        variable = f"{singular(path.replace('-', '_'))}_record"
        if self.tenant is not None and path == "memberships":
            self.statements[path] = f'    {variable} = (await {self.client}.get("/{path}")).json()["data"][0]\n'
        elif path not in self.statements:
            if "create" not in service._options.methods:
                raise ConfigError(
                    f"callers cannot create records of '{path}', as the tests would: write the relation by hand"
                )
            data = dict(self._data(service))
            self.statements[path] = _stored(variable, self.client, path, data)
        return f"{variable}[{literal(service.service.id)}]"

    def _data(self, service: BoundService) -> Iterator[tuple[str, str]]:
        """Yield the required fields of a service, each with the source of a value."""
        components = Components(service._app)
        kind = components.schema_of(service)
        for name, one in {} if kind is None else accepted_schema(kind, "create").load_fields.items():
            if one.required or (self.tenant is not None and name == TENANT):
                target = _target(service, name)
                shape = components.converter.field2property(one)
                source = value(sample(shape)) if target is None else self.id_of(target)
                yield literal(one.data_key or name), source


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
        text = SAMPLES.get(shape.get("format", ""), "1" if "number" in kinds else "Some text")
        return text[: shape.get("maxLength", len(text))].ljust(shape.get("minLength", 0), "x")
    if kind in ("integer", "number"):
        return max(1, shape.get("minimum", 1))
    return {"boolean": True, "array": []}.get(kind, {})


def _stored(variable: str, client: str, path: str, data: Mapping[str, str]) -> str:
    """Return the statement that stores a record, formatted as ruff does it."""
    head, arguments = f"    {variable} = await stored(", [client, literal(f"/{path}"), _dict(data)]
    if "\n" not in arguments[-1]:
        inside = ", ".join(arguments)
        if len(head) + len(inside) < WIDTH:
            return f"{head}{inside})\n"
        if 8 + len(inside) <= WIDTH:
            return f"{head}\n        {inside}\n    )\n"
    lines = [f"        {one},\n" for one in (*arguments[:-1], _dict(data, 8, after=","))]
    return f"{head}\n{''.join(lines)}    )\n"


def _dict(sources: Mapping[str, str], indent: int = 0, *, before: str = "", after: str = "") -> str:
    """Return a dict on one line if it fits there, or with one key on each. A key without a value stands alone."""
    lines = [f"{name}: {source}" if source else name for name, source in sources.items()]
    short = "{" + ", ".join(lines) + "}"
    if indent + len(before) + len(short) + len(after) <= WIDTH:
        return short
    space = " " * indent
    return "{\n" + "".join(f"{space}    {line},\n" for line in lines) + space + "}"
