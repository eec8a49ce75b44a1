"""Hooks for whole calls: keep the results of reads, and show what a call is at."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from apex.cache import BoundedDict
from apex.context import Context
from apex.encoding import RawJSON, Stream, encode
from apex.hooks import Hook, belongs, keeps_result
from apex.observability.redaction import hide
from apex.query.language import Query
from apex.tenant import current_tenants
from apex.transaction import after_commit, is_in_transaction
from apex.types import READS

log: logging.Logger = logging.getLogger("apex")

_OF_REQUEST = frozenset({"headers", "connection", "body", "is_inner_call", "verified_proof"})
"""Params that say nothing about the result, apart from what hooks make of them."""

_OF_CALLER = frozenset({"user", "authentication", "authenticated", "provider", "ip", "handshake", "mount"})
"""Params that tell who calls and how."""


def cache(seconds: float = 60, *, shared: bool = False, most: int = 1_000) -> Hook:
    """Keep the results of ``find`` and ``get`` in this process, for so many seconds: before all methods.

    A call gets the result of an earlier one if its id, query, scope and all other params are equal, those of the caller
    included. The headers alone are not compared. With ``shared`` the caller is not compared either, so that all callers
    with the same scope share a result: for services whose methods do not look at who calls. All hooks run for each
    call, as only the method itself is left out.

    Any other method of the service drops all its results, once its transaction is committed, unless the service lists
    it in ``reads``. What other services, other
    processes and statements of your own write is seen when the time is over. Of more than ``most`` results of a service
    the oldest are evicted. Raises ValueError for no time, and TypeError if it is given the context.
    """
    if not isinstance(seconds, int | float) or not isinstance(most, int):
        raise TypeError("cache takes the number of seconds: register cache(60) and not cache")
    if seconds <= 0 or most <= 0:
        raise ValueError("cache needs seconds and most above 0")
    kept: dict[str, _Results] = {}

    @belongs("before", "around")
    def cache(context: Context) -> None:
        results = kept.get(context.path)
        if results is None:
            results = kept[context.path] = _Results(seconds, shared, most)
        if context.method in READS:
            # A call inside another one may ask the adapter for something else than the records, or make its own result.
            if context.around_method is None and not context.params.adapter:
                context.around_method = partial(results.read, context)
        elif context.method not in _reads(context.service.service):
            context.around_method = partial(results.write, context, context.around_method)

    return cache


def _reads(service: Any) -> tuple[str, ...]:
    """Return the custom methods of a service that only read."""
    return ("search", *getattr(service, "aggregates", ()), *getattr(service, "reads", ()))


Method = Callable[[], Awaitable[Any]]


class _Results:
    """The kept results of a service, by the params of the call."""

    def __init__(self, seconds: float, shared: bool, most: int) -> None:
        self.seconds = seconds
        self.ignored = _OF_REQUEST | _OF_CALLER if shared else _OF_REQUEST
        self.entries: BoundedDict[bytes, tuple[float, Any]] = BoundedDict(most)
        self.drops = 0

    async def read(self, context: Context, method: Method) -> Any:
        """Return the kept result of a call, or that of the method."""
        key = self._key(context)
        found = None if key is None else self.entries.get(key)
        if found is not None and found[0] > time.monotonic():
            return _copy(found[1])
        drops = self.drops
        result = await method()
        # A result that was read before a write may be older than the write.
        if key is not None and drops == self.drops and not isinstance(result, Stream):
            self.entries.pop(key, None)
            self.entries[key] = time.monotonic() + self.seconds, _copy(result)
        return result

    async def write(self, context: Context, around: Callable[[Method], Awaitable[Any]] | None, method: Method) -> Any:
        """Run a method that may write, and drop the results after its commit."""
        result = await (method() if around is None else around(method))
        self._drop()
        if is_in_transaction():
            after_commit(self._drop)
        return result

    def _drop(self) -> None:
        self.drops += 1
        self.entries.clear()

    def _key(self, context: Context) -> bytes | None:
        """Return what decides the result. None, if it has no text, or if the call reads what may be rolled back."""
        params: Mapping[str, Any] = context.params
        if is_in_transaction():
            return None
        deciding = {name: _plain(value) for name, value in params.items() if name not in self.ignored}
        is_external = params.get("provider") is not None
        try:
            return encode([context.method, context.id, is_external, repr(current_tenants.get()), deciding])
        except TypeError:
            return None


def _plain(value: Any) -> Any:
    return dict(value.asked) if isinstance(value, Query) else value


def _copy(result: Any) -> Any:
    return result if isinstance(result, RawJSON) else deepcopy(result)


def debug(message: str = "", *params: str) -> Hook:
    """Log a message and what the call is at: type, method, id, data, query, result, error, and these params: anywhere.

    It logs at level ``INFO`` of the logger ``apex``. Secrets are hidden.
    """
    if not isinstance(message, str):
        raise TypeError("debug takes a message: register debug('after validation') and not debug")

    @belongs("before", "after", "error", "around")
    def debug(context: Context) -> None:
        shown: dict[str, Any] = {"id": context.id, "data": context.data, "query": dict(context.params.query)}
        shown |= {name: context.params.get(name) for name in params}
        if context.has_result:
            shown["result"] = context.result
        if context.error is not None:
            shown["error"] = repr(context.error)
        facts = " ".join(f"{name}={hide(name, value)!r}" for name, value in shown.items() if value is not None)
        log.info("* %s %s %s of %s: %s", message, context.type, context.method, context.path, facts)

    return keeps_result(debug)
