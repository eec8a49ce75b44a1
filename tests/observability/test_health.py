"""Health: what a process says of itself to those who send it requests."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import psycopg
from httpx2 import AsyncClient
from sqlalchemy import text

from apex import Apex, bus, database, rest
from apex.migrations.migrate import upgrade
from apex.migrations.revisions import connect
from apex.observability.health import health
from tests.observability.test_metrics import reaches
from tests.process.commands import server
from tests.support.databases import new_database, start_server
from tests.support.redis_server import redis_server
from tests.support.serving import serving
from tests.support.waiting import SECONDS, until


@asynccontextmanager
async def site(url: str | None = None, redis: str | None = None) -> AsyncIterator[tuple[Apex, AsyncClient]]:
    app = Apex({"redis": redis})
    if url is not None:
        app.configure(database(url))
    app.configure(bus).configure(rest).configure(health)
    async with serving(app) as client:
        yield app, client


async def becomes(
    client: AsyncClient, status: int, path: str = "/readyz", names: list[str] | None = None
) -> dict[str, str]:
    """Waits until the answer has this status, and just these names if any are given; gives what is not ready."""
    async with asyncio.timeout(SECONDS):
        while True:
            response = await client.get(path)
            ills: dict[str, str] = response.json()["notReady"]
            if response.status_code == status and names in (None, list(ills)):
                assert response.headers["cache-control"] == "no-store"
                return ills
            await asyncio.sleep(0.05)


def write(url: str, statement: str) -> None:
    with connect(url) as connection, connection.begin():
        connection.execute(text(statement))


async def test_who_lives_says_so_without_a_database() -> None:
    async with site() as (_, client):
        for path in ("/healthz", "/readyz"):
            response = await client.get(path)
            assert (response.status_code, response.json()["status"]) == (200, "ok")
            assert response.headers["cache-control"] == "no-store"


async def test_pending_migrations_are_named(migrated_url: str) -> None:
    async with site(migrated_url) as (_, client):
        assert await becomes(client, 200) == {}
        write(migrated_url, "UPDATE alembic_version SET version_num = '0001'")
        assert list(await becomes(client, 503)) == ["migrations"]
        assert (await client.get("/healthz")).status_code == 200
        assert await becomes(client, 200, "/readyz?exclude=migrations") == {}


async def test_a_database_that_is_ahead_is_served(migrated_url: str) -> None:
    write(migrated_url, "UPDATE alembic_version SET version_num = '9999'")
    async with site(migrated_url) as (_, client):
        assert await becomes(client, 200) == {}
        assert (await client.get("/readyz")).json()["ahead"] == "A later version has migrated the database to 9999"


async def test_a_database_that_does_not_answer_is_named_within_a_second(migrated_postgres_url: str) -> None:
    async with site(migrated_postgres_url) as (_, client):
        async with await psycopg.AsyncConnection.connect(migrated_postgres_url) as other:
            await other.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            assert list(await becomes(client, 503)) == ["database"]
        assert await becomes(client, 200) == {}


async def test_a_database_that_is_down_is_named_until_it_is_back() -> None:
    postgres = start_server()
    try:
        with new_database(postgres.url) as url:
            await asyncio.to_thread(upgrade, url)
            async with site(url) as (_, client):
                assert await becomes(client, 200) == {}
                postgres.run("pg_ctl", "stop", "--mode=fast")
                assert list(await becomes(client, 503)) == ["database"]
                assert (await client.get("/healthz")).status_code == 200
                postgres.run("pg_ctl", "start", "--wait")
                assert await becomes(client, 200) == {}
    finally:
        postgres.stop()


async def test_redis_that_is_away_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with site(redis=server.url) as (_, client):
            assert await becomes(client, 200) == {}
            server.kill()
            assert list(await becomes(client, 503)) == ["redis"]
            assert await becomes(client, 200, "/readyz?exclude=redis&exclude=other") == {}
            server.start()
            assert await becomes(client, 200) == {}


async def test_redis_that_does_not_answer_is_named_within_a_second(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with site(redis=server.url) as (_, client):
            assert await becomes(client, 200) == {}
            server.process.send_signal(signal.SIGSTOP)
            assert list(await becomes(client, 503)) == ["redis"]
            server.process.send_signal(signal.SIGCONT)
            assert await becomes(client, 200) == {}


async def test_all_that_is_not_ready_is_named_at_once(migrated_url: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with site(migrated_url, server.url) as (app, client):
            assert await becomes(client, 200) == {}
            write(migrated_url, "UPDATE alembic_version SET version_num = '0001'")
            server.kill()
            app.emit("draining")
            await becomes(client, 503, names=["migrations", "redis", "draining"])
            assert list(await becomes(client, 503, "/readyz?exclude=redis&exclude=migrations")) == ["draining"]


async def test_who_drains_is_not_ready_and_lives() -> None:
    async with site() as (app, client):
        app.emit("draining")
        response = await client.get("/readyz")
        assert (response.status_code, list(response.json()["notReady"])) == (503, ["draining"])
        assert (await client.get("/healthz")).status_code == 200


async def everyone_is(url: str, status: int, name: str, times: int = 8) -> None:
    """Waits until as many new connections one after the other, of all workers, are answered so at ``/readyz``."""
    found: list[bool] = []
    async with asyncio.timeout(SECONDS):
        while found[-times:] != [True] * times:
            response = httpx2.get(f"{url}/readyz")
            found.append((response.status_code, list(response.json()["notReady"])) == (status, [name]))


async def test_workers_that_stop_say_so_first_and_finish_what_they_have(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as redis:
        given = {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": redis.url, "METRICS": "true", "DRAIN_SECONDS": "6"}
        with server("serve", "--workers", "2", **given) as (process, url):
            host, port = url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as half:
                half.sendall(b"POST /authentication HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{")
                await reaches(url, {("apex_calls_in_flight",): 1})
                process.terminate()
                await everyone_is(url, 503, "draining")
                assert httpx2.get(f"{url}/healthz").status_code == 200
                assert httpx2.get(f"{url}/contacts").status_code == 401
                await reaches(url, {("apex_calls_in_flight",): 1})
                await until(lambda: refuses(host, port))
                half.sendall(b"}")
                assert half.recv(100).startswith(b"HTTP/1.1 401")
            assert process.wait(30) == 0


def refuses(host: str, port: str) -> bool:
    """Return True if nobody accepts connections any more."""
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except ConnectionRefusedError:
        return True
    except ConnectionError:
        return False  # It stopped at that very moment.
    return False
