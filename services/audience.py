"""Who hears what: each organization is a channel, of the connections whose users belong to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from apex import Apex, Connection, Context
from apex.channels import Channel
from apex.tenant import EVERYONE, reaching

Row = Mapping[str, Any]

TOPIC = "membership"


def to_organization(data: Row, context: Context) -> Channel:
    """A publisher: an organization's records are for its members, whole, whatever the caller selected for itself."""
    return context.app.channel(channel_of(data["organization_id"])).send(data)


def to_nobody(data: Row, context: Context) -> None:
    """A publisher: of records that not every member may read."""


def channel_of(organization: Any) -> str:
    return f"organizations/{organization}"


class Audience:
    """Keeps each connection in the channels of its user's organizations, and in no others."""

    def __init__(self, app: Apex) -> None:
        self.app = app
        self.changes = 0
        memberships = app.service("memberships")
        memberships.on("created", lambda row, context: self.change(row, begins=True))
        memberships.on("removed", lambda row, context: self.change(row, begins=False))
        app.bus.on(TOPIC, lambda message: self._changed(**message))
        app.bus.on_sync(self.check)

    async def admit(self, context: Context) -> None:
        """After a login over a socket: the connection joins the channels of its user, or that of its API key."""
        connection: Connection | None = context.params.connection
        if connection is not None:
            connection.user = context.result["user"]
            connection.organization = context.result["authentication"].get("organization_id")
            await self._seat([connection])

    def change(self, row: Row, begins: bool) -> None:
        """A membership has begun or ended: the connections of the user follow at once, in all processes."""
        message = {"user": row["user_id"], "organization": row["organization_id"], "begins": begins}
        self._changed(**message)
        self.app.bus.send(TOPIC, message)

    async def check(self) -> None:
        """Seats everyone again, by what the database says."""
        await self._seat([connection for connection in self.app.events.connections if connection.user])

    def _changed(self, user: Any, organization: Any, begins: bool) -> None:
        self.changes += 1
        channel = self.app.channel(channel_of(organization))
        if begins:
            theirs = (one for one in self.app.events.connections if one.user and one.user["id"] == user)
            channel.join(*(one for one in theirs if _may_hear(one, organization)))
        else:
            channel.leave(lambda one: one.user is not None and one.user["id"] == user)

    async def _seat(self, connections: list[Connection]) -> None:
        """Reads once more when a membership has changed meanwhile: what was read may be what was before."""
        seen = -1
        while seen != self.changes:
            seen = self.changes
            organizations = await self._organizations({connection.user["id"] for connection in connections})
        for connection in connections:
            theirs = organizations[(connection.user or {}).get("id")]
            wanted = {channel_of(organization) for organization in theirs if _may_hear(connection, organization)}
            for name in connection.channels - wanted:
                self.app.channel(name).leave(connection)
            for name in wanted:
                self.app.channel(name).join(connection)

    async def _organizations(self, users: set[Any]) -> Mapping[Any, set[int]]:
        organizations: dict[Any, set[int]] = defaultdict(set)
        query = {"user_id": {"$in": sorted(users)}}
        with reaching(EVERYONE):
            rows = await self.app.service("memberships").find({"query": query, "paginate": False})
        for row in rows:
            organizations[row["user_id"]].add(row["organization_id"])
        return organizations


def _may_hear(connection: Connection, organization: int) -> bool:
    """Of the organizations of its user, all, or with an API key that of the key."""
    return connection.organization in (None, organization)
