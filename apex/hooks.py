"""Hooks: what may be registered, and how it becomes one callable per service and method.

Order of a call (Feathers 5): app around, app before, service around, service before, METHOD, service after,
app after; on failure the error hooks of the service, then those of the app. ``all`` runs before the method's own,
for error hooks after them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable, iscoroutinefunction
from traceback import walk_tb
from typing import Any, Protocol

from apex.context import Context

Next = Callable[[], Coroutine[Any, Any, None]]
"""What an around hook awaits to go on."""


class Hook(Protocol):
    """Before, after or error: ``def`` or ``async def``. It returns nothing, or what is laid over the context."""

    def __call__(self, context: Context, /) -> Any: ...


class Around(Protocol):
    """``async def``, which calls ``await next()`` to go on."""

    def __call__(self, context: Context, next: Next, /) -> Awaitable[Any]: ...


AnyHook = Hook | Around
Hooks = AnyHook | Sequence[AnyHook]
HookMap = Hooks | Mapping[str, Hooks | Mapping[str, Hooks]]
"""Every form of Feathers: by type and method, by type, around hooks by method, a list of around hooks."""

Chain = Callable[[Context], Coroutine[Any, Any, None]]
Step = tuple[Callable[..., Any], bool]

TYPES = ("around", "before", "after", "error")
LIFECYCLE = ("setup", "teardown")


@dataclass(slots=True)
class HookStore:
    """The hooks registered on an app or a service, in the order in which they came: type to method to functions."""

    by_type: dict[str, dict[str, list[Step]]] = field(default_factory=lambda: {kind: {} for kind in TYPES})
    listed: list[Step] = field(default_factory=list)
    mapped: dict[str, list[Step]] = field(default_factory=dict)

    def add(self, hooks: HookMap, methods: Sequence[str]) -> None:
        """Takes every form of Feathers: a map by type, a list of around hooks, a map of methods to around hooks.

        Raises ValueError for a type or method that does not exist, TypeError for what cannot be called.
        """
        if not isinstance(hooks, Mapping):
            self.listed.extend(steps_of("around", hooks))
        elif any(key in TYPES for key in hooks):
            for kind, registered in hooks.items():
                self._add_type(kind, registered, methods)
        else:
            for method, functions in hooks.items():
                _check_method(method, methods)
                self.mapped.setdefault(method, []).extend(steps_of("around", functions))

    def _add_type(self, kind: str, registered: Hooks | Mapping[str, Hooks], methods: Sequence[str]) -> None:
        if kind not in TYPES:
            raise ValueError(f"'{kind}' is not a valid hook type")
        by_method = registered if isinstance(registered, Mapping) else {"all": registered}
        for method, functions in by_method.items():
            if method != "all":
                _check_method(method, methods)
            self.by_type[kind].setdefault(method, []).extend(steps_of(kind, functions))

    def steps(self, kind: str, method: str) -> tuple[Step, ...]:
        """The hooks of one type for one method, each with whether it is asynchronous."""
        general, own = self.by_type[kind].get("all", []), self.by_type[kind].get(method, [])
        return tuple(own + general if kind == "error" else general + own)

    def outer(self, method: str) -> tuple[Step, ...]:
        """The around hooks registered as a list, then those registered by method."""
        return (*self.listed, *self.mapped.get(method, ()))


def _is_async(hook: AnyHook) -> bool:
    return iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004


def compose(app: HookStore, service: HookStore, method: str, run: Chain) -> Chain:
    """The one callable of a service's method, with all hooks of app and service around it."""
    inner = around(service.steps("around", method), _level(service, method, run))
    inner = around(service.outer(method), inner)
    outer = around(app.steps("around", method), _level(app, method, inner))
    return around(app.outer(method), outer)


def in_order(app: HookStore, service: HookStore, method: str) -> list[tuple[str, str, AnyHook]]:
    """What ``compose`` makes a chain of: ``app`` or ``service``, the type and the hook, in the order in which they run.

    A type without an entry has no hooks; error hooks come last, as they run when anything before them fails.
    """
    outside, inside = ("app", app), ("service", service)
    found: list[tuple[str, str, tuple[Step, ...]]] = []
    for level, store in (outside, inside):
        found += (level, "around", store.outer(method)), (level, "around", store.steps("around", method))
        found.append((level, "before", store.steps("before", method)))
    found += ((level, "after", store.steps("after", method)) for level, store in (inside, outside))
    found += ((level, "error", store.steps("error", method)) for level, store in (inside, outside))
    return [(level, kind, hook) for level, kind, steps in found for hook, _ in steps]


def _level(store: HookStore, method: str, run: Chain) -> Chain:
    before, after, error = (store.steps(kind, method) for kind in ("before", "after", "error"))
    if before or after:
        run = _sequence(before, run, after)
    return _guarded(error, run) if error else run


