"""The slowest inputs of a megabyte for all code that reads input: none takes much longer than a loop over its bytes.

Processor time is compared with a loop over as many bytes, so that the verdict is the same on a slow or
busy machine. Code that is quadratic in its input takes a thousand times as long.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from itertools import islice
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine

from apex import Apex, MemoryService, Schema, batch, rest, validate_data, validate_query
from apex.auth import AuthenticationService, JWTStrategy, authenticate
from apex.errors import BadRequest, FeathersError
from apex.observability.redaction import hide
from apex.query.language import OPERATORS, PATTERNS
from apex.schema.validation import Email, fields
from apex.schema.validation import Text as Line
from apex.sql import SQLService, database
from apex.transports.http import failure, headers_of
from apex.transports.socketio.packets import SocketIOPacket
from hooks.search_forms import digits, normalise
from services.contacts import Contacts
from services.shared import phones
from services.transfer.columns import Columns
from services.transfer.formats import read_rows
from services.transfer.transferable import MOST_ROWS
from tests.support.serving import serving
from tests.support.sockets import app_of, polling
from tests.support.waiting import SECONDS

MEGABYTE = 1_000_000
ALLOWED = 150
"""How many times as long as a loop over as many bytes."""

METADATA = MetaData()
TABLE = Table(
    "notes", METADATA, Column("id", Integer, primary_key=True), *(Column(f"text_{n}", Text) for n in range(9))
)


@cache
def linear() -> float:
    """Return the processor seconds of a loop over a megabyte."""

    def loop() -> float:
        begun = time.process_time()
        assert sum(1 for _ in repeated("a")) == MEGABYTE
        return time.process_time() - begun

    return min(loop() for _ in range(5))


def repeated(part: str, size: int = MEGABYTE) -> str:
    return (part * (size // len(part) + 1))[:size]


def numbered(form: str, separator: str, size: int = MEGABYTE) -> str:
    """Return ``form`` with a different number in it, repeated."""
    return separator.join(
        form.replace("#", f"{number:06}") for number in range(size // (len(form) + 5 + len(separator)))
    )


JSON = {
    "many keys": "{" + numbered('"k#":1', ",") + "}",
    "near misses": "{" + numbered('"tex#":1', ",") + "}",
    "duplicate keys": "{" + repeated('"text":1,') + '"text":1}',
    "deep lists": repeated("["),
    "deep lists, closed": "[" * (MEGABYTE // 2) + "]" * (MEGABYTE // 2),
    "deep objects": repeated('{"a":'),
    "a long number": '{"text":' + repeated("9") + "}",
    "long numbers": '{"text":[' + repeated("9" * 4000 + ",") + "0]}",
    "a long fraction": '{"text":0.' + repeated("9") + "}",
    "a long text": '{"text":"' + repeated("a") + '"}',
    "escapes": '{"text":"' + repeated("\\u0061") [: MEGABYTE // 6 * 6] + '"}',
    "empty objects": "[" + repeated("{},") + "{}]",
    "rows with unknown keys": "[" + numbered('{"tex#":1}', ",") + "]",
    "rows with many keys": "[" + ",".join(["{" + numbered('"tex#":1', ",", 10_000) + "}"] * 90) + "]",
    "a nested object": '{"inner":{' + numbered('"tex#":1', ",") + "}}",
    "nested lists": '{"inners":[' + repeated('{"a":1},') + "{}]}",
    "an e-mail": '{"email":"' + repeated("a.") + '@example.com"}',
    "an e-mail's domain": '{"email":"a@' + repeated("xn--a.") + 'com"}',
}  # fmt: skip

QUERIES = {
    "empty parts": '{"query":{"$or":[' + repeated("{},") + "{}]}}",
    "parts": '{"query":{"$or":[' + repeated('{"text_1":1},') + "{}]}}",
    "nested": '{"query":' + '{"$or":[' * 100_000 + "]}" * 100_000 + "}",
    "values": '{"query":{"text_1":{"$in":[' + repeated('"a",') + '"a"]}}}',
    "unknown fields": '{"query":{' + numbered('"tex#":1', ",") + "}}",
    "a long name": '{"query":{"' + repeated("text_") + '":1}}',
    "operators": '{"query":{"text_1":{' + numbered('"$g#":1', ",") + "}}}",
    "sort": '{"query":{"$sort":{' + numbered('"tex#":1', ",") + "}}}",
    "select": '{"query":{"$select":[' + numbered('"tex#"', ",") + "]}}",
    "select, the same": '{"query":{"$select":[' + repeated('"text_1",') + '"text_1"]}}',
    "a long limit": '{"query":{"$limit":"' + repeated(" ") + '1"}}',
    "a cursor": '{"query":{"$limit":5,"$sort":{"id":1},"$after":"' + repeated("abcd") + '"}}',
}  # fmt: skip


BRACKETS = {
    "brackets": "a" + repeated("[b]"),
    "open brackets": "a" + repeated("["),
    "closed brackets": "a" + repeated("]"),
    "lists": "a" + repeated("[]"),
    "lists in lists": "a" + repeated("[][0]"),
    "pairs": repeated("a=1&"),
    "names": numbered("tex#=1", "&", 130_000),
    "places": numbered("a[b][#]=1", "&", 130_000),
    "indices": numbered("text_1[$in][9#]=1", "&", 190_000),
    "forms": repeated("a[0]=1&a[b]=2&", 130_000),
    "percent": "a=" + repeated("%25"),
    "bad percent": "a=" + repeated("%ff"),
    "a long name": repeated("text_") + "=1",
    "a cursor": "$limit=5&$sort[id]=1&$after=" + repeated("abcd"),
}

HEADERS = [
    ("if-none-match", repeated('"a", ')),
    ("if-none-match", repeated('"a ')),
    ("if-none-match", repeated("W/")),
    ("if-match", repeated('"a", ')),
    ("if-match", repeated('W/"')),
    ("authorization", "Bearer " + repeated("a.")),
    ("authorization", "Bearer " + repeated("eyJ")),
    ("authorization", "Bearer" + repeated(" ")),
    ("authorization", repeated("a")),
    ("authorization", repeated("a ")),
    ("cookie", repeated("a=b; ")),
    ("x-request-id", repeated("a")),
    ("x-service-method", repeated("find")),
    ("content-type", repeated("application/json;")),
    ("idempotency-key", repeated("k")),
    ("accept", repeated("a/b;q=0.1,")),
    ("traceparent", repeated("00-")),
    ("origin", repeated("https://")),
]


class Inner(Schema):
    text = Line(max=10)


class NoteSchema(Schema):
    text_1 = Line(max=100)
    email = Email(max=254)
    inner = fields.Nested(Inner)
    inners = fields.List(fields.Nested(Inner))
    extra = fields.Dict()


class Request(NamedTuple):
    method: str
    path: str
    body: str = ""
    query: str = ""
    headers: Mapping[str, str] = {}


class Notes(SQLService):
    table = TABLE
    operators = [*OPERATORS, *PATTERNS]
    multi = True


@pytest.fixture
async def app(sqlite_url: str) -> AsyncIterator[Apex]:
    engine = create_engine(sqlite_url)
    METADATA.create_all(engine)
    engine.dispose()
    app = Apex({"authentication": {"secret": "s" * 32}}).configure(rest).configure(database(sqlite_url))
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    app.use("users", MemoryService())
    app.use("authentication", service)
    app.use("typed", Notes())
    app.use("checked", Notes(), hooks={"before": {"all": [validate_query], "create": [validate_data(NoteSchema)]}})
    app.use("plain", MemoryService(multi=True, operators=[*OPERATORS, *PATTERNS]))
    app.use("guarded", MemoryService(), hooks={"before": {"all": [authenticate("jwt")]}})
    await app.configure(batch).setup()
    yield app
    await app.teardown()


@pytest.mark.parametrize("service", ["typed", "checked"])
async def test_an_answer_names_some_of_what_is_wrong(app: Apex, service: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await app.service(service).create({f"text_{number}": 1 for number in range(50, 900)})
    _, _, body = failure(refused.value, "a create")
    errors = json.loads(body)["errors"]
    hints = [name for name, rule in errors.items() if "Did you mean" in rule]
    assert (len(errors), len(hints)) == (100, 20)
    assert len(body) < 20_000


@pytest.mark.parametrize("service", ["typed", "checked"])
async def test_an_answer_shortens_the_names_of_fields(app: Apex, service: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await app.service(service).create({"x" * 900_000: 1})
    _, _, body = failure(refused.value, "a create")
    assert list(json.loads(body)["errors"]) == ["x" * 100 + "..."]
    assert len(body) < 1_000


async def ask(app: Apex, method: str, path: str, body: str = "", query: str = "", **headers: str) -> int:
    """Return the status of a request. The transport is called without a server, which has limits of its own."""
    given = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    statuses = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body.encode()}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": pairs, "http_version": "1.1", "scheme": "http", "root_path": "", "client": None, "server": None,
    }  # fmt: skip
    await app(scope, receive, send)
    return int(statuses[0])


class Timed:
    """The costs of inputs. The unit is one loop over a megabyte."""

    def __init__(self) -> None:
        self.cost: dict[str, int] = {}

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        self.cost[name] = round((time.process_time() - begun) / linear())

    @property
    def slow(self) -> dict[str, int]:
        return {name: cost for name, cost in self.cost.items() if cost > ALLOWED}


async def slow_ones(app: Apex, requests: Mapping[str, Request]) -> dict[str, int]:
    """Make the requests, and return those that took too long."""
    timed = Timed()
    for name, (method, path, body, query, headers) in requests.items():
        with timed.reading(name):
            assert await ask(app, method, path, body, query, **headers) < 500, name
    return timed.slow


@pytest.mark.parametrize("service", ["typed", "checked", "plain"])
async def test_bodies(app: Apex, service: str) -> None:
    assert not await slow_ones(app, {name: Request("POST", f"/{service}", body) for name, body in JSON.items()})


@pytest.mark.parametrize("service", ["typed", "checked", "plain"])
async def test_queries_in_bodies(app: Apex, service: str) -> None:
    assert not await slow_ones(app, {name: Request("GET", f"/{service}", body) for name, body in QUERIES.items()})


async def test_query_strings(app: Apex) -> None:
    requests = {name: Request("GET", "/checked", "", query) for name, query in BRACKETS.items()}
    assert not await slow_ones(app, requests)


@pytest.mark.parametrize(("method", "path"), [("GET", "/plain"), ("PATCH", "/checked/1"), ("POST", "/guarded")])
async def test_headers(app: Apex, method: str, path: str) -> None:
    requests = {f"{name}: {value[:12]}": Request(method, path, "{}", "", {name: value}) for name, value in HEADERS}
    assert not await slow_ones(app, requests)


async def test_paths(app: Apex) -> None:
    paths = ("/" + repeated("a/"), "/plain/" + repeated("%2f"), "/" + repeated("/"), "/plain/" + repeated("1"))
    assert not await slow_ones(app, {path[:12]: Request("GET", path) for path in paths})


async def test_batches(app: Apex) -> None:
    batches: dict[str, list[Any]] = {
        "many": [["get", "plain", "1", {}]] * 40_000,
        "queries": [["find", "checked", {"$or": [{}] * 3_000}]] * 90,
        "unknown fields": [["create", "checked", {f"tex{number}": 1 for number in range(900)}]] * 90,
        "a path": [["get", "a/" * 400_000, 1]],
        "a method": [["x" * 900_000, "plain", 1]],
    }
    requests = {name: Request("POST", "/batch", json.dumps({"calls": calls})) for name, calls in batches.items()}
    assert not await slow_ones(app, requests)


async def test_tokens(app: Apex) -> None:
    tokens = (repeated("a."), repeated("eyJ"), repeated("a") + "." + repeated("b") + ".c")
    bodies = [json.dumps({"strategy": "jwt", "accessToken": token}) for token in tokens]
    assert not await slow_ones(app, {body[:60]: Request("POST", "/authentication", body) for body in bodies})


async def test_patterns(app: Apex) -> None:
    await app.service("plain").create([{"text": repeated("a", 10_000)} for _ in range(10)])
    requests = {
        f"{operator} {pattern[:10]}": Request("GET", "/plain", json.dumps({"query": {"text": {operator: pattern}}}))
        for pattern in ("%a" * 500, "%a" * 499 + "b", "a_" * 500, "%_" * 500, "%a_" * 333, "_%" * 499 + "b")
        for operator in ("$like", "$ilike", "$notlike")
    }
    assert not await slow_ones(app, requests)


# Texts that are read without a request.


def slow_reads(read: Callable[[str], Any], texts: Mapping[str, str]) -> dict[str, int]:
    """Read the texts, and return those that took too long."""
    timed = Timed()
    for name, text in texts.items():
        with timed.reading(name), suppress(FeathersError, ValueError):
            read(text)
    return timed.slow


def test_a_header_that_comes_time_and_again() -> None:
    pairs = [(b"accept", b"a" * 50)] * (MEGABYTE // 50)
    assert not slow_reads(lambda _: headers_of({"headers": pairs}), {"accept": ""})


CSV = {
    "columns": numbered("first_nam#", ","),
    "the same columns": repeated("first_name,"),
    "empty columns": repeated(","),
    "cells": "first_name\n" + repeated("a,"),
    "lines": "first_name\n" + repeated("a\n"),
    "malformed lines": "first_name\n" + repeated('a"b\n"c"d\n'),
    "an open quote": 'first_name\n"' + repeated("a\n"),
    "quotes": "first_name\n" + repeated('""'),
    "what may come before a formula": "first_name\n" + repeated("' "),
    "custom fields": "custom_fields_by_name.a" + repeated(",custom_fields_by_name.a"),
    "many cells": "first_name,last_name\n" + repeated("a," * 50 + "\n"),
}


def columns() -> Columns:
    return Columns(Contacts(), {f"field {number}": "text" for number in range(200)})


def read_file(text: str, format: str) -> None:
    list(islice(read_rows(BytesIO(text.encode()), format, columns()), MOST_ROWS))


def test_csv_files() -> None:
    assert not slow_reads(lambda text: read_file(text, "csv"), CSV)


@pytest.mark.parametrize("form", ["[%s]", "[%s", "%s"])
def test_json_files(form: str) -> None:
    texts = {name: form.replace("%s", text) for name, text in JSON.items()}
    assert not slow_reads(lambda text: read_file(text, "json"), texts)


def test_json_lines() -> None:
    texts = {name: text.replace(",", ",\n") for name, text in JSON.items()}
    assert not slow_reads(lambda text: read_file(text, "json"), texts)


def test_phones_and_search_terms() -> None:
    texts = {part: repeated(part, MEGABYTE // len(part.encode())) for part in ("1", "+1", "a", " ", "(", "é", "\u0301")}
    for read in (phones.split, phones.stripped, normalise, digits, lambda text: phones.problem(text, "US")):
        assert not slow_reads(read, texts)


def test_what_is_hidden_in_logs() -> None:
    parts = ("eyJ", "eyJ.", "apex_", "://", "a://b@", "key=", "Bearer ", "Bearer", "key= ")
    texts = {part: repeated(part) for part in parts}
    assert not slow_reads(lambda text: hide("", text), texts)
    assert not slow_reads(lambda text: hide("", text, [f"a secret {number}" for number in range(100_000)]), texts)


FRAMES = {
    "an id": "42" + repeated("1"),
    "a namespace": "42/" + repeated("a") + ",[]",
    "attachments": "45" + repeated("1") + "-[]",
    "keys": '42["find","notes",{' + numbered('"a#":1', ",", 900_000) + "}]",
    "deep": "42" + repeated("["),
    "arguments": '42["find",' + repeated("1,") + "1]",
    "a path": '42["find","' + repeated("a/") + '"]',
}


def test_frames() -> None:
    assert not slow_reads(lambda frame: SocketIOPacket(encoded_packet=frame[1:]), FRAMES)


async def test_payloads_of_a_client_that_polls() -> None:
    payloads = {
        "separators": "\x1e" * 60_000,
        "pings": repeated("2\x1e", 120_000),
        "an attachment": "b" + repeated("AAAA") + "=",
        "messages": repeated("4\x1e", 120_000),
        "events": repeated("42[]\x1e", 100_000) + "42[]",
    }
    timed = Timed()
    async with serving(app_of("notes", MemoryService())) as http:
        for name, payload in payloads.items():
            poller = await polling(http)
            with timed.reading(name):
                await http.post(poller.url, content=payload, timeout=SECONDS)
    assert not timed.slow
