"""Tests of two processes of the CRM with one database, with and without a Redis, also behind nginx."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.conftest import fill
from tests.process.commands import ROOT, server
from tests.process.sockets import listener, listeners
from tests.process.test_serve import ADMIN, log_in
from tests.services.crm import JANE
from tests.support.databases import free_port, new_database
from tests.support.redis_server import redis_server
from tests.support.waiting import SECONDS

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
POLLING_CLIENTS = 20
WEBSOCKET_CLIENTS = 16

# The client of python-socketio does not close the poll that it leaves for a WebSocket.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")

needs_nginx = pytest.mark.skipif(
    NGINX is None and "CI" not in os.environ, reason="needs nginx: apt install nginx-light"
)


@pytest.fixture(scope="module", params=["log alone", "with Redis"])
def shared(
    request: pytest.FixtureRequest,
    postgres_server: str,
    postgres_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """Yield the environment of processes that share a database with the demo data, and a Redis or none."""
    with new_database(postgres_server, postgres_template) as url:
        fill(url)
        if request.param == "log alone":
            yield {"DATABASE_URL": url}
            return
        with redis_server(tmp_path_factory.mktemp("redis")) as redis:
            yield {"DATABASE_URL": url, "REDIS_URL": redis.url}


@pytest.fixture(scope="module")
def workers(shared: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the URLs of two processes."""
    with server("serve", **shared) as (_, one), server("serve", **shared) as (_, two):
        yield one, two


def token_of(client: httpx2.Client) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


def create(client: httpx2.Client, name: str) -> None:
    client.post("/contacts", json=JANE | {"first_name": name}).raise_for_status()


async def test_an_event_of_one_process_reaches_the_sockets_of_both_once(workers: tuple[str, str]) -> None:
    one, two = (log_in(url) for url in workers)
    with one, two:
        async with listener(workers[0], token_of(one)) as here, listener(workers[1], token_of(two)) as there:
            for name in ("Ann", "Ben"):
                await asyncio.to_thread(create, one, name)
            await asyncio.to_thread(create, two, "Zoe")
            assert await here.hears("Ann", "Ben", "Zoe")
            assert await there.hears("Ann", "Ben", "Zoe")


async def test_a_logout_in_one_process_ends_the_sockets_and_calls_of_both(workers: tuple[str, str]) -> None:
    with log_in(workers[0]) as client:
        async with listener(workers[1], token_of(client)) as there:
            await asyncio.to_thread(client.delete, "/authentication")
            async with asyncio.timeout(SECONDS):
                await there.disconnected.wait()
            headers = dict(client.headers)
        assert httpx2.get(f"{workers[1]}/organizations", headers=headers).json()["message"] == "Token revoked"


async def test_workers_share_events_and_close_sockets_when_they_are_replaced(shared: dict[str, str]) -> None:
    with server("serve", "--workers", "2", **shared) as (process, url), log_in(url) as client:
        async with listeners(WEBSOCKET_CLIENTS, url, token_of(client), "websocket") as sockets:
            await asyncio.to_thread(create, client, "Ann")
            for one in sockets:
                assert await one.hears("Ann")
            process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(SECONDS):
                for one in sockets:
                    await one.disconnected.wait()
            async with listener(url, token_of(client), "websocket") as one:
                await asyncio.to_thread(create, client, "Ben")
                assert await one.hears("Ben")


@contextmanager
def nginx(folder: Path, workers: tuple[str, str]) -> Iterator[str]:
    """Run nginx with the configuration of this project at other ports."""
    port = free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    ports = {"3031": workers[0][-5:], "3032": workers[1][-5:], "8080": f"127.0.0.1:{port}"}
    for old, new in {**ports, "/var/log/nginx/": f"{folder}/"}.items():
        assert old in text
        text = text.replace(old, new.lstrip(":"))
    (folder / "nginx.conf").write_text(f"daemon off; error_log stderr;\n{text}")
    assert NGINX is not None, "CI needs nginx: apt install nginx-light"
    with subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def ready(url: str) -> None:
    """Wait until a server answers."""
    transport = httpx2.HTTPTransport(retries=10)
    with httpx2.Client(transport=transport) as client:
        client.get(url)


@needs_nginx
async def test_behind_nginx_all_transports_work(workers: tuple[str, str], tmp_path: Path) -> None:
    with nginx(tmp_path, workers) as url:
        await asyncio.to_thread(ready, url)
        with log_in(url) as client:
            async with (
                listener(url, token_of(client), "websocket") as by_socket,
                listeners(POLLING_CLIENTS, url, token_of(client), "polling") as polling,
            ):
                for name in ("Ann", "Ben", "Cat"):
                    await asyncio.to_thread(create, client, name)
                for one in (by_socket, *polling):
                    assert await one.hears("Ann", "Ben", "Cat")
            await asyncio.to_thread(check_bodies, client, workers[0])


def check_bodies(client: httpx2.Client, worker: str) -> None:
    """Test that nginx accepts the largest import, and refuses more with the error of apex."""

    def post(text: str) -> httpx2.Response:
        data = {"organization_id": 456, "format": "csv", "text": f"first_name\n{text}"}
        return client.post("/contacts", json=data, headers={"X-Service-Method": "import"})

    assert post(f"Ann{' ' * 1024 * 1000}\n" * 8).json()["rows"] == 8
    refused = post(" " * 8 * 1024**2)
    own = httpx2.post(f"{worker}/contacts", content=refused.request.content, headers=refused.request.headers)
    assert refused.headers["content-type"] == "application/json"
    for response in (refused, own):
        assert (response.status_code, response.json()["className"]) == (413, "bad-request")
        assert "apex import" in response.json()["message"]


@pytest.fixture
def one_worker(demo_sqlite_url: str) -> Iterator[str]:
    with server("serve", DATABASE_URL=demo_sqlite_url) as (_, url):
        yield url


@needs_nginx
def test_nginx_limits_logins_by_every_spelling_and_logs_no_secrets(one_worker: str, tmp_path: Path) -> None:
    with nginx(tmp_path, (one_worker, one_worker)) as url:
        ready(url)
        with log_in(url) as client:
            token = token_of(client)
            assert client.get("/contacts", params={"organization_id": 456, "email": "secret@example.com"}).is_success
            assert client.delete(f"/authentication/{token}").is_success
            spellings = (
                "/authentication",
                "//authentication",
                "/%61uthentication",
                "/authentication/x",
                "/x/../authentication",
            )
            for spelled in spellings[1:]:
                assert _log_in_by(url, spelled) == "404"
            statuses = [_log_in_by(url, spellings[number % len(spellings)]) for number in range(60)]
            assert "429" in statuses
            assert set(statuses) <= {"201", "404", "429"}
            assert client.get("/healthz").status_code == 200
        log = (tmp_path / "access.log").read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    assert {("GET", "/contacts"), ("POST", "/authentication"), ("DELETE", "/authentication")} <= {
        (entry["method"], entry["path"]) for entry in entries
    }
    assert all(entry["requestId"] for entry in entries if entry["status"] != "429")
    assert "secret" not in log
    assert token not in log


def _log_in_by(url: str, path: str) -> str:
    """Return the status of a login at a path that is sent as it is written."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps(ADMIN)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n{body}".encode())
        return connection.makefile().readline().split()[1]
