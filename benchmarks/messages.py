"""The service for measuring the fan-out, the same as in ``peers/feathers/messages.js``."""

from __future__ import annotations

from apex import Apex, Context, MemoryService, rest, sockets
from apex.realtime.channels import Connection, NamedChannel


def create_app() -> Apex:
    app = Apex().configure(rest).configure(sockets)
    app.use("messages", MemoryService())

    def join(connection: Connection) -> None:
        app.channel("everyone").join(connection)

    def everyone(data: object, context: Context) -> NamedChannel:
        return app.channel("everyone")

    app.on("connection", join)
    app.publish(everyone)
    return app
