"""Schemas: rules for the data of callers, written with marshmallow, and the hooks that check them."""

from apex.schema.validation import Boolean as Boolean  # These three are not in __all__, as SQLAlchemy has them, too.
from apex.schema.validation import (
    BooleanField,
    DecimalField,
    Email,
    EmailField,
    FloatField,
    Id,
    IdField,
    IntegerField,
    Password,
    PasswordField,
    Schema,
    TextField,
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
from apex.schema.validation import Float as Float
from apex.schema.validation import Text as Text

__all__ = [
    "BooleanField",
    "DecimalField",
    "Email",
    "EmailField",
    "FloatField",
    "Id",
    "IdField",
    "IntegerField",
    "Password",
    "PasswordField",
    "Schema",
    "TextField",
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
