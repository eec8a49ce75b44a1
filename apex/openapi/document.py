"""The OpenAPI document, with a path for each service and its records and an operation for each method."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apex.app import Apex
from apex.describe import Example
from apex.openapi.components import Components
from apex.openapi.facts import MethodFacts
from apex.openapi.operations import Operations, takes_many
from apex.openapi.parameters import with_example
from apex.router import split
from apex.service import BoundService
from apex.sql.types.registry import shapes_of
from apex.types import STANDARD, VERBS

Shape = dict[str, Any]

PLACEHOLDER = re.compile(r":([^/]+)")


def document(app: Apex) -> Shape:
    """Return the OpenAPI document of an app as a dict."""
    components = Components(app)
    for path, bound in app.services.items():
        if bound._options.methods:
            components.spec.tag({"name": path, "description": description(bound)})
            for place, operations in _paths(components, path, bound):
                components.spec.path(path=place, operations=operations, parameters=list(_placeholders(bound, place)))
    for name, scheme in components.schemes.items():
        components.spec.components.security_scheme(name, scheme)
    made: Shape = components.spec.to_dict()
    return made


def description(bound: BoundService) -> str:
    """Return the docstring of a service's class, or of its module.

    That of a class of apex ends before its example, as the rest is for those who write the app.
    """
    kind = type(bound.service)
    text = kind.__dict__.get("__doc__") or sys.modules[kind.__module__].__doc__ or ""
    text = inspect.cleandoc(text).replace("``", "`")
    told, has_example, _ = text.partition("::\n")
    return f"{told}." if has_example and kind.__module__.startswith("apex.") else text


def _paths(components: Components, path: str, bound: BoundService) -> Iterator[tuple[str, Shape]]:
    """Yield the path of a service, that of its records, and one for each custom method, with their operations."""
    whole = PLACEHOLDER.sub(r"{\1}", f"/{path.strip('/')}").rstrip("/")
    made = Operations(components, path, bound)
    collection: Shape = {}
    record: Shape = {}
    custom: dict[str, Shape] = {}
    for method in bound._options.methods:
        known = MethodFacts(bound, method)
        if method not in STANDARD:
            if _leads_to(components, whole, bound, method):
                custom[f"{whole}/{method}"] = {"post": made.operation(method, known)}
            continue
        verb = VERBS[method].lower()
        many = takes_many(bound, method)
        if method in ("find", "create"):
            collection[verb] = made.operation(method, known)
        elif known.collection or many:
            collection[verb] = made.operation(method, known, many=True)
        if "id" in STANDARD[method] and not known.collection:
            record[verb] = made.operation(method, known)
    for place, operations in ((whole or "/", collection), *custom.items(), (f"{whole}/{{id}}", record)):
        if operations:
            yield place, operations


def _leads_to(components: Components, whole: str, bound: BoundService, method: str) -> bool:
    """Return True if the path of a custom method leads to it, and not to another service of that path."""
    match = components.app.router.lookup(split(f"{whole}/{method}"))
    return match is not None and match.target is bound and match.id == method


def _placeholders(bound: BoundService, place: str) -> Iterator[Shape]:
    """Yield the parameters of a path, with the values that the service's examples have for them."""
    examples: Mapping[str, Example] = getattr(bound.service, "examples", {})
    values = {name: str(value) for one in examples.values() for name, value in one.route.items()}
    ids = [one.id for one in examples.values() if one.id is not None]
    for name in re.findall(r"\{([^}]+)\}", place):
        shape: Shape = _id(bound, ids) if name == "id" else {"type": "string"}
        placeholder = {"name": name, "in": "path", "required": True, "schema": shape}
        first = ids[0] if ids else 1 if shape.get("type") == "integer" else None
        yield with_example(placeholder, {"id": first} if name == "id" else values)


def _id(bound: BoundService, examples: Sequence[Any]) -> Shape:
    """Return the shape of ids. If there are numbers, an example that is a word is an id, too: ``/users/me``."""
    service: Any = bound.service
    if getattr(service, "table", None) is None:
        return {"type": "string"}
    shape: Shape = dict(shapes_of(service.table)[service.id])
    words = sorted({id for id in examples if isinstance(id, str)}) if shape.get("type") == "integer" else []
    return {"anyOf": [shape, {"enum": words}]} if words else shape
