"""Tests of calls over sockets: the order of arguments, and an answer to each call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apex import MemoryService, Params, Service
from apex.errors import BadRequest
from tests.support.serving import serving
from tests.support.sockets import Heard, Held, Peer, app_of, connected, polling
from tests.support.waiting import until

ROOT: dict[str, Any] = {"route": {}, "provider": "socketio"}


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(app_of("groups/:group/notes", Heard()).use("notes", Heard())) as http, connected(http) as peer:
        yield peer


@pytest.mark.parametrize(
    ("event", "heard"),
    [
        (["find", "notes", {"q": 1}], {"query": {"q": 1}}),
        (["get", "notes", 5, {"q": None}], {"id": 5, "query": {"q": None}}),
        (["get", "notes", "5", {}], {"id": "5"}),
        (["create", "notes", {"a": 1}, {"q": True}], {"data": {"a": 1}, "query": {"q": True}}),
        (["create", "notes", [{"a": 1}, {}]], {"data": [{"a": 1}, {}]}),
        (["update", "notes", "x", {"a": 1}, {"q": 1}], {"id": "x", "data": {"a": 1}, "query": {"q": 1}}),
        (["patch", "notes", None, {"a": 1}, {"q": 1}], {"id": None, "data": {"a": 1}, "query": {"q": 1}}),
        (["remove", "notes", None, {"q": [1]}], {"id": None, "query": {"q": [1]}}),
        (["shout", "notes", {"a": 1}, {"q": 1}], {"data": {"a": 1}, "query": {"q": 1}}),
        (["shout", "notes", "text"], {"data": "text"}),
        (["find", "notes"], {}),
        (["find", "/notes/", None], {}),
        (["find", "groups/12/notes"], {"route": {"group": "12"}}),
        (["find", "notes/7"], {"route": {"__id": "7"}}),
        (["get", "notes"], {"id": None}),
        (["create", "notes"], {"data": None}),
        (["patch", "notes"], {"id": None, "data": None}),
    ],
    ids=repr,
)
async def test_arguments_have_their_order(peer: Peer, event: list[Any], heard: dict[str, Any]) -> None:
    assert await peer.call(*event) == [None, {"method": event[0], "query": {}} | ROOT | heard]


PATHS = {"Invalid service path": [[], [None], [5], [True], [["notes"]], [{}]]}
NAMES = ["connect", "disconnect", "connect_error", "error", "*", "", "setup", "hidden", "__init__", "_find", "Find"]


@pytest.mark.parametrize("rest", [[], [None], [5], [True], [["notes"]], [{}]], ids=repr)
@pytest.mark.parametrize("name", ["find", "connect", 5, None])
async def test_a_path_that_is_no_text_is_not_found(peer: Peer, name: Any, rest: list[Any]) -> None:
    expected = {"name": "NotFound", "message": "Invalid service path", "code": 404, "className": "not-found"}
    assert await peer.call(name, *rest) == [expected]


@pytest.mark.parametrize("path", ["nope", "", "/", "notes/1/2", "x" * 10_000, "\0", "groups/notes"])
async def test_an_unknown_path_is_not_found(peer: Peer, path: str) -> None:
    (error,) = await peer.call("find", path, {})
    assert (error["code"], error["message"]) == (404, f"Service '{path[:100]}' not found")


@pytest.mark.parametrize(
    "name", [*NAMES, 5, None, True, {}, [], ["find"], 1.5, "x" * 1_000], ids=lambda n: repr(n)[:20]
)
async def test_a_method_that_is_not_exposed_is_refused(peer: Peer, name: Any) -> None:
    (error,) = await peer.call(name, "notes", {})
    assert (error["name"], error["code"]) == ("MethodNotAllowed", 405)
    assert error["message"] == f"Method '{str(name)[:100]}' not allowed on service 'notes'"


@pytest.mark.parametrize("method", ["find", "get", "create", "update", "patch", "remove", "shout"])
async def test_too_many_arguments_are_refused(peer: Peer, method: str) -> None:
    (error,) = await peer.call(method, "notes", *[None] * 4)
    assert (error["name"], error["message"]) == ("BadRequest", f"Too many arguments for '{method}' method")


@pytest.mark.parametrize(
    ("event", "about"),
    [
        *((["find", "notes", query], "The query") for query in ("text", [], [1], 5, 0, True, False, "", 1.5)),
        *((["get", "notes", id], "The id") for id in (True, False, 1.5, [], [1], {}, {"$ne": 1})),
        *((["patch", "notes", 1, data], "The data") for data in ("text", 5, True, 0, "")),
        (["create", "notes", "text"], "The data"),
    ],
    ids=repr,
)
async def test_an_argument_of_the_wrong_kind_is_named(peer: Peer, event: list[Any], about: str) -> None:
    (error,) = await peer.call(*event)
    assert (error["name"], error["message"].startswith(about)) == ("BadRequest", True)


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"find":"notes"}', "null", '"find"', "true", "1.5"])
async def test_an_event_that_is_no_list_is_answered(peer: Peer, data: str) -> None:
    (error,) = await peer.ask(data) if not data[:1].isdigit() else await peer.ask(f" {data}")
    assert (error["name"], error["message"]) == ("BadRequest", "An event must be a list: a method, a path, arguments")


@pytest.mark.parametrize("data", ["[", '["find"', "['find']", "[NaN]", "[1e999]", '["\\ud800"]', "[" * 10_000, "x"])
async def test_an_event_that_is_no_json_is_answered(peer: Peer, data: str) -> None:
    (error,) = await peer.ask(data)
    assert error["name"] == "BadRequest"
    assert error["message"].startswith("Malformed JSON: ")


async def test_deeply_nested_data_is_refused(peer: Peer) -> None:
    (error,) = await peer.ask('["create","notes",{"a":' + "[" * 300 + "]" * 300 + "}]")
    assert error["name"] == "BadRequest"


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" + "0" * 30])
async def test_an_integer_of_more_than_64_bits_is_refused_by_its_field(number: str) -> None:
    async with serving(app_of("notes", MemoryService())) as http, connected(http) as peer:
        (error,) = await peer.ask(f'["create","notes",{{"size":{number}}}]')
        assert error["errors"] == {"size": "must not hold integers of more than 64 bits"}
        assert (await peer.ask(f'["get","notes",{number}]'))[0]["code"] in (400, 404)


@pytest.mark.parametrize(
    "event",
    [["get"], ["create"], ["create", None], ["create", []], ["update"], ["update", 1], ["patch", 1], ["patch", 1, []],
     ["remove"], ["get", ""], ["patch", None, None]],
    ids=repr,
)  # fmt: skip
async def test_a_missing_argument_of_an_adapter_is_an_error_of_the_caller(event: list[Any]) -> None:
    async with serving(app_of("notes", MemoryService(multi=True))) as http, connected(http) as peer:
        method, *rest = event
        answer = await peer.call(method, "notes", *rest)
    assert answer[0] is None or answer[0]["code"] in (400, 404, 405), answer


async def test_without_an_acknowledgement_the_work_is_done_and_nothing_sent(peer: Peer) -> None:
    async with serving(app_of("notes", MemoryService())) as http, connected(http) as peer:
        await peer.send('42["create","notes",{"text":"a"}]', '42["create","nope",{}]', "42[]", '42["create"')
        assert await peer.frame() == '42["notes created",{"text":"a","id":0}]'
        assert await peer.call("find", "notes") == [None, [{"text": "a", "id": 0}]]


@pytest.mark.parametrize("id", ["0", "7", "12345678901234567890", "9" * 100])
async def test_an_acknowledgement_carries_its_number(peer: Peer, id: str) -> None:
    await peer.send(f'42{id}["find","nope"]')
    assert (await peer.frame()).startswith(f'43{id}[{{"name":"NotFound"')


class Gives(Service):
    """A service that returns a value, or raises it."""

    methods = ("find",)

    def __init__(self, value: Any) -> None:
        self.value = value

    async def find(self, params: Params) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize("value", [None, 0, False, "", [], {"a": [1, "é", "\u2028", '"']}])
async def test_every_value_survives(value: Any) -> None:
    async with serving(app_of("it", Gives(value))) as http, connected(http) as peer:
        assert await peer.call("find", "it") == [None, value]


@pytest.mark.parametrize("value", [RuntimeError("s3cret"), KeyError("s3cret"), {"s3cret": object()}, {"a": 2**70}])
async def test_an_unexpected_error_is_logged_and_not_sent(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(app_of("it", Gives(value))) as http, connected(http) as peer:
        answer = await peer.call("find", "it", {})
    message = "An unexpected error occurred"
    if value != {1}:
        assert answer == [{"name": "GeneralError", "message": message, "code": 500, "className": "general-error"}]
        assert [(record.name, record.levelno) for record in caplog.records] == [("apex", logging.ERROR)]
        assert "find" in caplog.records[0].getMessage()


@pytest.mark.parametrize("data", [{"x": object()}, {"x": 2**70}])
async def test_an_error_is_sent_without_data_that_has_no_json_form(data: Any) -> None:
    async with serving(app_of("it", Gives(BadRequest("no", data)))) as http, connected(http) as peer:
        assert await peer.call("find", "it") == [
            {"name": "BadRequest", "message": "no", "code": 400, "className": "bad-request"}
        ]


async def test_an_event_comes_before_the_answer_of_its_call() -> None:
    async with serving(app_of("notes", MemoryService(multi=True))) as http, connected(http) as peer:
        await peer.send('420["create","notes",[{"text":"a"},{"text":"b"}],{}]')
        assert await peer.frames(3) == [
            '42["notes created",{"text":"a","id":0}]',
            '42["notes created",{"text":"b","id":1}]',
            '430[null,[{"text":"a","id":0},{"text":"b","id":1}]]',
        ]


async def test_a_slow_call_does_not_hold_a_quick_one() -> None:
    held = Held()
    async with serving(app_of("held", held)) as http, connected(http) as peer:
        await peer.send('420["find","held"]', '421["get","held",1]', '422["find","held"]', '423["get","held",2]')
        assert await peer.frames(2) == ['431[null,"x"]', '433[null,"xx"]']
        held.go.set()
        assert await peer.frames(2) == ["430[null,1]", "432[null,2]"]


class Told(Service):
    """A service that returns the headers of a call."""

    async def find(self, params: Params) -> Any:
        return params.headers


async def test_each_call_has_a_request_id_beside_the_headers_of_its_handshake() -> None:
    headers = {"X-Request-Id": "handshake", "X-Mine": "kept"}
    async with serving(app_of("told", Told())) as http, connected(http, additional_headers=headers) as peer:
        told = [(await peer.call("find", "told"))[1] for _ in range(2)]
    assert [one["x-mine"] for one in told] == ["kept"] * 2
    assert len({one["x-request-id"] for one in told} | {"handshake"}) == 3


@pytest.mark.parametrize("over", [connected, polling])
async def test_a_call_at_work_when_its_connection_closes_is_finished(over: Any, caplog: Any) -> None:
    held = Held()
    async with serving(app := app_of("held", held)) as http:
        async with connected(http) as peer:
            await peer.send('420["find","held"]')
            await until(lambda: held.begun)
        await until(lambda: not app.events.connections)
        held.go.set()
        await until(lambda: held.ended)
        await asyncio.sleep(0)
    assert caplog.records == []
