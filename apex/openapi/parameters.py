"""The parameters of a query: fields, fields with an operator in brackets, and words with a dollar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apex.adapters.base import Adapter
from apex.openapi.components import Components, value_shape
from apex.openapi.facts import MethodFacts
from apex.query.coercion import held
from apex.query.language import IN_LISTS
from apex.service import BoundService

Shape = dict[str, Any]

ORDERED = ("integer", "number")
RANGES = ("$gt", "$gte", "$lt", "$lte")
LISTS = ("$in", "$nin")


def parameters(
    components: Components, bound: BoundService, method: str, known: MethodFacts, *, many: bool = False
) -> list[Shape]:
    """Return the query parameters of a method. With ``many`` the method is called for all records of the query."""
    if known.query is not None:
        return list(components.converter.schema2parameters(known.query(), location="query"))
    if not isinstance(bound.service, Adapter):
        return []
    if method != "find" and not many:
        return list(_select(bound.service))
    shapes = {name: _value(shape) for name, shape in queryable(components, bound).items()}
    listed = {name: value_shape(coerce) for name, coerce in bound.service.syntax.lists.items()}
    conditions = [
        *_conditions(shapes, bound.service, known.requires), *_items(listed), *_filters(bound.service),
        *_groups(),
    ]  # fmt: skip
    page = [_sort(shapes), *_page(bound.service)] if method == "find" else []
    return [*conditions, *page, *_select(bound.service)]


def header(name: str, shape: Mapping[str, Any]) -> Shape:
    """Return a header as a parameter."""
    return {"name": name, "in": "header", **shape}


def queryable(components: Components, bound: BoundService) -> dict[str, Shape]:
    """Return the fields that a query may filter by, with their shapes."""
    shapes, fields = components.properties(bound), bound.service.syntax.fields or {}
    return {name: shapes[name] for name, coerce in fields.items() if held(coerce) is None and name in shapes}


def _conditions(shapes: Mapping[str, Shape], service: Adapter, required: Mapping[str, str]) -> Iterator[Shape]:
    for name, shape in shapes.items():
        needed = {"required": True, "description": required[name]} if name in required else {}
        yield {**_query(name, shape), **needed}
    for name, shape in shapes.items():
        for operator in operators(shape, service.syntax.operators):
            operand = {"type": "array", "items": shape} if operator in LISTS else shape
            yield _query(f"{name}[{operator}]", operand)


def _items(shapes: Mapping[str, Shape]) -> Iterator[Shape]:
    """Yield the parameters of fields that hold a list."""
    for name, shape in shapes.items():
        yield {**_query(name, shape), "description": "An item that the list contains."}
        for operator in sorted(IN_LISTS):
            yield _query(f"{name}[{operator}]", {"type": "array", "items": shape} if operator in LISTS else shape)


def _filters(service: Adapter) -> Iterator[Shape]:
    return (_query(name, value_shape(coerce)) for name, coerce in service.filters.items())


def _sort(names: Iterable[str]) -> Shape:
    ways = " or ".join(f"`{name}`" for name in list(names)[:2])
    return {
        **_query("$sort", {"type": "string"}),
        "description": f"The order of the records: {ways}, or several with commas. `-` before a name turns its order.",
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
    is_text = shape.get("type") == "string" and not {"format", "contentEncoding", "enum"} & shape.keys()
    patterns = sorted(known - {"$ne", *LISTS, *RANGES}) if is_text else []
    return ["$ne", *LISTS, *(RANGES if is_ordered else ()), *patterns]


def _page(service: Adapter) -> Iterator[Shape]:
    page = service.paginate or {}
    limit = {"type": ["integer", "string"], **({"default": page["default"]} if "default" in page else {})}
    most = f", at most {page['max']}" if "max" in page else ""
    counted = f"The number of records{most}. 0 returns the total only. Negative numbers and other text are ignored."
    yield {**_query("$limit", limit), "description": counted}
    yield {**_query("$skip", {"type": "integer", "minimum": 0}), "description": "The number of records to skip."}
    if page:
        yield {**_query("$total", {"type": "string", "enum": ["exact", "estimated", "true", "false"]}),
               "description": "Return the total exactly, as an estimate, or not at all."}  # fmt: skip
        for name, field in (("$after", "next"), ("$before", "previous")):
            text = f"The `{field}` of a page, or an empty text for the first page with cursors."
            yield {**_query(name, {"type": "string"}), "description": text}


def _select(service: Adapter) -> Iterator[Shape]:
    names = sorted(service.syntax.fields or ())
    items: Shape = {"type": "string", **({"enum": names} if names else {})}
    yield {
        **_query("$select", {"type": "array", "items": items}),
        "description": "The fields to return. The id is always returned.",
    }


def _groups() -> Iterator[Shape]:
    for name, word in (("$or", "any"), ("$and", "all")):
        yield {
            **_query(name, {"type": "string", "contentMediaType": "application/json"}),
            "description": f"Match records for which {word} of these queries hold, a list in JSON such as "
            '`[{"age": {"$gt": 5}}, {"name": null}]`.',
        }


def _query(name: str, shape: Shape) -> Shape:
    return {"name": name, "in": "query", "schema": shape}
