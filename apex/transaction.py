"""What waits for the end of a unit of work: it happens once all is stored, or never."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

Waiting = Callable[[], Awaitable[None] | None]


class _Unit:
    """A unit of work. A task that was started inside and outlives it is no longer part of it."""

    def __init__(self) -> None:
        self.open = True
        self.waiting: list[tuple[Waiting, Callable[[], None] | None]] = []


_current: ContextVar[_Unit | None] = ContextVar("unit", default=None)


def after_commit(function: Waiting, undone: Callable[[], None] | None = None) -> Awaitable[None] | None:
    """Call the function once the unit of work around this call is stored, or at once where there is no unit.

    If the unit is not stored, ``undone`` is called instead. If the function returns an awaitable, the unit awaits it at
    its end, after all functions have been called. Where there is no unit, the caller gets the awaitable.
    """
    unit = _current.get()
    if unit is not None and unit.open:
        unit.waiting.append((function, undone))
        return None
    return function()


def waiting() -> list[Waiting]:
    """Return the functions that wait for the end of the unit of work around this call."""
    unit = _current.get()
    return [function for function, _ in unit.waiting] if unit is not None and unit.open else []


@asynccontextmanager
async def part_of_unit() -> AsyncIterator[None]:
    """Collect the functions of ``after_commit`` for a part of a unit of work that may be undone by itself.

    If the part fails, ``undone`` is called for its functions, and they are not called at the end of the unit.
    """
    unit = _current.get()
    before = 0 if unit is None else len(unit.waiting)
    try:
        yield
    except BaseException:
        if unit is not None and unit.open:
            dropped, unit.waiting[before:] = unit.waiting[before:], []
            for _, undone in dropped:
                if undone is not None:
                    undone()
        raise


def is_in_unit() -> bool:
    """Return True if this call is part of a unit of work."""
    unit = _current.get()
    return unit is not None and unit.open


@asynccontextmanager
async def unit_of_work() -> AsyncIterator[None]:
    """Collect the functions of ``after_commit`` and call them at the end. A unit inside another one is part of it."""
    outer = _current.get()
    if outer is not None and outer.open:
        yield
        return
    unit = _Unit()
    token = _current.set(unit)
    stored = False
    try:
        yield
        stored = True
    finally:
        unit.open = False
        _current.reset(token)
        # Timers and tasks that were started inside keep the unit for a while; what has waited is not to stay with it.
        waiting, unit.waiting = unit.waiting, []
        for _, undone in () if stored else waiting:
            if undone is not None:
                undone()
    # All are called before any is awaited, so that the events of a unit go out in the order of its commit.
    for pending in [function() for function, _ in waiting]:
        if pending is not None:
            await pending


def unit_of(app: Any, service: Any) -> AbstractAsyncContextManager[Any]:
    """Return a unit of work for reading a record of the service with a lock and changing it.

    It is the adapter's own or a transaction of the app's database.
    """
    own: Callable[[], AbstractAsyncContextManager[Any]] | None = getattr(service, "unit_of_work", None)
    if own is not None:
        return own()
    database = app.get("database")
    return nullcontext() if database is None else database.transaction()
