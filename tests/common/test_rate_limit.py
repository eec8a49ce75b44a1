"""Rate limits by a hook: who calls too often is refused, and headers tell what is left."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context, MemoryService, rest
from apex.common import Limit, limit_rate
from apex.errors import ConfigError, NotFound, TooManyRequests
from apex.limits.rates import rates


def limit_of(context: Context) -> Limit | None:
    """Return a limit of two requests for each user."""
    user = context.params.headers and context.params.headers.get("x-user")
    return None if user is None else Limit(f"users/{user}", requests=2, window=60)


@pytest.fixture
def app() -> Apex:
    app = Apex().configure(rates).configure(rest)
    return app.use("notes", MemoryService(start_id=1), hooks={"around": {"all": [limit_rate(limit_of)]}})


async def test_calls_beyond_the_limit_are_refused(app: Apex) -> None:
    notes = app.service("notes")
    ann: Any = {"headers": {"x-user": "ann"}}
    await notes.find(ann)
    with pytest.raises(NotFound) as missing:
        await notes.get(1, ann)
    assert missing.value.headers["RateLimit-Remaining"] == "0"
    with pytest.raises(TooManyRequests) as refused:
        await notes.find(ann)
    assert refused.value.headers["RateLimit-Limit"] == "2"
    assert refused.value.data["retryAfter"] == int(refused.value.headers["Retry-After"])
    await notes.find({"headers": {"x-user": "bob"}})


async def test_calls_without_a_limit_are_not_counted(app: Apex) -> None:
    for _ in range(5):
        await app.service("notes").find()
    assert app.get("rates").counted == 0


async def test_the_error_of_an_app_without_rates_says_what_to_configure() -> None:
    limited = limit_rate(lambda context: Limit("all", requests=1, window=60))
    app = Apex().use("notes", MemoryService(), hooks={"around": {"all": [limited]}})
    with pytest.raises(ConfigError, match=r"call app\.configure\(rates\)"):
        await app.service("notes").find()
