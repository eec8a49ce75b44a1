"""Hooks that depend on the call: on its provider, or on any other condition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Any

from apex.callbacks import is_async, takes
from apex.context import Context
from apex.errors import MethodNotAllowed
from apex.hooks import AnyHook, Chain, Composed, Hook, Step, around, belongs, run_steps, steps_of

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
        self.then: tuple[Step, ...] = _unplaced(hooks)
        self.otherwise: tuple[Step, ...] = ()

    def else_(self, *hooks: AnyHook) -> iff:
        """Add the hooks that run if the predicate does not hold."""
        self.otherwise = _unplaced(hooks)
        return self

    def placed(self, kind: str, place: str) -> iff:
        """Return this hook for a type of hooks. Raises TypeError if a hook inside cannot be of that type."""
        other = iff(self.predicate)
        other.then, other.otherwise = (
            tuple(steps_of(kind, [hook for hook, _ in steps], f"in iff {place}"))
            for steps in (self.then, self.otherwise)
        )
        return other

    def wrap(self, inner: Chain) -> Chain:
        """Return a chain with the hooks of one of the two branches around ``inner``."""
        then, otherwise = around(self.then, inner), around(self.otherwise, inner)

        async def chosen(context: Context) -> None:
            await (then if await self._holds(context) else otherwise)(context)

        return chosen

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        """The hooks of the branches ``then`` and ``else``."""
        branches = {"then": self.then, "else": self.otherwise}
        return {branch: [hook for hook, _ in steps] for branch, steps in branches.items() if steps}

    async def __call__(self, context: Context) -> None:
        if steps := self.then if await self._holds(context) else self.otherwise:
            await run_steps(steps, context, context.type)

    async def _holds(self, context: Context) -> bool:
        if isinstance(self.predicate, bool):
            return self.predicate
        answer = self.predicate(context)
        return answer if isinstance(answer, bool) else await as_bool(answer)


async def as_bool(answer: Any) -> bool:
    """Return the answer of a predicate, ``def`` or ``async def``, as a bool."""
    return bool(await answer if isawaitable(answer) else answer)


def _unplaced(hooks: Iterable[AnyHook]) -> tuple[Step, ...]:
    return tuple((hook, is_async(hook)) for hook in hooks)
