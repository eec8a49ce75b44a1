"""Hooks: the forms they are registered in, the order they run in, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

import apex.hooks
from apex.adapters.memory import MemoryService
from apex.app import Apex
from apex.auth import authenticate
from apex.common import disallow, iff, keep, populate
from apex.common.resolvers import resolve_result
from apex.context import Context
from apex.errors import BadRequest, Conflict, GeneralError
from apex.service import BoundService

Next = Callable[[], Awaitable[None]]
Trace = list[str]


class Echo:
    """Gives back what it gets, or fails when told to."""

    def __init__(self, trace: Trace | None = None) -> None:
        self.trace = [] if trace is None else trace

    async def get(self, id: Any, params: Any) -> Any:
        self.trace.append("METHOD")
        if id == "fail":
            raise BadRequest("failed")
        return {"id": id}

    async def create(self, data: Any, params: Any) -> Any:
        return data


def around(trace: Trace, name: str) -> Callable[[Context, Next], Awaitable[None]]:
    async def hook(context: Context, next: Next) -> None:
        trace.append(f"{name} >")
        await next()
        trace.append(f"< {name}")

    return hook


def noted(trace: Trace, name: str) -> Callable[[Context], None]:
    return lambda context: trace.append(f"{name} ({context.type})")


def full_map(trace: Trace, level: str) -> dict[str, Any]:
    """Hooks of all four types, for all methods and for get."""
    return {
        "around": {"all": [around(trace, f"{level} around all")], "get": [around(trace, f"{level} around get")]},
        **{
            kind: {"all": [noted(trace, f"{level} {kind} all")], "get": [noted(trace, f"{level} {kind} get")]}
            for kind in ("before", "after", "error")
        },
    }


def echo(hooks: Any = None) -> BoundService:
    return Apex().use("echo", Echo(), hooks=hooks).service("echo")


def traced() -> tuple[Trace, BoundService]:
    """An app and a service with a hook in every place there is."""
    trace: Trace = []
    app = Apex().hooks([around(trace, "app list")]).hooks({"get": [around(trace, "app map")]})
    app.hooks(full_map(trace, "app")).use("echo", Echo(trace))
    service = app.service("echo")
    service.hooks({"get": [around(trace, "service map")]}).hooks([around(trace, "service list")])
    return trace, service.hooks(full_map(trace, "service"))


OUTSIDE = ["app list", "app map", "app around all", "app around get"]
INSIDE = ["service list", "service map", "service around all", "service around get"]
WAY_IN = [
    *[f"{name} >" for name in OUTSIDE], "app before all (before)", "app before get (before)",
    *[f"{name} >" for name in INSIDE], "service before all (before)", "service before get (before)", "METHOD",
]  # fmt: skip


async def test_the_order_of_a_call_that_succeeds() -> None:
    trace, service = traced()
    await service.get(1)
    assert trace == [
        *WAY_IN, "service after all (after)", "service after get (after)", *[f"< {name}" for name in INSIDE[::-1]],
        "app after all (after)", "app after get (after)", *[f"< {name}" for name in OUTSIDE[::-1]],
    ]  # fmt: skip


async def test_the_order_of_a_call_that_fails() -> None:
    trace, service = traced()
    with pytest.raises(BadRequest, match="failed"):
        await service.get("fail")
    assert trace == [
        *WAY_IN, "service error get (error)", "service error all (error)", "app error get (error)",
        "app error all (error)",
    ]  # fmt: skip


def forms(hook: Any) -> list[Any]:
    """Every form that says the same of get."""
    return [
        [hook],
        hook,
        (hook,),
        {"get": [hook]},
        {"get": hook},
        {"around": [hook]},
        {"around": hook},
        {"around": {"all": [hook]}},
        {"around": {"all": hook}},
        {"around": {"get": [hook]}},
        {"around": {"get": hook}},
    ]


@pytest.mark.parametrize("form", range(11))
async def test_every_form_registers_an_around_hook(form: int) -> None:
    trace: Trace = []
    hooks = forms(around(trace, "hook"))[form]
    Apex().hooks(hooks)
    await echo(hooks).get(1)
    await Apex().use("echo", Echo()).hooks(hooks).service("echo").get(1)
    assert trace == ["hook >", "< hook"] * 2


@pytest.mark.parametrize("kind", ["before", "after", "error"])
async def test_every_form_registers_a_regular_hook(kind: str) -> None:
    for shape in (lambda hook: hook, lambda hook: [hook], lambda hook: {"all": hook}, lambda hook: {"get": [hook]}):
        trace: Trace = []
        try:
            await echo({kind: shape(noted(trace, kind))}).get("fail" if kind == "error" else 1)
        except BadRequest:
            assert kind == "error"
        assert trace == [f"{kind} ({kind})"]


async def test_hooks_add_up_in_the_order_they_came() -> None:
    trace: Trace = []
    service = echo({"before": [noted(trace, "1"), noted(trace, "2")]})
    await service.hooks({"before": {"get": noted(trace, "3")}}).hooks({"before": noted(trace, "4")}).get(1)
    assert [entry[0] for entry in trace] == ["1", "2", "4", "3"]


async def test_hooks_of_other_methods_do_not_run() -> None:
    trace: Trace = []
    await echo({"before": {"create": noted(trace, "create")}}).get(1)
    assert trace == []


async def test_an_app_hook_reaches_services_that_were_there_before_and_come_after() -> None:
    trace: Trace = []
    app = Apex().use("one", Echo()).hooks({"before": noted(trace, "app")}).use("two", Echo())
    await app.service("one").get(1)
    await app.service("two").get(1)
    assert len(trace) == 2


def takes_context(context: Context) -> None: ...


async def takes_both(context: Context, next: Next) -> None:
    await next()


def takes_nothing() -> None: ...


class Hook:
    def __call__(self, context: Context) -> None: ...


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({"around": {"get": takes_context}},
         "Hook takes_context in around get of service 'echo' cannot be called with (context, next), as an around hook "
         "is: register it under 'before' or 'after', or as run_before(hook)"),
        ([takes_context], "Hook takes_context in around of service 'echo' cannot be called with (context, next)"),
        ({"around": takes_nothing}, "as an around hook is: let it take both"),
        ({"before": {"all": [takes_both]}},
         "Hook takes_both in before of service 'echo' cannot be called with (context), as a before hook is: register "
         "it under 'around'"),
        ({"after": takes_both}, "as an after hook is: register it under 'around'"),
        ({"error": {"get": takes_nothing}},
         "in error get of service 'echo' cannot be called with (context), as an error hook is: let it take the"),
        ({"before": Hook}, "Hook Hook in before of service 'echo' is a class: register an object of it"),
        ({"before": authenticate}, "Hook authenticate in before of service 'echo' makes hooks: call it, as in "
         "authenticate(...)"),
        ({"before": [disallow]}, "Hook disallow in before of service 'echo' makes hooks"),
        ({"after": authenticate("jwt")}, "Hook authenticate in after of service 'echo' cannot be there: register it "
         "under 'before' or 'around'"),
        ({"before": populate("a", service="b", key="c", fields=())}, "Hook populate in before of service 'echo' cannot "
         "be there: register it under 'after' or 'around'"),
        ({"around": keep("a")}, "cannot be there: register it under 'before' or 'after'"),
        ({"before": iff(True, takes_both)}, "Hook takes_both in iff in before of service 'echo' cannot be called with"),
        ({"around": [iff(True).else_(takes_context)]}, "Hook takes_context in iff in around of service 'echo'"),
        ({"before": resolve_result()}, "as a before hook is: register it under 'around'"),
        ({"before": {"get": ["x"]}}, "A hook must be callable: 'x' in before get of service 'echo' is not"),
    ],
)  # fmt: skip
def test_a_hook_that_cannot_be_called_in_its_place_is_refused(hooks: Any, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        echo(hooks)


async def test_a_hook_may_be_a_mock() -> None:
    mock = AsyncMock(return_value=None)
    await echo({"before": [mock]}).get(1)
    mock.assert_awaited_once()


def test_a_map_with_one_hook_that_is_refused_registers_none() -> None:
    trace: Trace = []
    service = echo()
    with pytest.raises(TypeError):
        service.hooks({"before": {"get": noted(trace, "before")}, "after": {"get": takes_both}})
    assert service._store.steps("before", "get") == ()


async def test_a_hook_whose_next_may_be_left_out_can_be_in_every_place() -> None:
    trace: Trace = []

    async def either(context: Context, next: Next | None = None) -> None:
        trace.append(context.type)
        if next is not None:
            await next()

    await echo({"around": either, "before": either, "after": either}).get(1)
    assert trace == ["around", "before", "after"]


@pytest.mark.parametrize("form", [{"before": {"craete": takes_context}}, {"craete": [takes_both]}])
def test_an_app_hook_for_a_misspelled_method_is_refused(form: Any) -> None:
    for app in (Apex(), Apex().use("echo", Echo())):
        with pytest.raises(ValueError, match=r"'craete' is not a method of the app: .* Did you mean 'create'\?"):
            app.hooks(form)


def test_a_misspelled_lifecycle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'setpu' is not a method of the app: .* Did you mean 'setup'\?"):
        Apex().hooks({"setpu": [takes_both]})


async def test_an_app_hook_may_be_for_a_custom_method_to_come() -> None:
    class Shop(Echo):
        async def checkout(self, data: Any, params: Any) -> Any:
            return data

    trace: Trace = []
    app = Apex().hooks({"before": {"checkout": noted(trace, "app")}})
    await app.use("shop", Shop(), methods=["checkout"]).setup()
    await app.service("shop").checkout({})
    assert trace == ["app (before)"]
    with pytest.raises(ValueError, match=r"'chekout' is not a method of the app: .* Did you mean 'checkout'\?"):
        app.hooks({"after": {"chekout": noted(trace, "app")}})
    with pytest.raises(ValueError, match="'refund' is not a method of the app"):
        app.hooks({"after": {"refund": noted(trace, "app")}})


async def test_an_app_whose_hooks_are_for_a_method_that_never_comes_does_not_set_up() -> None:
    app = Apex().use("echo", Echo()).hooks({"before": {"checkout": takes_context}})
    with pytest.raises(ValueError, match="'checkout' is not a method of the app: no service has it"):
        await app.setup()


def test_a_wrong_registration_is_refused() -> None:
    with pytest.raises(ValueError, match="'befor' is not a valid hook type"):
        echo({"befor": [], "after": []})
    with pytest.raises(
        ValueError, match=r"'gett' is not a method of service 'echo': it has get, create\. Did you mean 'get'\?"
    ):
        echo({"before": {"gett": []}})
    with pytest.raises(TypeError, match="A hook must be callable"):
        echo({"before": {"get": ["x"]}})
    with pytest.raises(TypeError, match="must be declared with 'async def'"):
        echo([lambda context, next: next()])


async def test_a_refused_hook_is_not_registered() -> None:
    service = echo()
    with pytest.raises(TypeError, match="async def"):
        service.hooks([lambda context, next: next()])
    with pytest.raises(TypeError, match="callable"):
        service.hooks({"before": {"all": [lambda context: 1 / 0, "x"]}})
    assert await service.hooks({}).get(1) == {"id": 1}


def test_a_plain_function_is_no_lifecycle_hook() -> None:
    with pytest.raises(TypeError, match="must be declared with 'async def'"):
        Apex().hooks({"setup": [lambda context, next: next()]})


async def test_a_result_set_before_skips_the_method() -> None:
    trace: Trace = []
    for result in ({"id": "mine"}, None, False):
        app = Apex().use("echo", Echo(trace), hooks={"after": noted(trace, "after")})
        app.service("echo").hooks({"before": lambda context, result=result: {"result": result}})
        assert await app.service("echo").get(1) == result
    assert trace == ["after (after)"] * 3


async def test_an_around_hook_that_does_not_go_on_skips_everything_inside() -> None:
    async def stop(context: Context, next: Next) -> None:
        context.result = "stopped"

    assert await echo([stop]).get("fail") == "stopped"


async def test_an_around_hook_that_neither_goes_on_nor_answers_gives_none() -> None:
    async def stop(context: Context, next: Next) -> None:
        pass

    assert await echo([stop]).get(1) is None


async def test_id_data_and_params_may_be_replaced_before_the_method() -> None:
    def replace(context: Context) -> None:
        context.id, context.data = 9, {"b": 2}

    service = echo({"before": replace})
    assert await service.get(1) == {"id": 9}
    assert await service.create({"a": 1}) == {"b": 2}


async def test_a_returned_dict_is_merged_into_the_context() -> None:
    service = echo({"before": lambda context: {"id": 2}, "after": lambda context: {"result": [context.result]}})
    assert await service.get(1) == [{"id": 2}]


async def test_the_context_itself_may_be_returned() -> None:
    assert await echo({"before": lambda context: context}).get(1) == {"id": 1}


async def test_anything_else_may_not_be_returned() -> None:
    with pytest.raises(TypeError, match="returned int: return nothing, a dict or the context"):
        await echo({"before": lambda context: 5}).get(1)
    with pytest.raises(AttributeError, match="reslut"):
        await echo({"before": lambda context: {"reslut": 5}}).get(1)


async def test_a_plain_hook_may_return_what_is_to_be_awaited() -> None:
    async def add(context: Context) -> dict[str, Any]:
        return {"id": context.id + 1}

    assert await echo({"before": lambda context: add(context)}).get(1) == {"id": 2}


async def test_asynchronous_hooks_of_any_kind_are_awaited() -> None:
    class Hook:
        async def __call__(self, context: Context) -> None:
            context.id += 1

    async def add(number: int, context: Context) -> None:
        context.id += number

    assert await echo({"before": [Hook(), partial(add, 10)]}).get(1) == {"id": 12}


async def test_an_error_hook_sees_where_the_call_failed() -> None:
    seen: list[Any] = []

    def fail(context: Context) -> None:
        raise Conflict("crossed")

    service = echo({"error": lambda context: seen.append((context.original.type, context.error.message))})
    with pytest.raises(BadRequest):
        await service.get("fail")
    for kind in ("after", "before"):
        with pytest.raises(Conflict):
            await service.hooks({kind: fail}).get(1)
    assert seen == [("around", "failed"), ("after", "crossed"), ("before", "crossed")]


async def test_the_result_is_gone_in_an_error_hook() -> None:
    seen: list[Any] = []

    def fail(context: Context) -> None:
        raise Conflict("crossed")

    service = echo({"after": fail, "error": lambda context: seen.append((context.has_result, context.original.result))})
    with pytest.raises(Conflict):
        await service.get(1)
    assert seen == [(False, {"id": 1})]


@pytest.mark.parametrize("result", ["saved", None, 0])
async def test_an_error_hook_that_sets_a_result_swallows_the_error(result: Any) -> None:
    trace: Trace = []
    service = echo({"error": lambda context: {"result": result}})
    service._app.hooks({"after": noted(trace, "app after"), "error": noted(trace, "app error")})
    assert await service.get("fail") == result
    assert trace == ["app after (after)"]


async def test_an_error_hook_may_replace_the_error() -> None:
    def fail(context: Context) -> None:
        raise Conflict("replaced")

    with pytest.raises(Conflict, match="replaced"):
        await echo({"error": lambda context: {"error": Conflict("replaced")}}).get("fail")
    with pytest.raises(Conflict, match="replaced"):
        await echo({"error": fail}).get("fail")


async def test_the_apps_error_hooks_see_the_error_that_the_service_left() -> None:
    seen: list[Any] = []
    service = echo({"error": lambda context: {"error": Conflict("replaced")}})
    service._app.hooks({"error": lambda context: seen.append(context.error.message)})
    with pytest.raises(Conflict):
        await service.get("fail")
    assert seen == ["replaced"]


async def test_error_hooks_do_not_see_around_hooks_of_their_own_level() -> None:
    trace: Trace = []

    async def fail(context: Context, next: Next) -> None:
        raise GeneralError("around")

    with pytest.raises(GeneralError):
        await echo({"around": [fail], "error": noted(trace, "error")}).get(1)
    assert trace == []


async def test_the_services_error_hooks_do_not_see_the_apps_before_hooks() -> None:
    trace: Trace = []

    def fail(context: Context) -> None:
        raise GeneralError("before")

    service = echo({"error": noted(trace, "service")})
    service._app.hooks({"before": fail, "error": noted(trace, "app")})
    with pytest.raises(GeneralError):
        await service.get(1)
    assert trace == ["app (error)"]


async def test_an_around_hook_may_catch_the_error() -> None:
    async def catch(context: Context, next: Next) -> None:
        try:
            await next()
        except BadRequest as error:
            context.result = error.message

    assert await echo([catch]).get("fail") == "failed"


async def test_next_may_be_called_once() -> None:
    async def twice(context: Context, next: Next) -> None:
        await next()
        await next()

    with pytest.raises(RuntimeError, match=r"next\(\) called multiple times"):
        await echo([twice]).get(1)


async def test_calls_at_the_same_time_do_not_share_a_context() -> None:
    async def keep(context: Context, next: Next) -> None:
        context.params["mine"] = context.id
        await next()
        assert context.params.mine == context.id

    service = echo([keep])
    shared: dict[str, Any] = {"query": {}}
    assert [await service.get(id, shared) for id in range(3)] == [{"id": id} for id in range(3)]
    assert shared == {"query": {}}


async def test_the_arguments_follow_what_hooks_put_in_the_context() -> None:
    seen: list[tuple[Any, ...]] = []

    def other_id(context: Context) -> None:
        context.id = 7
        seen.append(context.arguments)

    app = Apex().use("people", MemoryService(store={7: {"id": 7}}), hooks={"before": {"patch": [other_id]}})
    await app.service("people").patch(1, {"age": 3})
    assert seen[0][:2] == (7, {"age": 3})
    assert seen[0][2].query == {}


@pytest.mark.parametrize(("former", "present"), [("ahead", "run_before"), ("behind", "run_after")])
def test_former_names_work_with_a_warning(former: str, present: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"apex.hooks.{former} is {present} now"):
        assert getattr(apex.hooks, former) is getattr(apex.hooks, present)
