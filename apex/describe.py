"""What hooks and methods say of themselves, so that a description of a service is made of what it consists of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

__all__ = ["ANY", "Example", "Facts", "Related", "describe"]

T = TypeVar("T")

_NAME = "__facts__"

ANY = "*"

Methods = Collection[str] | Callable[[Any, str], bool]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of the calls that something takes part in. Shapes are JSON Schemas or schemas of marshmallow.

    ``methods`` are those that it is true of (empty: all), or a function of service and method. ``strategies`` are the
    ways to prove who one is (``ANY``: all that there are, and none), ``data`` and ``query`` the shapes of what is sent,
    by method. ``requires`` names keys of a query, each with a sentence about it. ``sends`` are headers of a request,
    ``answers`` those of a response, as OpenAPI describes them.
    ``result`` is what comes back: a shape, or ``"record"`` or ``"page"`` for those of the service; ``content_types``
    are those that it may have. ``adds`` are fields beside those of a record. ``statuses`` replace the usual one,
    ``errors`` are the codes of failures. ``collection`` tells that a method is called without an id.
    """

    methods: Methods = ()
    strategies: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)
    sends: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    content_types: Sequence[str] = ()
    adds: Mapping[str, Any] = field(default_factory=dict)
    statuses: Sequence[int] = ()
    errors: Sequence[int] = ()
    collection: bool = False

    def holds(self, service: Any, method: str) -> bool:
        if callable(self.methods):
            return self.methods(service, method)
        return not self.methods or method in self.methods


@dataclass(frozen=True, slots=True)
class Example:
    """A call that works, of a method that a service's ``examples`` name it for: what it is given. ``route`` fills the
    placeholders of the service's path.
    """

    id: Any = None
    data: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)
    route: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Related(NamedTuple):
    """The shape of a record of another service, cut to some fields, or of a list of them."""

    service: str
    fields: Sequence[str] | Callable[[Any], Any]
    many: bool


def describe(**facts: Any) -> Callable[[T], T]:
    """A decorator that states ``Facts`` of a hook, a method or a function that reads a value."""

    def described(thing: T) -> T:
        setattr(thing, _NAME, Facts(**facts))
        return thing

    return described


def facts_of(thing: Any) -> Facts | None:
    facts: Facts | None = getattr(thing, _NAME, None)
    return facts
