"""Transactions: changes that are stored together or not at all, and functions that wait for the commit."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

__all__ = ["after_commit", "is_in_transaction", "savepoint", "transaction"]

Callback = Callable[[], Awaitable[None] | None]
"""A function without arguments. If it returns an awaitable, the transaction awaits it."""

_current: ContextVar[Transaction | None] = ContextVar("transaction", default=None)


class Transaction:
    """A transaction of one ``store``, such as a database. It is open inside of ``with``.

    ``outer`` is the transaction around it. A task that starts inside and outlives the transaction is no longer part of
    it. ``callbacks`` are the functions that wait for the commit, each with its ``on_rollback``.
    """

    def __init__(self, store: object = None) -> None:
        self.store = store
        self.outer: Transaction | None = _current.get()
        self.is_open: bool = True
        self.callbacks: list[tuple[Callback, Callable[[], None] | None]] = []

    def __enter__(self) -> Self:
        _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.is_open = False
        # A transaction may end in another task than the one that it has begun in.
        if _current.get() is self:
            _current.set(self.outer)

    def drop_callbacks(self, start: int = 0) -> None:
        """Drop the callbacks from a place on, and call their ``on_rollback`` instead."""
        dropped, self.callbacks[start:] = self.callbacks[start:], []
        for _, on_rollback in dropped:
            if on_rollback is not None:
                on_rollback()


def current_transaction(store: object = None) -> Transaction | None:
    """Return the open transaction of a store that this call is part of, or None.

    Without a store, return the one that the functions of ``after_commit`` wait for.
    """
    transaction = _current.get()
    while transaction is not None:
        if transaction.store is store and transaction.is_open:
            return transaction
        transaction = transaction.outer
    return None


def is_in_transaction() -> bool:
    """Return True if this call is part of a transaction."""
    return current_transaction() is not None


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    """Collect the functions of ``after_commit``, and call them at the end. One inside another is part of it.

    The statements of a database need its own ``Database.transaction``, which includes this one.
    """
    if current_transaction() is not None:
        yield
        return
    waiting = Transaction()
    try:
        with waiting:
            yield
    except BaseException:
        waiting.drop_callbacks()
        raise
    # Timers and tasks that started inside keep the transaction for a while. They must not keep the callbacks.
    callbacks, waiting.callbacks = waiting.callbacks, []
    # All are called before any is awaited, so that events are sent in the order of the commits.
    pending = deque([function() for function, _ in callbacks])
    try:
        while pending:
            if (one := pending.popleft()) is not None:
                await one
    finally:
        for one in pending:  # Nobody awaits these any more.
            if isinstance(one, Coroutine):
                one.close()


@asynccontextmanager
async def savepoint() -> AsyncIterator[None]:
    """Collect the functions of ``after_commit`` for a part of a transaction that may be undone by itself.

    If the part fails, ``on_rollback`` is called for its functions, and the transaction does not call them.
    """
    around = current_transaction()
    start = 0 if around is None else len(around.callbacks)
    try:
        yield
    except BaseException:
        if around is not None and around.is_open:
            around.drop_callbacks(start)
        raise


def after_commit(function: Callback, on_rollback: Callable[[], None] | None = None) -> Awaitable[None] | None:
    """Call the function after the commit of the transaction around this call, or at once if there is none.

    If the transaction fails, ``on_rollback`` is called instead. If the function returns an awaitable, the transaction
    awaits it after it has called all functions. Without a transaction the caller gets the awaitable.
    """
    around = current_transaction()
    if around is None:
        return function()
    around.callbacks.append((function, on_rollback))
    return None


def pending_callbacks() -> list[Callback]:
    """Return the functions that wait for the commit of the transaction around this call."""
    around = current_transaction()
    return [] if around is None else [function for function, _ in around.callbacks]


def transaction_of(app: Any, service: Any) -> AbstractAsyncContextManager[Any]:
    """Return a transaction for reading a record of the service with a lock and changing it.

    The service's own ``unit_of_work`` comes first, then the app's database. Without both nothing is locked.
    """
    own: Callable[[], AbstractAsyncContextManager[Any]] | None = getattr(service, "unit_of_work", None)
    if own is not None:
        return own()
    database = app.get("database")
    return nullcontext() if database is None else database.transaction()
