"""Declarations of TypeScript for Feathers' own client: the records of an app, and what its services take and give.

They are made of what the OpenAPI document is made of. The document alone would not do: custom methods are alternatives
there, of which one cannot tell what each of them gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.openapi.components import Components, component_name, value_shape
from apex.openapi.document import PLACEHOLDER, description
from apex.openapi.facts import Known
from apex.openapi.operations import Operations, takes_many
from apex.openapi.parameters import asked, operators, parameters
from apex.openapi.typescript import array, block, commented, declared, identifier, key, literal, member, type_of, union
from apex.query.language import OPERATORS
from apex.service import BoundService
from apex.types import STANDARD, taken_by

Shape = dict[str, Any]

PRELUDE = """\
// Made by `apex openapi --typescript`: what is changed here is lost when it is made again.
import type * as Feathers from '@feathersjs/feathers'

export namespace Apex {
  export type Equal = '$ne' | '$in' | '$nin'
  export type Ordered = Equal | '$gt' | '$gte' | '$lt' | '$lte'

  /** What a field must be: a value, or operators with theirs. */
  export type Where<T, O extends string> =
    | T
    | { [K in O]?: K extends '$in' | '$nin' ? T[] : K extends '$ne' ? T : NonNullable<T> }

  /** The order of a list. */
  export type Sort<C> = { [K in Exclude<keyof C, '$or' | '$and'>]?: 1 | -1 }

  /** The fields that are wanted. */
  export type Select<K> = { $select?: K[] }

  /** A record, of whose fields F `$select` has left K. */
  export type Selected<T, F extends keyof T, K extends F> = [F] extends [K] ? T : Pick<T, K | Exclude<keyof T, F>>

  /** The params of a call that needs a query. */
  export type Asked<Q> = Feathers.Params<Q> & { query: Q }

  /** A page with its total, which may be about right where it is `estimated`. */
  export interface Page<T> extends Feathers.Paginated<T> {
    estimated?: boolean
  }

  /** Asks by cursors, or without a total, and is answered with a `Part`. */
  export type Partly = { $after: string } | { $before: string } | { $total: false | 'false' }

  /** A page that need not have a total. `next` and `previous` are cursors, null where there is nothing further. */
  export interface Part<T> {
    total?: number
    estimated?: boolean
    limit: number
    skip?: number
    next?: string | null
    previous?: string | null
    data: T[]
  }

  export type Event = 'created' | 'updated' | 'patched' | 'removed'

