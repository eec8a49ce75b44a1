"""TypeScript declarations for Feathers' client: the records of an app, and the arguments and results of its methods.

They are made of the same parts as the OpenAPI document, not of the document: there all custom methods of a service
share one operation, which does not say which method returns which result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from textwrap import indent
from typing import Any, NamedTuple

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.openapi.components import Components, component_name, has_position, value_shape
from apex.openapi.document import PLACEHOLDER, description
from apex.openapi.facts import MethodFacts
from apex.openapi.literals import JAVASCRIPT
from apex.openapi.operations import Operations, takes_many
from apex.openapi.parameters import operators, parameters, queryable
from apex.query.language import CONTAINS, OPERATORS
from apex.relations.populate import METHODS
from apex.service import BoundService
from apex.types import STANDARD, taken_by

Shape = Mapping[str, Any]

key: Callable[[str], str] = JAVASCRIPT.key
literal: Callable[[Any], str] = JAVASCRIPT.on_a_line
_SIMPLE = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}

PRELUDE = """\
// Made by `apex openapi --typescript`, which overwrites changes.
import type * as Feathers from '@feathersjs/feathers'

export namespace Apex {
  export type Equal = '$ne' | '$in' | '$nin'
  export type Ordered = Equal | '$gt' | '$gte' | '$lt' | '$lte'

  /** The condition on a field: a value, or operators with their values. */
  export type Where<T, O extends string> =
    | T
    | {
        [K in O]?: K extends '$in' | '$nin' ? T[]
          : K extends '$ne' ? T
          : K extends '$contains' ? NonNullable<T> | NonNullable<T>[]
          : NonNullable<T>
      }

  /** The order of a list. */
  export type Sort<C> = { [K in Exclude<keyof C, '$or' | '$and'>]?: 1 | -1 }

  /** The fields to return. */
  export type Select<K> = { $select?: K[] }

  /** The related records to show: names, or a query for each. A name may go on, as in `comments.author`. */
  export type Populate<N extends string> =
    | N
    | `${N}${'.' | ','}${string}`
    | (N | `${N}.${string}`)[]
    | { [K in N]?: { [filter: string]: unknown } }

  /** A record of which `$select` has kept K of the fields F. */
  export type Selected<T, F extends keyof T, K extends F> = [F] extends [K] ? T : Pick<T, K | Exclude<keyof T, F>>

  /** The params of a call that needs a query. */
  export type Asked<Q> = Feathers.Params<Q> & { query: Q }

  /** A page with its total, which is an estimate if `estimated` is true. */
  export interface Page<T> extends Feathers.Paginated<T> {
    estimated?: boolean
    /** With `$position`: the position in the log from which a client can follow the page. */
    position?: string | null
  }

  /** A query with cursors or without a total. Its result is a `Part`. */
  export type Partly = { $after: string } | { $before: string } | { $total: false | 'false' }

  /** A page without a required total. `next` and `previous` are cursors, or null at the end of the list. */
  export interface Part<T> {
    total?: number
    estimated?: boolean
    limit: number
    skip?: number
    next?: string | null
    previous?: string | null
    position?: string | null
    data: T[]
  }

  export type Event = 'created' | 'updated' | 'patched' | 'removed'

