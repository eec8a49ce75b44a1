"""The rate limits of the CRM: one for all API keys of an organization, and one for each user with a token."""

from __future__ import annotations

from typing import Any

from apex import Context, Next
from apex.common import RATE_HEADERS, Limit, rate_exceeded
from apex.common import limit_rate as limit_rate_by
from apex.describe import describe
from apex.hooks import keeps_result
from apex.limits import RateLimiter

HEADERS = {
    **RATE_HEADERS,
    "RateLimit-Limit": {
        "schema": {"type": "integer"},
        "description": "With an API key, or beyond a limit: the requests in a window.",
    },
}


def limit_of_key(context: Context) -> Limit:
    """Return the limit of the organization whose API key makes the call.

    A service may have a method ``cost(data)``, which returns how many requests a call counts as.
    """
    proof: Any = context.params["authentication"]
    cost = getattr(context.service.service, "cost", None)
    amount = 1 if cost is None else cost(context.data)
    return Limit(f"organizations/{proof['organization_id']}", proof["rate_limit"], proof["rate_window"], amount)


limit_keys = limit_rate_by(limit_of_key)


@keeps_result
@describe(answers=HEADERS, errors=(429,))
async def limit_rate(context: Context, next: Next) -> None:
    """Refuse calls beyond the limit of the caller: around all methods, inside of ``authenticate``.

    All keys of an organization share one limit, and their answers tell how much of it is left. Each user with a token
    has a limit that is counted in batches. Raises TooManyRequests.
    """
    params = context.params
    proof: Any = params.get("authentication")
    if not params.get("provider") or any(map(params.get, ("is_version_check", "is_inner_call", "is_login"))):
        await next()
    elif proof["strategy"] == "api-key":
        await limit_keys(context, next)
    else:
        users: RateLimiter | None = context.app.settings.get("userRates")
        user = proof["payload"]["sub"]
        if users is not None and not users.spend(user) and (rate := await users.take(user)) is not None:
            raise rate_exceeded(rate, headers=rate.headers())
        await next()
