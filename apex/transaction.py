"""Transactions: functions that run once all that a transaction has written is committed, or never."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

__all__ = ["after_commit", "is_in_transaction", "savepoint", "transaction"]

Callback = Callable[[], Awaitable[None] | None]


class _Transaction:
    """A transaction and its callbacks. A task that was started inside and outlives it is no longer part of it."""

    def __init__(self) -> None:
        self.is_open = True
        self.callbacks: list[tuple[Callback, Callable[[], None] | None]] = []


_current: ContextVar[_Transaction | None] = ContextVar("transaction", default=None)


def _open_transaction() -> _Transaction | None:
    current = _current.get()
    return current if current is not None and current.is_open else None


def is_in_transaction() -> bool:
    """Return True if this call is part of a transaction."""
    return _open_transaction() is not None


def after_commit(function: Callback, on_rollback: Callable[[], None] | None = None) -> Awaitable[None] | None:
    """Call a function after the commit of the transaction around this call, or at once if there is none.

    After a rollback ``on_rollback`` is called instead. If the function returns an awaitable, the transaction awaits it
    at its end, after it has called all functions. Without a transaction the awaitable is returned.
    """
    current = _current.get()
    if current is not None and current.is_open:
        current.callbacks.append((function, on_rollback))
        return None
    return function()


def pending_callbacks() -> list[Callback]:
    """Return the functions that will be called after the commit of the transaction around this call."""
    current = _open_transaction()
    return [] if current is None else [function for function, _ in current.callbacks]


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    """Collect the functions of ``after_commit``, and call them at the end.

    A transaction inside another one is part of it. The statements of a database need its own
    ``Database.transaction``, which includes this one.
    """
    if is_in_transaction():
        yield
        return
    current = _Transaction()
    token = _current.set(current)
    is_committed = False
    try:
        yield
        is_committed = True
    finally:
        current.is_open = False
        _current.reset(token)
        # Timers and tasks that were started inside keep the transaction alive for a while, but not its callbacks.
        callbacks, current.callbacks = current.callbacks, []
        if not is_committed:
            _roll_back(callbacks)
    # All are called before any is awaited, so that the events of a transaction go out in the order of its commit.
    for pending in [function() for function, _ in callbacks]:
        if pending is not None:
            await pending


@asynccontextmanager
async def savepoint() -> AsyncIterator[None]:
    """Collect the functions of ``after_commit`` for a part of a transaction that may be rolled back by itself.

    If the part fails, the transaction forgets its functions.
    """
    current = _open_transaction()
    before = 0 if current is None else len(current.callbacks)
    try:
        yield
    except BaseException:
        if current is not None and current.is_open:
            dropped, current.callbacks[before:] = current.callbacks[before:], []
            _roll_back(dropped)
        raise


def _roll_back(callbacks: list[tuple[Callback, Callable[[], None] | None]]) -> None:
    for _, on_rollback in callbacks:
        if on_rollback is not None:
            on_rollback()


def transaction_of(app: Any, service: Any) -> AbstractAsyncContextManager[Any]:
    """Return the transaction in which a record of a service can be read with a lock and then changed.

    It is the adapter's own, or else a transaction of the app's database.
    """
    own: Callable[[], AbstractAsyncContextManager[Any]] | None = getattr(service, "unit_of_work", None)
    if own is not None:
        return own()
    database = app.get("database")
    return nullcontext() if database is None else database.transaction()
