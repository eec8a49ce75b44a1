"""A request that is tried without its method: which hook or rule allows it, limits it or refuses it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.context import Context, Params
from apex.errors import ConfigError, FeathersError, NotFound
from apex.hooks import ErrorHooks, Step, Steps
from apex.permissions.policy import Policy
from apex.query.evaluation import stamped, staying
from apex.query.language import compared, suggestion
from apex.query.querystring import parse
from apex.router import split
from apex.service import BoundService, Call
from apex.signatures import name_of, unwrapped
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import transaction_of
from apex.transports.rest import method_of
from apex.types import STANDARD, WRITES, items


class Request(NamedTuple):
    """A request to explain: verb, path with its query string, the name of the user, the body and a custom method."""

    verb: str
    path: str
    name: str | None = None
    data: Any = None
    method: str | None = None


class _Stopped(BaseException):
    """The end of a call in the place of its method. No hook of the app catches it, and transactions roll back."""


async def explained(app: Apex, request: Request) -> tuple[list[str], bool]:
    """Return a line for each step of a request, and True if it is allowed. Raises ConfigError for an unknown path."""
    call = await _call(app, request)
    bound, lines, context_of = call.service, list[str](), list[Context]()
    steps = bound._steps[call.method]
    bound._steps[call.method] = (Step("before", context_of.append, False), *_traced(steps, lines, bound))
    try:
        async with transaction_of(app, bound.service):
            await app.call(call)
    except _Stopped:
        return [*lines, "allowed"], True
    except FeathersError as error:
        if isinstance(error, NotFound) and context_of:
            lines += await _out_of_reach(context_of[0])
        lines.append(f"refused: {error.code} {error.name}, {error.message}")
        lines += [f"  {name}: {rule}" for name, rule in (error.errors or {}).items()]
        return [*lines, *_rules(bound, call.method)], False
    finally:
        bound._steps[call.method] = steps
    return [*lines, "allowed: a hook has set the result"], True


async def _call(app: Apex, request: Request) -> Call:
    path, _, query = request.path.partition("?")
    match = app.lookup(split(path))
    if match is None:
        hint = suggestion(path.strip("/").partition("/")[0], app.services)
        raise ConfigError(f"there is no service at '{path}'.{hint}")
    method, bound = method_of(match, request.verb, request.method), match.target
    id = None if match.id == method and method not in STANDARD else match.id
    values: dict[str, Any] = {"query": parse(query), "provider": "rest", "headers": {}, "route": match.route}
    if request.name is not None:
        authentication: Any = app.get("defaultAuthentication")
        user = await authentication.user_named(request.name) if authentication else None
        if user is None:
            raise ConfigError(f"there is no user '{request.name}'")
        token = authentication.tokens.create(user[authentication.entity_id])[0]
        values["authentication"] = {"strategy": "jwt", "accessToken": token}
    return Call(bound, method, id, request.data, Params(values))


def _traced(steps: Steps, lines: list[str], bound: BoundService) -> Steps:
    """Return steps that note what they do, with a look at the record in the place of the method."""
    return tuple(
        step._replace(hook=_method(lines, bound), is_async=True) if step.is_method
        else step._replace(inner=_traced(step.inner or (), lines, bound)) if isinstance(step.hook, ErrorHooks)
        else step._replace(hook=_noted(step, lines), is_async=True)
        if step.inner is None
        else step._replace(hook=_noted_around(step, lines), inner=_traced(step.inner, lines, bound))
        for step in steps
    )  # fmt: skip


def _noted(step: Step, lines: list[str]) -> Callable[[Context], Any]:
    async def noted(context: Context) -> Any:
        before = deepcopy(dict(context.params.scope))
        try:
            returned = step.hook(context)
            if hasattr(returned, "__await__"):
                returned = await returned
        except Exception as error:
            lines.append(f"{_name(step)} refuses: {error}")
            raise
        lines.append(f"{_name(step)} {_effect(before, context)}")
        return returned

    return noted


def _noted_around(step: Step, lines: list[str]) -> Callable[..., Any]:
    async def noted(context: Context, next: Callable[[], Any]) -> Any:
        before, passed = deepcopy(dict(context.params.scope)), list[None]()

        async def go_on() -> None:
            passed.append(None)
            lines.append(f"{_name(step)} {_effect(before, context)}")
            await next()

        try:
            return await step.hook(context, go_on)
        except Exception as error:
            if not passed:
                lines.append(f"{_name(step)} refuses: {error}")
            raise

    return noted


def _name(step: Step) -> str:
    hook = unwrapped(step.hook)
    return f"{step.type} {name_of(hook)}"


def _effect(before: dict[str, Any], context: Context) -> str:
    added = {name: value for name, value in context.params.scope.items() if before.get(name, ...) != value}
    return f"limits the records to {added}" if added else "passes"


def _method(lines: list[str], bound: BoundService) -> Callable[[Context], Any]:
    """Return the step in the place of a method. It raises the error that the method would raise for the scope."""

    async def look(context: Context) -> None:
        service, method = bound.service, context.method
        if isinstance(service, Adapter) and method in STANDARD:
            allowed = service._allowed(context.params)
            if method != "create" and context.id is not None:
                params = Params({"scope": context.params.scope, "query": _without_select(context)})
                await service.get(context.id, params)
                lines.append(f"the record {context.id} is among the records of this scope")
            for row in items(None, context.data) if method in WRITES else ():
                (stamped if method == "create" else staying)(dict(row), allowed)
        lines.append(f"method {method} would run")
        raise _Stopped

    return look


async def _out_of_reach(context: Context) -> list[str]:
    """Return a line about the record that a call names, if it exists outside of the scope."""
    service, scope = context.service.service, context.params.scope
    if context.id is None or not isinstance(service, Adapter):
        return []
    try:
        with tenant_context(ALL_TENANTS):
            row: Any = await service.get(context.id, Params())
    except FeathersError:
        return []
    compared_ones = {name: row.get(name) for name in compared(service._allowed(Params({"scope": scope})))}
    return [f"the record {context.id} is outside of this scope: it has {compared_ones}"]


def _without_select(context: Context) -> dict[str, Any]:
    return {name: value for name, value in context.params.query.items() if name != "$select"}


def _rules(bound: BoundService, method: str) -> list[str]:
    """Return the rules for a method, as the hook ``authorize`` knows them."""
    policy: Policy | None = bound._policy
    if policy is None:
        return []
    rules = [f"  {who}: {shown}" for who, shown in policy.shown(method).items()]
    return [f"the rules of '{policy.path}' for {method}:", *(rules or ["  nobody"])]
