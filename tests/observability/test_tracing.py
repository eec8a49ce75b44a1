"""Traces as they arrive: at a real receiver, from a real server that variables configure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
from httpx2 import AsyncClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.observability.test_logs import CANARY, FRAMES, JWT, REQUESTS, lines
from tests.observability.test_observations import PARENT
from tests.process.commands import server
from tests.process.test_serve import ADMIN, log_in
from tests.support.databases import free_port
from tests.support.sockets import connected, opened


class Receiver:
    """What has arrived: the bodies of requests."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    @property
    def resources(self) -> list[dict[str, Any]]:
        return [_named(resource.resource.attributes) for resource in self._resources()]

    @property
    def spans(self) -> list[Any]:
        scopes = (scope for resource in self._resources() for scope in resource.scope_spans)
        return sorted((span for scope in scopes for span in scope.spans), key=lambda span: span.start_time_unix_nano)

    def _resources(self) -> list[Any]:
        return [one for body in self.bodies for one in ExportTraceServiceRequest.FromString(body).resource_spans]


def _named(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def receiver() -> Iterator[tuple[Receiver, str]]:
    """A server for OTLP over HTTP, and its URL."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield received, f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


@contextmanager
def traced(database: str) -> Iterator[tuple[Receiver, str]]:
    """Run a server with the demo data, and yield its URL. Its spans arrive when it stops, which it does at the end."""
    with receiver() as (received, endpoint):
        given = {
            "DATABASE_URL": database, "TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_SERVICE_NAME": "crm", "OTEL_BSP_SCHEDULE_DELAY": "600000",
        }  # fmt: skip
        with server("serve", **given) as (process, url):
            yield received, url
            assert received.bodies == []
            process.terminate()
            assert process.wait(30) == 0


def test_spans_arrive_when_a_server_stops(demo_url: str) -> None:
    with traced(demo_url) as (received, url), log_in(url) as client:
        client.get("/contacts?organization_id=456", headers={"traceparent": PARENT}).raise_for_status()
        assert client.get("/contacts/201").status_code == 403
    assert [resource["service.name"] for resource in received.resources] == ["crm"]
    login, listed, refused = calls = [span for span in received.spans if span.kind == span.SPAN_KIND_SERVER]
    assert [span.name for span in calls] == ["authentication create", "contacts find", "contacts get"]
    assert listed.trace_id.hex() == PARENT.split("-")[1]
    assert listed.parent_span_id.hex() == PARENT.split("-")[2]
    assert (login.parent_span_id, refused.parent_span_id) == (b"", b"")
    told = _named(listed.attributes)
    assert (told["apex.service"], told["apex.method"], told["apex.provider"]) == ("contacts", "find", "rest")
    assert (told["http.response.status_code"], told["enduser.id"]) == (200, "789")
    told = _named(refused.attributes)
    assert (told["http.response.status_code"], told["error.type"]) == (403, "Forbidden")
    inside = [span for span in received.spans if span.parent_span_id == listed.span_id]
    assert {span.name for span in inside} >= {"database", "encode"}
    assert {span.trace_id for span in inside} == {listed.trace_id}
    assert any("contacts" in _named(span.attributes).get("db.query.text", "") for span in inside)
    for span in inside:
        assert listed.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= listed.end_time_unix_nano


async def test_calls_over_a_socket_are_spans_of_their_own(demo_sqlite_url: str) -> None:
    with traced(demo_sqlite_url) as (received, url):
        async with AsyncClient(base_url=url) as client, connected(client) as peer:
            await peer.call("create", "authentication", ADMIN)
            await peer.call("get", "contacts", 123)
    login, got = [span for span in received.spans if span.kind == span.SPAN_KIND_SERVER]
    assert (login.name, got.name) == ("authentication create", "contacts get")
    assert _named(got.attributes)["apex.provider"] == "socketio"
    assert login.trace_id != got.trace_id


async def test_the_calls_of_a_batch_are_below_it(demo_sqlite_url: str) -> None:
    with traced(demo_sqlite_url) as (received, url), log_in(url) as client:
        client.post("/batch", json={"calls": [["get", "contacts", 123], ["get", "contacts", 201]]}).raise_for_status()
    _, batch, *inner = [span for span in received.spans if span.kind == span.SPAN_KIND_SERVER]
    assert (batch.name, [span.name for span in inner]) == ("batch create", ["contacts get"] * 2)
    assert {span.parent_span_id for span in inner} == {batch.span_id}
    assert {span.trace_id for span in inner} == {batch.trace_id}


async def test_no_secret_of_any_call_is_in_a_span(demo_url: str) -> None:
    with traced(demo_url) as (received, url):
        async with AsyncClient(base_url=url) as client:
            for verb, path, options in REQUESTS:
                await client.request(verb, path, **options)
            async with opened(client, additional_headers={"Authorization": f"Bearer {CANARY}"}) as peer:
                await peer.send("40")
                await peer.frames(2)
            async with connected(client) as peer:
                await peer.call("create", "authentication", ADMIN)
                for frame in FRAMES:
                    await peer.ask(frame)
    calls = [span for span in received.spans if span.kind == span.SPAN_KIND_SERVER]
    # /broken is no service here; each batch has a call.
    assert len(calls) == len(REQUESTS) - 1 + 1 + 1 + 1 + len(FRAMES) + 1
    assert not [body for body in received.bodies if b"canary" in body or JWT.encode() in body]


def test_a_receiver_that_is_away_keeps_no_server_from_serving_and_stopping(demo_sqlite_url: str) -> None:
    given = {
        "DATABASE_URL": demo_sqlite_url, "TRACING": "true", "LOG_FORMAT": "json", "LOG_LEVEL": "debug",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{CANARY}@127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={CANARY}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }  # fmt: skip
    with server("serve", **given) as (process, url):
        assert httpx2.get(f"{url}/contacts").status_code == 401
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert CANARY not in said
    assert any("spans" in line["event"] for line in lines(said))
