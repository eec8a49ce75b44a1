"""The delivery of events: a connection gets those of records that its user may read, with the fields it may read."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from inspect import isawaitable
from typing import Any

from apex.context import Context, Params
from apex.permissions.fields import Visible
from apex.permissions.policy import Held, Part, Policy
from apex.permissions.rules import is_known
from apex.realtime.channels import Connection
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import UNSET

Recipients = dict[Connection, Any]
"""The payload of each connection, UNSET for that of the event."""


def permitted(recipients: Recipients, context: Context, policy: Policy) -> Recipients | Awaitable[Recipients]:
    """Return the connections that may get an event, each with its payload.

    The rules are those for ``find`` and ``get``. They are looked at once for each group of connections with the same
    roles and scopes. The result is an awaitable if a function of the app has to be awaited.
    """
    if any(grant.kind == "anyone" and grant.is_plain for grant in policy.readers):
        return recipients
    audience = _Audience(context, policy)
    found = {connection: audience.parts_of(connection) for connection in recipients}
    if any(isawaitable(parts) for parts in found.values()):
        return _permitted_later(recipients, audience, found)
    return audience.payloads(recipients, found)  # type: ignore[arg-type]


async def _permitted_later(recipients: Recipients, audience: _Audience, found: dict[Connection, Any]) -> Recipients:
    parts = {connection: await each if isawaitable(each) else each for connection, each in found.items()}
    return audience.payloads(recipients, parts)


class _Audience:
    """The connections that could get an event, in groups that get the same of it."""

    def __init__(self, context: Context, policy: Policy) -> None:
        self.context, self.policy = context, policy
        self.id = context.result.get(policy.id) if isinstance(context.result, Mapping) else None
        self.shown: dict[Any, Any] = {}

    def parts_of(self, connection: Connection) -> list[Part] | Awaitable[list[Part]]:
        """Return the grants that let the user of a connection read records."""
        params = Params({**connection, "authenticated": connection.get("authentication") is not None})
        caller = Context(self.context.app, self.context.service, "get", id=self.id, params=params)
        known, roles = is_known(caller), self.policy.roles
        found = roles.of(caller) if known and roles is not None and self.policy.needs_roles else None
        if isawaitable(found):
            return self._parts_later(caller, found)
        return self._parts(caller, self.policy.held(known, found))

    async def _parts_later(self, caller: Context, found: Awaitable[Any]) -> list[Part]:
        with tenant_context(ALL_TENANTS):  # The tenants of the connection's user are not known before.
            roles = await found
        parts = self._parts(caller, self.policy.held(True, roles))
        return parts if isinstance(parts, list) else await parts

    def _parts(self, caller: Context, held: Held) -> list[Part] | Awaitable[list[Part]]:
        return self.policy.parts(caller, self.policy.decide("", held).readers, held)

    def payloads(self, recipients: Recipients, parts: Mapping[Connection, list[Part]]) -> Recipients:
        """Return the payloads of the connections that may read the record."""
        found: Recipients = {}
        for connection, payload in recipients.items():
            # One object for each payload and group: the transport encodes it once.
            key = (_key(parts[connection]), id(payload))
            if key not in self.shown:
                self.shown[key] = self._payload(parts[connection], payload)
            shown = self.shown[key]
            if shown is not None:
                found[connection] = shown[0]
        return found

    def _payload(self, parts: list[Part], payload: Any) -> tuple[Any] | None:
        if not parts:
            return None
        visible, row = Visible(self.policy, parts), self.context.result
        if not isinstance(row, Mapping):
            return (payload,) if any(part.scope is None and part.fields is None for part in parts) else None
        if not visible.holds(row):
            return None
        fields = visible.fields_of(row)
        if fields is None:
            return (payload,)
        if payload is not UNSET:
            return (visible.without_hidden(payload, row) if isinstance(payload, Mapping) else payload,)
        shown = self.context.external
        return (visible.only(shown, row) if isinstance(shown, Mapping) else shown,)


def _key(parts: Iterable[Part]) -> str:
    return repr([(part.scope, part.grant.rule.fields) for part in parts])
