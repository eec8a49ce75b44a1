"""Events on their way to connections: which publisher is asked, and what is sent."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from apex import Apex, Connection, Context, MemoryService

Sent = list[tuple[str, Any, list[Connection]]]


def following(app: Apex) -> tuple[Connection, Sent]:
    """A connection in the channel ``all``, and what the app sends to connections."""
    sent: Sent = []

    def send(context: Context, recipients: dict[Connection, Any]) -> None:
        sent.append((f"{context.path} {context.event}", context.external, list(recipients)))

    app.on("publish", send)
    connection = Connection()
    app.events.connections.add(connection)
    app.channel("all").join(connection)
    return connection, sent


def to_all(data: Any, context: Context) -> Any:
    return context.app.channel("all")


def to_nobody(data: Any, context: Context) -> Any:
    return None


async def test_without_a_publisher_nothing_is_sent() -> None:
    app = Apex().use("notes", MemoryService())
    _, sent = following(app)
    await app.service("notes").create({"text": "a"})
    assert sent == []


async def test_each_item_is_sent_with_its_own_dispatch_in_order() -> None:
    def shout(context: Context) -> None:
        context.dispatch = [{"text": note["text"].upper()} for note in context.result]

    app = Apex().publish(to_all).use("notes", MemoryService(multi=True), hooks={"after": [shout]})
    connection, sent = following(app)
    await app.service("notes").create([{"text": "a"}, {"text": "a"}, {"text": "b"}])
    assert sent == [("notes created", {"text": text}, [connection]) for text in ("A", "A", "B")]


@pytest.mark.parametrize(
    ("service", "everything", "app_event", "asked"),
    [(True, True, True, "service created"), (False, True, True, "service"), (False, False, True, "app created"),
     (False, False, False, "app")],
)  # fmt: skip
async def test_the_nearest_publisher_is_asked(service: bool, everything: bool, app_event: bool, asked: str) -> None:
    app, called = Apex().use("notes", MemoryService()), []
    following(app)
    app.publish(lambda data, context: called.append("app"))
    if app_event:
        app.publish("created", lambda data, context: called.append("app created"))
    if everything:
        app.service("notes").publish(lambda data, context: called.append("service"))
    if service:
        app.service("notes").publish("created", lambda data, context: called.append("service created"))
    await app.service("notes").create({})
    assert called == [asked]


async def test_a_publisher_that_gives_nothing_is_not_followed_by_the_apps() -> None:
    app = Apex().publish(to_all).use("notes", MemoryService())
    _, sent = following(app)
    app.service("notes").publish("created", to_nobody)
    await app.service("notes").create({"text": "a"})
    await app.service("notes").patch(0, {"text": "b"})
    assert [name for name, *_ in sent] == ["notes patched"]


def test_only_events_of_the_service_can_be_published() -> None:
    notes = Apex().use("notes", MemoryService(events=["typing"])).service("notes")
    notes.publish("typing", to_all)
    with pytest.raises(ValueError, match="'bla' is not a valid service event"):
        notes.publish("bla", to_all)
    with pytest.raises(TypeError, match="needs a function"):
        notes.publish("typing")


async def test_a_custom_event_is_heard_and_sent() -> None:
    heard: list[Any] = []
    app = Apex().publish(to_all).use("notes", MemoryService(events=["typing"]))
    connection, sent = following(app)
    app.service("notes").on("typing", heard.append)
    app.service("notes").emit("typing", {"by": 1})
    app.service("notes").emit("other", {"by": 2})
    assert (heard, sent) == ([{"by": 1}], [("notes typing", {"by": 1}, [connection])])


async def test_a_publisher_sees_what_can_be_told_and_no_secret() -> None:
    seen: list[Any] = []
    app = Apex().use("notes", MemoryService()).publish(lambda data, context: seen.append((data, context)))
    following(app)
    params = {"provider": "rest", "query": {"$select": ["text"]}, "user": {"id": 1, "password": "secret"},
              "headers": {"authorization": "secret"}, "route": {"a": "b"}}  # fmt: skip
    await app.service("notes").create({"text": "a"}, params)
    ((data, context),) = seen
    assert (data, context.path, context.method, context.event) == ({"text": "a", "id": 0}, "notes", "create", "created")
    told = {"provider": "rest", "query": {"$select": ["text"]}, "user": {"id": 1}, "route": {"a": "b"}, "scope": {}}
    assert context.params == told


async def test_an_asynchronous_publisher_is_waited_for() -> None:
    app = Apex().use("notes", MemoryService())
    connection, sent = following(app)

    async def later(data: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return app.channel("all")

    app.publish(later)
    await app.service("notes").create({"text": "a"})
    await app.callbacks.drain()
    assert sent == [("notes created", {"text": "a", "id": 0}, [connection])]


async def test_a_publisher_that_fails_does_not_fail_the_call(caplog: pytest.LogCaptureFixture) -> None:
    def fail(data: Any, context: Context) -> Any:
        raise KeyError("organization")

    app = Apex().publish(fail).use("notes", MemoryService())
    following(app)
    with caplog.at_level(logging.ERROR, "apex"):
        assert await app.service("notes").create({"text": "a"}) == {"text": "a", "id": 0}
    assert "The publisher of 'notes created' failed: " in caplog.text
    assert app.callbacks.failed == 1
