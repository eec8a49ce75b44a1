"""Named events and their listeners, in process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

Listener = Callable[..., object]

log = logging.getLogger("apex")


class Emitter:
    """``on``, ``once``, ``off`` and ``emit``. Listeners are plain functions, run in the order they came."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}

    def on(self, event: str, listener: Listener) -> None:
        self._listeners.setdefault(event, []).append(listener)

    def once(self, event: str, listener: Listener) -> None:
        def single(*args: Any) -> None:
            self.off(event, single)
            listener(*args)

        self.on(event, single)

    def off(self, event: str, listener: Listener) -> None:
        listeners = self._listeners.get(event, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(event, None)

    def listens(self, event: str) -> bool:
        """Whether anybody listens to an event."""
        return event in self._listeners

    def emit(self, event: str, *args: Any) -> None:
        """Calls every listener. One that fails is logged: what has happened has happened, the call goes on."""
        for listener in tuple(self._listeners.get(event, ())):
            try:
                listener(*args)
            except Exception:
                log.exception("A listener of %r failed", event)
