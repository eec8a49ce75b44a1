"""An app with a log, served by processes of its own, to whose connections the npm clients return."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, Connection, Context, Next, SQLService, bus, database, rest, sockets
from apex.log import log, log_table
from tests.auth.test_service import SETTINGS
from tests.interop.golden import USER, add_users


def create_app() -> Apex:
    """Return the app. Everybody gets the events of ``news``, and those who are logged in those of ``notes``."""
    metadata = MetaData()
    for name in ("news", "notes"):
        Table(name, metadata, Column("id", Integer, primary_key=True), Column("text", String(50)))
    app = Apex({"authentication": SETTINGS, "host": "127.0.0.1"}).configure(rest).configure(sockets)
    app.configure(database(os.environ["DATABASE_URL"])).configure(log(log_table(metadata))).configure(bus)
    for name in ("news", "notes"):
        app.use(name, SQLService(metadata.tables[name], paginate={"default": 100, "max": 100}))
    add_users(app)

    async def prepare(context: Context, next: Next) -> None:
        await app.get("database").create_all(metadata)
        await next()
        await app.service("users").create(USER)

    def join(connection: Connection) -> None:
        app.channel("everyone").join(connection)

    def join_members(result: Any, params: Any) -> None:
        app.channel("members").join(params.connection)

    app.hooks({"setup": [prepare]})
    app.on("connection", join)
    app.on("login", join_members)
    app.service("news").publish(lambda data: app.channel("everyone"))
    app.service("notes").publish(lambda data: app.channel("members"))
    return app
