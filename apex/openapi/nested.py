"""The data of a service with the related records that callers may write in it."""

from __future__ import annotations

from typing import Any

from marshmallow.schema import SchemaMeta

from apex.adapters.base import Adapter
from apex.openapi.components import Components, Shape, accepted_schema, component_name, reference
from apex.openapi.facts import MethodFacts
from apex.relations.data import MOST_RELATED
from apex.relations.declarations import Relation
from apex.service import BoundService
from apex.types import STANDARD


def data_shape(components: Components, bound: BoundService, method: str) -> Shape:
    """Return the shape of a method's data."""
    data, name = MethodFacts(bound, method).data, component_name(bound) + method.capitalize()
    if not isinstance(data, SchemaMeta) or not _writes_related(bound, method):
        return {"type": "object"} if data is None else components.shape(data, name, method)
    return _with_related(components, bound, method, data, name)


def _writes_related(bound: BoundService, method: str) -> bool:
    return isinstance(bound.service, Adapter) and bool(bound.service.writable) and method in STANDARD


def _with_related(
    components: Components, bound: BoundService, method: str, schema: Any, name: str, without: str | None = None
) -> Shape:
    """Return the shape of data with related records. ``without`` is a field that the server sets."""
    made: Shape = components.converter.schema2jsonschema(accepted_schema(schema, method))
    properties = {field: shape for field, shape in made["properties"].items() if field != without}
    required = {field for field in made.get("required", ()) if field != without}
    # A record may hold records of its own service, which refer to the same component.
    if name in components.begun:
        return reference("schemas", name)
    components.begun.add(name)
    relations = bound.service.relations if _writes_related(bound, method) else {}
    for relation_name in bound.service.writable if relations else ():
        relation = relations[relation_name]
        if relation.kind == "many_to_many":
            properties[relation_name] = _ids(components, relation)
        elif method == "create":
            properties[relation_name] = _records(components, bound, relation_name, relation)
            required -= {relation.key} if relation.kind == "belongs_to" else set()
    components.begun.remove(name)
    made = {key: value for key, value in made.items() if key != "required"} | {"properties": properties}
    return components.named("schemas", name, {**made, "required": sorted(required)} if required else made)


def _ids(components: Components, relation: Relation) -> Shape:
    related = components.app.service(relation.service)
    id = components.properties(related).get(related.service.id, {})
    item = {key: id[key] for key in ("type", "format") if key in id} or {"type": ["integer", "string"]}
    about = f"The ids of records of `{relation.service}`."
    return {"type": "array", "items": item, "maxItems": MOST_RELATED, "description": about}


def _records(components: Components, bound: BoundService, name: str, relation: Relation) -> Shape:
    """Return the shape of new records of another service, without the key that the server sets."""
    related = components.app.service(relation.service)
    schema = MethodFacts(related, "create").data
    record: Shape = {"type": "object"}
    if isinstance(schema, SchemaMeta):
        words = component_name(bound) + "".join(part.capitalize() for part in name.split("_")) + "Create"
        key = relation.key if relation.kind == "has_many" else None
        record = _with_related(components, related, "create", schema, words, key)
    return record if relation.kind == "belongs_to" else {"type": "array", "items": record, "maxItems": MOST_RELATED}
