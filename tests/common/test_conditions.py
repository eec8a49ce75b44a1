"""Hooks that depend on the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest

from apex import Apex, Context, MemoryService
from apex.common import (
    disallow,
    discard,
    iff,
    is_provider,
    set_now,
)
from apex.errors import BadRequest, MethodNotAllowed
from apex.hooks import run_before
from apex.testing import raises
from tests.common.apps import REST, notes


@pytest.mark.parametrize(
    ("refused", "rest", "socketio", "inside"),
    [((), True, True, True), (("external",), True, True, False), (("rest",), True, False, False),
     (("server",), False, False, True), (("rest", "server"), True, False, True)],
)  # fmt: skip
async def test_disallow(refused: tuple[str, ...], rest: bool, socketio: bool, inside: bool) -> None:
    service = notes(disallow(*refused))
    for provider, expected in (("rest", rest), ("socketio", socketio), (None, inside)):
        message = f"Provider '{provider or 'server'}' can not call 'find'"
        with pytest.raises(MethodNotAllowed, match=message) if expected else nullcontext():
            await service.find({"provider": provider})


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_iff_runs_one_branch_or_the_other(asynchronous: bool) -> None:
    async def is_rest(context: Context) -> bool:
        return bool(context.params.provider == "rest")

    async def stamp(context: Context) -> None:
        context.data = {**context.data, "by": "server"}

    chosen = iff(is_rest if asynchronous else is_provider("rest"), discard("secret")).else_(stamp, set_now("at"))
    service = notes(chosen)
    assert await service.create({"secret": 1}, REST) == {"id": 1}
    assert set(await service.create({"secret": 1})) == {"id", "secret", "by", "at"}


async def test_iff_takes_a_plain_answer_and_lets_errors_through() -> None:
    assert await notes(iff(False, disallow())).find() == []
    with raises(MethodNotAllowed):
        await notes(iff(True, iff(True, disallow()))).find()


async def test_hooks_go_ahead_of_the_around_hooks_that_follow() -> None:
    seen: list[Any] = []

    async def around(context: Context, next: Callable[[], Awaitable[None]]) -> None:
        seen.append("around")
        await next()

    def refuse(context: Context) -> None:
        seen.append(context.type)
        if context.data["refused"]:
            raise BadRequest("no")

    service = (
        Apex()
        .use("notes", MemoryService(), hooks={"around": {"create": [run_before(refuse), around]}})
        .service("notes")
    )
    await service.create({"refused": False})
    with raises(BadRequest):
        await service.create({"refused": True})
    assert seen == ["before", "around", "before"]
