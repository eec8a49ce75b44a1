"""Custom fields: the fields that an organization adds to its contacts and companies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from marshmallow import validates_schema
from sqlalchemy import Column, String

from apex import Apex, Context
from apex.errors import BadRequest
from apex.query import Hints, Query, is_number
from apex.query import coercion as coerce
from apex.query.coercion import Coerce, nullable, optional
from apex.schema import TextField, ValidationError, fields, validate
from apex.sql import Json
from apex.types import Row, items
from hooks.tenancy import ORGANIZATION_ID, organization_of
from services.shared.examples import examples_of
from services.shared.tenant import ADMINS_WRITE, TenantSchema, TenantService, serve
from services.tables import LONGEST_VALUE, partial_index, tenant_table

CUSTOM_FIELDS = "custom_fields_by_name"
MOST_FIELDS = 500
"""The most custom fields that a record may have."""

TOO_MANY = f"Must have at most {MOST_FIELDS} fields"
NO_OPTIONS = "Are for fields of type select alone"

custom_fields = tenant_table(
    "custom_fields",
    Column("entity", String(40), nullable=False),
    Column("name", String(100), nullable=False),
    Column("type", String(20), nullable=False),
    Column("options", Json),
)
c = custom_fields.c
partial_index("uq_custom_fields_name", c.organization_id, c.entity, c.name, unique=True)


class PlainValue(fields.Field[Any]):
    """A string, a finite number, a boolean or null."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str):
            return TextField(max=5000, min=0).deserialize(value)
        fits = (isinstance(value, int) and abs(value) < 2**63) or (isinstance(value, float) and math.isfinite(value))
        if fits:
            return value
        raise ValidationError("Must be a string, a number of at most 64 bits, a boolean or null")


class CustomValues(fields.Dict):
    """The values of a record's custom fields, by name."""

    def __init__(self) -> None:
        values = PlainValue(allow_none=True, metadata={"type": ["string", "number", "boolean"]})
        super().__init__(keys=TextField(max=100), values=values)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, Mapping) and len(value) > MOST_FIELDS:
            raise ValidationError(TOO_MANY)
        return super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]


Check = Callable[[Any, Row], str | None]
"""A function that takes a value and its definition, and returns an error text or None."""


def _check_text(value: Any, definition: Row) -> str | None:
    if not isinstance(value, str):
        return "Must be a string"
    return f"Must have at most {LONGEST_VALUE} characters" if len(value) > LONGEST_VALUE else None


def _check_number(value: Any, definition: Row) -> str | None:
    return None if is_number(value) else "Must be a number"


def _check_boolean(value: Any, definition: Row) -> str | None:
    return None if isinstance(value, bool) else "Must be true or false"


def _check_date(value: Any, definition: Row) -> str | None:
    try:
        if isinstance(value, str) and coerce.day(value).isoformat() == value:
            return None
    except ValueError:
        pass
    return "Must be a date such as 2023-01-31"


def _check_select(value: Any, definition: Row) -> str | None:
    options = definition["options"] or []
    return None if value in options else "Must be one of: " + ", ".join(options)


CHECKS: Mapping[str, Check] = {
    "text": _check_text,
    "number": _check_number,
    "boolean": _check_boolean,
    "date": _check_date,
    "select": _check_select,
}
"""The check of a value, by the type of its field."""
COERCIONS: Mapping[str, Coerce] = {
    "text": optional(coerce.text),
    "number": nullable(coerce.number),
    "boolean": nullable(coerce.boolean),
    "date": nullable(lambda value: coerce.day(value).isoformat()),
    "select": optional(coerce.text),
}
"""The function that reads a value in a query, by the type of its field."""


async def check_values(context: Context) -> None:
    """Check the values of custom fields against their definitions.

    Runs before create and patch, after ``tenancy`` and ``stash_before``. A field that the organization has not defined
    may have any value, unless the organization is strict. In a patch, null removes a value of any field, and a value
    that is already stored is not checked again. Raises BadRequest with the name of every wrong field, and with the
    position of its row if there are several.
    """
    many = isinstance(context.data, list)
    before: Any = None if context.method == "create" else context.params.before
    stored = [row.get(CUSTOM_FIELDS) or {} for row in items(context.method, before)]
    values = {
        (f"{place}.{CUSTOM_FIELDS}.{name}" if many else f"{CUSTOM_FIELDS}.{name}"): (name, value)
        for place, row in enumerate(context.items)
        for name, value in (row.get(CUSTOM_FIELDS) or {}).items()
        if (value is not None or context.method == "create") and not _is_stored(name, value, stored)
    }
    if values:
        names = {name for name, _ in values.values()}
        if any(len(names.union(row)) > MOST_FIELDS for row in stored):
            raise BadRequest(f"Invalid {context.service.noun} data", errors={CUSTOM_FIELDS: TOO_MANY})
        organization = await organization_of(context)
        defined = await _defined(context, organization)
        strict = not names <= defined.keys() and await _is_strict(context.app, organization)
        hints = Hints()
        problems = {
            path: _problem(context, name, value, defined, hints)
            for path, (name, value) in values.items()
            if strict or name in defined
        }
        errors = {name: problem for name, problem in problems.items() if problem}
        if errors:
            raise BadRequest(f"Invalid {context.service.noun} data", errors=errors)


