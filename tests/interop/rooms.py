"""Rooms: events for some connections, and results that callers see in part."""

from __future__ import annotations

from typing import Any

from apex import Apex, Context, MemoryService, Params
from apex.common.resolvers import OMIT, resolve, resolve_external
from apex.realtime.channels import Channel
from apex.types import STANDARD

PUBLIC = resolve({"secret": lambda secret, note, context: OMIT})


class Rooms(MemoryService):
    """Notes in rooms. Connections in a room receive its notes, without their secret."""

    methods = ("find", "get", "create", "update", "patch", "remove", "join", "type", "reveal")
    events = ("typing",)
    multi = True
    app: Apex

    async def setup(self, app: Apex, path: str) -> None:
        self.app = app

    async def join(self, data: Any, params: Params) -> Any:
        self.app.channel(*data["rooms"]).join(params.connection)
        return data

    async def type(self, data: Any, params: Params) -> Any:
        self.app.service("rooms").emit("typing", data)
        return data

    async def reveal(self, data: Any, params: Params) -> Any:
        """Return the result that an internal caller sees."""
        return await self.app.service("rooms").get(data["id"])


def to_rooms(note: dict[str, Any], context: Context) -> list[Channel]:
    return [context.app.channel(room) for room in note["rooms"]]


def add_rooms(app: Apex) -> None:
    app.use("rooms", Rooms(), hooks={"around": {method: [resolve_external(PUBLIC)] for method in STANDARD}})
    app.service("rooms").publish(to_rooms)
