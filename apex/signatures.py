"""Signatures: the checks of functions that users register, which may be ``def`` or ``async def``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_VARARGS, iscoroutinefunction, signature
from types import CodeType, FunctionType, MethodType
from typing import Any


def is_async(function: Any) -> bool:
    """Return True for an ``async def``, an object with an ``async`` ``__call__``, and a wrapper around either."""
    # Apps check thousands of plain functions.
    if type(function) is FunctionType and function.__dict__.keys().isdisjoint(("__wrapped__", "_is_coroutine_mark")):
        return bool(function.__code__.co_flags & CO_COROUTINE)
    while function is not None:
        if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return True if a function can be called with so many arguments by position."""
    if isinstance(function, MethodType):
        return takes(function.__func__, count + 1)
    # Apps check thousands of plain functions. Their code object answers in a tenth of the time of a signature.
    if type(function) is FunctionType and function.__dict__.keys().isdisjoint(("__wrapped__", "__signature__")):
        code, optional = function.__code__, len(function.__defaults__ or ())
        if code.co_kwonlyargcount > len(function.__kwdefaults__ or ()):
            return False
        has_room = count <= code.co_argcount or bool(code.co_flags & CO_VARARGS)
        return has_room and count >= code.co_argcount - optional
    try:
        signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True  # Some functions written in C have no signature.
    return True


def capacity(function: Callable[..., Any]) -> int | None:
    """Return the most arguments that a function takes by position, None for any number."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)


def name_of(function: Any) -> str:
    """Return the name of a function, without the function that has made it, or of an object's class."""
    function = unwrapped(function)
    name: str = getattr(function, "__qualname__", type(function).__qualname__).rpartition("<locals>.")[2]
    return f"lambda, line {function.__code__.co_firstlineno}" if name == "<lambda>" else name


def has_yield(function: Any) -> bool:
    """Return True for a function with ``yield``, whose body does not run when it is called."""
    called = unwrapped(function)
    code = getattr(called, "__code__", None) or getattr(getattr(called, "__call__", None), "__code__", None)  # noqa: B004
    # Objects such as the procedures of ``xmlrpc.client`` have an attribute of every name.
    return isinstance(code, CodeType) and bool(code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))


def unwrapped(function: Any) -> Any:
    """Return the function inside of partials."""
    while isinstance(function, partial):
        function = function.func
    return function


def problem_of_hook(kind: str, hook: Any, places: tuple[str, ...]) -> str | None:
    """Return why a function cannot be a hook of a type and what to do instead, or None if it can.

    ``places`` are the types that the hook was marked with.
    """
    if isinstance(hook, type):
        return "is a class: register an object of it"
    if has_yield(hook):
        return "has 'yield', as hooks do not: let it return, or await next() in an around hook"
    if places:
        either = " or ".join(f"'{place}'" for place in places)
        return None if kind in places else f"cannot be there: register it under {either}"
    if kind != "around":
        if takes(hook, 1):
            return None
        fix = "register it under 'around'" if takes(hook, 2) else "let it take the context"
        article = "a" if kind == "before" else "an"
        return f"cannot be called with (context), as {article} {kind} hook is: {fix}"
    if not takes(hook, 2):
        fix = "register it under 'before' or 'after', or as run_before(hook)" if takes(hook, 1) else "let it take both"
        return f"cannot be called with (context, next), as an around hook is: {fix}"
    return None if is_async(hook) else "must be declared with 'async def', as an around hook awaits next()"
