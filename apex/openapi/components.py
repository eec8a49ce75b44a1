"""The parts that a document refers to: schemas, responses and headers, each made once and by one name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow.schema import SchemaMeta

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.describe import Facts, Related, facts_of
from apex.errors import ConfigError
from apex.openapi.facts import Known
from apex.openapi.fields import FieldConverter
from apex.query.coercion import Coerce
from apex.query.coercion import shape as shape_of
from apex.schema.validation import Schema, validate
from apex.service import BoundService
from apex.sql.types import shapes_of

Shape = dict[str, Any]

VERSION = "3.1.0"

_PLURALS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ss", "ss"), ("us", "us"), ("is", "is"), ("s", ""))
"""Ends of plurals, each with that of one, the first that fits."""


class Plugin(MarshmallowPlugin):
    Converter = FieldConverter


class Components:
    """The document that is made, and what it refers to."""

    def __init__(self, app: Apex) -> None:
        self.app = app
        plugin = Plugin()
        info = {"title": "API", "version": "1", **(app.get("openapi") or {})}
        self.spec = APISpec(openapi_version=VERSION, plugins=[plugin], info=info, **_title(info))
        self.converter: Any = plugin.converter
        self.made: dict[str, Any] = {}
        authentication = app.get("defaultAuthentication")
        self.schemes: Mapping[str, Shape] = {} if authentication is None else authentication.schemes

    def named(self, kind: str, name: str, value: Mapping[str, Any]) -> Shape:
        """A reference to a part. Raises ConfigError where another part has the name already."""
        if self.made.get(f"{kind}/{name}", value) != value:
            way = "give a service another noun, or a shape another title"
            raise ConfigError(f"Two different {kind} of the OpenAPI document are called '{name}': {way}")
        if f"{kind}/{name}" not in self.made:
            self.made[f"{kind}/{name}"] = value
            add = {"schemas": self.spec.components.schema, "responses": self.spec.components.response}.get(kind)
            (add or self.spec.components.header)(name, dict(value))
        return {"$ref": f"#/components/{kind}/{name}"}

    def shape(self, said: Any, name: str, method: str = "") -> Shape:
        """The shape that a hook or a service gives: a JSON Schema, with a ``title`` one to refer to, or marshmallow's
        schema, as a method takes it: without what the server sets, and for a patch with nothing required.
        """
        if isinstance(said, Mapping):
            inner = {"items": self.shape(said["items"], name)} if "items" in said else {}
            return self.named("schemas", said["title"], said) if "title" in said else {**said, **inner}
        return self.named("schemas", name, self.converter.schema2jsonschema(written(said, method)))

    def record(self, bound: BoundService) -> Shape:
        """What a service's records look like, with all that hooks may add to them."""
        service, name = bound.service, component_name(bound)
        if not isinstance(service, Adapter):
            return {}
        properties = self.properties(bound)
        if not properties:
            return {"type": "object"}
        return self.named("schemas", name, {
            "type": "object",
            "properties": {**properties, **self._added(bound)},
            "required": [service.id],
            "additionalProperties": False,
        })  # fmt: skip

    def page(self, bound: BoundService) -> Shape:
        record, count = self.record(bound), {"type": "integer", "minimum": 0}
        cursor = {"type": ["string", "null"]}
        page = {
            "type": "object",
            "properties": {
                "total": {**count, "description": "Of all pages. Absent with `$total=false`, and beside a cursor."},
                "estimated": {"type": "boolean", "description": "With `$total=estimated`: whether `total` is."},
                "limit": count,
                "skip": count,
                "next": {**cursor, "description": "Beside a cursor: the `$after` of the page that follows."},
                "previous": {**cursor, "description": "Beside a cursor: the `$before` of the page before."},
                "data": {"type": "array", "items": record},
            },
            "required": ["limit", "data"],
            "additionalProperties": False,
        }
        return self.named("schemas", f"{component_name(bound)}Page", page)

    def properties(self, bound: BoundService) -> dict[str, Shape]:
        """The shape of each field that callers can see."""
        service, kind = bound.service, self.schema_of(bound)
        declared = kind().fields if kind is not None else {}
        hidden = set(service.private)
        return {
            name: self._property(shape, declared.get(name))
            for name, shape in _stored(service).items()
            if name not in hidden
        }

    def schema_of(self, bound: BoundService) -> type[Schema] | None:
        """The schema of what create takes, or patch where nothing is created."""
        for method in ("create", "update", "patch"):
            if method in bound._hookable and isinstance(kind := Known(bound, method).data, SchemaMeta):
                return kind  # type: ignore[return-value]
        return None

    def _property(self, shape: Shape, field: Any) -> Shape:
        """A column says whether there is a value and of which type, a field which values there are."""
        if field is None:
            return dict(shape)
        if "type" not in shape:
            made: Shape = self.converter.field2property(field)
            return made if shape else _nullable(made)
        choices = [check for check in field.validators if isinstance(check, validate.OneOf)]
        told = {key: field.metadata[key] for key in ("description", "example") if key in field.metadata}
        if choices:
            nullable = isinstance(shape["type"], list)
            told["enum"] = [*choices[0].choices, *([None] if nullable else [])]
        return {**shape, **told}

    def _added(self, bound: BoundService) -> dict[str, Shape]:
        methods = (method for method in bound._hookable if method in bound._options.methods)
        added = {name: said for method in methods for name, said in Known(bound, method).adds.items()}
        return {name: self._related(said) if isinstance(said, Related) else said for name, said in added.items()}

    def _related(self, related: Related) -> Shape:
        if callable(related.fields):
            record: Shape = dict((facts_of(related.fields) or Facts()).result or {})
        else:
            stored = self.properties(self.app.service(related.service))
            names = [name for name in related.fields if name in stored]
            record = {"properties": {name: stored[name] for name in names}, "required": names}
        record["additionalProperties"] = False
        if related.many:
            return {"type": "array", "items": {"type": "object", **record}}
        return {"type": ["object", "null"], **record}


