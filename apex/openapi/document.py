"""The OpenAPI document, with a path for each service and its records and an operation for each method."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from apex.app import Apex
from apex.openapi.components import Components
from apex.openapi.facts import MethodFacts
from apex.openapi.operations import Operations, takes_many
from apex.service import BoundService
from apex.sql.types import shapes_of
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
                components.spec.path(path=place, operations=operations, parameters=_placeholders(bound, place))
    for name, scheme in components.schemes.items():
        components.spec.components.security_scheme(name, scheme)
    return components.spec.to_dict()


def description(bound: BoundService) -> str:
    """Return the docstring of a service's class, or of its module."""
    kind = type(bound.service)
    text = kind.__dict__.get("__doc__") or sys.modules[kind.__module__].__doc__ or ""
    return inspect.cleandoc(text).replace("``", "`")


def _paths(components: Components, path: str, bound: BoundService) -> Iterator[tuple[str, Shape]]:
    whole = PLACEHOLDER.sub(r"{\1}", f"/{path.strip('/')}")
    made = Operations(components, path, bound)
    exposed = bound._options.methods
    collection: Shape = {}
    record: Shape = {}
    for method in exposed:
        if method not in STANDARD or method in ("find", "create"):
            continue
        known = MethodFacts(bound, method)
        if known.collection or takes_many(bound, method):
            collection[VERBS[method].lower()] = made.operation(method, known, many=True)
        if not known.collection:
            record[VERBS[method].lower()] = made.operation(method, known)
    if "find" in exposed:
        collection["get"] = made.operation("find", MethodFacts(bound, "find"))
    if posted := [method for method in exposed if method == "create" or method not in STANDARD]:
        collection["post"] = made.posted(posted)
    for place, operations in ((whole, collection), (f"{whole.rstrip('/')}/{{id}}", record)):
        if operations:
            yield place, operations


def _placeholders(bound: BoundService, place: str) -> list[Shape]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _id(bound) if name == "id" else {"type": "string"}}
        for name in re.findall(r"\{([^}]+)\}", place)
    ]


def _id(bound: BoundService) -> Shape:
    service: Any = bound.service
    if getattr(service, "table", None) is None:
        return {"type": "string"}
    return dict(shapes_of(service.table)[service.id])
