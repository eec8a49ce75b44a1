"""Events: a connection gets those that its user may read, cut to the fields that it may read, over real sockets."""

from __future__ import annotations

from typing import Any

from apex import Apex, AuthenticationService, JWTStrategy, LocalStrategy, MemoryService, authenticate, rest, sockets
from apex.permissions import authorize, can, mine, roles
from tests.support.serving import serving
from tests.support.sockets import Peer, connected

SETTINGS = {"secret": "a-secret-of-32-characters-or-more"}


def app_of(permissions: Any, **settings: Any) -> Apex:
    """Return an app with users and notes, whose events go to every connection."""
    app = Apex({"authentication": {**SETTINGS, "authStrategies": ["jwt", "local"]}})
    app.configure(rest).configure(sockets).configure(roles(("admin",)))
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    service.register("local", LocalStrategy(service))
    app.use("users", MemoryService(start_id=1)).use("authentication", service)
    notes = type("Notes", (MemoryService,), {"permissions": permissions})
    app.use("notes", notes(start_id=1, multi=True), hooks={"around": {"all": [authenticate("jwt"), authorize]}})
    app.on("connection", lambda connection: app.channel("all").join(connection))
    app.service("notes").publish(lambda data, context: app.channel("all"))
    return app


async def log_in(app: Apex, peer: Peer, id: int) -> None:
    service: AuthenticationService = app.get("defaultAuthentication")
    token = service.tokens.create(id)[0]
    error, _ = await peer.call("create", "authentication", {"strategy": "jwt", "accessToken": token})
    assert error is None


async def test_a_connection_gets_the_events_and_fields_that_its_user_may_read() -> None:
    app = app_of({"admin": can("*"), "user": can("find", fields=["title"], where={"public": True}),
                  "author": can("get", "patch", where=mine("user_id"))})  # fmt: skip
    async with serving(app) as http, connected(http) as ann, connected(http) as bob, connected(http) as eve:
        for role in ("admin", None):
            await app.service("users").create({"email": "a", "role": role})
        await log_in(app, ann, 1)
        await log_in(app, bob, 2)
        notes = app.service("notes")
        await notes.create({"title": "mine", "user_id": 2, "public": False})
        await notes.create({"title": "other", "user_id": 3, "public": False})
        await notes.create({"title": "public", "user_id": 3, "public": True})
        assert [(await ann.event())[1]["title"] for _ in range(3)] == ["mine", "other", "public"]
        mine_, public = [(await bob.event())[1] for _ in range(2)]
        assert mine_ == {"title": "mine", "user_id": 2, "public": False, "id": 1}
        assert public == {"title": "public", "id": 3}
        # A selection of the caller does not keep the event from others, nor does one over a socket.
        error, answer = await bob.call("patch", "notes", 1, {"title": "new"}, {"$select": ["title"]})
        assert (error, answer) == (None, {"title": "new", "id": 1})
        assert (await ann.event())[1] == {"title": "new", "user_id": 2, "public": False, "id": 1}
        # A change of a role counts for the next event.
        await app.service("users").patch(1, {"role": None})
        await notes.create({"title": "secret", "user_id": 3, "public": False})
        await notes.create({"title": "last", "user_id": 3, "public": True})
        assert (await ann.event())[1] == {"title": "last", "id": 5}
        assert (await bob.event())[0] == "notes patched"
        assert (await bob.event())[1] == {"title": "last", "id": 5}
        # Without a login there is nothing.
        error, *_ = await eve.call("find", "notes")
        assert error["code"] == 401
        assert eve.events == []


async def test_functions_that_await_decide_about_events_too() -> None:
    async def where(context: Any) -> Any:
        return {"user_id": context.params.user["id"]}

    app = app_of({"author": can("find", where=where)})
    async with serving(app) as http, connected(http) as bob:
        await app.service("users").create({"email": "a"})
        await log_in(app, bob, 1)
        await app.service("notes").create([{"title": "other", "user_id": 2}, {"title": "mine", "user_id": 1}])
        assert (await bob.event())[1]["title"] == "mine"
