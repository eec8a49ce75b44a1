"""The smallest app that sends webhooks: notes of teams, whose members have roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, select

from apex import Apex, Context, SQLService, database
from apex.log import Log, log, log_table
from apex.permissions import authorize, can, roles
from apex.types import Row
from apex.webhooks import Deliveries, Webhooks, deliveries_table, webhooks_table

metadata = MetaData()
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("team_id", Integer),
    Column("text", String(200)),
    Column("rating", Integer),
)
entries = log_table(metadata, Column("team_id", Integer), tenant="team_id")
webhooks = webhooks_table(
    metadata, Column("team_id", Integer, nullable=False), Column("user_id", Integer), tenant="team_id"
)

SECRET = "a secret of at least thirty-two bytes"
ANN, BOB = 1, 2
"""Ann runs team 7 and Bob team 8, unless a test says otherwise."""

Members = dict[int, dict[int, str]]


class Notes(SQLService):
    table = notes
    permissions = {"reader": can("find", "get", fields=("team_id", "text")), "admin": can("*")}


class TeamWebhooks(Webhooks):
    table = webhooks
    permissions = {"admin": can("*")}
    pauses = (0.02,)
    members: Members

    async def caller(self, webhook: Row) -> Mapping[str, Any] | None:
        user = webhook["user_id"]
        return {"user": {"id": user}, "authenticated": True} if user in self.members else None


class TeamDeliveries(Deliveries):
    table = deliveries_table(webhooks)
    permissions = {"admin": can("find", "get")}


def team_app(url: str, members: Members | None = None, service: TeamWebhooks | None = None, **settings: Any) -> Apex:
    """Return the app. ``members`` are the roles of users by team, and the settings those of webhooks."""
    members = {ANN: {7: "admin"}, BOB: {8: "admin"}} if members is None else members
    options = {"networks": ["127.0.0.0/8"], **settings}
    app = Apex({"authentication": {"secret": SECRET}, "webhooks": options})

    def roles_of(context: Context) -> dict[int, str]:
        return members.get(context.params.user["id"], {})

    app.configure(database(url)).configure(log(entries))
    app.configure(roles(("reader", "admin"), of=roles_of, tenant="team_id", inherit=True))
    hooks = {"around": {"all": [authorize]}}
    service = service or TeamWebhooks()
    service.members = members
    app.use("notes", Notes(multi=True), hooks=hooks).use("webhooks", service, hooks=hooks)
    app.use("webhook-deliveries", TeamDeliveries(), hooks=hooks)
    return app


@asynccontextmanager
async def running(app: Apex, *, create: bool = True) -> AsyncIterator[Apex]:
    """Run an app, with its tables."""
    opened = app.get("database")
    if create:
        await opened.open()
        await opened.create_all(metadata)
        await opened.close()
    await app.setup()
    try:
        yield app
    finally:
        await app.teardown()


def by(user: int, **params: Any) -> Row:
    """Return the params of a call from outside."""
    return {"provider": "rest", "user": {"id": user}, "authenticated": True, **params}


async def add_webhook(app: Apex, url: str, *events: str, user: int = ANN, team: int = 7) -> Row:
    """Create a webhook, and return it as the service has it."""
    data = {"team_id": team, "url": url, "events": list(events) or ["*"]}
    created: Row = await app.service("webhooks").create(data, by(user))
    return created


async def add_notes(app: Apex, *texts: str, team: int = 7) -> list[Row]:
    """Create notes, one after the other."""
    return [await app.service("notes").create({"team_id": team, "text": text, "rating": 5}) for text in texts]


def log_of(app: Apex) -> Log:
    """Return the log of an app."""
    assert isinstance(app.log, Log)
    return app.log


async def stored(app: Apex, id: Any) -> Row:
    """Return the row of a webhook."""
    rows: list[Row] = await app.get("database").execute(select(webhooks).where(webhooks.c.id == id))
    return rows[0]


async def until(app: Apex, id: Any, holds: Callable[[Row], Any]) -> Row:
    """Wait until the row of a webhook is as a test expects it, and no process sends for it."""
    async with asyncio.timeout(60):
        while True:
            row = await stored(app, id)
            if row["holder"] is None and holds(row):
                return row
            await asyncio.sleep(0.01)


async def deliveries(app: Apex, id: Any, user: int = ANN) -> list[Row]:
    """Return the deliveries of a webhook as its team sees them."""
    found: list[Row] = await app.service("webhook-deliveries").find(by(user, query={"webhook_id": id}))
    return found
