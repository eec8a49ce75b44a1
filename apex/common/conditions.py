"""Hooks that depend on the call: on its provider, or on any other condition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Any

from apex.context import Context
from apex.errors import MethodNotAllowed
from apex.hooks import AnyHook, Composed, Hook, Next, Step, Steps, belongs, enclose, run, steps_of
from apex.signatures import is_async, takes

Predicate = Callable[[Context], bool | Awaitable[bool]]
"""A function of the context, ``def`` or ``async def``, that returns True or False."""


def is_provider(*providers: str) -> Callable[[Context], bool]:
    """Return a predicate: the call comes from one of ``rest``, ``socketio``, ``external`` (either) or ``server``."""

    def is_provider(context: Context) -> bool:
        provider = context.params.get("provider")
        return provider in providers or ("external" if provider else "server") in providers

    return is_provider


def disallow(*providers: str) -> Hook:
    """Refuse calls from these providers, or without any provider all calls: before or around.

    Raises MethodNotAllowed.
    """
    is_refused = is_provider(*providers or ("external", "server"))

    @belongs("before", "around")
    def disallow(context: Context) -> None:
        if is_refused(context):
            caller = context.params.provider or "server"
            raise MethodNotAllowed(f"Provider '{caller}' can not call '{context.method}'. (disallow)")

    return disallow


def is_not(predicate: Predicate) -> Predicate:
    """Return a predicate that holds if the given one does not."""
    require_predicates("is_not", (predicate,))

    async def is_not(context: Context) -> bool:
        return not await as_bool(predicate(context))

    return is_not


def every(*predicates: Predicate) -> Predicate:
    """Return a predicate that holds if all of these hold. They are asked in order, up to the first that does not."""
    require_predicates("every", predicates)

    async def every(context: Context) -> bool:
        for predicate in predicates:
            if not await as_bool(predicate(context)):
                return False
        return True

    return every


def some(*predicates: Predicate) -> Predicate:
    """Return a predicate that holds if one of these holds. They are asked in order, up to the first that does."""
    require_predicates("some", predicates)

    async def some(context: Context) -> bool:
        for predicate in predicates:
            if await as_bool(predicate(context)):
                return True
        return False

    return some


def require_predicates(name: str, predicates: Iterable[Any]) -> None:
    """Raise TypeError for a predicate that is no function of the context."""
    for predicate in predicates:
        if not callable(predicate) or isinstance(predicate, type) or not takes(predicate, 1):
            raise TypeError(f"{name} takes functions of the context, not {predicate!r}")


class iff(Composed):
    """Hooks that run if a predicate holds.

        iff(is_provider("external"), keep("name")).else_(discard("note"))

    All of them have the type that this hook is registered for. Raises TypeError for a predicate that is neither a
    function of the context nor a bool.
    """

    def __init__(self, predicate: Predicate | bool, *hooks: AnyHook) -> None:
        if not isinstance(predicate, bool) and not (callable(predicate) and takes(predicate, 1)):
            raise TypeError(f"iff needs a function of the context, or a bool, before its hooks: not {predicate!r}")
        self.predicate: Predicate | bool = predicate
        self.then: Steps = _unplaced(hooks)
        self.otherwise: Steps = ()
        self._branches: tuple[Steps, Steps] | None = None

    def else_(self, *hooks: AnyHook) -> iff:
        """Set the hooks that run if the predicate does not hold."""
        self.otherwise = _unplaced(hooks)
        return self

    def placed(self, type: str, place: str) -> iff:
        """Return this hook for a type of hooks. Raises TypeError if a hook inside cannot be of that type."""
        other = iff(self.predicate)
        other.then, other.otherwise = (
            steps_of(type, [step.hook for step in steps], f"in iff {place}") for steps in (self.then, self.otherwise)
        )
        return other

    def enclose(self, inner: Steps) -> Steps:
        """Return a step that runs one of the two branches around the ``inner`` steps."""
        other = iff(self.predicate)
        other.then, other.otherwise = self.then, self.otherwise
        other._branches = enclose(self.then, inner), enclose(self.otherwise, inner)
        return (Step("around", other, True, inner=inner),)

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        """The hooks of the branches ``then`` and ``else``."""
        branches = {"then": self.then, "else": self.otherwise}
        return {branch: [step.hook for step in steps] for branch, steps in branches.items() if steps}

    async def __call__(self, context: Context, next: Next | None = None) -> None:
        """Run the hooks of one branch, as an around hook with all that they enclose."""
        holds = self.predicate if isinstance(self.predicate, bool) else self.predicate(context)
        if not isinstance(holds, bool):
            holds = await as_bool(holds)
        then, otherwise = self._branches or (self.then, self.otherwise)
        if steps := then if holds else otherwise:
            await run(steps if steps[0].type else _retyped(steps, context.type), context)


when = iff
"""The other name of ``iff`` in feathers-hooks-common."""


def unless(predicate: Predicate | bool, *hooks: AnyHook) -> iff:
    """Return hooks that run if a predicate does not hold."""
    return iff(not predicate if isinstance(predicate, bool) else is_not(predicate), *hooks)


def combine(*hooks: AnyHook) -> iff:
    """Return several hooks as one, such as those that many services share. They run in their order."""
    return iff(True, *hooks)


async def as_bool(answer: Any) -> bool:
    """Return the answer of a predicate, ``def`` or ``async def``, as a bool."""
    return bool(await answer if isawaitable(answer) else answer)


def _unplaced(hooks: Iterable[AnyHook]) -> Steps:
    return tuple(Step("", hook, is_async(hook)) for hook in hooks)


def _retyped(steps: Steps, type: str) -> Steps:
    """Return the steps of a hook that another hook calls, without being registered."""
    return tuple(step._replace(type=type) for step in steps)
