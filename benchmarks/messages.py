"""The service for measuring the fan-out, the same as in ``peers/feathers/messages.js``."""

from __future__ import annotations

import os

from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Next, Params, Service, SQLService, database, rest, sockets
from apex.log import log, log_table
from apex.realtime.channels import Connection, NamedChannel
from apex.server import serve_app
from apex.transports.socketio.transport import Sockets


def create_app() -> Apex:
    app = Apex().configure(rest).configure(sockets)
    app.use("messages", MemoryService())
    return to_everyone(app)


def create_logged_app() -> Apex:
    """Return the app with a log, in the database of ``DATABASE_URL``. ``reads`` returns the reads for its clients."""
    metadata = MetaData()
    messages = Table("messages", metadata, Column("id", Integer, primary_key=True), Column("text", String(200)))
    app = Apex().configure(database(os.environ["DATABASE_URL"])).configure(log(log_table(metadata)))
    app.configure(rest).configure(sockets).use("messages", SQLService(messages, multi=True)).use("reads", Reads(app))

    async def prepare(context: Context, next: Next) -> None:
        await app.get("database").create_all(metadata)
        await next()

    return to_everyone(app.hooks({"setup": [prepare]}))


class Reads(Service):
    """The number of reads of the log for clients that return."""

    def __init__(self, app: Apex) -> None:
        self.app = app

    async def get(self, id: object, params: Params) -> int:
        transport = self.app.mounts["socket.io"]
        assert isinstance(transport, Sockets)
        return transport.resumption.history.reads


def to_everyone(app: Apex) -> Apex:
    """Send all events to all connections."""

    def join(connection: Connection) -> None:
        app.channel("everyone").join(connection)

    def everyone(data: object, context: Context) -> NamedChannel:
        return app.channel("everyone")

    app.on("connection", join)
    app.publish(everyone)
    return app


if __name__ == "__main__":
    serve_app(create_logged_app(), "127.0.0.1", 0)
