"""How many requests the API keys of an organization may make."""

from __future__ import annotations

from typing import Any

from apex import Context, Next
from apex.describe import describe
from apex.errors import FeathersError, TooManyRequests
from apex.rates import Rate

ANSWERS = {
    "RateLimit-Limit": {"schema": {"type": "integer"}, "description": "With an API key: the requests in a window."},
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": "The limit with its window: `1000;w=3600`."},
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "description": "The requests that are left."},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "Seconds until one is free again."},
}


@describe(answers=ANSWERS, errors=(429,))
async def limit_rate(context: Context, next: Next) -> None:
    """Around all methods, inside of ``authenticate``: raises TooManyRequests beyond the limit of a key's organization.

    How a request stands is in the headers of its answer over REST, also where that is an error.
    """
    proof: Any = context.params.get("authentication")
    if not context.params.get("provider") or proof["strategy"] != "api-key":
        await next()
        return
    name = f"organizations/{proof['organization_id']}"
    rate: Rate = await context.app.get("rates").take(name, proof["rate_limit"], proof["rate_window"])
    try:
        if not rate.allowed:
            raise _exceeded(rate)
        await next()
    except FeathersError as error:
        error.headers = {**rate.headers(), **error.headers}
        raise
    if context.http is not None:
        context.http["headers"] = {**context.http.get("headers", {}), **rate.headers()}


def _exceeded(rate: Rate) -> TooManyRequests:
    told = {"limit": rate.limit, "current": rate.limit + 1, "window": rate.window, "retryAfter": rate.reset}
    return TooManyRequests("Rate limit exceeded", told)
