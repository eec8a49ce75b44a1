"""Rate limits by a hook: who calls too often is refused, and headers tell what is left."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, AuthenticationService, Context, MemoryService, rest
from apex.common import Limit, caller_of, limit_rate
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


async def test_by_default_each_user_and_each_address_has_the_limit_of_the_setting() -> None:
    app = Apex({"rateLimit": {"requests": 2, "window": 60}}).configure(rates).configure(rest)
    app.use("notes", MemoryService(start_id=1), hooks={"around": {"all": [limit_rate()]}})
    notes = app.service("notes")
    for ip in ("203.0.113.7", "203.0.113.8"):
        caller = {"provider": "rest", "ip": ip}
        assert [await notes.find(caller) for _ in range(2)] == [[], []]
        with pytest.raises(TooManyRequests):
            await notes.find(caller)
    for unlimited in ({}, {"provider": "rest"}):
        assert [await notes.find(unlimited) for _ in range(3)] == [[], [], []]


async def test_the_error_of_an_app_without_the_setting_says_what_to_set() -> None:
    app = Apex().configure(rates).use("notes", MemoryService(), hooks={"around": {"all": [limit_rate()]}})
    with pytest.raises(ConfigError, match="'rateLimit'"):
        await app.service("notes").find({"provider": "rest"})


async def test_a_user_is_one_caller_from_all_addresses() -> None:
    app = Apex({"authentication": {"secret": "32 bytes or more, known to the server alone"}})
    AuthenticationService(app.use("users", MemoryService()))
    found: list[str | None] = []
    app.use("notes", MemoryService(), hooks={"before": {"find": [lambda context: found.append(caller_of(context))]}})
    for ip in ("203.0.113.7", "2001:db8::1"):
        await app.service("notes").find({"provider": "rest", "ip": ip, "authenticated": True, "user": {"id": 7}})
        await app.service("notes").find({"provider": "rest", "ip": ip})
    assert found == ["users/7", "addresses/203.0.113.7", "users/7", "addresses/2001:db8::/64"]
