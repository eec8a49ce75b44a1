"""How many requests the API keys of an organization may make."""

from __future__ import annotations

from apex import Context
from apex.errors import FeathersError, TooManyRequests
from apex.rates import Rate


async def limit_rate(context: Context) -> None:
    """Before all methods, after ``authenticate``: raises TooManyRequests beyond the limit of the key's organization.

    How a request stands is in the headers of its answer over REST.
    """
    proof = context.params.authentication
    if not context.params.provider or proof["strategy"] != "api-key":
        return
    name = f"organizations/{proof['organization_id']}"
    rate: Rate = await context.app.get("rates").take(name, proof["rate_limit"], proof["rate_window"])
    context.params.rate = rate
    if not rate.allowed:
        raise _exceeded(rate)
    if context.http is not None:
        context.http["headers"] = {**context.http.get("headers", {}), **rate.headers()}


def tell_rate(context: Context) -> None:
    """On error: the headers of ``limit_rate`` go out with the error, too."""
    rate: Rate | None = context.params.rate
    if rate is not None and isinstance(context.error, FeathersError):
        context.error.headers = {**rate.headers(), **context.error.headers}


def _exceeded(rate: Rate) -> TooManyRequests:
    told = {"limit": rate.limit, "current": rate.limit + 1, "window": rate.window, "retryAfter": rate.reset}
    return TooManyRequests("Rate limit exceeded", told)
