"""Hooks that depend on the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest

from apex import Apex, Context, MemoryService
from apex.common import (
    combine,
    disallow,
    discard,
    every,
    iff,
    is_not,
    is_provider,
    set_now,
    some,
    unless,
    when,
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


async def later(context: Context) -> bool:
    return context.method == "create"


@pytest.mark.parametrize(
    ("predicate", "rest", "inside"),
    [
        (is_not(is_provider("rest")), False, True),
        (every(is_provider("rest"), later), True, False),
        (every(is_provider("rest"), is_not(later)), False, False),
        (some(is_provider("rest"), is_not(later)), True, False),
        (some(is_not(later), later), True, True),
        (every(), True, True),
        (some(), False, False),
    ],
)
async def test_predicates_are_combined(predicate: Any, rest: bool, inside: bool) -> None:
    for service, kept in (
        (notes(when(predicate, discard("a"))), False),
        (notes(unless(predicate, discard("a"))), True),
    ):
        assert ("a" in await service.create({"a": 1}, REST)) is (rest is kept)
        assert ("a" in await service.create({"a": 1})) is (inside is kept)


async def test_unless_takes_a_plain_answer_and_when_has_an_else() -> None:
    assert await notes(unless(True, disallow())).find() == []
    with raises(MethodNotAllowed):
        await notes(unless(False, disallow())).find()
    with raises(MethodNotAllowed):
        await notes(when(False).else_(disallow())).find()


@pytest.mark.parametrize("make", [is_not, every, some])
def test_predicates_of_no_function_are_refused(make: Callable[..., Any]) -> None:
    for wrong in (True, lambda: True, Context):
        with pytest.raises(TypeError, match=f"{make.__name__} takes functions of the context"):
            make(wrong)


async def test_combined_hooks_run_as_one() -> None:
    checked = combine(discard("a"), set_now("at"))
    service = Apex().use("notes", MemoryService(), hooks={"before": {"create": [checked]}}).service("notes")
    assert (await service.create({"a": 1})).keys() == {"id", "at"}
    seen: list[str] = []

    async def outer(context: Context, next: Any) -> None:
        seen.append("outer")
        await next()
        seen.append("end")

    hooks = {"around": [combine(outer, combine(run_before(lambda context: seen.append("inner"))))]}
    await Apex().use("notes", MemoryService(), hooks=hooks).service("notes").find()
    assert seen == ["outer", "inner", "end"]
    with pytest.raises(TypeError, match="set_now in iff in after of service 'notes' cannot be there"):
        Apex().use("notes", MemoryService(), hooks={"after": [combine(set_now("at"))]})


async def test_a_context_has_the_service_under_both_names_of_feathers() -> None:
    seen: list[Any] = []
    service = notes(lambda context: seen.extend([context.self, context.service]))
    await service.find()
    assert seen == [service, service]
