"""Custom fields: what an organization wants to know of its contacts and companies beyond the fields they all have."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Column, String

from apex import Apex
from apex.schema import Text, ValidationError, fields, validate
from apex.sql import Json
from services.tables import partial_index, tenant_table
from services.tenant import TenantSchema, TenantService, serve

TYPES = ("text", "number", "boolean", "date", "select")

custom_fields = tenant_table(
    "custom_fields",
    Column("entity", String(40), nullable=False),
    Column("name", String(100), nullable=False),
    Column("type", String(20), nullable=False),
    Column("options", Json),
)
c = custom_fields.c
partial_index("uq_custom_fields_name", c.organization_id, c.entity, c.name, unique=True)


class Plain(fields.Field[Any]):
    """A string, a finite number, a boolean or null."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str):
            return Text(max=5000, min=0).deserialize(value)
        fits = (isinstance(value, int) and abs(value) < 2**63) or (isinstance(value, float) and math.isfinite(value))
        if fits:
            return value
        raise ValidationError("Must be a string, a number of at most 64 bits, a boolean or null")


class CustomValues(fields.Dict):
    """The values of a record's custom fields by their names."""

    def __init__(self) -> None:
        super().__init__(keys=Text(max=100), values=Plain(allow_none=True))


class CustomFieldSchema(TenantSchema):
    create_only = ("organization_id", "entity", "name", "type")

    entity = fields.String(required=True, validate=validate.OneOf(["contacts", "companies"]))
    name = Text(required=True, max=100)
    type = fields.String(required=True, validate=validate.OneOf(TYPES))
    options = fields.List(Text(max=200), validate=validate.Length(min=1, max=200))


class CustomFields(TenantService):
    table, schema, noun = custom_fields, CustomFieldSchema, "custom field"
    writers = "admin"


def register(app: Apex) -> None:
    serve(app, "custom-fields", CustomFields)