def _is_stored(name: str, value: Any, records: Sequence[Row]) -> bool:
    """Return True if all records have the value already."""
    return bool(records) and all(type(row.get(name)) is type(value) and row[name] == value for row in records)


def _problem(context: Context, name: str, value: Any, defined: Mapping[str, Row], hints: Hints) -> str | None:
    if name in defined:
        return None if value is None else CHECKS[defined[name]["type"]](value, defined[name])
    hint = hints.suggestion(name, defined) or " Define it first in custom-fields"
    return f"Is not a custom field of {context.path}.{hint}"


async def type_query(context: Context) -> None:
    """Convert the values that a query compares with custom fields to the types of these fields.

    Runs before find, after ``tenancy``. A URL has only strings, so a number must be read as one. Values of fields that
    are not defined are converted by their form. Raises BadRequest for a field that a strict organization has not
    defined.
    """
    query: Any = context.params["query"]
    if query.paths and context.params.provider:
        organization = query[ORGANIZATION_ID]
        defined = await _defined(context, organization)
        types: dict[str | None, Coerce] = {name: COERCIONS[definition["type"]] for name, definition in defined.items()}
        names = {path.removeprefix(f"{CUSTOM_FIELDS}.") for path in query.paths}
        if not names <= types.keys() and not await _is_strict(context.app, organization):
            types[None] = coerce.scalar
        context.params.query = replace(context.service.syntax, paths={CUSTOM_FIELDS: types}).parse(query.asked)


async def _is_strict(app: Apex, organization: int) -> bool:
    """Return True if an organization accepts only the custom fields that it has defined."""
    params = {"query": Query(select=("strict_custom_fields",))}
    return bool((await app.service("organizations").get(organization, params))["strict_custom_fields"])


async def _defined(context: Context, organization: int) -> dict[str, Row]:
    """Return the organization's definitions for the records of a service, by name."""
    query = {ORGANIZATION_ID: organization, "entity": context.path, "$select": ["name", "type", "options"]}
    found: Sequence[Row] = await context.app.service("custom-fields").find({"query": query, "paginate": False})
    return {definition["name"]: definition for definition in found}


class CustomFieldSchema(TenantSchema):
    """The definition of a custom field as callers write it."""

    create_only = ("organization_id", "entity", "name", "type")

    entity = fields.String(required=True, validate=validate.OneOf(["contacts", "companies"]))
    name = TextField(required=True, max=100, validate=validate.Regexp(r"[^$]", error="Must not begin with $"))
    type = fields.String(required=True, validate=validate.OneOf(list(CHECKS)))
    options = fields.List(TextField(max=200), validate=validate.Length(min=1, max=200))

    @validates_schema
    def check_options(self, data: Row, **_: Any) -> None:
        """Require different options for the type select, and none for other types."""
        options, kind = data.get("options"), data.get("type", "select")
        if options is not None and len(set(options)) < len(options):
            raise ValidationError("Must differ from each other", "options")
        if kind != "select" and options is not None:
            raise ValidationError(NO_OPTIONS, "options")
        if data.get("type") == "select" and options is None:
            raise ValidationError("Are required for type select", "options")


class CustomFields(TenantService):
    """The definitions of an organization's custom fields."""

    table, schema, noun = custom_fields, CustomFieldSchema, "custom field"
    permissions = ADMINS_WRITE
    examples = examples_of(
        302,
        {"entity": "companies", "name": "Segment", "type": "select", "options": ["Small", "Large"]},
        {"options": ["Email", "Phone", "SMS", "Letter"]},
    )


def register(app: Apex) -> None:
    """Register the service ``custom-fields``."""
    serve(app, "custom-fields", CustomFields)
