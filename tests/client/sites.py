"""Servers for the client to call, over REST and over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from apex import Apex, MemoryService, Params, Service, rest, sockets
from apex.client import Client, socketio
from apex.client import rest as over_rest
from apex.errors import FeathersError
from tests.auth.test_service import site_app, users_service
from tests.support.serving import listening
from tests.support.waiting import SECONDS
from tests.transports.test_rest import Echo, Messages

LOGIN = {"strategy": "local", "email": "a@b.c", "password": "p"}

TRANSPORTS: dict[str, Callable[..., Any]] = {"rest": over_rest, "socketio": socketio}


class Slow(Service):
    """A service that waits for ``allowed``. ``asked`` is set by a call."""

    methods = ("find", "get")

    def __init__(self) -> None:
        self.asked, self.allowed = asyncio.Event(), asyncio.Event()

    async def find(self, params: Params) -> Any:
        self.asked.set()
        await self.allowed.wait()
        return []

    async def get(self, id: Any, params: Params) -> Any:
        return {"text": "x" * int(id)}


class Heard(Service):
    """A service that returns its params and data."""

    multi = True

    methods = ("find", "create", "remove", "shout")

    async def find(self, params: Params) -> Any:
        return {"headers": params.headers, "query": params.query, "route": params.route}

    async def create(self, data: Any, params: Params) -> Any:
        return {"headers": params.headers, "data": data}

    async def remove(self, id: Any, params: Params) -> Any:
        return {"headers": params.headers, "id": id}

    async def shout(self, data: Any, params: Params) -> Any:
        return {"headers": params.headers, "data": data}


class Named(Service):
    """A service with method names that the client might use itself."""

    methods = ("path", "client", "call", "run")

    async def path(self, data: Any, params: Params) -> Any:
        return ["path", data]

    async def client(self, data: Any, params: Params) -> Any:
        return ["client", data]

    async def call(self, data: Any, params: Params) -> Any:
        return ["call", data]

    async def run(self, data: Any, params: Params) -> Any:
        return ["run", data]


class Refuses(Service):
    """A service that always raises the same error."""

    methods = ("find", "create", "remove")

    def __init__(self, error: FeathersError) -> None:
        self.error = error

    async def find(self, params: Params) -> Any:
        raise self.error

    async def create(self, data: Any, params: Params) -> Any:
        raise self.error

    async def remove(self, id: Any, params: Params) -> Any:
        raise self.error


async def _status(request: Request) -> PlainTextResponse:
    return PlainTextResponse("<html>", int(request.path_params["code"]))


def plain_app() -> Apex:
    """Return an app without a login. Each connection receives all events."""
    app = Apex().configure(lambda app: rest(app, routes=[Route("/status/{code}", _status)])).configure(sockets)
    app.use("messages", Messages(store={0: {"text": "a", "id": 0}, 1: {"text": "b", "id": 1}}, start_id=2))
    app.use("named", Named())
    app.use("echo", Echo()).use("slow", Slow()).use("heard", Heard()).use("groups/:groupId/members", Heard())
    app.on("connection", app.channel("all").join)
    return app.publish(lambda data, context: app.channel("all"))


def guarded_app() -> Apex:
    """Return an app with a login and one user. Its notes need no login."""
    users = users_service()
    app = site_app(users).configure(sockets)

    async def add_user(context: Any, next: Any) -> None:
        await next()
        await app.service("users").create({"email": "a@b.c", "password": "p"})

    app.hooks({"setup": [add_user]})
    return app.use("heard", Heard()).use("notes", MemoryService())


def happening(emitter: Any, event: str) -> asyncio.Future[Any]:
    """Return a future of the data of the next event. It raises TimeoutError if there is none."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(*args: Any) -> None:
        if not future.done():
            future.set_result(args[0] if args else None)

    def give_up() -> None:
        if not future.done():
            future.set_exception(TimeoutError(event))

    emitter.once(event, settle)
    loop.call_later(SECONDS, give_up)
    return future


@asynccontextmanager
async def talking(app: Apex, transport: str, **options: Any) -> AsyncIterator[Client]:
    """Yield a client of a server that runs the app."""
    async with listening(app) as url, Client(TRANSPORTS[transport](url, **options)) as client:
        yield client
