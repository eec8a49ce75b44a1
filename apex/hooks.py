"""Hooks: what may be registered, and how it becomes one callable per service and method.

Order of a call (Feathers 5): app around, app before, service around, service before, METHOD, service after,
app after; on failure the error hooks of the service, then those of the app. ``all`` runs before the method's own,
for error hooks after them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import get_annotations, isawaitable
from typing import Any, Protocol, Self, TypeVar, cast

from apex.callbacks import has_yield, is_async, name_of, takes, unwrapped
from apex.context import Context
from apex.query.language import suggestion

__all__ = ["AnyHook", "AnyHooks", "Around", "Hook", "HookMap", "Next", "ahead", "behind", "belongs"]

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

AnyHooks = HookMap | Mapping[str, object]
"""A ``HookMap``, or a dict that was put together before. A type checker knows a dict with hooks of several kinds as
``dict[str, object]`` at most. Registration checks each hook in it."""

Chain = Callable[[Context], Coroutine[Any, Any, None]]
Step = tuple[Callable[..., Any], bool]

TYPES = ("around", "before", "after", "error")
LIFECYCLE = ("setup", "teardown")


@dataclass(slots=True)
class HookStore:
    """The hooks registered on an app or a service, in the order in which they came: type to method to functions.

    ``owner`` names it in errors.
    """

    owner: str = "the app"
    by_type: dict[str, dict[str, list[Step]]] = field(default_factory=lambda: {kind: {} for kind in TYPES})
    listed: list[Step] = field(default_factory=list)
    mapped: dict[str, list[Step]] = field(default_factory=dict)

    def add(self, hooks: AnyHooks, methods: Iterable[str], *, later: bool = False) -> None:
        """Take every form of Feathers: a map by type, a list of around hooks, a map of methods to around hooks.

        With ``later``, hooks may name a method of a service that is registered later. ``require_methods`` looks at them
        again. A name that is nearly that of a known method is refused at once. Raises ValueError for an unknown type or
        method, TypeError for a function that cannot be a hook in its place. Then nothing is registered.
        """
        if not isinstance(hooks, Mapping):
            self.listed.extend(self._steps("around", "all", hooks))
            return
        known = tuple(methods)
        found: list[tuple[dict[str, list[Step]], str, list[Step]]] = []
        for kind, method, functions in _entries(hooks):
            if method != "all":
                self._check_method(method, known, later)
            there = self.by_type[kind] if kind else self.mapped
            found.append((there, method, self._steps(kind or "around", method, functions)))
        for there, method, steps in found:
            there.setdefault(method, []).extend(steps)

    def require_methods(self, methods: Iterable[str]) -> None:
        """Raise ValueError for hooks of a method that no service has."""
        known = tuple(methods)
        for method in {name for by_method in (*self.by_type.values(), self.mapped) for name in by_method} - {"all"}:
            self._check_method(method, known, later=False)

    def _steps(self, kind: str, method: str, hooks: Any) -> list[Step]:
        of = "" if method == "all" else f" {method}"
        return steps_of(kind, hooks, f"in {kind}{of} of {self.owner}")

    def _check_method(self, method: str, known: tuple[str, ...], later: bool) -> None:
        if method in known:
            return
        hint = suggestion(method, (*known, *TYPES, *LIFECYCLE))
        if later and not hint:
            return
        reason = f"it has {', '.join(known)}" if self.owner != "the app" else "no service has it"
        raise ValueError(f"'{method}' is not a method of {self.owner}: {reason}.{hint}")

    def steps(self, kind: str, method: str) -> tuple[Step, ...]:
        """The hooks of one type for one method, each with whether it is asynchronous."""
        general, own = self.by_type[kind].get("all", []), self.by_type[kind].get(method, [])
        return tuple(own + general if kind == "error" else general + own)

    def outer(self, method: str) -> tuple[Step, ...]:
        """The around hooks registered as a list, then those registered by method."""
        return (*self.listed, *self.mapped.get("all", ()), *self.mapped.get(method, ()))


def _entries(hooks: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield type, method and functions of a map. In a map of methods to around hooks the type is empty."""
    if not any(key in TYPES for key in hooks):
        yield from (("", method, functions) for method, functions in hooks.items())
        return
    for kind, registered in hooks.items():
        if kind not in TYPES:
            raise ValueError(f"'{kind}' is not a valid hook type.{suggestion(kind, TYPES)}")
        by_method = registered if isinstance(registered, Mapping) else {"all": registered}
        yield from ((kind, method, functions) for method, functions in by_method.items())


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
    hook: Any = None
    try:
        for hook, asynchronous in steps:
            returned = await hook(context) if asynchronous else hook(context)
            if returned is not None:
                if not asynchronous and isawaitable(returned):  # A lambda, or a decorator, around an ``async def``.
                    returned = await returned
                _merge(context, hook, returned)
    except Exception as error:
        blame(error, hook)
        raise
    context.type = outside


def _merge(context: Context, hook: AnyHook, returned: Any) -> None:
    if isinstance(returned, Mapping):
        context.update(returned)
    elif returned is not None and returned is not context:
        kind = type(returned).__name__
        raise TypeError(f"Hook {name_of(hook)} returned {kind}: return nothing, a dict or the context")


def around(steps: Sequence[Step], run: Chain) -> Chain:
    """The around hooks, the first one outermost, about what they enclose."""
    for hook, _ in reversed(steps):
        run = _wrap(hook, run)
    return run


