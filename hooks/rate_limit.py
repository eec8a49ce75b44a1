"""The limits of requests by the API keys of an organization, and by each user with a token."""

from __future__ import annotations

from typing import Any

from apex import Context, Next
from apex.describe import describe
from apex.errors import FeathersError, TooManyRequests
from apex.rates import Rate, RateLimiter

ANSWERS = {
    "RateLimit-Limit": {
        "schema": {"type": "integer"},
        "description": "With an API key, or beyond a limit: the requests in a window.",
    },
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": "The limit with its window: `1000;w=3600`."},
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "description": "The requests that are left."},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "Seconds until one is free again."},
}


@describe(answers=ANSWERS, errors=(429,))
async def limit_rate(context: Context, next: Next) -> None:
    """Raise TooManyRequests beyond the limit of the caller: around all methods, inside of ``authenticate``.

    All keys of an organization share one limit. Their answers over REST, errors too, have headers with what is left of
    it. With a token each user has a limit.
    A service may have a method ``cost(data)``, which returns how many requests of a key a request counts as.
    """
    params = context.params
    proof: Any = params.get("authentication")
    if not params.get("provider") or params.get("is_precondition") or params.get("is_login"):
        await next()
    elif proof["strategy"] == "api-key":
        await _limit_key(context, next, proof)
    else:
        users: RateLimiter | None = context.app.get("userRates")
        user = proof["payload"]["sub"]
        if users is not None and not users.spend(user) and (rate := await users.take(user)) is not None:
            raise _exceeded(rate, headers=rate.headers())
        await next()


async def _limit_key(context: Context, next: Next, proof: Any) -> None:
    name = f"organizations/{proof['organization_id']}"
    cost = getattr(context.service.service, "cost", None)
    amount = 1 if cost is None else cost(context.data)
    rate: Rate = await context.app.get("rates").take(name, proof["rate_limit"], proof["rate_window"], amount)
    try:
        if not rate.allowed:
            raise _exceeded(rate)
        await next()
    except FeathersError as error:
        error.headers = {**rate.headers(), **error.headers}
        raise
    if context.http is not None:
        context.http["headers"] = {**context.http.get("headers", {}), **rate.headers()}


def _exceeded(rate: Rate, **more: Any) -> TooManyRequests:
    told = {"limit": rate.limit, "current": rate.limit + 1, "window": rate.window, "retryAfter": rate.reset}
    return TooManyRequests("Rate limit exceeded", told, **more)
