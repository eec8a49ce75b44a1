"""The parameters of a query: one for each field, with its operators, and words with a dollar.

Generated clients write ``age=5`` for a value and ``age[$gt]=5`` for an object of operators, the style ``deepObject``.
Few of them write nested lists and objects. So ``$in``, ``$or`` and ``$and`` are JSON, and ``$sort`` is a list of names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from apex.adapters.base import Adapter
from apex.openapi.components import (
    Components,
    capitals,
    component_name,
    has_position,
    stored_shapes,
    value_shape,
)
from apex.openapi.facts import MethodFacts
from apex.query.coercion import held
from apex.query.language import CONTAINS, IN_LISTS
from apex.relations.populate import METHODS
from apex.service import BoundService

Shape = dict[str, Any]

ORDERED = ("integer", "number")
RANGES = ("$gt", "$gte", "$lt", "$lte")
LISTS = ("$in", "$nin")
NULL: Shape = {"const": "null"}
LIST: Shape = {"type": "string", "description": "A list in JSON such as `[1, 2, null]`."}
_NO_TEXT = {"format", "contentEncoding", "enum"}


def parameters(
    components: Components, bound: BoundService, method: str, known: MethodFacts, *, many: bool = False
) -> list[Shape]:
    """Return the query parameters of a method. With ``many`` the method is called for all records of the query."""
    if isinstance(known.query, Mapping):
        queried = getattr(getattr(bound.service, "syntax", None), "fields", ())
        fields = {name: _value(dict(stored_shapes(bound.service)[name])) for name in queried}
        shapes = {**fields, **known.query["properties"]}
        return [_declared(name, shape, known.requires.get(name)) for name, shape in shapes.items()]
    if known.query is not None:
        return list(components.converter.schema2parameters(known.query(), location="query"))
    if not isinstance(bound.service, Adapter):
        return []
    populate = _populate(bound.service) if method in METHODS else iter(())
    if method != "find" and not many:
        return [*_select(bound.service), *populate]
    shapes = queryable(components, bound)
    listed = {name: value_shape(coerce) for name, coerce in bound.service.syntax.lists.items()}
    conditions = [
        *(_condition(components, bound, name, shape, known.requires.get(name)) for name, shape in shapes.items()),
        *(_item(components, bound, name, shape) for name, shape in listed.items()),
        *_filters(bound.service),
        *_groups(bound.service),
    ]
    page = [_sort(shapes, bound.service), *_page(bound, shapes)] if method == "find" else []
    return [*conditions, *page, *_select(bound.service), *populate]


def _declared(name: str, shape: Mapping[str, Any], required: str | None) -> Shape:
    """Return the parameter of a key in a declared query. Its description and example are those of the shape."""
    own = {key: value for key, value in shape.items() if key not in ("description", "example")}
    more = {key: shape[key] for key in ("description", "example") if key in shape}
    needed = {} if required is None else {"required": True, "description": required}
    return {**(_deep(name, own) if "anyOf" in own else _query(name, own)), **more, **needed}


def header(name: str, shape: Mapping[str, Any]) -> Shape:
    """Return a header as a parameter."""
    return {"name": name, "in": "header", **shape}


def with_example(parameter: Shape, values: Mapping[str, Any]) -> Shape:
    """Return the parameter with the value that an example of a call has for it, if it has one."""
    value = values.get(parameter["name"])
    is_plain = isinstance(value, str | int | float)
    return {**parameter, "example": value} if is_plain else parameter


def queryable(components: Components, bound: BoundService) -> dict[str, Shape]:
    """Return the fields that a query may filter by, with their shapes."""
    shapes, syntax = components.properties(bound), bound.service.syntax
    plain = [
        name for name, coerce in (syntax.fields or {}).items() if held(coerce) is None and name not in syntax.lists
    ]
    return {name: shapes[name] for name in plain if name in shapes}


def _condition(components: Components, bound: BoundService, name: str, shape: Shape, required: str | None) -> Shape:
    """Return the parameter of a field: a value, null, or an object of operators."""
    value, known = _value(shape), operators(shape, bound.service.syntax.operators)
    is_nullable, is_text = value != shape, value.get("type") == "string" and not _NO_TEXT & value.keys()
    null: list[Shape] = [NULL] if is_nullable and not is_text else []
    description = _described(known)
    if is_nullable:
        description += f" `{name}{'=null' if null else '[$in]=[null]'}` finds null."
    needed = {} if required is None else {"required": True}
    schema = {"anyOf": [value, *null, _operators(components, bound, name, value, known)]}
    return {**_deep(name, schema), **needed, "description": required or description}


def _item(components: Components, bound: BoundService, name: str, shape: Shape) -> Shape:
    """Return the parameter of a field that holds a list."""
    known = [*sorted(IN_LISTS), CONTAINS]
    schema = {"anyOf": [shape, _operators(components, bound, name, shape, known)]}
    return {**_deep(name, schema), "description": _described(known)}


def _described(operators: Sequence[str]) -> str:
    return f"A value, or an object with {', '.join(f'`{operator}`' for operator in operators)}."


def _operators(components: Components, bound: BoundService, name: str, value: Shape, known: Sequence[str]) -> Shape:
    """Return the component with the operators of values of a shape."""
    properties = {operator: LIST if operator in LISTS else value for operator in known}
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return components.named("schemas", f"{_kind(bound, name, value, known)}Operators", shape)


def _kind(bound: BoundService, name: str, value: Shape, known: Sequence[str]) -> str:
    """Return a name for values of a shape with these operators. Values of an enumeration are those of a field."""
    if value.keys() - {"type", "format"}:
        return f"{component_name(bound)}{capitals(name)}"
    word = {"string": "text"}.get(kind := value.get("format") or value.get("type") or "any", kind)
    is_text = word == "text"
    special = "".join(one[1:].title() for one in known[3:] if is_text or one == CONTAINS)
    return f"{capitals(word)}{special}"


def _filters(service: Adapter) -> Iterator[Shape]:
    for name, coerce in service.filters.items():
        shape = value_shape(coerce)
        yield {**_query(name, shape), **({"example": False} if shape.get("type") == "boolean" else {})}


def _sort(shapes: Iterable[str], service: Adapter) -> Shape:
    name = next(iter(shapes), service.id)
    return {
        **_query("$sort", {"type": "string"}),
        "example": service.id,
        "description": f"The order: names of fields with commas, as in `-{name},{service.id}`. `-` is descending.",
    }


def _value(shape: Shape) -> Shape:
    """Return the shape without null, as operators compare with values."""
    if not isinstance(shape.get("type"), list):
        return shape
    value = {**shape, "type": shape["type"][0]}
    if "enum" in value:
        value["enum"] = [choice for choice in value["enum"] if choice is not None]
    return value


def operators(shape: Shape, known: frozenset[str]) -> list[str]:
    """Return the operators that make sense for a shape. The others are allowed too."""
    shape = _value(shape)
    is_ordered = shape.get("type") in ORDERED or shape.get("format") in ("date", "date-time", "decimal", "time")
    is_text = shape.get("type") == "string" and not _NO_TEXT & shape.keys()
    patterns = sorted(known - {"$ne", *LISTS, *RANGES}) if is_text else []
    return ["$ne", *LISTS, *(RANGES if is_ordered else ()), *patterns]


def _page(bound: BoundService, fields: Collection[str]) -> Iterator[Shape]:
    page = bound.service.paginate or {}
    limit = {"type": "integer", "minimum": 0, **({"default": page["default"]} if "default" in page else {})}
    most = f", at most {page['max']}" if "max" in page else ""
    counted = f"The number of records{most}. 0 returns the total only."
    yield {**_query("$limit", limit), "example": page.get("default", 10), "description": counted}
    skip: Shape = {"type": "integer", "minimum": 0}
    yield {**_query("$skip", skip), "example": 0, "description": "The number of records to skip."}
    if page:
        totals: Shape = {"type": "string", "enum": ["exact", "estimated", "true", "false"]}
        text = "Return the total exactly, as an estimate, or not at all."
        yield {**_query("$total", totals), "example": "exact", "description": text}
        for name, field in (("$after", "next"), ("$before", "previous")):
            text = f"The `{field}` of a page, or an empty text for the first page with cursors."
            yield {**_query(name, {"type": "string"}), "example": "", "description": text}
        # Clients for Python are not generated with two parameters that differ by a dollar alone.
        if has_position(bound) and "position" not in fields:
            text = "Put the `position` into the page, as Feathers' client does not show the header."
            yield {**_query("$position", {"type": "boolean"}), "example": True, "description": text}


def _select(service: Adapter) -> Iterator[Shape]:
    names = sorted(service.syntax.fields or ())
    items: Shape = {"type": "string", **({"enum": names} if names else {})}
    yield {
        **_query("$select", {"type": "array", "items": items}),
        "example": [],
        "description": "The fields to return. The id is always returned.",
    }


def _populate(service: Adapter) -> Iterator[Shape]:
    if names := list(service.relations):
        yield {
            **_query("$populate", {"type": "string"}),
            "example": names[0],
            "description": f"The related records to show, with commas: {', '.join(f'`{name}`' for name in names)}.",
        }


def _groups(service: Adapter) -> Iterator[Shape]:
    name = next(iter(service.relations), None)
    across = "" if name is None else f" Here and alone, `{name}.id` is the `id` of the related `{name}`."
    for name, word in (("$or", "any"), ("$and", "all")):
        yield {
            **_query(name, {"type": "string"}),
            "example": "[{}]",
            "description": f"Match records for which {word} of these queries hold, a list in JSON such as "
            f'`[{{"age": {{"$gt": 5}}}}, {{"name": null}}]`.{across}',
        }


def _deep(name: str, schema: Shape) -> Shape:
    # Without the empty example, a filled-in form would ask for a record that does not exist.
    return {**_query(name, schema), "style": "deepObject", "explode": True, "example": {}}


def _query(name: str, shape: Shape) -> Shape:
    return {"name": name, "in": "query", "schema": shape}
