"""The app of the golden transcripts, which were recorded from Feathers with the same services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from apex import (
    Apex,
    AuthenticationService,
    Connection,
    Context,
    Hook,
    HookMap,
    JWTStrategy,
    LocalStrategy,
    MemoryService,
    Params,
    Service,
    authenticate,
    rest,
    sockets,
)
from apex.errors import BadRequest, Conflict
from apex.query.coercion import integer, nullable, text
from tests.auth.test_service import SETTINGS, hash_password
from tests.interop.rooms import add_rooms
from tests.support.serving import serving
from tests.transports.test_rest import Messages

TYPES = {int: "number", str: "string"}
USER = {"email": "a@b.c", "password": "p"}


class Echo(Service):
    """A service that returns its arguments. Some ids have another result."""

    methods = ("find", "get", "create", "update", "patch", "remove", "whoami")

    async def find(self, params: Params) -> Any:
        return dict(params.query)

    async def get(self, id: Any, params: Params) -> Any:
        if id == "bad":
            raise BadRequest("bad one", {"foo": 1, "errors": {"a": "x"}})
        if id == "arr":
            raise Conflict("several", [1, 2])
        named = {"null": None, "num": 0, "false": False, "empty": ""}
        return named[id] if id in named else {"id": id, "type": TYPES[type(id)], "query": dict(params.query)}

    async def create(self, data: Any, params: Params) -> Any:
        return None if data == {"nothing": True} else {"data": data}

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return {"id": id, "data": data}

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return {"id": id, "data": data, "query": dict(params.query)}

    async def remove(self, id: Any, params: Params) -> Any:
        return {"id": id, "query": dict(params.query)}

    async def whoami(self, data: Any, params: Params) -> Any:
        return {"user": params.user, "known": params.known}


class Members(Service):
    async def find(self, params: Params) -> Any:
        return {"route": params.route, "query": dict(params.query)}

    async def get(self, id: Any, params: Params) -> Any:
        return {"id": id, "route": params.route}


def golden_app(**jwt: Any) -> Apex:
    """Return the app. The keywords are options of its tokens. All connections receive all events but those of rooms."""
    app = Apex({"authentication": {**SETTINGS, "jwtOptions": jwt}}).configure(rest).configure(sockets)
    app.use("messages", Messages()).use("nomulti", MemoryService())
    app.use("echo", Echo(), hooks={"after": {"get": [set_http]}}).use("groups/:groupId/members", Members())
    add_users(app)
    add_rooms(app)

    def join(connection: Connection) -> None:
        # A connection that came with a token has its user already.
        connection.known = connection.user is not None
        app.channel("everyone").join(connection)

    app.on("connection", join)
    return app.publish(lambda data, context: app.channel("everyone"))


def set_http(context: Context) -> None:
    if context.id == "loc":
        context.http = {"location": "/else where"}
    if context.id == "hdr":
        context.http = {"status": 206, "headers": {"X-A": "1", "X-B": ["a", "b"]}}


def add_users(app: Apex) -> None:
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    service.register("local", LocalStrategy(service))
    fields = {"email": text, "password": nullable(text), "id": integer}
    users = MemoryService(fields=fields, private=["password"], paginate={"default": 10, "max": 10})
    known: list[Hook] = [authenticate("jwt")]
    hooks: HookMap = {"before": {"find": known, "get": known, "create": [hash_password]}}
    app.use("users", users, hooks=hooks).use("authentication", service)


@asynccontextmanager
async def golden(**jwt: Any) -> AsyncIterator[str]:
    """Yield the URL of a server that runs the app with its user."""
    app = golden_app(**jwt)
    async with serving(app) as client:
        await app.service("users").create(USER)
        yield str(client.base_url).rstrip("/")