  export interface Events<T> {
    on?(event: Event, listener: (record: T) => void): this
    once?(event: Event, listener: (record: T) => void): this
  }
}
"""

_VALUE = "string | number | boolean | null"
_SCALAR = f"Apex.Where<{_VALUE}, Apex.Ordered>"
_PAGE = ("$limit?: number", "$skip?: number")
_POSITION = "$position?: boolean | 'true' | 'false'"
_TOTALS = ("$total?: boolean | 'exact' | 'estimated' | 'true' | 'false'", "$after?: string", "$before?: string")


def declarations(app: Apex) -> str:
    """Return the text of a file ``*.d.ts``. Use its ``ServiceTypes`` in ``feathers<ServiceTypes>()``."""
    components = Components(app)
    types: dict[str, str] = {}
    services = [
        commented(description(bound), f"{_place(app, path)}: {_ServiceType(components, types, path, bound).written()}")
        for path, bound in app.services.items()
        if bound._options.methods
    ]
    for name, shape in components.spec.components.schemas.items():
        types.setdefault(identifier(name), declared(identifier(name), shape))
    index = commented("The services by their paths.", f"export interface ServiceTypes {block(services)}")
    return "\n".join([PRELUDE, *(f"{text}\n" for text in types.values()), index, ""])


def _place(app: Apex, path: str) -> str:
    """Return a path as a key. A path with placeholders becomes a template that matches all filled-in paths.

    If the template would match the path of another service, the path itself is the key, and callers fill it with
    ``params.route``.
    """
    pattern = PLACEHOLDER.sub("${string}", path)
    matching = re.compile(".*".join(map(re.escape, PLACEHOLDER.split(path)[::2])))
    alone = all(matching.fullmatch(other) is None for other in app.services if other != path)
    return f"[path: `{pattern}`]" if pattern != path and alone else key(path)


class QueryType(NamedTuple):
    """The type of a query. ``is_needed`` is True if it is required, ``selects`` if it may select fields."""

    text: str = ""
    is_needed: bool = False
    selects: bool = False

    @property
    def params(self) -> str:
        """The parameter ``params`` of a method with this query."""
        if self.is_needed:
            return f"params: Apex.Asked<{self.text}>"
        return f"params?: Feathers.Params<{self.text}>" if self.text else "params?: Feathers.Params"


class _ServiceType:
    """The type of one service. ``types`` collects the declarations of the types that it refers to."""

    def __init__(self, components: Components, types: dict[str, str], path: str, bound: BoundService) -> None:
        self.components, self.types, self.bound = components, types, bound
        self.service: Any = bound.service
        self.operations = Operations(components, path, bound)
        self.name = identifier(component_name(bound))
        self.shape = components.record(bound)
        self.record = type_of(self.shape)
        is_known = "$ref" in self.shape
        self.fields, self.wanted = (f"{self.name}Field", "K") if is_known else ("string", "string")

    def written(self) -> str:
        if "$ref" in self.shape:
            self._declare_record()
        methods = [line for method in self.bound._options.methods for line in self._method(method)]
        events = "" if self.record == "unknown" else f"Apex.Events<{self.record}> & "
        return events + block(methods)

    def _declare_record(self) -> None:
        """Declare the record as it is without ``$select``."""
        shape = self.components.made[f"schemas/{component_name(self.bound)}"]
        stored = self.components.properties(self.bound)
        added = [literal(name) for name in shape["properties"] if name not in stored]
        fields = f"Exclude<keyof {self.record}, {union(added)}>" if added else f"keyof {self.record}"
        always = [name for name in stored if name not in self.service.on_demand]
        self._declare(self.name, declared(self.name, {**shape, "required": always}))
        self._declare(self.fields, f"export type {self.fields} = {fields}")
        self._declare(f"{self.name}Page", f"export type {self.name}Page = Apex.Page<{self.record}>")

    def _declare(self, name: str, text: str) -> str:
        self.types.setdefault(name, text)
        return name

    def _method(self, method: str) -> Iterator[str]:
        known = MethodFacts(self.bound, method)
        query, taken = self._query(method, known), self._taken(method, known)
        result = self.operations.result(method, known)
        if method == "find" and query.selects and result == self.components.page(self.bound):
            partly = QueryType(f"{query.text} & Apex.Partly", True, True)
            yield self._called(method, taken, partly, self._given(result, True, "Part"))
        # The overload for lists comes first, because a list also matches an object of any form.
        if takes_many(self.bound, method):
            many = ["id: null", *taken[1:]] if method != "create" else [f"data: {array(self._data(method))}"]
            yield self._called(method, many, query, self._given({"type": "array", "items": self.shape}, query.selects))
        yield self._called(method, taken, query, self._given(result, query.selects))

    def _called(self, method: str, taken: list[str], query: QueryType, result: str) -> str:
        generic = f"<K extends {self.fields}>" if query.selects and self.wanted == "K" else ""
        return f"{key(method)}{generic}({', '.join([*taken, query.params])}): Promise<{result}>"

    def _taken(self, method: str, known: MethodFacts) -> list[str]:
        id = "id: null" if known.collection else "id: Feathers.Id"
        return [id if name == "id" else f"data: {self._data(method)}" for name in taken_by(method)]

    def _data(self, method: str) -> str:
        """Return the type of a method's data for one record."""
        shape = self.operations.data(method)
        return type_of(shape["anyOf"][0] if method == "create" and takes_many(self.bound, method) else shape)

    def _given(self, result: Shape, selects: bool, page: str = "Page") -> str:
        one = self.record
        if selects and self.wanted == "K":
            one = f"Apex.Selected<{self.record}, {self.fields}, K | {literal(self.service.id)}>"
        if result == self.shape:
            return one
        if result == {"type": "array", "items": self.shape}:
            return array(one)
        is_page = isinstance(self.service, Adapter) and result == self.components.page(self.bound)
        return f"Apex.{page}<{one}>" if is_page else type_of(result)

    def _query(self, method: str, known: MethodFacts) -> QueryType:
        if known.query is not None:
            given = parameters(self.components, self.bound, method, known)
            required = [one["name"] for one in given if one.get("required")]
            shapes = {one["name"]: one["schema"] for one in given}
            return QueryType(type_of({"type": "object", "properties": shapes, "required": required}), bool(required))
        if not isinstance(self.service, Adapter) or method not in STANDARD:
            return QueryType()
        if method == "find":
            required = list(known.requires)
            return QueryType(f"{self._list(required)}<{self.wanted}>", bool(required), True)
        parts = [] if method == "create" else [self._conditions()]
        parts.append(f"Apex.Select<{self.wanted}>")
        parts += [f"{{ {one} }}" for one in self._populate() if method in METHODS]
        return QueryType(" & ".join(parts), False, True)

    def _conditions(self) -> str:
        name = f"{self.name}Conditions"
        members = [member(field, text, optional=True) for field, text in self._filters().items()]
        members += [f"[key: `{path}.${{string}}`]: {_SCALAR}" for path in self.service.paths]
        members += [f"[key: `{name}.${{string}}`]: {self._across(name)}" for name in self.service.relations]
        members += ["[field: string]: any"] if self.service.syntax.fields is None else []
        members += [f"{word}?: {name}[]" for word in ("$or", "$and")]
        return self._declare(name, f"export interface {name} {block(members)}")

    def _list(self, required: list[str]) -> str:
        name, conditions = f"{self.name}Query", self._conditions()
        members = [member(field, text) for field, text in self._filters().items() if field in required]
        members += [
            member(name, type_of(value_shape(coerce)), optional=name not in required)
            for name, coerce in self.service.filters.items()
        ]
        members += [*_PAGE, *(_TOTALS if self.service.paginate else ())]
        members += [_POSITION] if self.service.paginate and has_position(self.bound) else []
        members += [f"$sort?: Apex.Sort<{conditions}>", "$select?: K[]", *self._populate()]
        generic = f"K extends {self.fields} = {self.fields}"
        return self._declare(name, f"export interface {name}<{generic}> extends {conditions} {block(members)}")

    def _populate(self) -> list[str]:
        names = union(map(literal, self.service.relations))
        return [f"$populate?: Apex.Populate<{names}>"] if names else []

    def _across(self, relation: str) -> str:
        """Return the type of conditions on the fields of related records."""
        bound = self.components.app.services.get(self.service.relations[relation].service.strip("/"))
        known = bound.service.syntax.operators - OPERATORS if bound and isinstance(bound.service, Adapter) else ()
        return f"Apex.Where<{_VALUE}, {union(['Apex.Ordered', *map(literal, sorted({*known, CONTAINS}))])}>"

    def _filters(self) -> dict[str, str]:
        fields = {field: self._where(shape) for field, shape in queryable(self.components, self.bound).items()}
        lists = self.service.syntax.lists.items()
        known = f"Apex.Equal | {literal(CONTAINS)}"
        return fields | {name: f"Apex.Where<{type_of(value_shape(coerce))}, {known}>" for name, coerce in lists}

    def _where(self, shape: Shape) -> str:
        known = operators(dict(shape), self.service.syntax.operators)
        common = "Apex.Ordered" if "$gt" in known else "Apex.Equal"
        more = [literal(operator) for operator in known if operator not in OPERATORS]
        return f"Apex.Where<{type_of(shape)}, {union([common, *more])}>"


