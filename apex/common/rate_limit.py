"""The hook that limits how often a caller may call, and the name under which the calls of a caller are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apex.context import Context
from apex.describe import describe
from apex.errors import ConfigError, FeathersError, TooManyRequests
from apex.hooks import Around, Next, keeps_result
from apex.limits.clients import network_of
from apex.limits.rates import Rate
from apex.permissions.rules import entity_id

RATE_HEADERS: dict[str, Any] = {
    "RateLimit-Limit": {"schema": {"type": "integer"}, "description": "The requests in a window."},
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": "The limit with its window: `1000;w=3600`."},
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "description": "The requests that are left."},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "Seconds until one is free again."},
}
"""The headers of an answer that tell how much of a limit is left, as OpenAPI describes them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of a caller: so many ``requests`` in ``window`` seconds. A call counts as ``amount`` requests.

        Limit("teams/7", requests=1_000, window=3_600)

    Calls with the same ``name`` are counted together, in all processes if the app uses Redis.
    """

    name: str
    requests: int
    window: int
    amount: int = 1


def caller_of(context: Context) -> str | None:
    """Return the name of the caller: ``users/7`` after ``authenticate``, else the address, ``addresses/203.0.113.7``.

    The name is None for a call inside the process, and for an address that is not known.
    """
    params = context.params
    if not params.provider:
        return None
    if params.get("authenticated") is True:
        subject = entity_id(context)
        if subject is not None:
            return f"{context.app.get('defaultAuthentication').entity or 'user'}s/{subject}"
    return f"addresses/{network_of(params.ip)}" if params.ip else None


def _setting(context: Context) -> Limit | None:
    """Return the limit of the setting ``rateLimit`` for the caller. The call that reads a login's user has none."""
    name, rule = caller_of(context), context.app.get("rateLimit")
    if rule is None:
        raise ConfigError("limit_rate needs the setting 'rateLimit', or a function that returns the limit")
    return None if name is None or context.params.is_login else Limit(name, rule["requests"], rule["window"])


def limit_rate(limit_of: Callable[[Context], Limit | None] = _setting) -> Around:
    """Refuse calls beyond a limit: around all methods, inside of ``authenticate``. The app needs ``apex.limits.rates``.

    ``limit_of`` returns the limit that counts for a call, or None. Without it, each caller outside the process has the
    limit of the app's setting ``rateLimit``: ``{"requests": 1000, "window": 3600}``, with the window in seconds.

    Over REST, the headers of answers and errors tell how much of the limit is left. Calls that are a part of another
    one are not counted, such as that of ``get`` which compares ``If-Match``. Raises TooManyRequests, and ConfigError
    without ``rates`` or without a limit.
    """

    @describe(answers=RATE_HEADERS, errors=(429,))
    async def limit_rate(context: Context, next: Next) -> None:
        params = context.params
        is_part = params.get("is_version_check") or params.get("is_inner_call")
        limit = None if is_part else limit_of(context)
        if limit is None:
            await next()
            return
        rates = context.app.get("rates")
        if rates is None:
            raise ConfigError("limit_rate needs rates: call app.configure(rates), with rates of apex.limits")
        rate: Rate = await rates.take(limit.name, limit.requests, limit.window, limit.amount)
        try:
            if not rate.allowed:
                raise rate_exceeded(rate)
            await next()
        except FeathersError as error:
            error.headers = {**rate.headers(), **error.headers}
            raise
        if context.http is not None:
            context.http["headers"] = {**context.http.get("headers", {}), **rate.headers()}

    return keeps_result(limit_rate)


def rate_exceeded(rate: Rate, **options: Any) -> TooManyRequests:
    """Return the error for a call beyond a limit. ``options`` are those of the error, such as ``headers``."""
    data = {"limit": rate.limit, "current": rate.limit + 1, "window": rate.window, "retryAfter": rate.reset}
    return TooManyRequests("Rate limit exceeded", data, **options)
