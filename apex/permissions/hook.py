"""The hook ``authorize``, which lets a caller do what the permissions of a service allow, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from apex.context import Context
from apex.describe import describe, flat, in_order
from apex.errors import FeathersError, Forbidden, NotAuthenticated
from apex.hooks import belongs
from apex.permissions.fields import limit_query, select_at_end, show_permitted
from apex.permissions.policy import READING, Held, Part, Policy, narrow
from apex.permissions.roles import ANYONE
from apex.permissions.rules import caller_id, shown_where
from apex.query.coercion import boolean
from apex.query.language import DELETED, shortened
from apex.tenant import ALL_TENANTS, current_tenants, set_tenants
from apex.types import items

if TYPE_CHECKING:
    from apex.service import BoundService


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
    held = held_by(context, policy)
    if isinstance(held, Held):
        return _authorize(context, policy, held)
    return _authorize_later(context, policy, held)


async def _authorize_later(context: Context, policy: Policy, held: Awaitable[Held]) -> None:
    pending = _authorize(context, policy, await held)
    if pending is not None:
        await pending


def _authorize(context: Context, policy: Policy, held: Held) -> Awaitable[None] | None:
    method = method_of(context)
    if held.tenants is None or policy.tenant is None:
        decision = policy.decide(method, held)
        if decision.is_open:
            if policy.is_partial and "$select" in context.params.query:
                select_at_end(context, policy)
            return None
        if not decision.grants:
            raise refusal(context, policy, method, held)
    else:
        enough = policy.sufficient(method)
        if enough is not None and _limit_to_tenants(context, policy, held, enough):
            return None
    return _limit(context, policy, method, held)


def held_by(context: Context, policy: Policy) -> Held | Awaitable[Held]:
    """Return the login and the roles of the caller of a context."""
    is_known = caller_id(context) is not None
    roles = policy.roles
    if not is_known or roles is None:
        return Held(is_known, tenants={} if roles is not None and roles.tenant is not None else None)
    found = roles.of(context)
    if isawaitable(found):
        return _held_later(found, policy)
    return _held(found, policy)


async def _held_later(found: Awaitable[Any], policy: Policy) -> Held:
    return _held(await found, policy)


def _held(found: Any, policy: Policy) -> Held:
    roles = policy.roles
    if roles is None:
        return Held(True)
    if roles.tenant is None:
        return Held(True, roles.expanded(found))
    if not isinstance(found, Mapping | None):
        raise TypeError(f"of=... of roles with a tenant returned {found!r}: return a dict from tenants to roles")
    tenants: Mapping[Any, Any] = found or {}
    return Held(True, frozenset().union(*map(roles.expanded, tenants.values())), tenants)


def method_of(context: Context) -> str:
    """Return the method whose rules decide about a call. A list with ``$deleted`` needs those of ``restore``."""
    if context.method != "find" or getattr(context.service.service, "trash", None) is None:
        return context.method
    query: Any = context.params.query
    asked = getattr(query, "asked", query).get(DELETED)
    try:
        return "restore" if asked is not None and boolean(asked) else "find"
    except ValueError:
        return "restore"


def _limit_to_tenants(context: Context, policy: Policy, held: Held, enough: frozenset[str]) -> bool:
    """Limit a call to the tenants where the caller has one of the roles. Return False if there is none."""
    tenants = held.tenants or {}
    allowed = sorted([tenant for tenant, role in tenants.items() if isinstance(role, str) and role in enough])
    if not allowed or (len(allowed) < len(tenants) and not all(isinstance(role, str) for role in tenants.values())):
        return False
    context.params["scope"][policy.tenant or ""] = allowed
    set_tenants(allowed)
    return True


def _limit(context: Context, policy: Policy, method: str, held: Held) -> Awaitable[None] | None:
    """Limit a call to the records and fields that the rules of its caller allow."""
    decision = policy.decide(method, held)
    parts = policy.parts(context, decision.grants, held)
    readers = parts if method in READING else policy.parts(context, decision.readers, held)
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
    if context.method not in ("create", "update", "patch") or all(part.fields is None for part in parts):
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
    return Forbidden(f"You may not {what} {policy.path}", data)


def reason(policy: Policy, method: str, held: Held) -> str:
    """Return a sentence about the rules for a method, and about the roles of the caller."""
    rules = [f"{grant.who} {shown_where(grant.rule)}".rstrip() for grant in policy.of_method(method)]
    allowed = f"allow {method} to {', '.join(rules)}" if rules else f"allow {method} to nobody"
    names = sorted(held.roles) if held.roles else ["no declared role"]
    caller = f"the caller has {', '.join(names)}" if held.is_known else "the caller has not logged in"
    return f"The permissions of '{policy.path}' {allowed}, and {caller}"


def require_authorize(bound: BoundService) -> None:
    """Raise TypeError if a service has permissions but no hook ``authorize``, or the hook but no permissions."""
    lacking: list[str] = []
    for method in bound._options.methods:
        early = [step.hook for step in in_order(bound._steps[method]) if step.type in ("around", "before")]
        is_checked = any(one is authorize for hook in early for one in flat(hook))
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