def declared(name: str, shape: Shape) -> str:
    """Return the declaration of a type: an interface if it has properties."""
    if shape.get("type") == "object" and shape.get("properties"):
        return f"export interface {name} {type_of(shape)}"
    return f"export type {name} = {type_of(shape)}"


def type_of(shape: Shape) -> str:
    """Return the type of the values that a JSON Schema describes, without limits that types cannot express."""
    if "$ref" in shape:
        return identifier(shape["$ref"].rpartition("/")[2])
    if "enum" in shape:
        return union(map(literal, shape["enum"]))
    if "type" not in shape:
        return union(map(type_of, shape.get("anyOf") or shape.get("oneOf") or ())) or "unknown"
    types = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
    return union(_of_kind(kind, shape) for kind in types)


def _of_kind(kind: str, shape: Shape) -> str:
    if kind == "array":
        return array(type_of(shape.get("items", {})))
    return _object(shape) if kind == "object" else _SIMPLE[kind]


def _object(shape: Shape) -> str:
    required = shape.get("required", ())
    members = [_property(name, inner, name in required) for name, inner in shape.get("properties", {}).items()]
    others = shape.get("additionalProperties", not members)
    if isinstance(others, Mapping):
        others = type_of(others)
        members += [f"[name: string]: {'unknown' if members else others}"]
    elif others:
        members += ["[name: string]: any"]
    return block(members or ["[name: string]: never"])