class Composed(ABC):
    """A hook made of other hooks, which goes into a chain by itself."""

    def placed(self, kind: str, place: str) -> Self:
        """Return this hook for a type of hooks. Raises TypeError where it cannot be there."""
        if kind != "around":
            raise TypeError(f"Hook {name_of(self)} {place} cannot be there: register it under 'around'")
        return self

    @abstractmethod
    def wrap(self, inner: Chain) -> Chain:
        """Return a chain with these hooks around another one."""

    @property
    @abstractmethod
    def inside(self) -> dict[str, list[AnyHook]]:
        """The hooks in this one, by when they run: ``before`` or ``after`` the chain inside, or in one of two branches,
        ``then`` or ``else``.
        """


def flat(hook: AnyHook, omit: str = "") -> Iterator[AnyHook]:
    """Yield a hook and all hooks inside of it, without those in the branch to ``omit``."""
    yield hook
    if isinstance(hook, Composed):
        for branch, hooks in hook.inside.items():
            if branch != omit:
                for one in hooks:
                    yield from flat(one, omit)


class ahead(Composed):
    """Around: before hooks that run ahead of the around hooks after this one, such as one that begins a transaction."""

    def __init__(self, *hooks: Hook) -> None:
        self.steps = tuple(steps_of("before", hooks, "in ahead(...)"))

    async def __call__(self, context: Context, next: Next) -> None:
        await run_steps(self.steps, context, "before")
        await next()

    def wrap(self, inner: Chain) -> Chain:
        return _sequence(self.steps, inner, ())

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        return {"before": [hook for hook, _ in self.steps]}


class behind(Composed):
    """Around: after hooks that run once the around hooks after this one, and the method, are done."""

    def __init__(self, *hooks: Hook) -> None:
        self.steps = tuple(steps_of("after", hooks, "in behind(...)"))

    async def __call__(self, context: Context, next: Next) -> None:
        await next()
        await run_steps(self.steps, context, "after")

    def wrap(self, inner: Chain) -> Chain:
        return _sequence((), inner, self.steps)

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        return {"after": [hook for hook, _ in self.steps]}


def _wrap(hook: Any, inner: Chain) -> Chain:
    if isinstance(hook, Composed):
        return hook.wrap(inner)

    async def wrapped(context: Context) -> None:
        try:
            returned = await hook(context, _Next(inner, context))
            if returned is not None and isinstance(returned, Mapping):
                context.update(returned)
        except Exception as error:
            blame(error, hook)
            raise

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


H = TypeVar("H", bound=Callable[..., Any])

_PLACES = "__apex_places__"


def belongs(*places: str) -> Callable[[H], H]:
    """Mark a hook of ``(context)`` with the types that it can be registered as: ``@belongs("before", "around")``.

    Among around hooks it runs in the first of these places: before the hooks that follow, or after them.
    """

    def mark(hook: H) -> H:
        setattr(hook, _PLACES, places)
        return hook

    return mark


def steps_of(kind: str, hooks: Any, place: str = "") -> list[Step]:
    """Return one hook or a list of them as steps. Errors name their ``place``.

    Raises TypeError for an object that cannot be a hook of this type.
    """
    listed = hooks if isinstance(hooks, list | tuple) else [hooks]
    return [_step(kind, hook, place or f"in {kind}") for hook in listed]


def _step(kind: str, hook: Any, place: str) -> Step:
    if not callable(hook):
        raise TypeError(f"A hook must be callable: {hook!r} {place} is not")
    if isinstance(hook, Composed):
        return cast(AnyHook, hook.placed(kind, place)), True
    if (problem := _problem(kind, hook)) is not None:
        raise TypeError(f"Hook {name_of(hook)} {place} {problem}")
    if kind == "around" and (places := getattr(hook, _PLACES, ())):
        hook = (behind if places[0] == "after" else ahead)(hook)
    return hook, is_async(hook)


def _problem(kind: str, hook: Any) -> str | None:
    """Return why a function cannot be a hook of a type and what to do instead, or None where it can."""
    if isinstance(hook, type):
        return "is a class: register an object of it"
    if has_yield(hook):
        return "has 'yield', as hooks do not: let it return, or await next() in an around hook"
    if _makes_hooks(hook):
        return f"makes hooks: call it, as in {name_of(hook)}(...)"
    if places := getattr(hook, _PLACES, ()):
        return None if kind in places else f"cannot be there: register it under {_either(places)}"
    if kind != "around":
        if takes(hook, 1):
            return None
        fix = "register it under 'around'" if takes(hook, 2) else "let it take the context"
        return f"cannot be called with (context), as {_a(kind)} hook is: {fix}"
    if not takes(hook, 2):
        fix = "register it under 'before' or 'after', or as ahead(hook)" if takes(hook, 1) else "let it take both"
        return f"cannot be called with (context, next), as an around hook is: {fix}"
    return None if is_async(hook) else "must be declared with 'async def', as an around hook awaits next()"


def _makes_hooks(hook: Any) -> bool:
    """Return True for a function whose annotation says that it returns a hook, such as ``disallow`` without a call."""
    function = getattr(hook, "func", hook)
    returned = get_annotations(function).get("return") if hasattr(function, "__annotations__") else None
    return returned in ("Hook", "Around", "AnyHook", "AroundOrAfter", Hook, Around, AnyHook)


def _either(places: Sequence[str]) -> str:
    return " or ".join(f"'{place}'" for place in places)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'ae' else 'a'} {kind}"


_RAISER = "__apex_raiser__"


def blame(error: Exception, hook: Any) -> None:
    """Note on an error the hook that has raised it, or None for a method. The innermost note stays."""
    vars(error).setdefault(_RAISER, None if hook is None else _place_of(hook))


def raiser(error: BaseException) -> str | None:
    """Return the name of the hook that has raised an error, such as ``hooks.tenancy.tenancy``, or None.

    A hook that another function has made has the name of that function.
    """
    where: str | None = vars(error).get(_RAISER)
    return where


def _place_of(hook: Any) -> str:
    function = unwrapped(hook)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__.partition('.<locals>')[0]}"
