"""The app under test: notes and tasks of teams, whose members have roles that change."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, UniqueConstraint

from apex import (
    Apex,
    AuthenticationService,
    Context,
    HookMap,
    JWTStrategy,
    LocalStrategy,
    SQLService,
    TableSchema,
    authenticate,
    batch,
    bus,
    database,
    rest,
    sockets,
    validate_data,
    validate_query,
)
from apex.auth import hash_password
from apex.common import answers_table, idempotent, transaction
from apex.log import log, log_table
from apex.permissions import authorize, can, roles
from apex.realtime import Connection

metadata = MetaData()
answers, entries = answers_table(metadata), log_table(metadata)
users = Table(
    "users", metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("password", String(200), nullable=False),
)  # fmt: skip
members = Table(
    "members", metadata,
    Column("id", Integer, primary_key=True),
    Column("team_id", Integer, nullable=False),
    Column("user_id", Integer, nullable=False),
    Column("role", String(20), nullable=False),
    UniqueConstraint("team_id", "user_id"),
)  # fmt: skip


def table_of(name: str) -> Table:
    """Return a table of records of a team. ``stamp`` tells the writes apart, ``wait`` holds a transaction open."""
    return Table(
        name, metadata,
        Column("id", Integer, primary_key=True),
        Column("team_id", Integer, nullable=False),
        Column("stamp", Integer, nullable=False),
        Column("text", String(200)),
        Column("secret", String(200)),
        Column("wait", Float),
        sqlite_autoincrement=True,
    )  # fmt: skip


notes, tasks = table_of("notes"), table_of("tasks")
SHOWN = ("id", "team_id", "stamp", "text", "wait")
SETTINGS = {
    "secret": "only-for-tests-never-for-production-use",
    "authStrategies": ["jwt", "local"],
    "argon2": {"time_cost": 1, "memory_cost": 8, "parallelism": 1},
}


class Users(SQLService):
    """The users."""

    table = users
    methods = ("get", "create")
    private = ("password",)


class Members(SQLService):
    """The roles of users in teams."""

    table = members
    methods = ("find", "get", "create", "patch", "remove")
    permissions = {"viewer": can("find", "get"), "owner": can("create", "patch", "remove")}


class Records(SQLService):
    """The records of teams. Viewers do not see the secret."""

    multi = True
    permissions = {"viewer": can("find", "get", fields=SHOWN), "member": can("*")}


async def roles_of_caller(context: Context) -> dict[int, str]:
    """Return the role of the caller in each of its teams, as the database has it now."""
    query = {"user_id": context.params.user["id"]}
    found = await context.app.service("members").find({"query": query, "paginate": False})
    return {row["team_id"]: row["role"] for row in found}


def is_own(member: dict[str, Any], connection: Connection) -> bool:
    """Return True if a membership is that of the user of a connection."""
    return connection.user is not None and connection.user["id"] == member["user_id"]


async def wait(context: Context) -> None:
    """Hold the transaction open for as many seconds as the data says: after create and patch of tasks."""
    if isinstance(context.data, dict) and context.data.get("wait"):
        await asyncio.sleep(context.data["wait"])


class NoteSchema(TableSchema):
    """The data of a note."""

    class Meta:
        table = notes


class TaskSchema(TableSchema):
    """The data of a task."""

    class Meta:
        table = tasks


def create_app() -> Apex:
    """Return the app, with the database and the Redis of the environment."""
    app = Apex({
        "port": int(os.environ.get("PORT", "3030")), "authentication": SETTINGS, "redis": os.environ.get("REDIS_URL"),
        "database_url": os.environ["DATABASE_URL"],
    })  # fmt: skip
    app.configure(database(os.environ["DATABASE_URL"])).configure(bus)
    if "WITHOUT_LOG" not in os.environ:
        app.configure(log(entries, rights={"members": is_own}))
    app.configure(rest).configure(sockets).configure(batch)
    app.configure(roles(("viewer", "member", "owner"), of=roles_of_caller, tenant="team_id", inherit=True))
    app.use("users", Users(), hooks={"before": {"create": [hash_password()]}})
    authentication = AuthenticationService(app)
    authentication.register("jwt", JWTStrategy(authentication))
    authentication.register("local", LocalStrategy(authentication))
    app.use("authentication", authentication)
    caller: list[Any] = [authenticate("jwt"), authorize]
    pages = {"default": 100, "max": 100}
    app.use("members", Members(members, paginate=pages), hooks={"around": {"all": caller}})
    caller.append(idempotent(answers))
    plain: HookMap = {"around": {"all": caller}, "before": {"all": [validate_query, validate_data(NoteSchema)]}}
    app.use("notes", Records(notes, paginate=pages), hooks=plain)
    held: HookMap = {
        "around": {"all": [*caller, transaction]},
        "before": {"all": [validate_query, validate_data(TaskSchema)]},
        "after": {"create": [wait], "patch": [wait]},
    }
    app.use("tasks", Records(tasks, paginate=pages), hooks=held)

    def join(result: Any, params: Any, context: Context) -> None:
        app.channel("users").join(params.connection)

    app.on("login", join)
    app.publish(lambda data, context: app.channel("users"))
    return app
