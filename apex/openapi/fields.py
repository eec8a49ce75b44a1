"""Fields of marshmallow as JSON Schema: what apispec does not know of the fields that there are here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from apex.schema.validation import Email, Password, Text, fields, validate

Shape = dict[str, Any]

END = r"\Z"


class FieldConverter(OpenAPIConverter):
    """Adds what a schema says of itself as a whole, in ``keywords``, to what its fields say."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for function in (texts, patterns, untyped):
            self.add_attribute_function(function)  # type: ignore[no-untyped-call]

    def schema2jsonschema(self, schema: Schema) -> Shape:
        made: Shape = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        keywords: Mapping[str, Any] = getattr(schema, "keywords", {})
        properties = {**made.get("properties", {}), **keywords.get("properties", {})}
        for name in getattr(schema, "nullable", ()):
            properties[name] = _or_empty(properties[name])
        return {**made, **keywords, "properties": properties}


def _or_empty(shape: Shape) -> Shape:
    """Return the shape of a field for which an empty string means null."""
    options = shape["anyOf"] if set(shape) == {"anyOf"} else [shape]
    return {"anyOf": [*options, {"enum": [""]}]}


def texts(self: OpenAPIConverter, field: fields.Field[Any], **_: Any) -> Shape:
    """Texts are trimmed before they are measured: one that is too long as it is sent may be refused or not."""
    if isinstance(field, Password):
        return {"minLength": field.min, "maxLength": field.max, "format": "password"}
    if not isinstance(field, Text):
        return {}
    shape: Shape = {"minLength": field.min, "maxLength": field.max}
    return {**shape, "format": "email"} if isinstance(field, Email) else shape


def patterns(self: OpenAPIConverter, field: fields.Field[Any], *, ret: Shape, **_: Any) -> Shape:
    """Python matches at the start of a text and has ``\\Z`` for its end; JSON Schema searches, with ``^`` and ``$``."""
    for check in field.validators:
        if isinstance(check, validate.Regexp):
            ret.pop("pattern", None)
            if check.regex.flags & ~re.UNICODE == 0:
                return {"pattern": f"^(?:{str(check.regex.pattern).replace(END, '$')})"}
    return {}


def untyped(self: OpenAPIConverter, field: fields.Field[Any], *, ret: Shape, **_: Any) -> Shape:
    """A field of any type takes null like anything else, and is not one of null alone."""
    if ret.get("type") == ["null"]:
        del ret["type"]
    return {}
