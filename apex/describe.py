"""Descriptions of services: the facts that hooks and methods declare of themselves, and the hooks of a method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from apex.hooks import AnyHook, Composed, ErrorHooks, Step, Steps

__all__ = ["ANY", "Example", "Facts", "Related", "describe"]

T = TypeVar("T")

_NAME = "__facts__"

ANY = "*"

Methods = Collection[str] | Callable[[Any, str], bool]


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a hook or a method. Shapes are JSON Schemas or marshmallow schemas.

    For a method, a shape may also be a function that returns the one of a service.

    ``methods`` are the methods that the facts are about (empty: all), or a function of service and method.
    ``strategies`` are the accepted strategies of authentication (``ANY``: each of them, or none). ``data`` and
    ``query`` are the shapes of requests by method. ``requires`` maps required keys of a query to a sentence each.
    ``sends`` are headers of a request and ``answers`` headers of a response, in the form of OpenAPI. ``result`` is the
    shape of the result, or ``"record"`` or ``"page"`` for those of the service. ``content_types`` are its media types.
    ``adds`` are fields that a hook adds to the records. ``statuses`` replace the usual status, and ``errors`` are the
    codes of failures. ``collection`` is True for a method that takes no id.
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
        """Return True if the facts are about a method of a service."""
        if callable(self.methods):
            return self.methods(service, method)
        return not self.methods or method in self.methods


@dataclass(frozen=True, slots=True)
class Example:
    """The arguments of a call that works, for the attribute ``examples`` of a service, by method.

    ``route`` fills the placeholders of the service's path::

        examples = {"create": Example(data={"text": "Hello"})}
    """

    id: Any = None
    data: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)
    route: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Related(NamedTuple):
    """The shape of a record of another service with some of its fields, or of a list of such records."""

    service: str
    fields: Sequence[str] | Callable[[Any], Any]
    many: bool


def describe(**facts: Any) -> Callable[[T], T]:
    """Return a decorator that declares ``Facts`` of a hook, a method or a function that reads a value."""

    def described(thing: T) -> T:
        setattr(thing, _NAME, Facts(**facts))
        return thing

    return described


def facts_of(thing: Any) -> Facts | None:
    """Return the declared facts of a hook, a method or a function, or None."""
    facts: Facts | None = getattr(thing, _NAME, None)
    return facts


def in_order(steps: Steps) -> Iterator[Step]:
    """Yield the hooks and the method in the order in which they run. Error hooks come last."""
    errors: Steps = ()
    open_steps = list(reversed(steps))
    while open_steps:
        step = open_steps.pop()
        if isinstance(step.hook, ErrorHooks):
            errors = step.hook.steps + errors
        else:
            yield step
        open_steps += reversed(step.inner or ())
    yield from errors


def hooks_in(steps: Steps, omit: str = "") -> Iterator[AnyHook]:
    """Yield all hooks of a call in their order, with those inside of others. ``omit`` names a branch to leave out."""
    for step in in_order(steps):
        yield from flat(step.hook, omit)


def flat(hook: AnyHook, omit: str = "") -> Iterator[AnyHook]:
    """Yield a hook and all hooks inside of it. ``omit`` names a branch to leave out."""
    yield hook
    if isinstance(hook, Composed):
        for branch, hooks in hook.inside.items():
            if branch != omit:
                for one in hooks:
                    yield from flat(one, omit)
