"""Named events and their listeners, inside of a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from apex.callbacks import Callbacks, capacity, has_yield, name_of

__all__ = ["Emitter", "Listener"]

Listener = Callable[..., object]
Pending = list[tuple[Listener, Awaitable[Any]]]


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