def _nullable(shape: Shape) -> Shape:
    types = shape.get("type", [])
    listed = types if isinstance(types, list) else [types]
    return {**shape, "type": [*listed, "null"]} if listed and "null" not in listed else shape


def written(kind: type[Schema], method: str) -> Schema:
    """An instance of a schema with the fields that callers may send, but for those whose metadata call them hidden."""
    patches = method == "patch"
    owned = [name for name, field in kind().fields.items() if field.dump_only or field.metadata.get("hidden")]
    kept = [name for name in kind.create_only if patches and name in kind().fields]
    return kind(exclude=(*owned, *kept), partial=patches or None)


def component_name(bound: BoundService) -> str:
    """What a service's records are called: by its ``noun``, its class, or its path where several are of that class."""
    kind, others = type(bound.service).__name__, bound._app.services.values()
    is_alone = sum(type(other.service).__name__ == kind and bool(other._options.methods) for other in others) < 2
    noun = getattr(bound.service, "noun", None) or (kind if is_alone else re.sub(r"\W+", " ", bound._path))
    return "".join(word[:1].upper() + word[1:] for word in noun.split())


def noun_of(bound: BoundService) -> str:
    """Return what one record of a service is called: by its ``noun``, or the last word of its path without the s."""
    noun: str | None = getattr(bound.service, "noun", None)
    if noun:
        return noun
    words = [part for part in bound._path.split("/") if part and not part.startswith(":")] or ["record"]
    name = re.sub(r"[\W_]+", " ", words[-1])
    return next((name[: -len(end)] + one for end, one in _PLURALS if name.endswith(end)), name)


def plural(noun: str) -> str:
    """Return the English plural of a noun."""
    if re.search(r"[^aeiou]y\Z", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}{'es' if re.search(r'(s|x|z|ch|sh)$', noun) else 's'}"


def value_shape(coerce: Coerce) -> Shape:
    """The shape of what a function of ``apex.query.coercion``, or one that describes itself, reads."""
    if (facts := facts_of(coerce)) is not None:
        return dict(facts.result)
    return shape_of(coerce) or {"type": "string"}


def _stored(service: Any) -> Mapping[str, Shape]:
    if getattr(service, "table", None) is not None:
        return shapes_of(service.table)
    shapes = {name: value_shape(coerce) for name, coerce in (service.columns or {}).items()}
    # What is not given is stored as null.
    return {name: shape if name == service.id else _nullable(shape) for name, shape in shapes.items()}


def _title(info: dict[str, Any]) -> dict[str, str]:
    return {name: info.pop(name) for name in ("title", "version")}
