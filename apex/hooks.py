"""Hooks: where they can be registered, and the order in which they run.

The hooks of a call run in this order (Feathers 5). The app's come first, then those of the service::

    around the app          a list of around hooks, a map by method, then the type "around"
    before of the app
    around the service      in the same order
    before of the service
    THE METHOD
    after of the service
    after of the app

An around hook runs everything below it, and at its own level everything between "before" and "after", when it calls
``next()``. In each place hooks for all methods run before those of the method.

If a step fails, the error hooks of its level run: for the service those of the method, then those for all methods, and
then the error hooks of the app. They are inside of the around hooks of their level. A result that they set answers the
call, and the error hooks of the app do not run.

Without a transaction each statement commits alone. A hook such as ``transaction`` of ``apex.common`` opens one around
``next()``. It commits what the steps inside of it store: the before hooks of its level, the method and the after hooks
of its level. Checks that must run before the transaction begins belong in a ``run_before`` that is listed before it.
Events and ``after_commit`` wait for the commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar, cast

from apex._moved import renamed
from apex.context import Context
from apex.query.language import suggestion
from apex.signatures import is_async, name_of, problem_of_hook, unwrapped

__all__ = [
    "AnyHook", "AnyHooks", "Around", "Hook", "HookMap", "Next", "belongs", "keeps_result", "run_after", "run_before",
]  # fmt: skip

Next = Callable[[], Coroutine[Any, Any, None]]
"""The function that an around hook awaits to go on."""


class Hook(Protocol):
    """A before, after or error hook, ``def`` or ``async def``. It may return a dict to update the context with."""

    def __call__(self, context: Context, /) -> Any: ...


class Around(Protocol):
    """An around hook: an ``async def`` that calls ``await next()`` to go on."""

    def __call__(self, context: Context, next: Next, /) -> Awaitable[Any]: ...


AnyHook = Hook | Around
Hooks = AnyHook | Sequence[AnyHook]
HookMap = Hooks | Mapping[str, Hooks | Mapping[str, Hooks]]
"""Every form of Feathers: by type and method, by type, around hooks by method, a list of around hooks."""

AnyHooks = HookMap | Mapping[str, object]
"""A ``HookMap``, or a dict that a variable holds: type checkers infer ``dict[str, object]`` for hooks of several kinds.
Registration checks each hook in it."""

TYPES = ("around", "before", "after", "error")
LIFECYCLE = ("setup", "teardown")


class Step(NamedTuple):
    """A hook in its place, or the method. ``inner`` are the steps that an around hook runs with ``next()``."""

    type: str
    hook: Callable[..., Any]
    is_async: bool
    level: str = ""
    inner: Steps | None = None

    @property
    def is_method(self) -> bool:
        """True for the method of the service."""
        return self.type == "around" and self.inner is None


Steps = tuple[Step, ...]


async def run(steps: Steps, context: Context, runs: list[None] | None = None) -> None:
    """Run steps one after the other. A step that fails leaves its type in ``context.type``, for ``context.original``.

    ``runs`` is given for the ``next()`` of an around hook. A second run raises RuntimeError.
    """
    if runs is not None:
        if runs:
            raise RuntimeError("next() called multiple times")
        runs.append(None)
    outside, hook = context.type, None
    try:
        for type, hook, is_async, _, inner in steps:
            context.type = type
            if inner is not None:
                returned = await hook(context, partial(run, inner, context, []))
                if returned is not None and isinstance(returned, Mapping):
                    context.update(returned)
            else:
                returned = await hook(context) if is_async else hook(context)
                if returned is not None:
                    if not is_async and isawaitable(returned):  # A lambda, or a decorator, around an ``async def``.
                        returned = await returned
                    _merge(context, hook, returned)
    except Exception as error:
        blame(error, hook)
        raise
    context.type = outside


def _merge(context: Context, hook: Any, returned: Any) -> None:
    if isinstance(returned, Mapping):
        context.update(returned)
    elif returned is not None and returned is not context:
        kind = type(returned).__name__
        raise TypeError(f"Hook {name_of(hook)} returned {kind}: return nothing, a dict or the context")


def steps_of_call(app: HookStore, service: HookStore, method: str, call: Steps) -> Steps:
    """Return the steps of a service's method: all hooks of app and service around ``call``, which runs the method."""
    return app.enclose(method, service.enclose(method, call))


def enclose(hooks: Iterable[Step], inner: Steps) -> Steps:
    """Return steps with around hooks, the first one outermost, around the ``inner`` steps."""
    for step in reversed(list(hooks)):
        wrapped = step.hook.enclose(inner) if isinstance(step.hook, Composed) else (step._replace(inner=inner),)
        inner = tuple(one if one.level else one._replace(level=step.level) for one in wrapped)
    return inner


