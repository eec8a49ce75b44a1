"""The components of an OpenAPI document: schemas, responses and headers, each with a unique name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema as MarshmallowSchema
from marshmallow.schema import SchemaMeta

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.describe import Facts, Related, facts_of
from apex.errors import ConfigError
from apex.openapi import LOCAL
from apex.openapi.facts import MethodFacts
from apex.query.coercion import Coerce
from apex.query.coercion import shape as shape_of
from apex.relations import Relation
from apex.schema.fields import DecimalField, EmailField, PasswordField, TextField
from apex.schema.tables import ColumnField
from apex.schema.validation import Schema, fields, validate
from apex.service import BoundService
from apex.sql.types.registry import nullable_shape, shapes_of
from apex.types import WRITES

Shape = dict[str, Any]

VERSION: str = "3.1.0"

END = r"\Z"

_PLURALS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ss", "ss"), ("us", "us"), ("is", "is"), ("s", ""))
"""The ends of plurals and of their singulars. The first that matches counts."""


POSITION: Shape = {
    "type": ["string", "null"],
    "description": "With `$position=true`: the position in the log from which a client can follow the page.",
}


class FieldConverter(OpenAPIConverter):
    """A converter of marshmallow's schemas that knows the fields of ``apex.schema``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for function in (_text, _decimal, _exclusive, _column, _pattern, _any_type):
            self.add_attribute_function(function)  # type: ignore[no-untyped-call]

    def schema2jsonschema(self, schema: MarshmallowSchema) -> Shape:
        """Return a schema as JSON Schema, with the ``keywords`` that it declares for itself as a whole."""
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


def _text(self: OpenAPIConverter, field: fields.Field[Any], **_: Any) -> Shape:
    """Return the limits and the format of a text. The limits hold for the trimmed text."""
    if isinstance(field, PasswordField):
        return {"minLength": field.min, "maxLength": field.max, "format": "password"}
    if not isinstance(field, TextField):
        return {}
    shape: Shape = {"minLength": field.min, **({} if field.max is None else {"maxLength": field.max})}
    return {**shape, "format": "email"} if isinstance(field, EmailField) else shape


def _decimal(self: OpenAPIConverter, field: fields.Field[Any], *, ret: Shape, **_: Any) -> Shape:
    """Return the shape of a decimal number, which is a string or a number."""
    if not isinstance(field, DecimalField):
        return {}
    places = "" if field.most_places == 0 else rf"(\.[0-9]{{1,{field.most_places or ''}}})?"
    limits: dict[str, float] = {name: float(ret[name]) for name in ("minimum", "maximum") if name in ret}
    example = "1" if field.most_places == 0 else "1.5"
    # Without an example, tools make one of the pattern, with dozens of digits.
    is_allowed = limits.get("minimum", 0.0) < float(example) < limits.get("maximum", 2.0)
    return {
        "type": ["string", "number", *(["null"] if field.allow_none else [])],
        "pattern": f"^-?[0-9]+{places}$",
        **limits,
        **({"examples": [example]} if is_allowed else {}),
    }


def _exclusive(self: OpenAPIConverter, field: fields.Field[Any], **_: Any) -> Shape:
    """Return the limits of a number that it must not reach itself. apispec takes them for allowed values."""
    shape: Shape = {}
    for check in field.validators:
        if isinstance(check, validate.Range):
            for name, limit, is_allowed in (
                ("exclusiveMinimum", check.min, check.min_inclusive),
                ("exclusiveMaximum", check.max, check.max_inclusive),
            ):
                if limit is not None and not is_allowed:
                    shape[name] = int(limit) if limit == int(limit) else float(limit)
    return shape


def _column(self: OpenAPIConverter, field: fields.Field[Any], **_: Any) -> Shape:
    """Return the shape of a column's values."""
    if not isinstance(field, ColumnField):
        return {}
    return nullable_shape(field.column_type.shape) if field.allow_none else dict(field.column_type.shape)


def _pattern(self: OpenAPIConverter, field: fields.Field[Any], *, ret: Shape, **_: Any) -> Shape:
    """Return the pattern of a text for JSON Schema.

    Python matches at the start of a text and writes its end as ``\\Z``. JSON Schema searches, with ``^`` and ``$``.
    """
    for check in field.validators:
        if isinstance(check, validate.Regexp):
            ret.pop("pattern", None)
            if check.regex.flags & ~re.UNICODE == 0:
                return {"pattern": f"^(?:{str(check.regex.pattern).replace(END, '$')})"}
    return {}


def _any_type(self: OpenAPIConverter, field: fields.Field[Any], *, ret: Shape, **_: Any) -> Shape:
    """Remove the type of a field that accepts everything. apispec knows only that it accepts null."""
    if ret.get("type") == ["null"]:
        del ret["type"]
    return {}


def reference(kind: str, name: str) -> Shape:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


class Plugin(MarshmallowPlugin):
    """apispec's plugin with this module's converter."""

    Converter = FieldConverter


