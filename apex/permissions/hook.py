"""The hook ``authorize``, which lets a caller do what the permissions of a service allow, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from apex.context import Context
from apex.describe import describe, flat
from apex.errors import FeathersError, Forbidden, NotAuthenticated
from apex.hooks import AnyHook, belongs
from apex.permissions.fields import limit_query, select_at_end, show_permitted
from apex.permissions.policy import Held, Part, Policy, narrow
from apex.permissions.roles import ANYONE
from apex.permissions.rules import is_known, shown_where
from apex.query.coercion import boolean
from apex.query.language import DELETED, shortened
from apex.tenant import ALL_TENANTS, current_tenants, is_tenant_hook, set_tenants, tenant_context
from apex.types import READS, WRITES, items

if TYPE_CHECKING:
    from apex.service import BoundService


class Refused(Forbidden):
    """The error of ``authorize`` for a caller whom no rule allows a method."""


@belongs("before", "around")
@describe(errors=(403,))
def authorize(context: Context) -> Awaitable[None] | None:
    """Let a caller from outside do what the ``permissions`` of the service allow: after ``authenticate``.

    ::

        hooks = {"around": {"all": [authenticate("jwt"), authorize]}}

    The records that the rules of the caller allow become the scope of the call. Raises NotAuthenticated or Forbidden if
    no rule allows the method, and Forbidden for data with fields that the caller may not write.
    """
    if not context.params.get("provider"):
        return None
    policy: Policy | None = context.service._policy
    if policy is None:
        raise Forbidden(f"'{context.path}' has no permissions")
    known = is_known(context)
    found = policy.roles.of(context) if known and policy.roles is not None and policy.needs_roles else None
    if hasattr(found, "__await__"):  # Much faster than ``isawaitable``.
        return _authorize_later(context, policy, found)  # type: ignore[arg-type]
    return _authorize(context, policy, known, found)


async def _authorize_later(context: Context, policy: Policy, found: Awaitable[Any]) -> None:
    with tenant_context(ALL_TENANTS):  # The caller's own tenants are not known before.
        roles = await found
    pending = _authorize(context, policy, True, roles)
    if pending is not None:
        await pending


def _authorize(context: Context, policy: Policy, known: bool, found: Any) -> Awaitable[None] | None:
    """Let a caller who has logged in or not, with the ``found`` roles, do what its rules allow."""
    method = method_of(context, policy)
    if policy.tenant is not None:
        enough = policy.sufficient(method)
        if enough is not None and found and _limit_to_tenants(context, policy, found, enough):
            return None
    held = policy.held(known, found)
    if policy.tenant is None:
        decision = policy.decide(method, held)
        if decision.is_open:
            if policy.is_partial and "$select" in context.params.query:
                select_at_end(context, policy)
            return None
        if not decision.grants:
            raise refusal(context, policy, method, held)
    return _limit(context, policy, method, held)


def method_of(context: Context, policy: Policy) -> str:
    """Return the method whose rules decide about a call. A list with ``$deleted`` needs those of ``restore``."""
    if context.method != "find" or not policy.has_trash:
        return context.method
    query: Any = context.params.query
    asked = getattr(query, "asked", query).get(DELETED)
    try:
        return "restore" if asked is not None and boolean(asked) else "find"
    except ValueError:
        return "restore"


def _limit_to_tenants(context: Context, policy: Policy, tenants: Any, enough: frozenset[str]) -> bool:
    """Limit a call to the tenants where the caller has one of the roles.

    Return False if there is none, or if the caller has several roles in a tenant.
    """
    try:
        allowed = sorted([tenant for tenant, role in tenants.items() if role in enough])
    except (AttributeError, TypeError):  # No dict, or lists of roles.
        return False
    if not allowed or (len(allowed) < len(tenants) and not all(isinstance(role, str) for role in tenants.values())):
        return False
    context.params["scope"][policy.tenant or ""] = allowed
    set_tenants(allowed)
    return True


def _limit(context: Context, policy: Policy, method: str, held: Held) -> Awaitable[None] | None:
    """Limit a call to the records and fields that the rules of its caller allow."""
    decision = policy.decide(method, held)
    parts = policy.parts(context, decision.grants, held)
    readers = parts if method in READS else policy.parts(context, decision.readers, held)
    if isinstance(parts, list) and isinstance(readers, list):
        _apply(context, policy, method, held, parts, readers)
        return None
    return _limit_later(context, policy, method, held, parts, readers)


async def _limit_later(context: Context, policy: Policy, method: str, held: Held, parts: Any, readers: Any) -> None:
    found = parts if isinstance(parts, list) else await parts
    shown = found if readers is parts else readers if isinstance(readers, list) else await readers
    _apply(context, policy, method, held, found, shown)


def _apply(context: Context, policy: Policy, method: str, held: Held, parts: list[Part], readers: list[Part]) -> None:
    if not parts:
        raise refusal(context, policy, method, held)
    narrow(context, parts, _written(context, policy, parts))
    selected = limit_query(context, policy, readers)
    show_permitted(context, policy, readers, selected)
    if held.tenants is not None and policy.tenant is not None:
        _set_tenants(policy, held, [*parts, *readers])


def _set_tenants(policy: Policy, held: Held, parts: Iterable[Part]) -> None:
    found = [policy.tenants_of(part.grant, held) for part in parts]
    if None in found:
        current_tenants.set(ALL_TENANTS)
    else:
        set_tenants(sorted({tenant for tenants in found for tenant in tenants or ()}))


def _written(context: Context, policy: Policy, parts: list[Part]) -> list[str]:
    """Return the fields that the data of a call would write. Raises Forbidden for those that no rule allows."""
    if context.method not in WRITES or all(part.fields is None for part in parts):
        return []
    rows = [row for row in items(None, context.data) if isinstance(row, Mapping)]
    names = dict.fromkeys(str(name) for row in rows for name in row)
    if context.method != "create":
        names.pop(policy.id, None)  # An id in a change is ignored.
    refused = [
        name for name in names if not any(part.fields is None or name in part.fields for part in parts)
    ]  # fmt: skip
    if refused:
        shown = [shortened(name) for name in refused[:20]]
        raise Forbidden(
            f"You may not write {', '.join(shown)}", errors=dict.fromkeys(shown, "You may not write this field")
        )
    return list(names)


def refusal(context: Context, policy: Policy, method: str, held: Held) -> FeathersError:
    """Return the error for a caller whom no rule allows a method. In development its data has the reason."""
    what = DELETED if method != context.method else context.method
    data = None
    if context.app.get("env") == "development":
        data = {"permissions": reason(policy, method, held)}
    if not held.is_known and any(grant.kind != ANYONE for grant in policy.of_method(method)):
        return NotAuthenticated("Not authenticated", data)
    if held.tenants is not None and policy.tenant is not None and len(held.tenants) == 1:
        ((tenant, role),) = held.tenants.items()
        role = role if isinstance(role, str) else ", ".join(role)
        noun = policy.tenant.removesuffix("_id").replace("_", " ")
        return Refused(f"Your role in {noun} {tenant} is {role}: it does not allow {what} here", data)
    return Refused(f"You may not {what} {policy.path}", data)


def reason(policy: Policy, method: str, held: Held) -> str:
    """Return a sentence about the rules for a method, and about the roles of the caller."""
    rules = [f"{grant.who} {shown_where(grant.rule)}".rstrip() for grant in policy.of_method(method)]
    allowed = f"allow {method} to {', '.join(rules)}" if rules else f"allow {method} to nobody"
    names = sorted(policy.roles_of(held)) or ["no declared role"]
    caller = f"the caller has {', '.join(names)}" if held.is_known else "the caller has not logged in"
    return f"The permissions of '{policy.path}' {allowed}, and {caller}"


def require_authorize(bound: BoundService) -> None:
    """Raise TypeError if a service has permissions but no hook ``authorize``, or the hook but no permissions."""
    lacking: list[str] = []
    # Most hooks belong to several methods.
    registered = {id(step.hook): step.hook for store in (bound._app.store, bound._store) for step in store}
    is_known = any(hook is authorize for one in registered.values() for hook in flat(one))
    for method in bound._options.methods:
        is_checked = is_known and any(hook is authorize for hook in _early(bound, method))
        if is_checked and bound._policy is None:
            raise TypeError(
                f"Service '{bound._path}' has the hook authorize and no permissions: "
                "declare permissions = {'user': can('find', 'get')} on its class"
            )
        if not is_checked and bound._policy is not None:
            lacking.append(method)
    if lacking:
        raise TypeError(
            f"Service '{bound._path}' has permissions, and nothing enforces them for {', '.join(lacking)}: "
            "register the hook authorize before these methods, after authenticate"
        )


def limits_tenants(bound: BoundService, method: str) -> bool:
    """Return True if a hook limits the callers of a method to their tenants."""
    if bound._policy is not None and bound._policy.tenant is not None:
        return True  # Its roles are held in tenants, and a method without authorize is refused at setup.
    return any(is_tenant_hook(hook) for hook in _early(bound, method))


def _early(bound: BoundService, method: str) -> Iterator[AnyHook]:
    """Yield the hooks of app and service that begin before the method, with those inside of others."""
    for store in (bound._app.store, bound._store):
        for step in (*store.around(method), *store.steps("before", method)):
            yield from flat(step.hook)
