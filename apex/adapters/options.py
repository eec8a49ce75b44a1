"""The options of adapters, and the checks that refuse wrong ones when a service is made or registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from apex.adapters.aggregates import Aggregate
from apex.adapters.pages import is_pagination
from apex.errors import BadRequest
from apex.query.coercion import Coerce
from apex.query.language import PATTERNS, suggestion
from apex.relations.declarations import Relation
from apex.types import Paginate

if TYPE_CHECKING:
    from apex.adapters.base import Adapter

MULTI = ("create", "patch", "remove")
"""The methods that may take many records at once."""


class AdapterOptions(TypedDict, total=False):
    """The options that the constructor of an adapter takes by name. ``Adapter`` describes them."""

    id: str
    paginate: Paginate
    multi: bool | Sequence[str]
    operators: Sequence[str]
    filters: Mapping[str, Coerce]
    private: Sequence[str]
    on_demand: Sequence[str]
    merge: Sequence[str]
    paths: Mapping[str, Any]
    lists: Mapping[str, Coerce]
    trash: str | None
    relations: Mapping[str, Relation]
    searchable: Sequence[str]
    natural_key: Sequence[str]
    aggregates: Mapping[str, Aggregate]
    json: bool
    methods: Sequence[str]
    events: Sequence[str]


def require_options(adapter: Adapter[Any]) -> None:
    """Raise TypeError for an option of a wrong form."""
    for name in ("operators", "private", "on_demand", "merge", "searchable", "natural_key"):
        if isinstance(listed := getattr(adapter, name), str):
            raise TypeError(f"{name} takes a list of names such as ['{listed}'], not {listed!r}")
    if not isinstance(adapter.lists, Mapping) or not all(map(callable, adapter.lists.values())):
        raise TypeError(f"lists takes a dict of fields and functions such as {{'tags': text}}, not {adapter.lists!r}")
    if adapter.served is not None and (unknown := [name for name in adapter.operators if name not in adapter.served]):
        further = ", ".join(sorted(PATTERNS.intersection(adapter.served)))
        raise TypeError(f"{type(adapter).__name__} cannot serve the operator {unknown[0]}: there are {further}")
    if not isinstance(adapter.multi, bool) and not set(adapter.multi) <= set(MULTI):
        raise TypeError(f"multi takes True, False or a list of {', '.join(MULTI)}, not {adapter.multi!r}")
    if adapter.paginate and not is_pagination(adapter.paginate):
        raise TypeError(
            f"paginate takes False or a dict such as {{'default': 10, 'max': 100}}, not {adapter.paginate!r}"
        )
    if adapter.id in adapter.on_demand:
        raise TypeError("The id cannot be on_demand: every record has it")
    if adapter.id in adapter.private:
        raise TypeError("The id cannot be private: callers ask for records by it")
    for name, aggregate in adapter.aggregates.items():
        if not isinstance(aggregate, Aggregate):
            raise TypeError(f"aggregates takes a dict such as {{'{name}': Aggregate(count=True)}}, not {aggregate!r}")
        if hasattr(adapter, name):
            raise TypeError(f"An aggregate cannot have the name '{name}', which {type(adapter).__name__} has already")


def require_fields(path: str, adapter: Adapter[Any]) -> None:
    """Raise TypeError for an option with the name of a field that the adapter does not have."""
    columns = adapter.columns or {}
    trash = [] if adapter.trash is None else [adapter.trash]
    named = {"id": [adapter.id], "private": adapter.private, "on_demand": adapter.on_demand, "merge": adapter.merge,
             "lists": adapter.lists, "trash": trash, "searchable": adapter.searchable,
             "natural_key": adapter.natural_key}  # fmt: skip
    for option, names in named.items():
        for name in names:
            if name not in columns:
                hint = suggestion(name, columns)
                raise TypeError(f"Option {option} of service '{path}' names '{name}', which is no field.{hint}")
    if hidden := set(adapter.searchable).intersection(adapter.private):
        raise TypeError(f"Option searchable of service '{path}' names '{hidden.pop()}', which is private")
    for name, aggregate in adapter.aggregates.items():
        try:
            aggregate.require(adapter)
        except BadRequest as error:
            raise TypeError(f"The aggregate '{name}' of service '{path}' is wrong: {error}") from None