class Components:
    """The document in the making, with its components."""

    def __init__(self, app: Apex) -> None:
        self.app: Apex = app
        plugin = Plugin()
        info = {"title": "API", "version": "1", **(app.get("openapi") or {})}
        servers = info.pop("servers", None) or [{"url": f"http://{LOCAL}:{app.get('port') or 3030}"}]
        self.spec: APISpec = APISpec(
            openapi_version=VERSION, plugins=[plugin], info=info, servers=servers, **_title(info)
        )
        self.converter: Any = plugin.converter
        self.made: dict[str, Any] = {}
        self._open: set[str] = set()
        self.begun: set[str] = set()
        """The names of schemas that refer to themselves, perhaps through others."""
        authentication = app.get("defaultAuthentication")
        self.schemes: Mapping[str, Shape] = {} if authentication is None else authentication.schemes

    def named(self, kind: str, name: str, value: Mapping[str, Any]) -> Shape:
        """Add a component and return a reference to it. Raises ConfigError if another component has the name."""
        if self.made.get(f"{kind}/{name}", value) != value:
            fix = "give a service another noun, or a shape another title"
            raise ConfigError(f"Two different {kind} of the OpenAPI document are called '{name}': {fix}")
        if f"{kind}/{name}" not in self.made:
            self.made[f"{kind}/{name}"] = value
            add = {"schemas": self.spec.components.schema, "responses": self.spec.components.response}.get(kind)
            (add or self.spec.components.header)(name, dict(value))
        return reference(kind, name)

    def shape(self, shape: Any, name: str, method: str = "") -> Shape:
        """Return the JSON Schema of a shape that a hook or a service declares.

        A JSON Schema with a ``title`` becomes a component, and so do those inside of it. A schema of marshmallow
        becomes one as well, in the form that the method accepts: without the fields that the server sets, and without
        required fields for a patch.
        """
        if isinstance(shape, Mapping):
            made: Shape = self._with_components(shape)
            return made
        return self.named("schemas", name, self.converter.schema2jsonschema(accepted_schema(shape, method)))

    def _with_components(self, shape: Any) -> Any:
        if isinstance(shape, list):
            return [self._with_components(item) for item in shape]
        if not isinstance(shape, Mapping):
            return shape
        inner = {key: self._with_components(value) for key, value in shape.items()}
        title = shape.get("title")
        return self.named("schemas", title, inner) if isinstance(title, str) else inner

    def record(self, bound: BoundService) -> Shape:
        """Return the shape of a service's records, with the fields that hooks may add."""
        service, name = bound.service, component_name(bound)
        if not isinstance(service, Adapter):
            return {}
        properties = self.properties(bound)
        if not properties:
            return {"type": "object"}
        if name in self._open:  # A record that is related to itself, over other records or not.
            return {"$ref": f"#/components/schemas/{name}"}
        self._open.add(name)
        populated = {one: self._populated(relation) for one, relation in service.relations.items()}
        self._open.discard(name)
        return self.named("schemas", name, {
            "type": "object",
            "properties": {**self._marked(bound, properties), **populated, **self._added(bound)},
            "required": [service.id],
            "additionalProperties": False,
        })  # fmt: skip

    def _marked(self, bound: BoundService, properties: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the properties, with a mark for those that no method with a schema accepts: the server writes them."""
        methods = [method for method in WRITES if method in bound._options.methods]
        kinds = [(MethodFacts(bound, method).data, method) for method in methods]
        if not all(isinstance(kind, SchemaMeta) for kind, _ in kinds):
            return dict(properties)
        written = {name for kind, method in kinds for name in accepted_schema(kind, method).fields}
        return {name: shape if name in written else {**shape, "readOnly": True} for name, shape in properties.items()}

    def _populated(self, relation: Relation) -> Shape:
        """Return the shape of the related records that ``$populate`` adds to a record."""
        fields, bound = relation.fields, self.app.services.get(relation.service.strip("/"))
        if bound is None or not isinstance(bound.service, Adapter) or callable(fields):
            record: Shape = dict((facts_of(fields) or Facts()).result or {})
        elif fields is None:
            record = self.record(bound)
        else:
            stored = self.properties(bound)
            record = {"type": "object", "properties": {name: stored[name] for name in fields if name in stored}}
        if relation.many:
            return {"type": "array", "items": record, "description": "With `$populate`."}
        return {"anyOf": [record, {"type": "null"}], "description": "With `$populate`."}

    def page(self, bound: BoundService) -> Shape:
        """Return the shape of a page of a service's records."""
        record, count = self.record(bound), {"type": "integer", "minimum": 0}
        cursor = {"type": ["string", "null"]}
        page = {
            "type": "object",
            "properties": {
                "total": {
                    **count,
                    "description": "The records on all pages. Absent with `$total=false` and with cursors.",
                },
                "estimated": {
                    "type": "boolean",
                    "description": "With `$total=estimated`: true if `total` is an estimate.",
                },
                "limit": count,
                "skip": count,
                "next": {**cursor, "description": "With cursors: the `$after` of the next page."},
                "previous": {**cursor, "description": "With cursors: the `$before` of the previous page."},
                "data": {"type": "array", "items": record},
                **({"position": POSITION} if has_position(bound) else {}),
            },
            "required": ["limit", "data"],
            "additionalProperties": False,
        }
        return self.named("schemas", f"{component_name(bound)}Page", page)

    def properties(self, bound: BoundService) -> dict[str, Shape]:
        """Return the shape of each field that callers can see."""
        service, kind = bound.service, self.schema_of(bound)
        declared = kind().fields if kind is not None else {}
        hidden = set(service.private)
        return {
            name: self._property(shape, declared.get(name))
            for name, shape in stored_shapes(service).items()
            if name not in hidden
        }

    def schema_of(self, bound: BoundService) -> type[Schema] | None:
        """Return the schema of the data of create, update or patch, or None if none of them has one."""
        for method in WRITES:
            if method in bound._hookable and isinstance(kind := MethodFacts(bound, method).data, SchemaMeta):
                return kind  # type: ignore[return-value]
        return None

    def _property(self, shape: Shape, field: Any) -> Shape:
        """Merge the shape of a column, which has the type, with its schema field, which has description and choices."""
        if field is None:
            return dict(shape)
        if "type" not in shape:
            made: Shape = self.converter.field2property(field)
            return made if shape else _nullable(made)
        choices = [check for check in field.validators if isinstance(check, validate.OneOf)]
        more = {key: field.metadata[key] for key in ("description", "example") if key in field.metadata}
        if choices:
            nullable = isinstance(shape["type"], list)
            more["enum"] = [*choices[0].choices, *([None] if nullable else [])]
        return {**shape, **more}

    def _added(self, bound: BoundService) -> dict[str, Shape]:
        methods = (method for method in bound._hookable if method in bound._options.methods)
        added = {name: shape for method in methods for name, shape in MethodFacts(bound, method).adds.items()}
        return {name: self._related(one) if isinstance(one, Related) else one for name, one in added.items()}

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


def has_position(bound: BoundService) -> bool:
    """Return True if the answers of a service have their position in the log."""
    return bound._app.log is not None and bound._is_logged


def _nullable(shape: Shape) -> Shape:
    types = shape.get("type", [])
    listed = types if isinstance(types, list) else [types]
    return {**shape, "type": [*listed, "null"]} if listed and "null" not in listed else shape


def accepted_schema(kind: type[Schema], method: str) -> Schema:
    """Return an instance of a schema with the fields that callers may send and whose metadata do not hide them."""
    patches = method == "patch"
    owned = [name for name, field in kind().fields.items() if field.dump_only or field.metadata.get("hidden")]
    kept = [name for name in kind.create_only if patches and name in kind().fields]
    return kind(exclude=(*owned, *kept), partial=patches or None)


def component_name(bound: BoundService) -> str:
    """Return the name of a service's component: its ``noun``, its class, or its path if the class is not unique."""
    kind, others = type(bound.service).__name__, bound._app.services.values()
    is_alone = sum(type(other.service).__name__ == kind and bool(other._options.methods) for other in others) < 2
    noun = getattr(bound.service, "noun", None) or (kind if is_alone else re.sub(r"\W+", " ", bound._path))
    return capitals(noun)


def capitals(text: str) -> str:
    """Return the words of a text as one name: ``SupportTicket`` for ``support ticket``."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", text))


def noun_of(bound: BoundService) -> str:
    """Return the name of one record of a service: its ``noun``, or the singular of the last word of its path."""
    noun: str | None = getattr(bound.service, "noun", None)
    if noun:
        return noun
    words = [part for part in bound._path.split("/") if part and not part.startswith(":")] or ["record"]
    return singular(re.sub(r"[\W_]+", " ", words[-1]))


def singular(noun: str) -> str:
    """Return the singular of an English plural."""
    return next((noun[: -len(end)] + one for end, one in _PLURALS if noun.endswith(end)), noun)


def plural(noun: str) -> str:
    """Return the English plural of a noun."""
    if re.search(r"[^aeiou]y\Z", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}{'es' if re.search(r'(s|x|z|ch|sh)$', noun) else 's'}"


def value_shape(coerce: Coerce) -> Shape:
    """Return the shape of the values that a coercion accepts."""
    if (facts := facts_of(coerce)) is not None:
        return dict(facts.result)
    return shape_of(coerce) or {"type": "string"}


def stored_shapes(service: Any) -> Mapping[str, Shape]:
    """Return the shapes of the fields that a service stores: those of its table, or of its columns."""
    if getattr(service, "table", None) is not None:
        return shapes_of(service.table)
    shapes = {name: value_shape(coerce) for name, coerce in (service.columns or {}).items()}
    # The adapter stores missing fields as null.
    return {name: shape if name == service.id else _nullable(shape) for name, shape in shapes.items()}


def _title(info: dict[str, Any]) -> dict[str, str]:
    return {name: info.pop(name) for name in ("title", "version")}
