"""Schemas: the rules for the data and the queries of callers, written with marshmallow."""

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