def _sequence(before: tuple[Step, ...], run: Chain, after: tuple[Step, ...]) -> Chain:
    async def sequence(context: Context) -> None:
        if before:
            await run_steps(before, context, "before")
        await run(context)
        if after:
            await run_steps(after, context, "after")

    return sequence


def _guarded(error: tuple[Step, ...], run: Chain) -> Chain:
    async def guarded(context: Context) -> None:
        outside = context.type
        try:
            await run(context)
        except Exception as failure:
            _fail(context, failure)
            context.type = outside
            try:
                await run_steps(error, context, "error")
            except Exception as replaced:
                context.error = replaced
                raise
            if not context.has_result:
                raise context.error or failure from None

    return guarded


def _fail(context: Context, failure: Exception) -> None:
    context.original = context.copy()
    context.error = failure
    del context.result


async def run_steps(steps: tuple[Step, ...], context: Context, kind: str) -> None:
    """A hook that fails leaves its type in the context, for ``context.original``."""
    outside, context.type = context.type, kind
    for hook, asynchronous in steps:
        returned = await hook(context) if asynchronous else hook(context)
        if returned is not None:
            _merge(context, hook, returned)
    context.type = outside


def _merge(context: Context, hook: AnyHook, returned: Any) -> None:
    if isinstance(returned, Mapping):
        context.update(returned)
    elif isawaitable(returned):
        if hasattr(returned, "close"):
            returned.close()
        raise TypeError(f"Hook {_name(hook)} returned an awaitable: declare it with 'async def'")
    elif returned is not context:
        raise TypeError(f"Hook {_name(hook)} returned {type(returned).__name__}: return nothing, a dict or the context")


def around(steps: Sequence[Step], run: Chain) -> Chain:
    """The around hooks, the first one outermost, about what they enclose."""
    for hook, _ in reversed(steps):
        run = _wrap(hook, run)
    return run


class ahead:
    """Around: before hooks that run ahead of the around hooks after this one, such as one that begins a transaction."""

    def __init__(self, *hooks: Hook) -> None:
        self.steps = tuple(steps_of("before", hooks))

    async def __call__(self, context: Context, next: Next) -> None:
        await run_steps(self.steps, context, "before")
        await next()


def _wrap(hook: Around, inner: Chain) -> Chain:
    if isinstance(hook, ahead):
        return _sequence(hook.steps, inner, ())

    async def wrapped(context: Context) -> None:
        returned = await hook(context, _Next(inner, context))
        if returned is not None and isinstance(returned, Mapping):
            context.update(returned)

    return wrapped


class _Next:
    """What an around hook calls to go on, once."""

    __slots__ = ("called", "context", "inner")

    def __init__(self, inner: Chain, context: Context) -> None:
        self.inner, self.context, self.called = inner, context, False

    def __call__(self) -> Coroutine[Any, Any, None]:
        if self.called:
            raise RuntimeError("next() called multiple times")
        self.called = True
        return self.inner(self.context)


def steps_of(kind: str, hooks: Any) -> list[Step]:
    """One hook or a list of them, each with whether it is asynchronous. Raises TypeError for what cannot be a hook."""
    steps = [(hook, _is_async(hook)) for hook in (hooks if isinstance(hooks, list | tuple) else [hooks])]
    for hook, asynchronous in steps:
        if not callable(hook):
            raise TypeError(f"A hook must be callable, not {hook!r}")
        if kind == "around" and not asynchronous:
            raise TypeError(f"Around hook {_name(hook)} must be declared with 'async def'")
    return steps


def _check_method(method: str, methods: Sequence[str]) -> None:
    if methods and method not in methods:
        raise ValueError(f"'{method}' is not a method of this service: it has {', '.join(methods)}")


def _name(hook: AnyHook) -> str:
    return getattr(hook, "__qualname__", type(hook).__name__)


def raiser(error: BaseException) -> str | None:
    """The hook that has raised an error, such as ``hooks.tenancy.tenancy``; None where it was the method, or no hook.

    It is the one that the hooks' own functions called last, as the traceback says: a call that succeeds pays nothing.
    """
    found, caller = None, None
    for frame, _ in walk_tb(error.__traceback__):
        code = frame.f_code
        if caller == "run":
            found = None
        elif caller == "hook":
            found = f"{frame.f_globals.get('__name__')}.{code.co_qualname.partition('.<locals>')[0]}"
        caller = _CALLERS.get(code.co_qualname) if code.co_filename in _FILES else None
    return None if found is None else found.removesuffix(".__call__")


_CALLERS = {"run_steps": "hook", "_wrap.<locals>.wrapped": "hook", "_runner.<locals>.run": "run"}
_FILES = {__file__, __file__.replace("hooks.py", "service.py")}
"""Who calls hooks, and methods: the innermost of them tells whose error it is."""