class ErrorHooks:
    """The around hook that runs the error hooks of a level if a step inside of it fails."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    async def __call__(self, context: Context, next: Next) -> None:
        outside = context.type
        try:
            await next()
        except Exception as failure:
            context.original = context.copy()
            context.error = failure
            del context.result
            context.type = outside
            try:
                await run(self.steps, context)
            except Exception as replaced:
                context.error = replaced
                raise
            if not context.has_result:
                error = context.error or failure
                blame(error, None)
                raise error from None


class HookStore:
    """The hooks registered on the app, or on the service at a path."""

    def __init__(self, path: str | None = None) -> None:
        self.level = "app" if path is None else "service"
        self.owner: str = "the app" if path is None else f"service '{path}'"
        # By type and method, each in the order of registration. A list of around hooks and a map by method have types
        # of their own, as they are outside of those that are registered as "around".
        self._steps: dict[tuple[str, str], Steps] = defaultdict(tuple)

    def add(self, hooks: AnyHooks, methods: Iterable[str], *, later: bool = False) -> None:
        """Register hooks in any form of ``HookMap``.

        With ``later``, hooks may name a method of a service that is registered later. ``require_methods`` checks them
        again. A name that is similar to that of a known method is refused at once. Raises ValueError for an unknown
        type or method, and TypeError for a function that cannot be a hook in its place. Then nothing is registered.
        """
        known = tuple(methods)
        found: list[tuple[str, str, Steps]] = []
        for type, method, functions in _entries(hooks):
            if method != "all":
                self._check_method(method, known, later)
            kind = type if type in TYPES else "around"
            of = "" if method == "all" else f" {method}"
            steps = steps_of(kind, functions, f"in {kind}{of} of {self.owner}", self.level)
            found.append((type, method, steps))
        for type, method, steps in found:
            self._steps[type, method] += steps

    def require_methods(self, methods: Iterable[str]) -> None:
        """Raise ValueError for hooks of a method that no service has."""
        known = tuple(methods)
        for method in {method for _, method in self._steps} - {"all"}:
            self._check_method(method, known, later=False)

    def _check_method(self, method: str, known: tuple[str, ...], later: bool) -> None:
        if method in known:
            return
        hint = suggestion(method, (*known, *TYPES, *LIFECYCLE))
        if later and not hint:
            return
        reason = f"it has {', '.join(known)}" if self.level == "service" else "no service has it"
        raise ValueError(f"'{method}' is not a method of {self.owner}: {reason}.{hint}")

    def __iter__(self) -> Iterator[Step]:
        """Yield the hooks of all types and methods."""
        for steps in self._steps.values():
            yield from steps

    def steps(self, type: str, method: str) -> Steps:
        """Return the hooks of one type for a method: those for all methods first, but error hooks last."""
        general, own = self._steps.get((type, "all"), ()), self._steps.get((type, method), ())
        return own + general if type == "error" else general + own

    def around(self, method: str) -> Steps:
        """Return the around hooks for a method, the first one outermost."""
        return tuple(step for type in (_LIST, _MAP, "around") for step in self.steps(type, method))

    def enclose(self, method: str, inner: Steps) -> Steps:
        """Return steps with all hooks of this level for a method around the ``inner`` steps."""
        inner = (*self.steps("before", method), *inner, *self.steps("after", method))
        if error := self.steps("error", method):
            inner = (Step("around", ErrorHooks(error), True, self.level, inner),)
        return enclose(self.around(method), inner)


_LIST, _MAP = "a list", "a map by method"


def _entries(hooks: AnyHooks) -> Iterator[tuple[str, str, Any]]:
    """Yield type, method and functions of hooks in any form."""
    if not isinstance(hooks, Mapping):
        yield _LIST, "all", hooks
    elif not any(key in TYPES for key in hooks):
        yield from ((_MAP, method, functions) for method, functions in hooks.items())
    else:
        for type, registered in hooks.items():
            if type not in TYPES:
                raise ValueError(f"'{type}' is not a valid hook type.{suggestion(type, TYPES)}")
            by_method = registered if isinstance(registered, Mapping) else {"all": registered}
            yield from ((type, method, functions) for method, functions in by_method.items())


class Composed(ABC):
    """A hook that is made of other hooks, such as ``run_before``."""

    def placed(self, type: str, place: str) -> Self:
        """Return this hook for a type of hooks. Raises TypeError where it cannot be there."""
        if type != "around":
            raise TypeError(f"Hook {name_of(self)} {place} cannot be there: register it under 'around'")
        return self

    @abstractmethod
    def enclose(self, inner: Steps) -> Steps:
        """Return steps with the hooks of this one around the ``inner`` steps."""

    async def __call__(self, context: Context, next: Next) -> None:
        """Run as an around hook that another hook calls."""
        await run(self.enclose((Step("around", lambda _: next(), True),)), context)

    @property
    @abstractmethod
    def inside(self) -> dict[str, list[AnyHook]]:
        """The hooks inside of this one: those ``before`` and ``after`` the steps that it encloses, or those of its
        branches ``then`` and ``else``.
        """


class run_before(Composed):
    """An around hook that runs before hooks, and then the around hooks that follow.

    So a check can run before a hook that begins a transaction: ``{"around": [run_before(check), transaction]}``.
    """

    def __init__(self, *hooks: Hook) -> None:
        self.steps: Steps = steps_of("before", hooks, "in run_before(...)")

    def enclose(self, inner: Steps) -> Steps:
        """Return the before hooks, followed by the ``inner`` steps."""
        return self.steps + inner

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        return {"before": [step.hook for step in self.steps]}


class run_after(Composed):
    """An around hook that runs after hooks, once the around hooks that follow it and the method have ended."""

    def __init__(self, *hooks: Hook) -> None:
        self.steps: Steps = steps_of("after", hooks, "in run_after(...)")

    def enclose(self, inner: Steps) -> Steps:
        """Return the ``inner`` steps, followed by the after hooks."""
        return inner + self.steps

    @property
    def inside(self) -> dict[str, list[AnyHook]]:
        return {"after": [step.hook for step in self.steps]}


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


_KEEPS = "__apex_keeps_result__"


def keeps_result(hook: H, when: Callable[[Context], bool] | None = None) -> H:
    """Mark an around or after hook that changes neither the result of a call nor its event. Use it as a decorator, too.

    An app with a log (``apex.log``) stores a record and its entry in one statement if all around and after hooks of the
    method are marked. Then a hook that fails does not undo the write. Otherwise the call is a transaction that ends
    after all hooks. For a hook that changes the results of some calls, ``when`` is a function of the context, which is
    called before the method and returns True if the hook will not change the result.
    """
    setattr(hook, _KEEPS, when or _always)
    return hook


def _always(context: Context) -> bool:
    return True


def result_keepers(steps: Steps) -> list[Callable[[Context], bool]] | None:
    """Return the functions ``when`` of hooks that are marked with ``keeps_result``, or None if a hook is not marked."""
    hooks: list[Any] = []
    waiting = list(steps)
    while waiting:
        step = waiting.pop()
        waiting += step.inner or ()
        if step.type in ("around", "after") and not step.is_method and not isinstance(step.hook, ErrorHooks):
            hooks += _inside(step.hook)
    found = [getattr(unwrapped(hook), _KEEPS, None) for hook in hooks]
    return None if None in found else [when for when in found if when is not None and when is not _always]


def _inside(hook: Any) -> list[Any]:
    """Return a hook, or the around and after hooks that it is made of."""
    if not isinstance(hook, Composed):
        return [hook]
    branches = [hooks for branch, hooks in hook.inside.items() if branch != "before"]
    return [one for hooks in branches for inner in hooks for one in _inside(inner)]


def steps_of(type: str, hooks: Any, place: str, level: str = "") -> Steps:
    """Return one hook or a list of them as steps of a level. Errors name their ``place``.

    Raises TypeError for an object that cannot be a hook of this type.
    """
    listed = hooks if isinstance(hooks, list | tuple) else [hooks]
    return tuple(_step(type, hook, place, level) for hook in listed)


def _step(type: str, hook: Any, place: str, level: str) -> Step:
    if isinstance(hook, Composed):
        return Step(type, cast(Callable[..., Any], hook.placed(type, place)), True, level)
    if not callable(hook):
        raise TypeError(f"A hook must be callable: {hook!r} {place} is not")
    if _makes_hooks(hook):
        raise TypeError(f"Hook {name_of(hook)} {place} makes hooks: call it, as in {name_of(hook)}(...)")
    places: tuple[str, ...] = getattr(hook, _PLACES, ())
    if (problem := problem_of_hook(type, hook, places)) is not None:
        raise TypeError(f"Hook {name_of(hook)} {place} {problem}")
    if type == "around" and places:
        hook = (run_after if places[0] == "after" else run_before)(hook)
    return Step(type, hook, is_async(hook), level)


_HOOKS = (Hook, Around, AnyHook)


def _makes_hooks(hook: Any) -> bool:
    """Return True for a function whose annotation says that it returns a hook, such as ``disallow`` without a call."""
    # The annotations of a mock are None.
    annotations = getattr(getattr(hook, "func", hook), "__annotations__", None) or {}
    made = annotations.get("return")
    return made in ("Hook", "Around", "AnyHook", "AroundOrAfter") if isinstance(made, str) else made in _HOOKS


_RAISER = "__apex_raiser__"


def blame(error: Exception, hook: Any) -> None:
    """Note on an error the hook that has raised it, or None for a method. The innermost note stays."""
    where: str | None = None
    if hook is not None:
        function = unwrapped(hook)
        named = function if hasattr(function, "__qualname__") else type(function)
        where = f"{named.__module__}.{named.__qualname__.partition('.<locals>')[0]}"
    vars(error).setdefault(_RAISER, where)


def raiser(error: BaseException) -> str | None:
    """Return the name of the hook that has raised an error, such as ``hooks.tenancy.tenancy``, or None.

    A hook that another function has made has the name of that function.
    """
    where: str | None = vars(error).get(_RAISER)
    return where


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, ahead="run_before", behind="run_after")
