"""Schemas: rules for the data of callers, written with marshmallow, and the hooks that check them."""

from apex.schema.validation import (
    Boolean,
    Email,
    Float,
    Id,
    Password,
    Schema,
    Text,
    ValidationError,
    check_rules,
    fields,
    load,
    loader,
    validate,
    validate_data,
    validate_query,
    validates_schema,
)

__all__ = [
    "Boolean",
    "Email",
    "Float",
    "Id",
    "Password",
    "Schema",
    "Text",
    "ValidationError",
    "check_rules",
    "fields",
    "load",
    "loader",
    "validate",
    "validate_data",
    "validate_query",
    "validates_schema",
]
