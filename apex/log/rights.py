"""The rights of readers outside of sockets: which entries they may read, and which fields of their records.

Sockets get the events that publishers choose for them. Other readers get those of the records that they may read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from inspect import isawaitable
from typing import Any

from apex.app import Apex
from apex.context import Context, Params
from apex.events import context_of
from apex.log.reading import Entry
from apex.permissions.delivery import permitted
from apex.realtime.channels import Connection
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import UNSET

DataOf = Callable[[Context], Any]
"""A function of the context of an event, which returns what readers get of it."""

MayRead = Callable[[Any, Params], bool | Awaitable[bool]]
"""A function of a record and of a reader's params, which returns True if the reader may read the record."""

FOR_NOBODY = "it has no permissions, and may_read does not name it"
"""Why nobody may read the entries of a service."""

OF_CALL = ("query", "scope", "route", "body", "parent")
"""The params that belong to the call of a reader, and not to the reader."""


class Rights:
    """The rights to read the entries of an app, for ``EventsService`` and for webhooks.

    The ``permissions`` of a service decide who may read its entries. Its hooks do not run. For what they would refuse,
    and for services without permissions, ``may_read`` has functions by path. Nobody may read the entries of all other
    services. ``data`` returns what readers get of an event, from the context that publishers get. By default that is
    what connections get.
    """

    def __init__(self, app: Apex, may_read: Mapping[str, MayRead] | None = None, data: DataOf | None = None) -> None:
        self.app: Apex = app
        self.may_read: Mapping[str, MayRead] = may_read or {}
        self.data: DataOf | None = data

    @property
    def services(self) -> Iterator[str]:
        """The paths of the services whose entries somebody may read."""
        for path, bound in self.app.services.items():
            if bound._policy is not None or path in self.may_read:
                yield path

    @property
    def unread(self) -> Iterator[str]:
        """The paths of the services that callers reach, whose entries nobody may read."""
        readable = set(self.services)
        for path, bound in self.app.services.items():
            if bound._is_logged and bound._options.methods and path not in readable:
                yield path

    def reader(self, params: Mapping[str, Any]) -> Reader:
        """Return the reader with the params of a call. Without a login it is nobody, whatever proof it has sent."""
        omitted = OF_CALL if params.get("authenticated") else (*OF_CALL, "authentication")
        return Reader(self, {name: value for name, value in params.items() if name not in omitted})


class Reader:
    """A reader of entries. ``params`` tell who it is, as those of its calls do."""

    def __init__(self, rights: Rights, params: Mapping[str, Any]) -> None:
        self.rights: Rights = rights
        self.params: Mapping[str, Any] = params
        self.connection: Connection = Connection(**params)

    async def data(self, entry: Entry) -> Any:
        """Return what the reader may see of the record of an entry, or UNSET if it may not read the record."""
        app = self.rights.app
        bound = app.services.get(entry.service or "")
        if bound is None:
            return UNSET
        context = context_of(app, bound, entry.message())
        payload = UNSET if self.rights.data is None else self.rights.data(context)
        with tenant_context(ALL_TENANTS):  # As for the events of sockets, the rules decide, and not a call.
            if not await self._may_read(context):
                return UNSET
            found = {self.connection: payload}
            if bound._policy is not None:
                permitted_to = permitted(found, context, bound._policy)
                found = await permitted_to if isawaitable(permitted_to) else permitted_to
        if self.connection not in found:
            return UNSET
        data = found[self.connection]
        return context.external if data is UNSET else data

    async def _may_read(self, context: Context) -> bool:
        """Return what the function for a service says. Without one its permissions decide, if it has some."""
        function = self.rights.may_read.get(context.path)
        if function is None:
            return context.service._policy is not None
        answer = function(context.result, Params(self.params))
        return bool(await answer if isawaitable(answer) else answer)
