"""Callbacks: the functions that users of an app register, ``def`` or ``async def``, and the tasks that run them.

One rule holds for all of them: if a callback returns an awaitable, it is awaited. So a callback may be a function of
either kind, a lambda, a partial, a bound method or an object with ``__call__``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR, CO_VARARGS, isawaitable, iscoroutinefunction, signature
from types import FunctionType
from typing import Any

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts. A server that comes back is reached within the longest pause."""

AGAIN_SECONDS = 0.1
"""Seconds after which a task that still runs is cancelled again."""


class Backoff:
    """Back-off with growing pauses. Their length is random, so that processes do not all retry at once."""

    def __init__(self) -> None:
        self.seconds: float = FIRST_PAUSE

    async def wait(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self.seconds * random.uniform(0.5, 1))
        self.seconds = min(self.seconds * 2, LONGEST_PAUSE)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], again: float = AGAIN_SECONDS) -> None:
    """Cancel tasks and wait until they have ended. Those that still run are cancelled again every ``again`` seconds.

    One cancellation is not enough: ``asyncio.wait_for`` of Python 3.11, which libraries use, drops one that arrives
    together with its result (https://github.com/python/cpython/issues/86296).
    """
    running = set(tasks)
    while running := {task for task in running if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=again)


log: logging.Logger = logging.getLogger("apex")

GRACE_SECONDS = 10
"""Seconds for which the teardown of an app waits for callbacks that are still running."""

Work = Coroutine[Any, Any, None]


class Callbacks:
    """The callbacks of an app that run outside of its calls: listeners, publishers and functions after a response.

    An exception in one of them changes no answer: it is logged and counted in ``failed``. ``tasks`` are still running.
    If another app uses the services of this one, its callbacks, ``outer``, count the failures and keep the tasks.
    """

    def __init__(self) -> None:
        self.outer: Callbacks | None = None
        self.failed: int = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Remember the event loop, for work that is started in another thread."""
        self._loop = asyncio.get_running_loop()

    def fail(self, doing: str, function: Callable[..., Any]) -> None:
        """Log and count the exception that is being handled, with ``doing`` and the function's name."""
        self._count()
        log.exception("%s failed: %s", doing, name_of(function))

    def _count(self) -> None:
        self.failed += 1
        if self.outer is not None:
            self.outer._count()

    async def settle(self, doing: str, function: Callable[..., Any], awaitable: Awaitable[Any]) -> None:
        """Await the result of a callback. Its exceptions are logged and counted.

        That includes the cancellation of a task that the callback awaits. A cancellation of this task goes on.
        """
        try:
            await awaitable
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self.fail(doing, function)
        except Exception:
            self.fail(doing, function)

    def start(self, work: Work) -> Awaitable[None]:
        """Run work in a task that is kept until it ends. Raises RuntimeError where no event loop runs.

        A caller may await the returned value. If the caller is cancelled, the work goes on.
        """
        if self.outer is not None:
            return self.outer.start(work)
        try:
            task = asyncio.get_running_loop().create_task(work)
        except RuntimeError:
            work.close()
            raise RuntimeError("An 'async def' callback needs a running event loop") from None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return asyncio.shield(task)

    def start_anywhere(self, work: Work) -> None:
        """Like ``start``, also from a thread without an event loop, once the app has one."""
        if self.outer is not None:
            self.outer.start_anywhere(work)
        elif self._loop is None or not self._loop.is_running() or _is_in_loop():
            self.start(work)
        else:
            self._loop.call_soon_threadsafe(self.start, work)

    def start_all(self, doing: str, calls: Iterable[tuple[Callable[..., Any], Sequence[Any]]]) -> None:
        """Call functions with their arguments, one after the other, in a task that is kept until it ends."""

        async def call_all() -> None:
            for function, args in calls:
                try:
                    returned = function(*args)
                except Exception:
                    self.fail(doing, function)
                else:
                    if isawaitable(returned):
                        await self.settle(doing, function, returned)

        self.start_anywhere(call_all())

    async def drain(self, seconds: float = GRACE_SECONDS) -> None:
        """Wait for the running tasks and for those that they start. Tasks that take longer are cancelled and logged."""
        end = asyncio.get_running_loop().time() + seconds
        while running := self.tasks - {asyncio.current_task()}:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                log.error("%d callbacks were cancelled: they took longer than %s seconds", len(running), seconds)
                await end_tasks(running)
                return
            await asyncio.wait(running, timeout=left)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_async(function: Any) -> bool:
    """Return True for an ``async def``, an object with an ``async`` ``__call__``, and a wrapper around either."""
    while function is not None:
        if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return True if a function can be called with so many arguments by position."""
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
    return code is not None and bool(code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))


def unwrapped(function: Any) -> Any:
    """Return the function inside of partials."""
    while isinstance(function, partial):
        function = function.func
    return function
