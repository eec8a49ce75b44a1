"""Tests of the server as a process: it starts, answers, stops, and loses no acknowledged write."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any, Self

import httpx2
import pytest

from tests.process.commands import apex, apex_here, server
from tests.support.waiting import SECONDS

ADMIN = {"strategy": "local", "email": "admin@example.com", "password": "apex-demo"}
SECRET = "a-secret-of-tests-that-nobody-knows"


def refusal(*arguments: str, **variables: str) -> str:
    """Return the one line that a command prints before it fails. It runs in this process, and must end by itself."""
    return complaint(apex_here(*arguments, **{"PORT": "0"} | variables))


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a failed command has printed."""
    assert done.returncode > 0
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("apex: ")
    return done.stderr.strip()


def log_in(url: str) -> httpx2.Client:
    token = httpx2.post(f"{url}/authentication", json=ADMIN).raise_for_status().json()["accessToken"]
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS)


class Receiver(ThreadingHTTPServer):
    """A receiver of webhooks, which serves in a thread inside of ``with``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.messages: Queue[dict[str, Any]] = Queue()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self.server_close()


class Taker(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.messages.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_starts_answers_and_stops(sqlite_url: str, number: signal.Signals) -> None:
    with server("demo", "--serve", DATABASE_URL=sqlite_url) as (process, url):
        with log_in(url) as client:
            page = client.get("/contacts?organization_id=456").raise_for_status().json()
            assert "John" in {contact["first_name"] for contact in page["data"]}
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    path = sqlite_url.removeprefix("sqlite:///")
    assert not os.path.exists(f"{path}-wal"), "the database was not closed"


def test_the_demo_prints_a_command_that_works(sqlite_url: str) -> None:
    with server("demo", "--serve", DATABASE_URL=sqlite_url) as (process, url):
        assert process.stdout is not None
        command = next(line for line in process.stdout if "curl" in line)
        _, address, _, authorization, _ = command.split('"')
        name, _, token = authorization.partition(": ")
        response = httpx2.get(address, headers={name: token})
    assert (response.status_code, address.startswith(url)) == (200, True)


def test_the_demo_sends_webhooks(demo_sqlite_url: str) -> None:
    serving = server("demo", "--serve", DATABASE_URL=demo_sqlite_url)
    with Receiver() as receiver, serving as (_, url), log_in(url) as client:
        webhook = {"organization_id": 456, "url": receiver.url, "events": ["contacts created"]}
        assert client.post("/webhooks", json=webhook).status_code == 201
        client.post("/contacts", json={"organization_id": 456, "first_name": "Ann"}).raise_for_status()
        message = receiver.messages.get(timeout=SECONDS)
    assert (message["type"], message["data"]["first_name"]) == ("contacts created", "Ann")


def test_the_second_start_is_quick_and_loads_nothing(migrated_sqlite_url: str) -> None:
    first = apex("demo", DATABASE_URL=migrated_sqlite_url)
    assert (first.returncode, first.stdout, first.stderr) == (0, "Demo data loaded.\n", "")
    started = time.monotonic()
    second = apex("demo", DATABASE_URL=migrated_sqlite_url)
    print(f"started in {time.monotonic() - started:.2f} s")
    assert (second.returncode, second.stdout, second.stderr) == (0, "Demo data is already loaded.\n", "")


def test_a_server_runs_on_postgresql(postgres_url: str) -> None:
    with server("demo", "--serve", DATABASE_URL=postgres_url) as (process, url):
        with log_in(url) as client:
            assert client.get("/contacts/123").json()["first_name"] == "John"
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_server_in_production_needs_only_a_secret(migrated_sqlite_url: str) -> None:
    variables = {"APEX_ENV": "production", "APEX_SECRET": SECRET, "DATABASE_URL": migrated_sqlite_url}
    with server("serve", **variables) as (_, url):
        assert httpx2.get(f"{url}/nope").json()["message"] == "Path /nope not found"


def test_a_server_that_is_stopped_as_soon_as_it_serves_stops(migrated_sqlite_url: str) -> None:
    with server("serve", DATABASE_URL=migrated_sqlite_url) as (process, _):
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_server_finishes_the_requests_it_has(demo_sqlite_url: str) -> None:
    with server("serve", DATABASE_URL=demo_sqlite_url) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(b"POST /authentication HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{")
            assert httpx2.get(f"{url}/nope").status_code == 404
            process.terminate()
            half.sendall(b"}")
            assert half.recv(100).startswith(b"HTTP/1.1 401")
        assert process.wait(SECONDS) == 0


def test_silent_connections_make_room_for_others(migrated_sqlite_url: str) -> None:
    files = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', "200"]
    half = [b"", b"GET / HTTP/1.1\r\n", b"POST /authentication HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"]
    with server("serve", under=files, DATABASE_URL=migrated_sqlite_url) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with ExitStack() as opened:
            for number in range(600):
                connection = opened.enter_context(socket.create_connection((host, int(port)), SECONDS))
                connection.sendall(half[number % 3])
                if number % 50 == 0:
                    assert httpx2.get(f"{url}/nope", timeout=SECONDS).status_code == 404
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_large_header_does_not_delay_others(migrated_sqlite_url: str) -> None:
    with server("serve", DATABASE_URL=migrated_sqlite_url) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 500_000)
            assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")
        with socket.create_connection((host, int(port)), SECONDS) as connection, suppress(ConnectionError):
            before = processor_seconds(process.pid)
            for _ in range(1600):
                connection.sendall(b"a" * 65536)
        assert processor_seconds(process.pid) - before < 2


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_killed_server_keeps_every_write_it_has_acknowledged(demo_sqlite_url: str) -> None:
    acknowledged: list[int] = []
    enough = threading.Event()

    def write(client: httpx2.Client) -> None:
        data = {"organization_id": 456, "first_name": "Kept"}
        try:
            while True:
                acknowledged.append(client.post("/contacts", json=data).raise_for_status().json()["id"])
                if len(acknowledged) >= 200:
                    enough.set()
        except httpx2.TransportError:
            return

    with server("serve", DATABASE_URL=demo_sqlite_url) as (process, url):
        with log_in(url) as client, ThreadPoolExecutor(4) as threads:
            writers = [threads.submit(write, client) for _ in range(4)]
            assert enough.wait(SECONDS)
            process.kill()
        for writer in writers:
            writer.result()
    with server("serve", DATABASE_URL=demo_sqlite_url) as (_, url), log_in(url) as client:
        query = {"query": {"organization_id": 456, "first_name": "Kept", "$limit": 0}}
        total = client.request("GET", "/contacts", json=query).json()["total"]
        assert len(acknowledged) <= total <= len(acknowledged) + 4
        assert client.get(f"/contacts/{acknowledged[-1]}").status_code == 200


# Problems that stop the start.


@pytest.mark.parametrize(
    ("command", "url"),
    [
        (["serve"], "postgresql://user:p4ss@127.0.0.1:1/name"),
        (["serve"], "sqlite:////proc/nowhere/apex.db"),
        (["demo", "--serve"], "sqlite:////proc/nowhere/apex.db"),
        (["token", "a@b.c"], "postgresql://user:p4ss@127.0.0.1:1/name"),
    ],
)
def test_a_database_that_cannot_be_reached_stops_the_start(command: list[str], url: str) -> None:
    message = refusal(*command, DATABASE_URL=url)
    assert "cannot be reached" in message
    assert "p4ss" not in message


def test_a_database_of_another_kind_stops_the_start() -> None:
    message = refusal("serve", DATABASE_URL="mysql://user:p4ss@host/name")
    assert message.endswith("database: must be sqlite:///file.db or postgresql://host/name")


@pytest.mark.parametrize("command", [["serve"], ["token", "a@b.c"]])
def test_a_database_that_is_not_migrated_stops_the_start(sqlite_url: str, command: list[str]) -> None:
    assert refusal(*command, DATABASE_URL=sqlite_url) == ("apex: the database is not up to date: run 'apex migrate'")


def test_a_database_of_a_newer_version_is_served(migrated_sqlite_url: str) -> None:
    with closing(sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with server("serve", DATABASE_URL=migrated_sqlite_url) as (_, url):
        assert "ahead" in httpx2.get(f"{url}/readyz").json()


@pytest.mark.parametrize("env", ["development", "test"])
def test_only_development_warns_of_tables_that_differ(migrated_sqlite_url: str, env: str) -> None:
    with closing(sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("CREATE TABLE forgotten (id INTEGER PRIMARY KEY)")
    with server("serve", DATABASE_URL=migrated_sqlite_url, APEX_ENV=env) as (process, _):
        process.terminate()
        _, complaints = process.communicate(timeout=SECONDS)
    assert ("Warning: table 'forgotten' is in the database and not in the code" in complaints) == (env == "development")


def test_an_unknown_key_stops_the_start(sqlite_url: str) -> None:
    done = apex("--app", "tests.process.misconfigured:create_app", "serve", DATABASE_URL=sqlite_url)
    assert (done.returncode, done.stderr) == (
        1,
        "apex: Invalid configuration for test: prot: Unknown field. Did you mean 'port'?\n",
    )


@pytest.mark.parametrize("secret", ["", "only-for-development-never-for-production"])
def test_production_without_its_own_secret_does_not_start(migrated_sqlite_url: str, secret: str) -> None:
    message = refusal("serve", APEX_ENV="production", APEX_SECRET=secret, DATABASE_URL=migrated_sqlite_url)
    assert "authentication.secret" in message
    assert "set APEX_SECRET" in message


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"PORT": "http"}, "PORT is 'http': it must be a number"),
        ({"APEX_APP": "nowhere:create_app"}, "cannot load the application 'nowhere:create_app'"),
        ({"HOST": "nowhere.invalid", "APEX_SECRET": "x" * 32}, "cannot listen on nowhere.invalid:0"),
    ],
)
def test_a_variable_that_cannot_be_used_stops_the_start(
    migrated_sqlite_url: str, variables: dict[str, str], part: str
) -> None:
    assert part in refusal("serve", **{"DATABASE_URL": migrated_sqlite_url} | variables)


def test_a_port_in_use_stops_the_start(migrated_sqlite_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = complaint(apex("serve", "--port", str(port), DATABASE_URL=migrated_sqlite_url))
    assert message == f"apex: cannot listen on localhost:{port}: Address already in use"
