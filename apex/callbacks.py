"""Callbacks: the functions that users of an app register, the named events that call them, and the tasks they run in.

One rule holds for all of them: if a callback returns an awaitable, it is awaited. So a callback may be ``def`` or
``async def``, a lambda, a partial, a bound method or an object with ``__call__``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from inspect import isawaitable
from typing import Any

from apex.signatures import capacity, has_yield, name_of

__all__ = ["Emitter", "Listener"]

log: logging.Logger = logging.getLogger("apex")

Listener = Callable[..., object]
Pending = list[tuple[Listener, Awaitable[Any]]]
Work = Coroutine[Any, Any, None]

GRACE_SECONDS = 10
"""Seconds for which the teardown of an app waits for callbacks that are still running."""

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


class Emitter:
    """``on``, ``once``, ``off`` and ``emit``. Listeners may be ``def`` or ``async def``.

    All listeners are called in the order in which they were added. Then those that are ``async def`` are awaited, in
    the same order. A listener that takes fewer arguments than an event has gets the first ones. An exception in a
    listener is logged and counted, and the others are called all the same.
    """

    def __init__(self, callbacks: Callbacks | None = None) -> None:
        self._callbacks = Callbacks() if callbacks is None else callbacks
        # Each listener with the number of arguments that it takes.
        self._listeners: dict[str, list[tuple[Listener, int | None]]] = {}

    def on(self, event: str, listener: Listener) -> None:
        """Add a listener. Raises TypeError if it cannot be called."""
        self._add(event, listener, listener)

    def once(self, event: str, listener: Listener) -> None:
        """Add a listener for only the next event. Raises TypeError if it cannot be called."""
        self._add(event, listener, _Once(self, event, listener))

    def _add(self, event: str, listener: Listener, called: Listener) -> None:
        if not callable(listener):
            raise TypeError(f"A listener of '{event}' must be a function, not {listener!r}")
        if has_yield(listener):
            raise TypeError(f"A listener of '{event}' must not have 'yield': {name_of(listener)} would never run")
        self._listeners.setdefault(event, []).append((called, capacity(listener)))

    def off(self, event: str, listener: Listener) -> None:
        """Remove a listener, also one that ``once`` has added."""
        listeners = self._listeners.get(event, [])
        for place, (known, _) in enumerate(listeners):
            if listener in (known, getattr(known, "listener", None)):
                del listeners[place]
                break
        if not listeners:
            self._listeners.pop(event, None)

    def listens(self, event: str) -> bool:
        """Return True if an event has listeners."""
        return event in self._listeners

    def emit(self, event: str, *args: Any) -> None:
        """Call the listeners. Those that are ``async def`` run in a task, and the app's teardown waits for it.

        Raises RuntimeError for an ``async def`` listener where there is no event loop.
        """
        if event in self._listeners and (pending := self._call(event, args)):
            try:
                self._callbacks.start_anywhere(self._settle(event, pending))
            except RuntimeError:
                for _, awaitable in pending:
                    getattr(awaitable, "close", lambda: None)()
                raise

    async def emit_and_wait(self, event: str, *args: Any) -> None:
        """Call the listeners, and wait for those that are ``async def``."""
        if (pending := self._begin(event, *args)) is not None:
            await pending

    def _begin(self, event: str, *args: Any) -> Awaitable[None] | None:
        """Call the listeners. Return an awaitable for those that are ``async def``, or None if there are none."""
        if event in self._listeners and (pending := self._call(event, args)):
            return self._callbacks.start(self._settle(event, pending))
        return None

    def _call(self, event: str, args: tuple[Any, ...]) -> Pending:
        """Call the listeners. Return those that are not done yet, each with its awaitable."""
        pending: Pending = []
        for listener, most in tuple(self._listeners.get(event, ())):
            try:
                returned = listener(*args) if most is None or most >= len(args) else listener(*args[:most])
            except Exception:
                self._callbacks.fail(f"A listener of '{event}'", listener)
            else:
                if returned is not None and isawaitable(returned):
                    pending.append((listener, returned))
        return pending

    async def _settle(self, event: str, pending: Pending) -> None:
        for listener, awaitable in pending:
            await self._callbacks.settle(f"A listener of '{event}'", listener, awaitable)


class _Once:
    """A listener that removes itself when it is called."""

    def __init__(self, emitter: Emitter, event: str, listener: Listener) -> None:
        self.emitter, self.event, self.listener = emitter, event, listener
        self.__qualname__ = name_of(listener)

    def __call__(self, *args: Any) -> object:
        self.emitter.off(self.event, self)
        return self.listener(*args)
