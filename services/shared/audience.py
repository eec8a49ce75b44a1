"""Channels: each organization has one channel for its members and one for its admins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from apex import Apex, Connection, Context
from apex.realtime import Channel
from apex.tenant import ALL_TENANTS, tenant_context
from hooks.roles import RUNNING
from hooks.tenancy import covers

Row = Mapping[str, Any]


def to_organization(data: Row, context: Context) -> list[Channel]:
    """Publish the whole record to the members of its organization, whatever the caller has selected."""
    channel, organization = context.app.channel, data["organization_id"]
    return [channel(part_of(organization, context.path)).send(data), channel(channel_of(organization)).send(data)]


def to_nobody(data: Row, context: Context) -> None:
    """Publish nothing, for records that not every member may read."""


def to_admins(data: Row, context: Context) -> Channel:
    """Publish records to the admins and owners of an organization."""
    return context.app.channel(admins_of(data["organization_id"])).send(data)


def channel_of(organization: Any) -> str:
    """Return the name of the channel of an organization's members."""
    return f"organizations/{organization}"


def part_of(organization: Any, path: str) -> str:
    """Return the name of the channel of connections whose API key is for certain services, among them this one."""
    return f"organizations/{organization}/services/{path}"


def admins_of(organization: Any) -> str:
    """Return the name of the channel of an organization's admins and owners."""
    return f"organizations/{organization}/admins"


class Audience:
    """The audience of events. It keeps each connection in the channels that its user's roles allow, and no others."""

    def __init__(self, app: Apex) -> None:
        self.app = app
        self.changes = 0
        # The log has the changes of all processes in order, also those of this one. A new member need not wait for it.
        app.bus.on_change("memberships", self._changed)
        app.service("memberships").on("created", lambda row, context: self._changed("created", row))
        app.bus.on_sync(self.check)

    async def admit(self, context: Context) -> None:
        """Let the connection of a login join the channels of its user or API key: after create of authentication."""
        connection: Connection | None = context.params.connection
        if connection is not None:
            connection.user = context.result["user"]
            proof = context.result["authentication"]
            for name in ("organization_id", "maker_id", "services"):
                connection[name] = proof.get(name)
            await self._assign([connection])

    async def check(self) -> None:
        """Join and leave channels for all connections, by the memberships in the database."""
        await self._assign([connection for connection in self.app.events.connections if connection.user])

    def _changed(self, event: str, row: Row) -> None:
        """Move the connections of a user when its role changes."""
        user, organization, role = row["user_id"], row["organization_id"], None if event == "removed" else row["role"]
        self.changes += 1
        roles = {} if role is None else {organization: role}
        for connection in list(self.app.events.connections):
            if connection.user and user in (connection.user["id"], connection.maker_id):
                kept = {id: role for id, role in (connection.memberships or {}).items() if id != organization}
                connection.memberships = kept | (roles if connection.organization_id in (None, organization) else {})
                others = {name for name in connection.channels if not _is_of(name, organization)}
                if connection.organization_id is None or role is None:
                    self._place(connection, others | self._channels(connection, roles))

    async def _assign(self, connections: list[Connection]) -> None:
        """Join and leave channels. If a membership changes meanwhile, read again: the first read may be outdated."""
        seen = -1
        while seen != self.changes:
            seen = self.changes
            users = {id for one in connections for id in (one.user["id"], one.maker_id) if id is not None}
            roles = await self._roles(users)
        for connection in connections:
            theirs, maker = roles[(connection.user or {}).get("id")], connection.maker_id
            if maker is not None:
                theirs = {organization: role for organization, role in theirs.items() if organization in roles[maker]}
            connection.memberships = theirs
            self._place(connection, self._channels(connection, theirs))

    def _channels(self, connection: Connection, roles: Mapping[int, str]) -> set[str]:
        """Return the channels of a connection whose user has these roles.

        A connection with an API key has only channels for its organization and its services, and none for admins.
        """
        only, services = connection.organization_id, connection.services
        if only is None:
            admins = {admins_of(organization) for organization, role in roles.items() if role in RUNNING}
            return admins | {channel_of(organization) for organization in roles}
        if only not in roles:
            return set()
        if services is None:
            return {channel_of(only)}
        return {part_of(only, path) for path in self.app.services if covers(services, path)}

    def _place(self, connection: Connection, wanted: set[str]) -> None:
        for name in connection.channels - wanted:
            self.app.channel(name).leave(connection)
        for name in wanted - connection.channels:
            self.app.channel(name).join(connection)

    async def _roles(self, users: set[Any]) -> Mapping[Any, dict[int, str]]:
        """Return the role of each user by organization."""
        roles: dict[Any, dict[int, str]] = defaultdict(dict)
        query = {"user_id": {"$in": sorted(users)}}
        with tenant_context(ALL_TENANTS):
            rows = await self.app.service("memberships").find({"query": query, "paginate": False})
        for row in rows:
            roles[row["user_id"]][row["organization_id"]] = row["role"]
        return roles


def _is_of(name: str, organization: Any) -> bool:
    return name == channel_of(organization) or name.startswith(channel_of(organization) + "/")