  export interface Events<T> {
    on?(event: Event, listener: (record: T) => void): this
    once?(event: Event, listener: (record: T) => void): this
  }
}
"""

_SCALAR = "Apex.Where<string | number | boolean | null, Apex.Ordered>"
_PAGE = ("$limit?: number", "$skip?: number")
_TOTALS = ("$total?: boolean | 'exact' | 'estimated' | 'true' | 'false'", "$after?: string", "$before?: string")


def declarations(app: Apex) -> str:
    """The text of a file ``*.d.ts``, whose ``ServiceTypes`` are for ``feathers<ServiceTypes>()``."""
    components = Components(app)
    types: dict[str, str] = {}
    services = [
        commented(description(bound), f"{_place(app, path)}: {_Service(components, types, path, bound).written()}")
        for path, bound in app.services.items()
        if bound._options.methods
    ]
    for name, shape in components.spec.components.schemas.items():
        types.setdefault(identifier(name), declared(identifier(name), shape))
    index = commented("The services by their paths.", f"export interface ServiceTypes {block(services)}")
    return "\n".join([PRELUDE, *(f"{text}\n" for text in types.values()), index, ""])


def _place(app: Apex, path: str) -> str:
    """A path as a key; with placeholders it stands for all that they may be filled with.

    Where that would be another service's path too, it stands for itself, to be filled by ``params.route``.
    """
    pattern = PLACEHOLDER.sub("${string}", path)
    matching = re.compile(".*".join(map(re.escape, PLACEHOLDER.split(path)[::2])))
    alone = all(matching.fullmatch(other) is None for other in app.services if other != path)
    return f"[path: `{pattern}`]" if pattern != path and alone else key(path)


class Asked(NamedTuple):
    """What a call may ask: the type of its query, whether there must be one, and whether it selects fields."""

    text: str = ""
    is_needed: bool = False
    selects: bool = False

    @property
    def params(self) -> str:
        if self.is_needed:
            return f"params: Apex.Asked<{self.text}>"
        return f"params?: Feathers.Params<{self.text}>" if self.text else "params?: Feathers.Params"


class _Service:
    """The type of one service. The types that it refers to are kept by their names, of which the first one stays."""

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
        """Declares the record as it is where nothing is selected."""
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

    # What methods take and give.

    def _method(self, method: str) -> Iterator[str]:
        known = Known(self.bound, method)
        query, taken = self._query(method, known), self._taken(method, known)
        result = self.operations.result(method, known)
        if method == "find" and query.selects and result == self.components.page(self.bound):
            partly = Asked(f"{query.text} & Apex.Partly", True, True)
            yield self._called(method, taken, partly, self._given(result, True, "Part"))
        # A list goes first: an object of any form could be one.
        if takes_many(self.bound, method):
            many = ["id: null", *taken[1:]] if method != "create" else [f"data: {array(self._data(method))}"]
            yield self._called(method, many, query, self._given({"type": "array", "items": self.shape}, query.selects))
        yield self._called(method, taken, query, self._given(result, query.selects))

    def _called(self, method: str, taken: list[str], query: Asked, result: str) -> str:
        generic = f"<K extends {self.fields}>" if query.selects and self.wanted == "K" else ""
        return f"{key(method)}{generic}({', '.join([*taken, query.params])}): Promise<{result}>"

    def _taken(self, method: str, known: Known) -> list[str]:
        id = "id: null" if known.collection else "id: Feathers.Id"
        return [id if name == "id" else f"data: {self._data(method)}" for name in taken_by(method)]

    def _data(self, method: str) -> str:
        """The type of what a method takes for one record."""
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
        return f"Apex.{page}<{one}>" if result == self.components.page(self.bound) else type_of(result)

    # What is asked.

    def _query(self, method: str, known: Known) -> Asked:
        if known.query is not None:
            given = parameters(self.components, self.bound, method, known)
            required = [one["name"] for one in given if one.get("required")]
            shapes = {one["name"]: one["schema"] for one in given}
            return Asked(type_of({"type": "object", "properties": shapes, "required": required}), bool(required))
        if not isinstance(self.service, Adapter) or method not in STANDARD:
            return Asked()
        if method == "find":
            required = list(known.requires)
            return Asked(f"{self._list(required)}<{self.wanted}>", bool(required), True)
        conditions = "" if method == "create" else f"{self._conditions()} & "
        return Asked(f"{conditions}Apex.Select<{self.wanted}>", False, True)

    def _conditions(self) -> str:
        name = f"{self.name}Conditions"
        members = [member(field, text, optional=True) for field, text in self._asked().items()]
        members += [f"[key: `{path}.${{string}}`]: {_SCALAR}" for path in self.service.paths]
        members += ["[field: string]: any"] if self.service.syntax.fields is None else []
        members += [f"{word}?: {name}[]" for word in ("$or", "$and")]
        return self._declare(name, f"export interface {name} {block(members)}")

    def _list(self, required: list[str]) -> str:
        name, conditions = f"{self.name}Query", self._conditions()
        members = [member(field, text) for field, text in self._asked().items() if field in required]
        members += [
            member(name, type_of(value_shape(coerce)), optional=name not in required)
            for name, coerce in self.service.filters.items()
        ]
        members += [*_PAGE, *(_TOTALS if self.service.paginate else ())]
        members += [f"$sort?: Apex.Sort<{conditions}>", "$select?: K[]"]
        generic = f"K extends {self.fields} = {self.fields}"
        return self._declare(name, f"export interface {name}<{generic}> extends {conditions} {block(members)}")

    def _asked(self) -> dict[str, str]:
        fields = {field: self._where(shape) for field, shape in asked(self.components, self.bound).items()}
        lists = self.service.syntax.lists.items()
        return fields | {name: f"Apex.Where<{type_of(value_shape(coerce))}, Apex.Equal>" for name, coerce in lists}

    def _where(self, shape: Shape) -> str:
        known = operators(shape, self.service.syntax.operators)
        common = "Apex.Ordered" if "$gt" in known else "Apex.Equal"
        more = [literal(operator) for operator in known if operator not in OPERATORS]
        return f"Apex.Where<{type_of(shape)}, {union([common, *more])}>"