def _property(name: str, shape: Shape, required: bool) -> str:
    written = member(name, type_of(shape), optional=not required)
    return commented(shape.get("description", ""), f"{'readonly ' if shape.get('readOnly') else ''}{written}")


def member(name: str, type: str, *, optional: bool = False) -> str:
    """Return a member of a type."""
    return f"{key(name)}{'?' if optional else ''}: {type}"


def commented(comment: str, text: str) -> str:
    """Return a declaration or a member with a comment above it."""
    lines = comment.replace("*/", "*\\/").splitlines()
    if not lines:
        return text
    body = f" {lines[0]}" if len(lines) == 1 else "".join(f"\n * {line}".rstrip() for line in lines) + "\n"
    return f"/**{body} */\n{text}"


def block(members: Sequence[str]) -> str:
    """Return members in braces, each on its own lines."""
    if len(members) == 1 and members[0].startswith("["):
        return f"{{ {members[0]} }}"
    inside = indent("\n".join(members), "  ")
    return f"{{\n{inside}\n}}" if inside else "{}"


def union(types: Iterable[str]) -> str:
    """Return the union of types."""
    return " | ".join(dict.fromkeys(types))


def array(item: str) -> str:
    """Return the type of arrays of a type."""
    return f"({item})[]" if " | " in item else f"{item}[]"


def identifier(name: str) -> str:
    """Return a name in a form that a type may have."""
    return re.sub(r"\W", "_", name)
